//! What every implementation of the traits checks and derives alike.

use std::sync::Arc;

use super::log::{AppendBatch, AppendError, PageLimit, StoredEntry};
use super::markers::InboxHead;
use crate::domain::{Body, Entry, Seq};
use crate::wire::entry;

/// Entries of one batch: the group commit of a conversation (D22).
pub(crate) const BATCH_ENTRIES_MAX: usize = 64;

/// Encodes entries in the order of the batch.
pub(crate) fn encode_all(batch: &AppendBatch) -> Vec<Arc<StoredEntry>> {
    let entries = batch.entries.iter();
    entries.map(|pending| stored(pending.entry.clone())).collect()
}

/// An entry with its encoded form.
pub(crate) fn stored(entry: Entry) -> Arc<StoredEntry> {
    let wire = entry::encode(&entry);
    Arc::new(StoredEntry { entry, wire })
}

/// Refuses a batch that contradicts itself: it would make a hole or a wrong head.
pub(crate) fn check_shape(batch: &AppendBatch) -> Result<(), AppendError> {
    let refuse = |why: &str| Err(AppendError::NotDone(format!("the batch contradicts itself: {why}")));
    if batch.entries.is_empty() || batch.entries.len() > BATCH_ENTRIES_MAX {
        return refuse("it must hold 1 to 64 entries");
    }
    let mut next = batch.expected.seq;
    for pending in &batch.entries {
        next = next.next();
        if pending.entry.seq != next || pending.entry.conversation != batch.conversation {
            return refuse("its entries do not follow the expected head");
        }
    }
    if batch.head.seq != next || batch.head.floor.0 == 0 {
        return refuse("its head is not at its last entry");
    }
    Ok(())
}

/// What a redaction leaves of an entry: a tombstone at the same place, with the same ordinal and sender. `None` when
/// there is nothing to take away: only messages and edits hold content, the first redaction stays, and none reaches
/// entries after it.
pub(crate) fn tombstone_of(entry: &Entry, redacted_by: Seq) -> Option<Arc<StoredEntry>> {
    match entry.body {
        Body::Message(_) | Body::Edited { .. } if entry.seq < redacted_by => Some(stored(Entry {
            body: Body::Tombstone { redacted_by },
            ..entry.clone()
        })),
        _ => None,
    }
}

/// Whether a page that holds `entries` of `bytes` in sum is at its limit.
pub(crate) fn page_is_full(limit: PageLimit, entries: usize, bytes: usize) -> bool {
    entries > 0 && (entries >= limit.entries || bytes >= limit.bytes)
}

/// The head of an inbox row that changes; `None` when the row stays as it is. `before` is its head, `None` without a row.
pub(crate) fn raised_head(before: Option<InboxHead>, head: InboxHead, touch: bool) -> Option<InboxHead> {
    match before {
        Some(before) if head.seq <= before.seq => touch.then_some(before),
        Some(_) => Some(head),
        None => (touch || head.seq > Seq::ZERO).then_some(head),
    }
}
