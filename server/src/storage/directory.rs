//! `Directory`: users, devices, conversations, members, blocks and settings; small, relational, ACID.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::roster::Standing;
use crate::domain::{
    Body, ClientMsgId, ConversationId, CorrelationId, DeviceId, Entry, Kind, Member, Roster, Sender, Seq, UnixMillis,
    UserId,
};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Who.
    pub id: UserId,
    /// Name to show.
    pub display_name: String,
    /// Cannot sign in.
    pub deactivated: bool,
    /// Tokens issued up to then are worth nothing; `None` when none were ever revoked.
    pub tokens_revoked: Option<UnixMillis>,
}

/// Tokens that stopped working: all of a user's, or those of one device that was removed. Ordered by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revocation {
    /// Tokens issued up to then.
    pub at: UnixMillis,
    /// Whose.
    pub user: UserId,
    /// On which device; `None` for all.
    pub device: Option<DeviceId>,
}

/// A device of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Which.
    pub id: DeviceId,
    /// First hello.
    pub created: UnixMillis,
    /// Last hello.
    pub last_seen: UnixMillis,
}

/// A conversation to create. The row is the decision that it exists; the log's first entry follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewConversation {
    /// Its id, if it turns out to be new.
    pub id: ConversationId,
    /// 1:1 or group.
    pub kind: Kind,
    /// Name of a group.
    pub name: String,
    /// Who asked; the namespace of `client_msg_id`.
    pub creator: Sender,
    /// Id of the request.
    pub client_msg_id: ClientMsgId,
    /// Correlation id of the request, for the first entry.
    pub correlation: CorrelationId,
    /// Members of the first entry, the creator among them, sorted by user.
    pub members: Vec<Member>,
    /// When.
    pub created: UnixMillis,
}

impl NewConversation {
    /// The two users of a 1:1, the lower id first; `None` for a group or when there are not two.
    #[must_use]
    pub fn pair(&self) -> Option<(&UserId, &UserId)> {
        match (self.kind, self.members.as_slice()) {
            (Kind::Direct, [one, other]) if one.user < other.user => Some((&one.user, &other.user)),
            (Kind::Direct, [one, other]) if one.user > other.user => Some((&other.user, &one.user)),
            _ => None,
        }
    }

    /// Whether it asks for what `other` asked for. Of a 1:1 only the pair counts: either side may have created it, and
    /// its roles follow from who did.
    #[must_use]
    pub fn asks_same_as(&self, other: &Self) -> bool {
        match (self.kind, other.kind) {
            (Kind::Direct, Kind::Direct) => self.pair() == other.pair(),
            (Kind::Group, Kind::Group) => self.name == other.name && self.members == other.members,
            _ => false,
        }
    }
}

/// A conversation as the directory knows it: a projection of its log up to `applied`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRecord {
    /// What its first entry says.
    pub first: NewConversation,
    /// Its name now.
    pub name: String,
    /// Seq up to which the log's membership, name and pins are projected here; 0 before the first entry.
    pub applied: Seq,
    /// Who is or was a member, as of `applied`.
    pub roster: Roster,
    /// Seqs of pinned messages in the order they were pinned, as of `applied`.
    pub pins: Vec<Seq>,
}

impl ConversationRecord {
    /// A conversation before its first entry.
    #[must_use]
    pub fn before(first: NewConversation) -> Self {
        Self {
            name: first.name.clone(),
            first,
            applied: Seq::ZERO,
            roster: Roster::default(),
            pins: Vec::new(),
        }
    }

    /// Takes in the entry after `applied`.
    pub fn take_in(&mut self, entry: &Entry) {
        self.applied = entry.seq;
        self.roster.apply(entry);
        match &entry.body {
            Body::Created { name, .. } | Body::Renamed(name) => self.name.clone_from(name),
            Body::Pin { target, pinned: true } if !self.pins.contains(target) => self.pins.push(*target),
            Body::Pin { target, pinned: false } | Body::Redacted { target, .. } => {
                self.pins.retain(|pin| pin != target);
            }
            _ => {}
        }
    }
}

/// What log entries up to a seq change in the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projection {
    /// The projection is complete up to here. Applying a lower one than the stored changes nothing.
    pub applied: Seq,
    /// Standings that changed, whole.
    pub standings: BTreeMap<UserId, Standing>,
    /// The name, when it changed.
    pub name: Option<String>,
    /// Messages pinned (true) or unpinned (false), in order.
    pub pins: Vec<(Seq, bool)>,
}

/// A user's own settings of a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Muted until then; `None` for not muted.
    pub muted_until: Option<UnixMillis>,
    /// Archived.
    pub archived: bool,
    /// Show as unread from here.
    pub unread_from: Option<Seq>,
}

/// Settings to change; `None` leaves a field as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsPatch {
    /// New mute, or `Some(None)` to unmute.
    pub muted_until: Option<Option<UnixMillis>>,
    /// New archive bit.
    pub archived: Option<bool>,
    /// New unread-from, or `Some(None)` to clear.
    pub unread_from: Option<Option<Seq>>,
}

/// What a conversation list shows of one conversation to one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationView {
    /// 1:1 or group.
    pub kind: Kind,
    /// Name of a group.
    pub name: String,
    /// The other user of a 1:1.
    pub peer: Option<UserId>,
    /// The user's standing; `None` before the projection of the entry that added them.
    pub standing: Option<Standing>,
    /// The user's settings.
    pub settings: Settings,
}

/// Nothing was written or read, or, for `Unavailable` on a write, the outcome is unknown.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DirectoryError {
    /// The database cannot answer; a write may have happened. Every write here may be repeated.
    #[error("the directory is not available: {0}")]
    Unavailable(String),
    /// The same request id was used for another conversation; nothing was written.
    #[error("the request id was used for another conversation")]
    IdReused,
    /// A user named does not exist; nothing was written.
    #[error("no such user: {0}")]
    NoSuchUser(UserId),
    /// The user has as many devices as are kept; nothing was written.
    #[error("{0} has too many devices")]
    TooManyDevices(UserId),
}

type Result<T> = std::result::Result<T, DirectoryError>;

/// Users, devices, conversations. Writes are durable when they return, and each may be repeated.
#[async_trait]
pub trait Directory: Send + Sync {
    /// Creates a user or changes their name. Keeps `deactivated` of an existing one.
    async fn upsert_user(&self, id: &UserId, display_name: &str, now: UnixMillis) -> Result<UserRecord>;
    /// Creates the user when there is none, with an empty name; changes nothing otherwise.
    async fn ensure_user(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord>;
    /// The users among `ids` that exist, by id.
    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>>;
    /// Users after `after`, by id.
    async fn list_users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<UserRecord>>;
    /// Deactivates, which revokes the user's tokens too, or brings back, which leaves them revoked; `NoSuchUser` when there is
    /// none.
    async fn set_deactivated(&self, id: &UserId, deactivated: bool, now: UnixMillis) -> Result<UserRecord>;
    /// Revokes all tokens of a user issued up to now; `NoSuchUser` when there is none. The time never goes back.
    async fn revoke_tokens(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord>;
    /// What was revoked at `since` or later, a device's removal included, in order; after `after` when it is given. Of several
    /// of the same user or device only the last is there.
    async fn revocations(&self, since: UnixMillis, after: Option<&Revocation>, limit: usize)
    -> Result<Vec<Revocation>>;

    /// Registers a device at its hello. The user must exist.
    ///
    /// # Errors
    /// `TooManyDevices` for a new one when [`DEVICES_MAX`](crate::domain::limits::DEVICES_MAX) are kept already, removed
    /// ones included. The oldest removal makes room once
    /// [`REMOVAL_KEPT_MS`](crate::domain::limits::REMOVAL_KEPT_MS) have passed.
    async fn touch_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<()>;
    /// A user's devices, by id; removed ones are left out.
    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>>;
    /// Removes a device and remembers when; true when it was there. The removal is remembered also of a device that was
    /// not (a token may be bound to one that never said hello), and its time never goes back.
    ///
    /// # Errors
    /// `TooManyDevices` for a device that is not known, as for a new one.
    async fn remove_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<bool>;
    /// When a device was last removed: tokens bound to it and issued before are worth nothing. It stays after the device
    /// is registered again.
    async fn device_removed_at(&self, user: &UserId, device: &DeviceId) -> Result<Option<UnixMillis>>;

    /// Blocks or unblocks; `NoSuchUser` when there is no such target.
    async fn set_block(&self, user: &UserId, target: &UserId, blocked: bool) -> Result<()>;
    /// Whom a user has blocked, by id.
    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>>;
    /// Those of `others` with whom there is a block in either direction, by id.
    async fn blocked_among(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>>;

    /// Creates a conversation, or finds the one that is already there: the pair's 1:1 (one per pair, also when both
    /// create it at the same moment), or the one of the same creator and request id. All members must exist.
    ///
    /// # Errors
    /// `IdReused` when the request id belongs to a conversation of another kind, name or member list.
    async fn create_conversation(&self, new: NewConversation) -> Result<ConversationRecord>;
    /// The conversation that a creator's request id stands for; `None` while none was created or found by it.
    async fn requested(&self, creator: &Sender, id: &ClientMsgId) -> Result<Option<ConversationId>>;
    /// The 1:1 of two users, in either order; `None` when there is none.
    async fn direct(&self, one: &UserId, other: &UserId) -> Result<Option<ConversationId>>;
    /// One conversation.
    async fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>>;
    /// Conversation ids after `after`, ascending.
    async fn list_conversations(&self, after: Option<ConversationId>, limit: usize) -> Result<Vec<ConversationId>>;
    /// Projects log entries. A projection at or below the stored `applied` changes nothing. A message that is pinned
    /// already keeps its place among the pins.
    ///
    /// # Errors
    /// `Unavailable` also when there is no such conversation: then this is not the directory of that log.
    async fn apply(&self, id: ConversationId, projection: Projection) -> Result<()>;

    /// What the list shows a user of these conversations; those that do not exist are left out.
    async fn views(&self, user: &UserId, ids: &[ConversationId]) -> Result<BTreeMap<ConversationId, ConversationView>>;
    /// Changes a user's settings of a conversation and returns them.
    ///
    /// # Errors
    /// `Unavailable` also when there is no such conversation.
    async fn update_settings(&self, user: &UserId, id: ConversationId, patch: SettingsPatch) -> Result<Settings>;
    /// Those of `others` who share a conversation with the user now, by id.
    async fn sharing(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>>;
}
