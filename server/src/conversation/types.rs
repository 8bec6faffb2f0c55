//! What goes into and comes out of the conversation rules.

use std::sync::Arc;

use crate::domain::authorization::Actor;
use crate::domain::{
    Change, ClientMsgId, ConversationId, CorrelationId, DeviceId, Kind, Member, Sender, Seq, UnixMillis, UserId,
};
use crate::storage::{Settings, StoredEntry};

/// Who asks, and under which correlation id.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user or the system.
    pub actor: Actor,
    /// The device; `None` for integrators.
    pub device: Option<DeviceId>,
    /// Id that joins the request's traces, logs and answers.
    pub correlation: CorrelationId,
}

impl Caller {
    /// The namespace of the caller's `client_msg_id`s.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender {
            user: self.actor.user().cloned(),
            device: self.device.clone(),
        }
    }
}

/// One change to append.
#[derive(Debug, Clone)]
pub struct AppendRequest {
    /// Where.
    pub conversation: ConversationId,
    /// Id of the operation, the same on every retry.
    pub client_msg_id: ClientMsgId,
    /// The device's operation that must come directly before.
    pub previous: Option<ClientMsgId>,
    /// Highest seq the client had seen when it first tried.
    pub known_head: Seq,
    /// What.
    pub change: Change,
    /// When the sender says it was written.
    pub origin_time: Option<UnixMillis>,
}

/// An accepted append: durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Where.
    pub conversation: ConversationId,
    /// Id from the request.
    pub client_msg_id: ClientMsgId,
    /// Its place, final.
    pub seq: Seq,
    /// Its server time.
    pub time: UnixMillis,
    /// True when an earlier try had stored it.
    pub duplicate: bool,
    /// Correlation id of the stored entry.
    pub correlation: CorrelationId,
}

/// A conversation to create.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// Id of the request.
    pub client_msg_id: ClientMsgId,
    /// Who owns it: the caller's user, or whom the system names.
    pub owner: UserId,
    /// 1:1 or group.
    pub kind: Kind,
    /// Name of a group.
    pub name: String,
    /// The others.
    pub members: Vec<Member>,
    /// When it was created, if that is not now (imports).
    pub created: Option<UnixMillis>,
}

/// A conversation as its members see it.
#[derive(Debug, Clone)]
pub struct ConversationInfo {
    /// Which.
    pub id: ConversationId,
    /// 1:1 or group.
    pub kind: Kind,
    /// Name of a group; empty for who is no member any more.
    pub name: String,
    /// Members now, by user; empty for who is no member any more.
    pub members: Vec<Member>,
    /// Newest seq the caller may read.
    pub head: Seq,
    /// When it was created.
    pub created: UnixMillis,
    /// The caller's row; `None` for the system.
    pub mine: Option<Summary>,
    /// Pinned messages, oldest pin first; empty for who is no member any more.
    pub pins: Vec<Seq>,
}

/// A user's own markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnMarkers {
    /// Where.
    pub conversation: ConversationId,
    /// On some device.
    pub delivered: Seq,
    /// Read, private reads included.
    pub read: Seq,
    /// Shown as unread from here.
    pub unread_from: Option<Seq>,
    /// Exact.
    pub unread_count: u64,
}

/// One row of a user's conversation list.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Which.
    pub id: ConversationId,
    /// 1:1 or group.
    pub kind: Kind,
    /// Name of a group; empty for who is no member any more: it may have another one today.
    pub name: String,
    /// The other user of a 1:1.
    pub peer: Option<UserId>,
    /// Newest seq the user may read.
    pub head: Seq,
    /// Server time of the newest entry.
    pub activity: UnixMillis,
    /// Their markers.
    pub markers: OwnMarkers,
    /// Their settings.
    pub settings: Settings,
    /// No longer a member.
    pub former_member: bool,
    /// Oldest seq they may read.
    pub first_available: Seq,
    /// Highest seq the asking device acknowledged.
    pub device_seq: Seq,
}

/// Rows of a user's conversation list.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// Oldest change first.
    pub rows: Vec<Summary>,
    /// For the next call.
    pub next_cursor: Vec<u8>,
    /// More rows changed.
    pub has_more: bool,
}

/// Where a history page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryAnchor {
    /// After this seq, ascending.
    After(Seq),
    /// The newest before this seq; `None` is the newest page.
    Before(Option<Seq>),
    /// Half before, half from this seq on.
    Around(Seq),
}

/// A page of history to read.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// Where.
    pub conversation: ConversationId,
    /// Which part.
    pub anchor: HistoryAnchor,
    /// Most entries, 1 to 200.
    pub limit: usize,
    /// Nothing newer than this.
    pub until: Option<Seq>,
}

/// A page of history.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// Where.
    pub conversation: ConversationId,
    /// Ascending, without holes other than between two stays of the reader.
    pub entries: Vec<Arc<StoredEntry>>,
    /// Oldest seq the caller can read.
    pub first_available: Seq,
    /// Newest seq the caller can read.
    pub head: Seq,
    /// More can be read in the direction asked for.
    pub has_more: bool,
}

/// Receipts of one entry.
#[derive(Debug, Clone)]
pub struct Receipts {
    /// Where.
    pub conversation: ConversationId,
    /// Which entry.
    pub seq: Seq,
    /// Members, without the sender, who have it.
    pub delivered: u32,
    /// Members, without the sender, who have publicly read it.
    pub read: u32,
    /// Members, without the sender, to whom it was addressed and who are still members; for who is none any more, those who
    /// were when they went.
    pub audience: u32,
    /// Their markers, by user, when asked for.
    pub members: Vec<MemberReceipt>,
}

/// Public markers of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberReceipt {
    /// Who.
    pub user: UserId,
    /// On some device.
    pub delivered: Seq,
    /// Publicly read.
    pub read: Seq,
}
