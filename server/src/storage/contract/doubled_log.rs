//! A log in front of another: a double changes the calls that its test is about, all others go through.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{ClientMsgId, ConversationId, Sender, Seq};
use crate::storage::{
    AppendBatch, AppendError, Durability, Head, LeftFanout, MessageLog, PageLimit, Prior, ReadError, StoredEntry,
};

/// What a test changes; see [`MessageLog`] for the calls.
#[async_trait]
pub(crate) trait LogDouble: Send + Sync {
    /// The real one.
    fn inner(&self) -> &dyn MessageLog;

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        self.inner().append(batch).await
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        self.inner().head(conversation).await
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        self.inner().read(conversation, from, to, limit).await
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        self.inner().find(conversation, sender, id, known_head).await
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        self.inner().newest_id(conversation, sender).await
    }

    async fn fanout_pending_from(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        self.inner().fanout_pending_from(conversation).await
    }

    async fn fanout_left(&self, ours: &(dyn Fn([u8; 16]) -> bool + Send + Sync)) -> Result<Vec<LeftFanout>, ReadError> {
        self.inner().fanout_left(ours).await
    }

    async fn adopt_fanout(&self, conversation: ConversationId, from: Seq) -> Result<Seq, ReadError> {
        self.inner().adopt_fanout(conversation, from).await
    }
}

/// The log that a double makes.
pub(crate) struct Doubled<D>(pub(crate) D);

#[async_trait]
impl<D: LogDouble> MessageLog for Doubled<D> {
    fn durability(&self) -> Durability {
        self.0.inner().durability()
    }

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        self.0.append(batch).await
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        self.0.head(conversation).await
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        self.0.read(conversation, from, to, limit).await
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        self.0.find(conversation, sender, id, known_head).await
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        self.0.newest_id(conversation, sender).await
    }

    async fn fanout_pending(&self) -> Result<Vec<(ConversationId, Seq)>, ReadError> {
        self.0.inner().fanout_pending().await
    }

    async fn fanout_pending_from(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        self.0.fanout_pending_from(conversation).await
    }

    async fn fanout_own(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        self.0.fanout_pending_from(conversation).await
    }

    async fn fanout_left(&self, ours: &(dyn Fn([u8; 16]) -> bool + Send + Sync)) -> Result<Vec<LeftFanout>, ReadError> {
        self.0.fanout_left(ours).await
    }

    async fn adopt_fanout(&self, conversation: ConversationId, from: Seq) -> Result<Seq, ReadError> {
        self.0.adopt_fanout(conversation, from).await
    }

    async fn fanout_done(&self, conversation: ConversationId, up_to: Seq) {
        self.0.inner().fanout_done(conversation, up_to).await;
    }
}
