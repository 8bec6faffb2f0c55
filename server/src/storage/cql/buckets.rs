//! Buckets of a conversation: which seqs lie where, the head of each, and the newest one.

use stonechat_host::rule_holds;

use super::log_table::{Place, Strength, place_key};
use super::rows::read_number;
use super::{CqlError, Inner};
use crate::domain::{ConversationId, Epoch, Ordinal, Seq, UnixMillis};
use crate::storage::Head;

/// The statics of a bucket, and the kind of its first row.
type HeadRow = (
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i8>,
);

/// The newest bucket, and the head in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) bucket: u64,
    pub(super) head: Head,
}

impl Inner {
    pub(super) fn bucket_of(&self, seq: Seq) -> u64 {
        seq.0 / self.bucket_seqs
    }

    pub(super) fn place_of(&self, conversation: ConversationId, seq: Seq) -> Place {
        Place {
            conversation,
            bucket: self.bucket_of(seq),
        }
    }

    /// The last seq that belongs into a bucket.
    pub(super) fn last_of(&self, bucket: u64) -> Seq {
        Seq(bucket.saturating_add(1).saturating_mul(self.bucket_seqs) - 1)
    }

    /// The head of one bucket; `None` when it was never opened. A quorum read may show rows before the head that came with
    /// them (D6): only what a serial read says is damage.
    pub(super) async fn head_of(&self, place: Place, strength: Strength) -> Result<Option<Head>, CqlError> {
        match self.read_head(place, strength).await {
            Err(CqlError::Damaged(_)) if strength == Strength::Quorum && rule_holds("a_hole_is_read_again") => {
                self.read_head(place, Strength::Serial).await
            }
            read => read,
        }
    }

    async fn read_head(&self, place: Place, strength: Strength) -> Result<Option<Head>, CqlError> {
        let statement = self.log.heads.at(strength);
        let row: Option<HeadRow> = self.client.row(statement, place_key(place)).await?;
        let Some((head, ordinal, epoch, time, floor, kind)) = row else {
            return Ok(None);
        };
        let missing = |what: &str| {
            let Place { conversation, bucket } = place;
            CqlError::Damaged(format!("bucket {bucket} of {conversation} has rows but no {what}"))
        };
        let number = |value: Option<i64>, what| read_number(value.ok_or_else(|| missing(what))?, what);
        if head.is_none() && kind.is_none() {
            return Ok(None);
        }
        Ok(Some(Head {
            seq: Seq(number(head, "head")?),
            ordinal: Ordinal(number(ordinal, "ordinal")?),
            epoch: Epoch(number(epoch, "epoch")?),
            time: UnixMillis(time.ok_or_else(|| missing("time"))?),
            floor: Seq(number(floor, "floor")?),
        }))
    }

    /// Walks from the hint to the newest bucket. A conversation that has a hint has a head: when it is gone, the log is
    /// damaged, and it never starts again at 1 (D7, D8).
    pub(super) async fn newest(&self, conversation: ConversationId) -> Result<Option<Newest>, CqlError> {
        let hint = self.hints.newest(&self.client, conversation).await?;
        let mut newest: Option<Newest> = None;
        let mut bucket = hint.unwrap_or(0);
        let newest = loop {
            let place = Place { conversation, bucket };
            let Some(head) = self.head_of(place, Strength::Quorum).await? else {
                if newest.is_none() && hint.is_some() {
                    let why = format!("{conversation} had a head in bucket {bucket}, and it is gone");
                    return Err(CqlError::Damaged(why));
                }
                break newest;
            };
            if self.bucket_of(head.seq) != bucket {
                let why = format!("bucket {bucket} of {conversation} has its head at {}", head.seq);
                return Err(CqlError::Damaged(why));
            }
            self.hints.saw(conversation, bucket);
            newest = Some(Newest { bucket, head });
            if head.seq < self.last_of(bucket) {
                break newest;
            }
            bucket += 1;
        };
        if let Some(newest) = newest
            && hint.is_none_or(|hint| hint < newest.bucket)
        {
            // Whoever opened it may have died before it noted that.
            self.hints.opened(&self.client, conversation, newest.bucket).await;
        }
        Ok(newest)
    }
}
