//! `MessageLog` on CQL servers.

use std::sync::Arc;

use async_trait::async_trait;

use super::CqlStore;
use crate::domain::{ClientMsgId, ConversationId, Sender, Seq};
use crate::storage::{
    AppendBatch, AppendError, Durability, Head, LeftFanout, MessageLog, PageLimit, Prior, ReadError, StoredEntry,
};

/// Ids are unique within a bucket by the batch itself; across buckets by [`MessageLog::find`], which whoever appends asks
/// first, at the head that the batch then expects.
#[async_trait]
impl MessageLog for CqlStore {
    fn durability(&self) -> Durability {
        Durability::Quorum
    }

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        self.inner.append_batch(batch).await
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        let newest = self.inner.newest(conversation).await?;
        Ok(newest.map(|newest| newest.head))
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        Ok(self.inner.read_page(conversation, from, to, limit).await?)
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        Ok(self.inner.find_id(conversation, sender, id, known_head).await?)
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        Ok(self.inner.newest_of(conversation, sender).await?)
    }

    async fn fanout_pending(&self) -> Result<Vec<(ConversationId, Seq)>, ReadError> {
        Ok(self.inner.all_pending().await?)
    }

    async fn fanout_pending_from(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        Ok(self.inner.pending_of(conversation).await?)
    }

    async fn fanout_own(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        Ok(self.inner.own_pending(conversation).await?)
    }

    async fn fanout_left(&self, ours: &(dyn Fn([u8; 16]) -> bool + Send + Sync)) -> Result<Vec<LeftFanout>, ReadError> {
        Ok(self.inner.left(ours).await?)
    }

    async fn adopt_fanout(&self, conversation: ConversationId, from: Seq) -> Result<Seq, ReadError> {
        Ok(self.inner.adopt(conversation, from).await?)
    }

    async fn fanout_adopted(&self, conversation: ConversationId, up_to: Seq) {
        self.inner.taken(conversation, up_to);
    }

    async fn retire(&self) {
        self.inner.retire_marks().await;
    }

    async fn fanout_done(&self, conversation: ConversationId, up_to: Seq) {
        self.inner.fanned_out(conversation, up_to);
    }

    async fn contradictions(&self, conversation: ConversationId, up_to: Seq) -> Result<Vec<String>, ReadError> {
        Ok(self.inner.contradictions(conversation, up_to).await?)
    }
}
