//! Which bucket of a conversation is the newest, as far as is known: never ahead of the log, at times behind it.

use quick_cache::sync::Cache;
use scylla::statement::prepared::PreparedStatement;

use super::CqlError;
use super::client::Client;
use super::rows::{conversation, number, read_number};
use crate::domain::ConversationId;

/// Conversations whose newest bucket is remembered: some ten megabytes.
const REMEMBERED_MAX: usize = 100_000;

pub(super) struct Hints {
    get: PreparedStatement,
    raise: PreparedStatement,
    seen: Cache<ConversationId, u64>,
}

impl Hints {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        Ok(Self {
            get: client
                .prepare("SELECT bucket FROM hints WHERE conversation = ?")
                .await?,
            // The write time is the value: the highest bucket stays, whatever the order of writes.
            raise: client
                .prepare("UPDATE hints USING TIMESTAMP ? SET bucket = ? WHERE conversation = ?")
                .await?,
            seen: Cache::new(REMEMBERED_MAX),
        })
    }

    /// A bucket whose head was seen; `None` when none ever was.
    pub(super) async fn newest(&self, client: &Client, id: ConversationId) -> Result<Option<u64>, CqlError> {
        if let Some(bucket) = self.seen.get(&id) {
            return Ok(Some(bucket));
        }
        let row: Option<(Option<i64>,)> = client.row(&self.get, vec![conversation(id)]).await?;
        row.and_then(|(bucket,)| bucket)
            .map(|bucket| read_number(bucket, "a hint of the newest bucket"))
            .transpose()
    }

    /// This node saw the head of a bucket.
    pub(super) fn saw(&self, id: ConversationId, bucket: u64) {
        if self.seen.get(&id).is_none_or(|before| before < bucket) {
            self.seen.insert(id, bucket);
        }
    }

    /// A bucket was opened: others shall not walk to it.
    pub(super) async fn opened(&self, client: &Client, id: ConversationId, bucket: u64) {
        let values = vec![number(bucket + 1), number(bucket), conversation(id)];
        if let Err(error) = client.write(&self.raise, values).await {
            // Readers walk one bucket further.
            tracing::debug!(%error, "the newest bucket of a conversation was not noted");
        }
    }

    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.seen.clear();
    }
}
