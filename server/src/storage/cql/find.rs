//! Looking for ids: point reads of every bucket from where the client was.

use futures_util::{StreamExt, TryStreamExt, stream};
use stonechat_host::rule_holds;

use super::buckets::Newest;
use super::log_table::{ID, NEWEST, Place, Strength, row_key};
use super::rows::{id_key, read_number, sender_key};
use super::{CqlError, Inner};
use crate::domain::{ClientMsgId, ConversationId, Sender, Seq};
use crate::storage::Prior;

/// Point reads at a time of one search through many buckets.
const READS_AT_ONCE: usize = 16;

impl Inner {
    pub(super) async fn find_id(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, CqlError> {
        let Some(newest) = self.newest(conversation).await? else {
            return Ok(None);
        };
        self.settle_full(conversation, newest).await?;
        let key = id_key(sender, id);
        // A client cannot have been further than the log is.
        let oldest = self.bucket_of(known_head).min(newest.bucket);
        // Newest first: most retries come soon.
        let buckets = (oldest..=newest.bucket).rev();
        let reads = buckets.map(|bucket| self.id_in(Place { conversation, bucket }, &key));
        let found = stream::iter(reads)
            .buffered(READS_AT_ONCE)
            .try_filter_map(async |found| Ok(found));
        std::pin::pin!(found).try_next().await
    }

    /// In a full bucket nothing refuses an id a second time: the next append goes into the one behind. What last came into it,
    /// and may be visible in part (D6), is seen whole after a serial read.
    async fn settle_full(&self, conversation: ConversationId, newest: Newest) -> Result<(), CqlError> {
        let bucket = newest.bucket;
        if newest.head.seq == self.last_of(bucket) && rule_holds("a_full_bucket_is_settled") {
            self.head_of(Place { conversation, bucket }, Strength::Serial).await?;
        }
        Ok(())
    }

    async fn id_in(&self, place: Place, key: &[u8]) -> Result<Option<Prior>, CqlError> {
        let values = row_key(place, ID, Seq::ZERO, key);
        let row: Option<(Option<i64>, Option<Vec<u8>>)> = self.client.row(&self.log.ids.quorum, values).await?;
        let Some((seq, payload)) = row else { return Ok(None) };
        let damaged = || CqlError::Damaged(format!("a duplicate row of {} is incomplete", place.conversation));
        Ok(Some(Prior {
            seq: Seq(read_number(seq.ok_or_else(damaged)?, "a duplicate's seq")?),
            payload: payload
                .and_then(|payload| payload.try_into().ok())
                .ok_or_else(damaged)?,
        }))
    }

    /// Looks back bucket by bucket: a sender that is quiet for long costs point reads, one for each 4,096 entries.
    pub(super) async fn newest_of(
        &self,
        conversation: ConversationId,
        sender: &Sender,
    ) -> Result<Option<ClientMsgId>, CqlError> {
        let Some(newest) = self.newest(conversation).await? else {
            return Ok(None);
        };
        let key = sender_key(sender);
        // The newest alone first: who writes now wrote a moment ago.
        if let Some(id) = self.newest_in(conversation, newest.bucket, &key).await? {
            return Ok(Some(id));
        }
        let reads = (0..newest.bucket)
            .rev()
            .map(|bucket| self.newest_in(conversation, bucket, &key));
        let found = stream::iter(reads)
            .buffered(READS_AT_ONCE)
            .try_filter_map(async |found| Ok(found));
        std::pin::pin!(found).try_next().await
    }

    async fn newest_in(
        &self,
        conversation: ConversationId,
        bucket: u64,
        key: &[u8],
    ) -> Result<Option<ClientMsgId>, CqlError> {
        let values = row_key(Place { conversation, bucket }, NEWEST, Seq::ZERO, key);
        let row: Option<(Option<Vec<u8>>,)> = self.client.row(&self.log.newest_ids.quorum, values).await?;
        let Some((id,)) = row else { return Ok(None) };
        let parse = |bytes: Vec<u8>| ClientMsgId::parse(&String::from_utf8(bytes).ok()?).ok();
        let id = id.and_then(parse);
        id.map(Some)
            .ok_or_else(|| CqlError::Damaged("the newest id of a sender is not an id".to_owned()))
    }
}
