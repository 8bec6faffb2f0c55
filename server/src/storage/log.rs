//! `MessageLog`: the one truth of a conversation.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::{ClientMsgId, ConversationId, Entry, Epoch, Ordinal, Sender, Seq, UnixMillis};

/// SHA-256 of what a request asks for, without its id; tells a retry from another payload under the same id.
pub type PayloadHash = [u8; 32];

/// Contradictions that are told of one conversation: as many as somebody reads. More come of the same damage.
pub const CONTRADICTIONS_MAX: usize = 100;

/// The end of a conversation's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Newest seq; 0 before the first entry.
    pub seq: Seq,
    /// Ordinal of the newest entry.
    pub ordinal: Ordinal,
    /// Version of the membership after the newest entry.
    pub epoch: Epoch,
    /// Server time of the newest entry.
    pub time: UnixMillis,
    /// Oldest seq that is kept; 1 until retention deletes.
    pub floor: Seq,
}

impl Head {
    /// Where the end is after one more entry.
    #[must_use]
    pub fn after(self, entry: &Entry) -> Self {
        let changed = entry.body.changes_membership();
        Self {
            seq: entry.seq,
            ordinal: entry.ordinal,
            epoch: if changed { self.epoch.next() } else { self.epoch },
            time: entry.time,
            floor: self.floor.max(Seq(1)),
        }
    }
}

/// An entry as it lies in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEntry {
    /// The entry.
    pub entry: Entry,
    /// The same, encoded as `stonechat.v1.Entry`: encoded once, shared by the log and by every stream.
    pub wire: Bytes,
}

/// One entry of a batch, with what the duplicate check needs.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingAppend {
    /// The entry, with its final seq, time and ordinal.
    pub entry: Entry,
    /// Hash of what was asked for.
    pub payload: PayloadHash,
}

/// Entries to append to one conversation, all or none.
#[derive(Debug, Clone)]
pub struct AppendBatch {
    /// The conversation.
    pub conversation: ConversationId,
    /// The head must be here: compared by seq and epoch. `Head::default()` means the log must be empty.
    pub expected: Head,
    /// 1 to 64 entries with the seqs right after `expected`.
    pub entries: Vec<PendingAppend>,
    /// Where the head is afterwards.
    pub head: Head,
}

/// What is stored under a sender's `client_msg_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prior {
    /// Its seq.
    pub seq: Seq,
    /// Hash of what was asked for then.
    pub payload: PayloadHash,
}

/// A page ends at whichever is reached first; it always holds one entry when there is one.
#[derive(Debug, Clone, Copy)]
pub struct PageLimit {
    /// Entries.
    pub entries: usize,
    /// Encoded bytes.
    pub bytes: usize,
}

/// Why a batch was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Certainly not done: the head is elsewhere, or one of the ids is taken. Reload, check for duplicates, try again.
    #[error("the head moved or an id is taken")]
    Conflict,
    /// Certainly not done: the store refuses (full, read-only, stopping).
    #[error("not appended: {0}")]
    NotDone(String),
    /// Outcome unknown: read again, or append at the same head, before anything is answered.
    #[error("outcome of the append is unknown: {0}")]
    Unknown(String),
    /// The log contradicts itself. Never start again at 1.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
}

/// Why nothing was read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The store cannot answer now.
    #[error("the store cannot answer: {0}")]
    Unavailable(String),
    /// What was read contradicts itself: a bad checksum, a hole at or below the head.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
}

/// What an acknowledged append outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: it lies in memory, for tests.
    Memory,
    /// The process and the machine: it is fsynced on the local disk.
    LocalFsync,
    /// Any minority of the replicas: it is applied at a quorum.
    Quorum,
}

/// Fan-out that nobody is busy with any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftFanout {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// From which seq on.
    pub from: Seq,
    /// This process left it, and is to go on; else a process that is gone did.
    pub own: bool,
}

/// Append-if-head, read, find. Every method is linearizable per conversation: a read that starts after an append
/// returned sees it.
#[async_trait]
pub trait MessageLog: Send + Sync {
    /// What "durable" means below.
    fn durability(&self) -> Durability;

    /// Appends all entries or none, if the head is where the batch expects it and none of its (sender, id) pairs is
    /// taken. When it returns `Ok`, the entries, the head, the duplicate rows, each sender's newest id, and "fan-out
    /// pending from the batch's first seq" are durable, together. An entry that redacts has, in the same atom, put a
    /// tombstone in place of its target and of every edit of that target. Returns the entries as stored, in order.
    ///
    /// # Errors
    /// See [`AppendError`]; only `Unknown` leaves the outcome open.
    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError>;

    /// The end of the log; `None` when nothing was ever appended.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError>;

    /// Entries `from..=to` in ascending order without holes, as many as `limit` allows, starting at `from`.
    ///
    /// # Errors
    /// See [`ReadError`]; a hole at or below the head is `Corrupt`, never skipped.
    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError>;

    /// What is stored under this sender's id, for ever exact (I2). `known_head` is where the client was when it first
    /// tried: nothing before it need be searched.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError>;

    /// The newest id accepted from this sender in this conversation (I4).
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError>;

    /// Conversations whose entries from the given seq on may not have been fanned out, for a start after a crash.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn fanout_pending(&self) -> Result<Vec<(ConversationId, Seq)>, ReadError>;

    /// The first seq of a conversation that may not have been fanned out by anybody; `None` when everything was. A log of many
    /// processes asks for the marks of each: for tests and audits, not for every load.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn fanout_pending_from(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        let pending = self.fanout_pending().await?;
        let found = pending.into_iter().find(|(id, _)| *id == conversation);
        Ok(found.map(|(_, from)| from))
    }

    /// The same of what this process has to see to when it loads the conversation: what it appended itself or adopted. A log of
    /// one process knows no other.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn fanout_own(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        self.fanout_pending_from(conversation).await
    }

    /// Fan-out that nobody is busy with any more: what makes no progress here, and what processes left that seem to be gone, of
    /// those for whose id `ours` says that this one is responsible. A process that is merely slow may be among them: fan-out may
    /// be done twice. A log without processes of names answers with all that is pending of conversations that are `ours`.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn fanout_left(&self, ours: &(dyn Fn([u8; 16]) -> bool + Send + Sync)) -> Result<Vec<LeftFanout>, ReadError> {
        let pending = self.fanout_pending().await?;
        let pending = pending.into_iter().filter(|(id, _)| ours(id.0));
        let left = pending.map(|(conversation, from)| LeftFanout {
            conversation,
            from,
            own: false,
        });
        Ok(left.collect())
    }

    /// This process takes over what another one left of a conversation from a seq on: durable when it returns, so that it is
    /// found should this one die as well. Returns up to where.
    ///
    /// # Errors
    /// See [`ReadError`]; nothing was taken over.
    async fn adopt_fanout(&self, conversation: ConversationId, _from: Seq) -> Result<Seq, ReadError> {
        let head = self.head(conversation).await?;
        Ok(head.map_or(Seq::ZERO, |head| head.seq))
    }

    /// Some process adopted what was left of a conversation, up to a seq: it is not named again, but for what lands above.
    async fn fanout_adopted(&self, _conversation: ConversationId, _up_to: Seq) {}

    /// Nothing is appended by this process any more, and everything was fanned out: what would make others look after it is
    /// tidied away.
    async fn retire(&self) {}

    /// Everything up to `up_to` was fanned out. A hint: it may be lost in a crash, never before the inbox rows written
    /// ahead of it.
    async fn fanout_done(&self, conversation: ConversationId, up_to: Seq);

    /// How what is kept beside the entries contradicts them up to `up_to`, for an audit (D3): ids that do not lead to their
    /// entry and, where the store has them, marks of a batch that disagree. Empty when all agrees; it looks no further once
    /// there are [`CONTRADICTIONS_MAX`].
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn contradictions(&self, conversation: ConversationId, up_to: Seq) -> Result<Vec<String>, ReadError> {
        super::ids::contradictions(self, conversation, up_to).await
    }
}
