//! Reading entries: page after page, bucket after bucket, never past a hole.

use std::sync::Arc;

use bytes::Bytes;
use stonechat_host::rule_holds;

use super::buckets::Newest;
use super::log_table::{Place, Strength, place_key};
use super::redaction::Marks;
use super::rows::{number, read_number};
use super::{CqlError, Inner};
use crate::domain::{ConversationId, Seq};
use crate::storage::rules::page_is_full;
use crate::storage::{PageLimit, StoredEntry};
use crate::wire::entry;

/// Rows of one request: a page of history as a rule, and not many megabytes when entries are large.
pub(super) const ROWS_PER_REQUEST: usize = 64;

type EntryRow = (i64, Option<Vec<u8>>);

impl Inner {
    pub(super) async fn read_page(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, CqlError> {
        let Some(newest) = self.newest(conversation).await? else {
            return Ok(Vec::new());
        };
        let (mut next, to) = (from.max(newest.head.floor), to.min(newest.head.seq));
        let (mut page, mut bytes) = (Vec::new(), 0);
        let mut marks: Option<(u64, Marks)> = None;
        while next <= to && !page_is_full(limit, page.len(), bytes) {
            let place = self.place_of(conversation, next);
            if marks.as_ref().is_none_or(|(bucket, _)| *bucket != place.bucket) {
                marks = Some((place.bucket, self.marks(place, newest).await?));
            }
            let last = to.min(self.last_of(place.bucket));
            let wanted = limit.entries.max(1).saturating_sub(page.len()).min(ROWS_PER_REQUEST);
            for stored in self.run_of(place, next, last, wanted).await? {
                if page_is_full(limit, page.len(), bytes) {
                    break;
                }
                let stored = marks
                    .as_ref()
                    .map_or_else(|| Arc::clone(&stored), |(_, marks)| marks.over(&stored));
                bytes += stored.wire.len();
                next = stored.entry.seq.next();
                page.push(stored);
            }
        }
        Ok(page)
    }

    /// Marks lie in buckets before the newest alone: a redaction in the newest replaced what it reaches there itself.
    async fn marks(&self, place: Place, newest: Newest) -> Result<Marks, CqlError> {
        if place.bucket == newest.bucket {
            return Ok(Marks::default());
        }
        self.marks_of(place, newest.head.seq).await
    }

    /// At least one entry from `next` on, without holes. A quorum read may show part of a batch (D6): a hole is read
    /// again serially, and when it is there still the log is damaged.
    async fn run_of(
        &self,
        place: Place,
        next: Seq,
        last: Seq,
        wanted: usize,
    ) -> Result<Vec<Arc<StoredEntry>>, CqlError> {
        for strength in [Strength::Quorum, Strength::Serial] {
            if strength == Strength::Serial && !rule_holds("a_hole_is_read_again") {
                break;
            }
            let run = self.entries_of(place, next, last, wanted, strength).await?;
            if !run.is_empty() {
                return Ok(run);
            }
        }
        let why = format!("entry {next} of {} is missing below the head", place.conversation);
        Err(CqlError::Damaged(why))
    }

    /// The entries that follow each other from `next` on.
    async fn entries_of(
        &self,
        place: Place,
        next: Seq,
        last: Seq,
        wanted: usize,
        strength: Strength,
    ) -> Result<Vec<Arc<StoredEntry>>, CqlError> {
        let mut values = place_key(place);
        let rows = i32::try_from(wanted).unwrap_or(i32::MAX);
        values.extend([number(next.0), number(last.0), scylla::value::CqlValue::Int(rows)]);
        let rows: Vec<EntryRow> = self.client.rows(self.log.entries.at(strength), values).await?;
        let (mut run, mut next) = (Vec::with_capacity(rows.len()), next);
        for (seq, wire) in rows {
            let (seq, Some(wire)) = (Seq(read_number(seq, "a seq")?), wire) else {
                break;
            };
            if seq != next {
                break;
            }
            run.push(decode(place.conversation, seq, wire)?);
            next = next.next();
        }
        Ok(run)
    }

    /// One entry of the log as it lies there, marks not looked at; `None` when it is absent.
    pub(super) async fn entry_at(
        &self,
        conversation: ConversationId,
        seq: Seq,
        strength: Strength,
    ) -> Result<Option<Arc<StoredEntry>>, CqlError> {
        let place = self.place_of(conversation, seq);
        let run = self.entries_of(place, seq, seq, 1, strength).await?;
        Ok(run.into_iter().next())
    }
}

pub(super) fn decode(conversation: ConversationId, seq: Seq, wire: Vec<u8>) -> Result<Arc<StoredEntry>, CqlError> {
    let entry = entry::decode(&wire).map_err(|error| CqlError::Damaged(error.to_string()))?;
    if (entry.conversation, entry.seq) != (conversation, seq) {
        let why = format!("entry {seq} of {conversation} is another one");
        return Err(CqlError::Damaged(why));
    }
    Ok(Arc::new(StoredEntry {
        entry,
        wire: Bytes::from(wire),
    }))
}
