//! Reading the log: stateless by seq, clipped to the stays of whoever reads (I7).

use std::sync::Arc;

use stonechat_host::rule_holds;

use super::state::{State, read_refusal};
use super::{Caller, Conversations, HistoryAnchor, HistoryPage, HistoryQuery};
use crate::domain::authorization::Actor;
use crate::domain::limits::HISTORY_PAGE_BYTES_MAX;
use crate::domain::{ConversationId, Reason, Refusal, Seq, UserId};
use crate::storage::{PageLimit, StoredEntry};
use crate::telemetry::meters::meters;

/// Inclusive, never empty.
type Range = (Seq, Seq);

impl Conversations {
    /// A page of the log as the caller may see it.
    ///
    /// # Errors
    /// Hidden and absent answer alike; `BeyondHead` for an anchor above the head; `CursorExpired` below what is kept.
    pub async fn history(&self, caller: &Caller, query: HistoryQuery) -> Result<HistoryPage, Refusal> {
        let asked = stonechat_host::monotonic();
        let state = self.fresh_state(query.conversation).await?;
        state.check_visible(&caller.actor)?;
        let whole = stays(&state, &caller.actor);
        let stays = clip_above(&whole, query.until.unwrap_or(state.head.seq));
        let head = state.readable_head(&caller.actor);
        check_anchor(&state, query.anchor, head)?;
        let limit = PageLimit {
            entries: query.limit,
            bytes: HISTORY_PAGE_BYTES_MAX,
        };
        let entries = match query.anchor {
            HistoryAnchor::After(seq) => self.read_ranges(&state, &clip_below(&stays, seq.next()), limit).await?,
            HistoryAnchor::Before(seq) => {
                let end = seq.map_or(head, |seq| Seq(seq.0.saturating_sub(1)));
                self.backward(&state, &clip_above(&stays, end), limit).await?
            }
            HistoryAnchor::Around(seq) => self.around(&state, &stays, seq, limit).await?,
        };
        meters().history_seconds.since(asked);
        Ok(HistoryPage {
            conversation: query.conversation,
            has_more: has_more(&entries, &stays, query.anchor),
            first_available: whole.first().map_or(head, |(from, _)| *from),
            head,
            entries,
        })
    }

    /// What the user may read after `after`, in order; empty at the head. Seqs between two stays are passed over.
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
        let state = self.fresh_state(id).await?;
        let stays = stays(&state, &Actor::User(user.clone()));
        self.read_ranges(&state, &clip_below(&stays, after.next()), limit).await
    }

    async fn read_ranges(
        &self,
        state: &State,
        ranges: &[Range],
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, Refusal> {
        let mut entries: Vec<Arc<StoredEntry>> = Vec::new();
        let mut bytes = 0;
        for &(from, to) in ranges {
            let rest = PageLimit {
                entries: limit.entries - entries.len(),
                bytes: limit.bytes.saturating_sub(bytes),
            };
            if rest.entries == 0 || rest.bytes == 0 {
                break;
            }
            let page = self
                .core
                .backends
                .log
                .read(state.id, from, to, rest)
                .await
                .map_err(read_refusal)?;
            let whole = page.last().is_some_and(|last| last.entry.seq == to);
            bytes += bytes_of(&page);
            entries.extend(page);
            if !whole {
                break;
            }
        }
        Ok(entries)
    }

    /// The newest entries of the ranges: the page is cut at its old end, so that pages join without a gap.
    async fn backward(
        &self,
        state: &State,
        ranges: &[Range],
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, Refusal> {
        let newest = newest_of(ranges, limit.entries);
        let unbounded = PageLimit {
            bytes: usize::MAX,
            ..limit
        };
        let mut entries = self.read_ranges(state, &newest, unbounded).await?;
        let mut bytes = 0;
        let fitting = entries.iter().rev().take_while(|stored| {
            bytes += stored.wire.len();
            bytes <= limit.bytes
        });
        let keep = fitting.count().max(1).min(entries.len());
        entries.drain(..entries.len() - keep);
        Ok(entries)
    }

    /// Half of the page, in entries and in bytes, lies before the anchor; what that leaves is for the anchor and what follows.
    async fn around(
        &self,
        state: &State,
        stays: &[Range],
        seq: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, Refusal> {
        let half = PageLimit {
            entries: limit.entries / 2,
            bytes: limit.bytes / 2,
        };
        let mut entries = if half.entries == 0 {
            Vec::new()
        } else {
            self.backward(state, &clip_above(stays, Seq(seq.0.saturating_sub(1))), half)
                .await?
        };
        let rest = PageLimit {
            entries: limit.entries - half.entries,
            bytes: limit.bytes.saturating_sub(bytes_of(&entries)),
        };
        entries.extend(self.read_ranges(state, &clip_below(stays, seq), rest).await?);
        Ok(entries)
    }
}

fn bytes_of(entries: &[Arc<StoredEntry>]) -> usize {
    entries.iter().map(|stored| stored.wire.len()).sum()
}

/// The ranges the actor may read, oldest first.
fn stays(state: &State, actor: &Actor) -> Vec<Range> {
    let ranges = match actor {
        Actor::System => vec![(state.head.floor.max(Seq(1)), state.head.seq)],
        Actor::User(user) if !is_clipped(state, user) => vec![(state.head.floor.max(Seq(1)), state.head.seq)],
        Actor::User(user) => {
            let spans = state.roster.standing(user).map_or(&[][..], |standing| &standing.spans);
            spans
                .iter()
                .map(|span| (span.joined.max(state.head.floor), span.left.unwrap_or(state.head.seq)))
                .collect()
        }
    };
    clip_above(&ranges, state.head.seq)
}

fn is_clipped(state: &State, user: &UserId) -> bool {
    match state.roster.standing(user) {
        Some(_) => rule_holds("clipped_to_stays"),
        None => rule_holds("deny_by_default"),
    }
}

fn clip_below(ranges: &[Range], from: Seq) -> Vec<Range> {
    let clipped = ranges.iter().map(|&(start, end)| (start.max(from), end));
    clipped.filter(|(start, end)| start <= end).collect()
}

fn clip_above(ranges: &[Range], to: Seq) -> Vec<Range> {
    let clipped = ranges.iter().map(|&(start, end)| (start, end.min(to)));
    clipped.filter(|(start, end)| start <= end).collect()
}

/// The part of the ranges that holds their newest `limit` seqs.
fn newest_of(ranges: &[Range], limit: usize) -> Vec<Range> {
    let mut left = limit as u64;
    let mut newest = Vec::new();
    for &(start, end) in ranges.iter().rev() {
        if left == 0 {
            break;
        }
        let from = Seq(start.0.max((end.0 + 1).saturating_sub(left)));
        left -= end.0 - from.0 + 1;
        newest.insert(0, (from, end));
    }
    newest
}

fn check_anchor(state: &State, anchor: HistoryAnchor, head: Seq) -> Result<(), Refusal> {
    let (seq, newest) = match anchor {
        HistoryAnchor::After(seq) | HistoryAnchor::Around(seq) => (seq, head),
        HistoryAnchor::Before(seq) => (seq.unwrap_or_default(), head.next()),
    };
    if seq > newest {
        let message = format!("seq {seq} is above the head {head}");
        return Err(Refusal::not_done(Reason::BeyondHead { head }, message));
    }
    let first_available = state.head.floor;
    if seq > Seq::ZERO && seq.next() < first_available {
        let reason = Reason::CursorExpired { first_available, head };
        return Err(Refusal::not_done(
            reason,
            format!("nothing before seq {first_available} is kept"),
        ));
    }
    Ok(())
}

fn has_more(entries: &[Arc<StoredEntry>], stays: &[Range], anchor: HistoryAnchor) -> bool {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return false;
    };
    let older = stays.first().is_some_and(|(oldest, _)| first.entry.seq > *oldest);
    let newer = stays.last().is_some_and(|(_, newest)| last.entry.seq < *newest);
    match anchor {
        HistoryAnchor::After(_) => newer,
        HistoryAnchor::Before(_) => older,
        HistoryAnchor::Around(_) => older || newer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> Range {
        (Seq(from), Seq(to))
    }

    #[test]
    fn i7_pages_are_cut_out_of_the_stays() {
        let stays = [range(2, 5), range(9, 12)];
        assert_eq!(clip_below(&stays, Seq(4)), [range(4, 5), range(9, 12)]);
        assert_eq!(clip_above(&stays, Seq(7)), [range(2, 5)]);
        assert_eq!(newest_of(&stays, 6), [range(4, 5), range(9, 12)]);
        assert_eq!(newest_of(&stays, 2), [range(11, 12)]);
        assert_eq!(newest_of(&stays, 100), stays);
    }
}
