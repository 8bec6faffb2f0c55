//! The entries of one conversation, in their places.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Result, Route};
use crate::domain::{Body, ConversationId, Entry, Seq};
use crate::storage::{
    AppendBatch, AppendError, Head, MessageLog, PageLimit, PendingAppend, Prior, ReadError, StoredEntry, ids,
};

/// Entries of one batch: what every log takes at once.
pub(super) const BATCH_ENTRIES: usize = 64;
/// Bytes of one batch, as in a live conversation: what a log writes at once without trouble. One larger entry goes alone.
const BATCH_BYTES: usize = 64 * 1024;
/// Seqs that a log may keep in one place: no batch reaches over its end, for a log that writes each place on its own.
pub(super) const BUCKET: u64 = 4_096;
/// Looks for the duplicate rows of a batch at a time: each is a round trip to a remote log.
const FINDS_AT_ONCE: usize = 16;
/// Tries of a batch whose outcome is unknown: a node of a remote log restarts within them.
const TRIES: u32 = 5;
/// Pause before another try, times its number.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of a log.
pub(super) enum Copied {
    /// It is whole: so many entries were known, so many are new.
    Whole { known: u64, new: u64 },
    /// The target holds something else, or cannot hold this.
    Refused(String),
}

/// Copies what the target lacks.
pub(super) async fn copy(route: Route<'_>, id: ConversationId, head: Head) -> Result<Copied> {
    let there = route.target.log.head(id).await?;
    if let Some(there) = there
        && let Some(why) = other_history(route, id, head, there).await?
    {
        return Ok(Copied::Refused(why));
    }
    let mut at = there.unwrap_or_default();
    let known = at.seq.0;
    while at.seq < head.seq {
        let entries = next_entries(route, id, at.seq, head.seq).await?;
        let batch = batch(route, id, at, entries).await?;
        let after = batch.head;
        if !append(route, batch).await? {
            let why = format!("the target holds one of the ids after seq {} in another place", at.seq);
            return Ok(Copied::Refused(why));
        }
        at = after;
    }
    if (at.ordinal, at.epoch, at.time) != (head.ordinal, head.epoch, head.time) {
        let why = format!("its head {head:?} does not follow from its entries, which give {at:?}");
        return Ok(Copied::Refused(why));
    }
    Ok(Copied::Whole {
        known,
        new: head.seq.0 - known,
    })
}

/// Why the target's log is not the beginning of the source's.
async fn other_history(route: Route<'_>, id: ConversationId, head: Head, there: Head) -> Result<Option<String>> {
    if there.seq > head.seq {
        return Ok(Some(format!(
            "the target went on to seq {}, the source ends at {}",
            there.seq, head.seq
        )));
    }
    let ours = one(&*route.source.log, id, there.seq).await?;
    let theirs = one(&*route.target.log, id, there.seq).await?;
    if !is_same(&ours.entry, &theirs.entry, there.seq) {
        return Ok(Some(format!(
            "the target holds another history: seq {} differs",
            there.seq
        )));
    }
    Ok(None)
}

/// Whether two stores hold the same entry. What the source took away by an entry that the target does not have yet is
/// still there.
fn is_same(ours: &Entry, theirs: &Entry, target_head: Seq) -> bool {
    let yet_to_be_redacted = matches!(ours.body, Body::Tombstone { redacted_by } if redacted_by > target_head);
    if yet_to_be_redacted && matches!(theirs.body, Body::Message(_) | Body::Edited { .. }) {
        return *theirs
            == Entry {
                body: theirs.body.clone(),
                ..ours.clone()
            };
    }
    ours == theirs
}

async fn one(log: &dyn MessageLog, id: ConversationId, seq: Seq) -> Result<Arc<StoredEntry>> {
    let limit = PageLimit {
        entries: 1,
        bytes: usize::MAX,
    };
    let found = log.read(id, seq, seq, limit).await?.pop();
    Ok(found.ok_or_else(|| ReadError::Corrupt(format!("entry {seq} of {id} is missing at or below the head")))?)
}

/// What the next batch takes.
async fn next_entries(route: Route<'_>, id: ConversationId, after: Seq, head: Seq) -> Result<Vec<Arc<StoredEntry>>> {
    let from = after.next();
    let bucket_end = Seq((from.0 / BUCKET + 1) * BUCKET - 1);
    let limit = PageLimit {
        entries: BATCH_ENTRIES,
        bytes: BATCH_BYTES,
    };
    let mut page = route.source.log.read(id, from, head.min(bucket_end), limit).await?;
    let mut bytes = 0;
    // A page ends with the entry that reaches the limit; a batch ends before it.
    let fits = page.iter().take_while(|stored| {
        bytes += stored.wire.len();
        bytes <= BATCH_BYTES
    });
    let keep = fits.count().max(1);
    page.truncate(keep);
    if page.first().is_none_or(|first| first.entry.seq != from) {
        return Err(ReadError::Corrupt(format!("entry {from} of {id} is missing below the head")).into());
    }
    Ok(page)
}

async fn batch(
    route: Route<'_>,
    id: ConversationId,
    expected: Head,
    entries: Vec<Arc<StoredEntry>>,
) -> Result<AppendBatch> {
    let head = entries.iter().fold(expected, |head, stored| head.after(&stored.entry));
    let found = stream::iter(entries.iter().map(|stored| prior_of(&*route.source.log, &stored.entry)));
    let priors: Vec<Prior> = found.buffered(FINDS_AT_ONCE).try_collect().await?;
    let pending = entries.iter().zip(priors).map(|(stored, prior)| PendingAppend {
        entry: stored.entry.clone(),
        payload: prior.payload,
    });
    Ok(AppendBatch {
        conversation: id,
        expected,
        entries: pending.collect(),
        head,
    })
}

/// The duplicate row of an entry: it outlives the content, and retries are told by it (I2).
pub(super) async fn prior_of(log: &dyn MessageLog, entry: &Entry) -> Result<Prior> {
    let found = ids::prior_of(log, entry).await?;
    match found {
        Some(prior) if prior.seq == entry.seq => Ok(prior),
        _ => {
            let why = format!(
                "the id of entry {} of {} leads elsewhere",
                entry.seq, entry.conversation
            );
            Err(ReadError::Corrupt(why).into())
        }
    }
}

/// Appends, also over a short failure; false when an id is taken.
async fn append(route: Route<'_>, batch: AppendBatch) -> Result<bool> {
    let (id, before, after) = (batch.conversation, batch.expected.seq, batch.head.seq);
    let mut doubted = false;
    for pause in (1..=TRIES).map(|number| PAUSE * number) {
        let conflict = match route.target.log.append(batch.clone()).await {
            Ok(_) => return Ok(true),
            Err(AppendError::Conflict) => true,
            Err(AppendError::Unknown(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if !conflict {
            doubted = true;
            tokio::time::sleep(pause).await;
        }
        let head = route.target.log.head(id).await?.unwrap_or_default().seq;
        if doubted && head == after {
            // A try of unknown outcome was done after all.
            return Ok(true);
        }
        if conflict {
            return if head == before {
                Ok(false)
            } else {
                Err(AppendError::Conflict.into())
            };
        }
    }
    Err(AppendError::Unknown("tried several times".to_owned()).into())
}
