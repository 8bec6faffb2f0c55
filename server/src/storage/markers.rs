//! `Markers`: max-registers (delivered, read) and the inbox index (what changed for a user).

use async_trait::async_trait;

use crate::domain::{ConversationId, DeviceId, MarkerSet, Ordinal, Seq, UnixMillis, UserId};

/// Position in a user's changes: grows with each change of one of their inbox rows; never re-used within a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ChangeStamp(pub u64);

/// Where a conversation's head is for one user, who may have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InboxHead {
    /// Newest seq in the user's audience.
    pub seq: Seq,
    /// Its ordinal.
    pub ordinal: Ordinal,
    /// Its server time.
    pub time: UnixMillis,
}

/// One row of a user's inbox index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxRow {
    /// The conversation.
    pub conversation: ConversationId,
    /// Where its head is for the user.
    pub head: InboxHead,
    /// When the row last changed.
    pub change: ChangeStamp,
}

/// Registers of one user in one conversation to raise.
#[derive(Debug, Clone, PartialEq)]
pub struct MarkerRaise {
    /// Whose.
    pub user: UserId,
    /// Where.
    pub conversation: ConversationId,
    /// Merged into what is stored.
    pub markers: MarkerSet,
    /// Also raises this device's position to the seq.
    pub device: Option<(DeviceId, Seq)>,
}

/// What fan-out of some entries of a conversation leaves behind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FanoutRecord {
    /// Registers to raise: nothing before one's own message, or one's joining, counts as unread.
    pub floors: Vec<MarkerRaise>,
    /// Inbox rows to raise.
    pub rows: Vec<InboxRaise>,
}

/// Inbox rows of one conversation to raise to one head.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxRaise {
    /// Whose.
    pub users: Vec<UserId>,
    /// To where.
    pub head: InboxHead,
}

/// Markers could not be read or written. A write may or may not have happened; raising again is harmless.
#[derive(Debug, Clone, thiserror::Error)]
#[error("markers are not available: {0}")]
pub struct MarkerError(pub String);

/// Max-registers and the inbox index.
#[async_trait]
pub trait Markers: Send + Sync {
    /// Raises registers; lower values change nothing (I6, C10). Durable when it returns. It does not touch inbox rows.
    ///
    /// # Errors
    /// The outcome is unknown; raising again is harmless.
    async fn raise(&self, raises: Vec<MarkerRaise>) -> Result<(), MarkerError>;

    /// One user's markers in one conversation; all zero when none were raised.
    ///
    /// # Errors
    /// The store cannot answer.
    async fn get(&self, user: &UserId, conversation: ConversationId) -> Result<MarkerSet, MarkerError>;

    /// The markers of one user in several conversations, in the order asked.
    ///
    /// # Errors
    /// The store cannot answer.
    async fn get_many(&self, user: &UserId, conversations: &[ConversationId]) -> Result<Vec<MarkerSet>, MarkerError>;

    /// The markers of several users in one conversation, in the order asked.
    ///
    /// # Errors
    /// The store cannot answer.
    async fn of_users(&self, conversation: ConversationId, users: &[UserId]) -> Result<Vec<MarkerSet>, MarkerError>;

    /// What a device acknowledged in several conversations, in the order asked; 0 for nothing.
    ///
    /// # Errors
    /// The store cannot answer.
    async fn device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Seq>, MarkerError>;

    /// Sets positions of a device outright, down as well as up (a device that lost its data). One that goes down takes
    /// the synced stamp with it, back to nothing: what is above it was no longer acknowledged. Durable when it returns.
    ///
    /// # Errors
    /// The outcome is unknown; setting again is harmless.
    async fn set_device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        positions: &[(ConversationId, Seq)],
    ) -> Result<(), MarkerError>;

    /// Forgets everything a device acknowledged, its synced stamp too. Durable when it returns.
    ///
    /// # Errors
    /// The outcome is unknown; forgetting again is harmless.
    async fn forget_device(&self, user: &UserId, device: &DeviceId) -> Result<(), MarkerError>;

    /// Every inbox row whose change is at or below this was acknowledged by the device.
    ///
    /// # Errors
    /// The store cannot answer.
    async fn synced(&self, user: &UserId, device: &DeviceId) -> Result<ChangeStamp, MarkerError>;

    /// Raises the synced stamp of a device. A hint that saves work: it may be lost in a crash.
    async fn raise_synced(&self, user: &UserId, device: &DeviceId, change: ChangeStamp);

    /// Raises the heads of users' inbox rows and gives each changed row a new, higher stamp; a head that is not higher
    /// only gets a new stamp when `touch` says so (settings or markers changed). Visible to reads when it returns; it
    /// may be lost in a crash, together with every later `fanout_done` of the same store, never alone.
    ///
    /// # Errors
    /// The outcome is unknown; raising again is harmless.
    async fn raise_inbox(
        &self,
        users: &[UserId],
        conversation: ConversationId,
        head: InboxHead,
        touch: bool,
    ) -> Result<(), MarkerError>;

    /// Writes what fan-out leaves behind, in order: as [`Self::raise`] and [`Self::raise_inbox`] without `touch`. Visible to
    /// reads when it returns; it may be lost in a crash, together with every later `fanout_done` of the same store, never
    /// alone.
    ///
    /// # Errors
    /// The outcome is unknown; doing it again is harmless.
    async fn record_fanout(&self, conversation: ConversationId, record: FanoutRecord) -> Result<(), MarkerError> {
        if !record.floors.is_empty() {
            self.raise(record.floors).await?;
        }
        for rows in record.rows {
            self.raise_inbox(&rows.users, conversation, rows.head, false).await?;
        }
        Ok(())
    }

    /// A user's rows changed after `after`, oldest change first.
    ///
    /// # Errors
    /// The store cannot answer.
    async fn inbox_changes(
        &self,
        user: &UserId,
        after: ChangeStamp,
        limit: usize,
    ) -> Result<Vec<InboxRow>, MarkerError>;

    /// A user's `limit` newest rows, newest change first.
    ///
    /// # Errors
    /// The store cannot answer.
    async fn inbox_newest(&self, user: &UserId, limit: usize) -> Result<Vec<InboxRow>, MarkerError>;

    /// One row, when there is one.
    ///
    /// # Errors
    /// The store cannot answer.
    async fn inbox_row(&self, user: &UserId, conversation: ConversationId) -> Result<Option<InboxRow>, MarkerError>;

    /// Random id of this store: a cursor of another store is worth nothing here (D20).
    fn store_id(&self) -> [u8; 16];

    /// The newest stamp that this node gave out. A store with several writers does not know those of the others.
    fn newest_change(&self) -> ChangeStamp;

    /// Whether a stamp may have been given out by this store: a cursor above that is not of its present state.
    fn may_have_given(&self, change: ChangeStamp) -> bool {
        change <= self.newest_change()
    }

    /// How far somebody who has read every row up to `newest` may start later: where several nodes give stamps, a lower
    /// one may become visible after a higher one was read. Where one does, it is `newest` itself.
    fn settled(&self, newest: ChangeStamp) -> ChangeStamp {
        newest
    }
}
