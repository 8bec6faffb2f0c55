//! The conversation rules: sequencing, membership, fan-out, receipts, sync. Names neither tonic nor the proto crate.

mod types;

pub use types::{
    AppendRequest, Appended, Caller, ConversationInfo, CreateRequest, HistoryAnchor, HistoryPage, HistoryQuery,
    ListPage, MemberReceipt, OwnMarkers, Receipts, Summary,
};

use std::sync::Arc;

use stonechat_host::Host;

use crate::bus::Bus;
use crate::domain::{ConversationId, DeviceId, Refusal, Seq, UserId};
use crate::storage::{ChangeStamp, Directory, InboxRow, Markers, MessageLog, PageLimit, SettingsPatch, StoredEntry};

/// What the conversation rules stand on.
#[derive(Clone)]
pub struct Backends {
    /// The log.
    pub log: Arc<dyn MessageLog>,
    /// Markers and inbox.
    pub markers: Arc<dyn Markers>,
    /// Users, devices, conversations.
    pub directory: Arc<dyn Directory>,
    /// Live delivery.
    pub bus: Arc<dyn Bus>,
}

/// The conversation rules. Cheap to clone.
#[derive(Clone)]
pub struct Conversations {
    backends: Backends,
    host: Host,
}

impl Conversations {
    /// Stands on these backends.
    #[must_use]
    pub fn new(backends: Backends, host: Host) -> Self {
        Self { backends, host }
    }

    /// Re-drives fan-out that a crash left pending; call once before serving. Returns how many conversations had any.
    ///
    /// # Errors
    /// The store cannot answer; do not serve.
    pub async fn recover(&self) -> Result<usize, Refusal> {
        todo!()
    }

    /// Stops taking appends and waits until all accepted ones are answered and fanned out.
    pub async fn drain(&self) {
        todo!()
    }

    /// Appends one change; answers after it is durable (I1). A retry answers with the first try's seq (I2).
    ///
    /// # Errors
    /// Typed, with whether it was certainly not done.
    pub async fn append(&self, caller: &Caller, request: AppendRequest) -> Result<Appended, Refusal> {
        todo!()
    }

    /// Creates a group, or finds or creates the 1:1 of a pair.
    ///
    /// # Errors
    /// Typed, with whether it was certainly not done.
    pub async fn create(&self, caller: &Caller, request: CreateRequest) -> Result<ConversationInfo, Refusal> {
        todo!()
    }

    /// One conversation with its members.
    ///
    /// # Errors
    /// Hidden and absent answer alike.
    pub async fn get(&self, caller: &Caller, id: ConversationId) -> Result<ConversationInfo, Refusal> {
        todo!()
    }

    /// Ids of all conversations, ascending, and whether more follow; for integrators.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn list_all(
        &self,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<(Vec<ConversationId>, bool), Refusal> {
        todo!()
    }

    /// The caller's rows changed since `cursor` (empty: all), oldest change first.
    ///
    /// # Errors
    /// `ResyncRequired` when the cursor is of another store or damaged.
    pub async fn list(&self, caller: &Caller, cursor: &[u8], limit: usize) -> Result<ListPage, Refusal> {
        todo!()
    }

    /// One row of a user's list; `None` when they have nothing to do with the conversation.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn summary(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        id: ConversationId,
    ) -> Result<Option<Summary>, Refusal> {
        todo!()
    }

    /// A page of the log as the caller may see it.
    ///
    /// # Errors
    /// Hidden and absent answer alike; `BeyondHead` for an anchor above the head.
    pub async fn history(&self, caller: &Caller, query: HistoryQuery) -> Result<HistoryPage, Refusal> {
        todo!()
    }

    /// The caller's user has everything up to `seq` on some device; with a device in the caller, on that one: its
    /// position is raised too.
    ///
    /// # Errors
    /// `BeyondHead` above the head.
    pub async fn mark_delivered(&self, caller: &Caller, id: ConversationId, seq: Seq) -> Result<OwnMarkers, Refusal> {
        todo!()
    }

    /// The caller's user has read everything up to `seq`.
    ///
    /// # Errors
    /// `BeyondHead` above the head.
    pub async fn mark_read(
        &self,
        caller: &Caller,
        id: ConversationId,
        seq: Seq,
        private: bool,
    ) -> Result<OwnMarkers, Refusal> {
        todo!()
    }

    /// Shows as unread from `from`, or clears that.
    ///
    /// # Errors
    /// `BeyondHead` above the head.
    pub async fn mark_unread(
        &self,
        caller: &Caller,
        id: ConversationId,
        from: Option<Seq>,
    ) -> Result<OwnMarkers, Refusal> {
        todo!()
    }

    /// Who received and who read one entry.
    ///
    /// # Errors
    /// Hidden and absent answer alike.
    pub async fn receipts(
        &self,
        caller: &Caller,
        id: ConversationId,
        seq: Seq,
        with_members: bool,
    ) -> Result<Receipts, Refusal> {
        todo!()
    }

    /// Tells the other online members that the caller types, or stopped.
    ///
    /// # Errors
    /// Hidden and absent answer alike.
    pub async fn set_typing(&self, caller: &Caller, id: ConversationId, stopped: bool) -> Result<(), Refusal> {
        todo!()
    }

    /// Changes the caller's settings of a conversation.
    ///
    /// # Errors
    /// Hidden and absent answer alike.
    pub async fn update_settings(
        &self,
        caller: &Caller,
        id: ConversationId,
        patch: SettingsPatch,
    ) -> Result<Summary, Refusal> {
        todo!()
    }

    /// A block between two users was set or lifted: their 1:1, if loaded, must see it.
    pub async fn block_changed(&self, one: &UserId, other: &UserId) {
        todo!()
    }

    /// The stamp in `cursor`: `Some(0)` for an empty one, `None` when it is of another store, damaged or from the future.
    #[must_use]
    pub fn read_cursor(&self, cursor: &[u8]) -> Option<ChangeStamp> {
        todo!()
    }

    /// The cursor that stands for a stamp.
    #[must_use]
    pub fn write_cursor(&self, change: ChangeStamp) -> Vec<u8> {
        todo!()
    }

    /// The list rows of these inbox rows, in their order; `device` fills `device_seq`.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn summaries(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        rows: &[InboxRow],
    ) -> Result<Vec<Summary>, Refusal> {
        todo!()
    }

    /// What the user may read after `after`, in order; empty at the head. Between two stays of a user, the seqs outside
    /// are passed over.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn read_after(
        &self,
        user: &UserId,
        id: ConversationId,
        after: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, Refusal> {
        todo!()
    }

    /// The markers store, for a session's positions and its user's inbox rows.
    #[must_use]
    pub fn markers(&self) -> &Arc<dyn Markers> {
        &self.backends.markers
    }
}
