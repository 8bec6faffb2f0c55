//! In-order delivery: duplicates are dropped, gaps repaired from history, acknowledgements kept (C5). Pure.
//!
//! Per conversation: `handed` is the newest entry given to the app, `stored` the newest one the app has confirmed, and
//! `streamed` the newest one that came on the present stream, above which nothing may be acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use stonechat_proto::v1::{Ack, ConversationPosition, ConversationSummary, Delivery, Entry, HistoryPage};

/// Deliveries of one conversation that wait for a repair: a full window of the server.
const WAITING_MAX: usize = 256;
/// Positions in a hello: the contract's bound.
const HELLO_POSITIONS_MAX: usize = 1_000;

/// A part of the log to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) conversation_id: String,
    /// Everything up to here was handed over.
    pub(crate) after: u64,
    /// The last one missing.
    pub(crate) until: u64,
}

#[derive(Debug, Default)]
struct Track {
    handed: Option<u64>,
    stored: u64,
    streamed: u64,
    acked: u64,
    /// Oldest seq the user may read, when known.
    floor: Option<u64>,
    gap: Option<Gap>,
    waiting: Vec<(Entry, bool)>,
}

/// An entry for the app.
pub(crate) type Handed = (Entry, bool);

pub(crate) struct Inbox {
    tracks: BTreeMap<String, Track>,
    /// Conversations with something to acknowledge on this stream.
    unacked: BTreeSet<String>,
    /// Whether a conversation without a position starts at its first entry, or wherever deliveries begin.
    from_start: bool,
}

impl Inbox {
    pub(crate) fn new(positions: BTreeMap<String, u64>, from_start: bool) -> Self {
        let track = |seq| Track {
            handed: Some(seq),
            stored: seq,
            acked: seq,
            ..Track::default()
        };
        Self {
            tracks: positions.into_iter().map(|(id, seq)| (id, track(seq))).collect(),
            unacked: BTreeSet::new(),
            from_start,
        }
    }

    /// Takes a delivery; returns what the app gets now, and a gap to fetch first if there is one.
    pub(crate) fn deliver(&mut self, delivery: Delivery) -> (Vec<Handed>, Option<Gap>) {
        let Some(entry) = delivery.entry else {
            return (Vec::new(), None);
        };
        let id = entry.conversation_id.clone();
        let track = self.tracks.entry(id.clone()).or_default();
        track.streamed = track.streamed.max(entry.seq);
        if track.stored >= entry.seq && track.handed.is_some() {
            // Confirmed on an earlier stream: the server only needs to hear it again.
            self.unacked.insert(id);
            return (Vec::new(), None);
        }
        track.take(entry, delivery.backlog, self.from_start)
    }

    /// Takes a page fetched for a gap; returns what the app gets now, and what is still to be fetched.
    pub(crate) fn repair(&mut self, gap: &Gap, page: HistoryPage) -> (Vec<Handed>, Option<Gap>) {
        let Some(track) = self.tracks.get_mut(&gap.conversation_id) else {
            return (Vec::new(), None);
        };
        let before = track.handed;
        let mut out = Vec::new();
        for entry in page.entries {
            track.hand(entry, true, &mut out);
        }
        let advanced = track.handed > before;
        if advanced && page.has_more && track.handed.unwrap_or(0) < gap.until {
            track.gap = Some(Gap {
                after: track.handed.unwrap_or(0),
                ..gap.clone()
            });
            return (out, track.gap.clone());
        }
        // What is still missing is not for this user to read: they were no member then, or it is kept no longer.
        let next = track.close_gap(gap.until, self.from_start, &mut out);
        (out, next)
    }

    /// A gap cannot be fetched: the conversation is not this user's to read any more.
    pub(crate) fn give_up(&mut self, gap: &Gap) -> (Vec<Handed>, Option<Gap>) {
        let mut out = Vec::new();
        let next = self
            .tracks
            .get_mut(&gap.conversation_id)
            .and_then(|track| track.close_gap(gap.until, self.from_start, &mut out));
        (out, next)
    }

    /// The app has stored the conversation up to `seq`; true when that is news.
    pub(crate) fn confirm(&mut self, conversation_id: &str, seq: u64) -> bool {
        let Some(track) = self.tracks.get_mut(conversation_id) else {
            return false;
        };
        let seq = seq.min(track.handed.unwrap_or(0));
        if seq <= track.stored {
            return false;
        }
        track.stored = seq;
        self.unacked.insert(conversation_id.to_owned());
        true
    }

    /// The next acknowledgement due.
    pub(crate) fn next_ack(&mut self) -> Option<Ack> {
        while let Some(id) = self.unacked.pop_first() {
            let Some(track) = self.tracks.get_mut(&id) else {
                continue;
            };
            let seq = track.stored.min(track.streamed);
            if seq > 0 {
                track.acked = track.acked.max(seq);
                return Some(Ack {
                    conversation_id: id,
                    seq,
                });
            }
        }
        None
    }

    pub(crate) fn has_ack(&self) -> bool {
        !self.unacked.is_empty()
    }

    /// Takes a row of the conversation list; returns a gap when the server believes this device has more than it has.
    pub(crate) fn note_row(&mut self, row: &ConversationSummary) -> Option<Gap> {
        let track = self.tracks.entry(row.conversation_id.clone()).or_default();
        track.floor = Some(row.first_available_seq);
        if track.handed.is_none() && !self.from_start {
            return None;
        }
        track.open_gap(&row.conversation_id, row.device_seq, self.from_start)
    }

    /// The server has entries up to `head` that never came.
    pub(crate) fn note_head(&mut self, conversation_id: &str, head: u64) -> Option<Gap> {
        let track = self.tracks.get_mut(conversation_id)?;
        track.handed?;
        track.open_gap(conversation_id, head, self.from_start)
    }

    /// Whether the newest entry handed over is below `head` although deliveries are not held back by the app.
    pub(crate) fn is_behind(&self, conversation_id: &str, head: u64) -> bool {
        self.tracks
            .get(conversation_id)
            .is_some_and(|track| track.gap.is_none() && track.handed.is_some_and(|handed| handed < head))
    }

    /// Whether the app has confirmed everything it was given.
    pub(crate) fn is_idle(&self) -> bool {
        self.tracks
            .values()
            .all(|track| track.handed.unwrap_or(0) <= track.stored)
    }

    /// The server's log ends at `head`, before what this device has; true when that is so.
    pub(crate) fn rewind(&mut self, conversation_id: &str, head: u64) -> bool {
        let Some(track) = self.tracks.get_mut(conversation_id) else {
            return false;
        };
        if track.handed.is_none_or(|handed| handed <= head) {
            return false;
        }
        *track = Track {
            handed: Some(head),
            stored: head,
            floor: track.floor,
            ..Track::default()
        };
        true
    }

    /// The stream is gone: what waited comes again. Returns the positions to tell in the next hello: those whose
    /// acknowledgement was never sent.
    pub(crate) fn disconnected(&mut self) -> Vec<ConversationPosition> {
        self.unacked.clear();
        let mut positions = Vec::new();
        for (id, track) in &mut self.tracks {
            track.streamed = 0;
            track.gap = None;
            track.waiting.clear();
            if track.stored > track.acked && positions.len() < HELLO_POSITIONS_MAX {
                positions.push(ConversationPosition {
                    conversation_id: id.clone(),
                    seq: track.stored,
                });
            }
        }
        positions
    }
}

impl Track {
    fn take(&mut self, entry: Entry, backlog: bool, from_start: bool) -> (Vec<Handed>, Option<Gap>) {
        let mut out = Vec::new();
        if self.gap.is_some() {
            self.hold(entry, backlog);
            return (out, None);
        }
        let start = if from_start {
            self.floor.unwrap_or(entry.seq)
        } else {
            entry.seq
        };
        let handed = *self.handed.get_or_insert_with(|| start.max(1) - 1);
        if entry.seq > handed + 1 {
            let gap = self.open_gap(&entry.conversation_id, entry.seq - 1, from_start);
            self.hold(entry, backlog);
            return (out, gap);
        }
        self.hand(entry, backlog, &mut out);
        (out, None)
    }

    /// Above the bound the entry is dropped: the repair, or the gap that it leaves, brings it again.
    fn hold(&mut self, entry: Entry, backlog: bool) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((entry, backlog));
        }
    }

    fn hand(&mut self, entry: Entry, backlog: bool, out: &mut Vec<Handed>) {
        if self.handed.is_none_or(|handed| entry.seq > handed) {
            self.handed = Some(entry.seq);
            out.push((entry, backlog));
        }
    }

    fn open_gap(&mut self, id: &str, until: u64, from_start: bool) -> Option<Gap> {
        let floor = self.floor.unwrap_or(0).max(1) - 1;
        let after = self.handed.unwrap_or(if from_start { floor } else { until });
        if self.gap.is_some() || until <= after {
            return None;
        }
        self.handed = Some(after);
        self.gap = Some(Gap {
            conversation_id: id.to_owned(),
            after,
            until,
        });
        self.gap.clone()
    }

    /// Goes on after a gap, which ended at `until`; returns the next gap among what waited.
    fn close_gap(&mut self, until: u64, from_start: bool, out: &mut Vec<Handed>) -> Option<Gap> {
        self.gap = None;
        self.handed = self.handed.max(Some(until));
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        let mut next = None;
        for (entry, backlog) in waiting.by_ref() {
            let (handed, gap) = self.take(entry, backlog, from_start);
            out.extend(handed);
            next = next.or(gap);
        }
        next
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
