//! What to deliver next on one stream: no queue of messages, only positions. A pure state machine; the reads it orders
//! are done by `deliver`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::window::{AckOutcome, Sent, Window};
use crate::domain::{ConversationId, Seq};
use crate::gateway::limits::{PULLS_MAX, READ_ENTRIES_MAX, READS_AT_A_TIME, TRACKS_MAX};
use crate::storage::ChangeStamp;

/// Whether a conversation waits to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pull {
    /// Nothing to send that we know of.
    Idle,
    /// Where the device is must be read first.
    NeedsPosition,
    /// Waits for its turn.
    Queued,
    /// A read is under way.
    Reading,
    /// A read failed, and another one may not.
    Failed,
    /// Its log is damaged: somebody has to mend it first.
    Damaged,
}

/// What a stream knows of one conversation.
#[derive(Debug, Clone)]
struct Track {
    sent: Sent,
    /// The device's position as it is stored.
    stored: Seq,
    /// The conversation has entries up to here.
    head: Seq,
    /// Entries up to here were there at hello.
    backlog_until: Seq,
    pull: Pull,
}

/// What to do with an entry that just came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    /// Send its bytes now.
    Send {
        /// It was there at hello.
        backlog: bool,
    },
    /// It was sent before, or is remembered: the conversation will be read.
    Later,
}

/// A read to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadOrder {
    /// Where.
    pub(crate) conversation: ConversationId,
    /// From behind this seq.
    pub(crate) after: Seq,
    /// Most entries: room in the window that is set aside for them.
    pub(crate) entries: usize,
}

/// Once these conversations' positions are stored up to these seqs, everything up to the stamp is.
#[derive(Debug)]
struct Checkpoint {
    stamp: ChangeStamp,
    waiting: BTreeMap<ConversationId, Seq>,
}

/// The delivery state of one stream.
#[derive(Debug)]
pub(crate) struct Plan {
    tracks: BTreeMap<ConversationId, Track>,
    queue: VecDeque<ConversationId>,
    needs_position: BTreeSet<ConversationId>,
    /// Conversations that could not be read. They hold up no other, and are tried again.
    aside: BTreeSet<ConversationId>,
    reading: usize,
    window: Window,
    /// Conversations with entries left that were there at hello; `None` once all of them were sent.
    backlog: Option<BTreeSet<ConversationId>>,
    /// Inbox rows up to here were taken in.
    seen: ChangeStamp,
    /// Inbox rows up to here are known to be acknowledged.
    synced: ChangeStamp,
    checkpoint: Option<Checkpoint>,
    /// The inbox holds more that was not taken in, or may do so.
    inbox_behind: bool,
}

impl Plan {
    /// Starts behind the device's synced stamp.
    pub(crate) fn new(window: usize, synced: ChangeStamp) -> Self {
        Self {
            tracks: BTreeMap::new(),
            queue: VecDeque::new(),
            needs_position: BTreeSet::new(),
            aside: BTreeSet::new(),
            reading: 0,
            window: Window::new(window),
            backlog: Some(BTreeSet::new()),
            seen: synced,
            synced,
            checkpoint: None,
            inbox_behind: true,
        }
    }

    /// An entry came over the bus. `has_room`: the outgoing queue takes deliveries.
    pub(crate) fn live(&mut self, conversation: ConversationId, seq: Seq, has_room: bool) -> Live {
        let Some(track) = self.tracks.get_mut(&conversation) else {
            self.remember_unknown(conversation, seq);
            return Live::Later;
        };
        if track.pull == Pull::NeedsPosition {
            track.head = track.head.max(seq);
            return Live::Later;
        }
        if seq <= track.sent.up_to() {
            return Live::Later;
        }
        let next = seq == track.sent.up_to().next();
        if track.pull == Pull::Idle && next && has_room && self.window.room() > 0 {
            track.head = track.head.max(seq);
            track.sent.push(seq);
            self.window.sent();
            let backlog = seq <= track.backlog_until;
            self.settle_backlog(conversation);
            return Live::Send { backlog };
        }
        self.pull(conversation, seq, false);
        Live::Later
    }

    /// The conversation was never seen on this stream: find out where the device is. What came live came after hello.
    fn remember_unknown(&mut self, conversation: ConversationId, head: Seq) {
        if self.pulls() >= PULLS_MAX || self.tracks.len() >= TRACKS_MAX {
            // Its inbox row has changed too: it will be found there.
            self.inbox_behind = true;
            return;
        }
        let track = Track {
            sent: Sent::default(),
            stored: Seq::ZERO,
            head,
            backlog_until: match self.backlog {
                Some(_) => Seq(head.0.saturating_sub(1)),
                None => Seq::ZERO,
            },
            pull: Pull::NeedsPosition,
        };
        self.tracks.insert(conversation, track);
        self.needs_position.insert(conversation);
        if let Some(open) = &mut self.backlog {
            open.insert(conversation);
        }
    }

    /// Forgets conversations in which nothing is open, when there are many: what is known of them is stored. Only to be
    /// called while no position is being read, or that reading could be older than what is forgotten here.
    pub(crate) fn make_room(&mut self) {
        if self.tracks.len() >= TRACKS_MAX {
            self.tracks
                .retain(|_, track| track.pull != Pull::Idle || track.stored < track.sent.up_to());
        }
    }

    /// A head read from the inbox outside its order: pulls the conversation when something of it was not sent.
    pub(crate) fn hint(&mut self, conversation: ConversationId, head: Seq) {
        if self.backlog.is_some() {
            // The first enumeration is under way and will come to it.
            return;
        }
        match self.sent(conversation) {
            Some(sent) if head > sent => self.pull(conversation, head, false),
            Some(_) => {}
            None => self.remember_unknown(conversation, head),
        }
    }

    /// An inbox row: the conversation has entries up to `head`. `position` is where the device is by the store. Rows come
    /// in pages, and only when everything known was sent: their number is bounded by that.
    pub(crate) fn row(&mut self, conversation: ConversationId, head: Seq, position: Seq) {
        let in_backlog = self.backlog.is_some();
        if position >= head && !self.tracks.contains_key(&conversation) {
            return;
        }
        let track = self.tracks.entry(conversation).or_insert_with(|| Track {
            sent: Sent::from_position(position),
            stored: position,
            head: Seq::ZERO,
            backlog_until: if in_backlog { head } else { Seq::ZERO },
            pull: Pull::Idle,
        });
        if track.pull == Pull::NeedsPosition {
            track.head = track.head.max(head);
            self.position(conversation, position);
        } else if head > track.sent.up_to() {
            self.pull(conversation, head, true);
        }
        if let Some(open) = &mut self.backlog {
            open.insert(conversation);
        }
        self.settle_backlog(conversation);
    }

    /// Where the device is in a conversation that was waiting for it.
    pub(crate) fn position(&mut self, conversation: ConversationId, position: Seq) {
        if !self.needs_position.remove(&conversation) {
            return;
        }
        if let Some(track) = self.tracks.get_mut(&conversation) {
            track.sent = Sent::from_position(position);
            track.stored = position;
            track.pull = Pull::Idle;
            let head = track.head;
            if head > position {
                self.pull(conversation, head, true);
            }
        }
        self.settle_backlog(conversation);
    }

    /// Puts a conversation in line for reading, or takes note that there is more when a read is under way.
    /// `certain`: it must be remembered here, because the inbox will not show it again.
    fn pull(&mut self, conversation: ConversationId, head: Seq, certain: bool) {
        let full = !certain && self.pulls() >= PULLS_MAX;
        let Some(track) = self.tracks.get_mut(&conversation) else {
            return;
        };
        if track.pull == Pull::Idle && full {
            self.inbox_behind = true;
            return;
        }
        track.head = track.head.max(head);
        if track.pull == Pull::Idle {
            track.pull = Pull::Queued;
            self.queue.push_back(conversation);
        }
    }

    fn pulls(&self) -> usize {
        self.queue.len() + self.needs_position.len() + self.aside.len() + self.reading
    }

    /// Conversations whose device position must be read.
    pub(crate) fn unknown(&self) -> Vec<ConversationId> {
        self.needs_position.iter().copied().collect()
    }

    /// The next read, when there is room for what it finds.
    pub(crate) fn next_read(&mut self) -> Option<ReadOrder> {
        if self.reading >= READS_AT_A_TIME || self.window.room() == 0 {
            return None;
        }
        let conversation = self.queue.pop_front()?;
        let track = self.tracks.get_mut(&conversation)?;
        track.pull = Pull::Reading;
        let after = track.sent.up_to();
        let missing = usize::try_from(track.head.0.saturating_sub(after.0)).unwrap_or(usize::MAX);
        let entries = self.window.reserve(missing.clamp(1, READ_ENTRIES_MAX));
        self.reading += 1;
        Some(ReadOrder {
            conversation,
            after,
            entries,
        })
    }

    /// A read is done; says of each seq found whether to send it, and as backlog. Nothing found means that there is
    /// nothing more the user may read.
    pub(crate) fn read_done(&mut self, order: ReadOrder, found: &[Seq]) -> Vec<Option<bool>> {
        self.reading -= 1;
        self.window.release(order.entries);
        let Some(track) = self.tracks.get_mut(&order.conversation) else {
            return vec![None; found.len()];
        };
        let mut verdicts = Vec::with_capacity(found.len());
        for seq in found {
            if track.sent.push(*seq) {
                self.window.sent();
                verdicts.push(Some(*seq <= track.backlog_until));
            } else {
                verdicts.push(None);
            }
        }
        let more = !found.is_empty() && track.head > track.sent.up_to();
        track.pull = Pull::Idle;
        if more {
            track.pull = Pull::Queued;
            self.queue.push_back(order.conversation);
        } else if let Some(open) = &mut self.backlog {
            open.remove(&order.conversation);
        }
        self.settle_backlog(order.conversation);
        verdicts
    }

    /// A read failed. What was there at hello is still owed, unless the log is `damaged`: nobody can wait for that.
    pub(crate) fn read_failed(&mut self, order: ReadOrder, damaged: bool) {
        self.reading -= 1;
        self.window.release(order.entries);
        if let Some(track) = self.tracks.get_mut(&order.conversation) {
            track.pull = if damaged { Pull::Damaged } else { Pull::Failed };
            if damaged {
                // Whenever it comes, it is new.
                track.backlog_until = Seq::ZERO;
            }
            self.aside.insert(order.conversation);
        }
        self.settle_backlog(order.conversation);
    }

    /// Puts conversations in line again whose reads failed.
    pub(crate) fn try_again(&mut self) {
        self.take_back(Pull::Failed);
    }

    fn take_back(&mut self, which: Pull) {
        let (tracks, queue) = (&mut self.tracks, &mut self.queue);
        self.aside.retain(|conversation| match tracks.get_mut(conversation) {
            Some(track) if track.pull == which => {
                track.pull = Pull::Queued;
                queue.push_back(*conversation);
                false
            }
            known => known.is_some(),
        });
    }

    /// Where a conversation stands here: sent up to; `None` when it is not known.
    pub(crate) fn sent(&self, conversation: ConversationId) -> Option<Seq> {
        self.tracks
            .get(&conversation)
            .filter(|track| track.pull != Pull::NeedsPosition)
            .map(|track| track.sent.up_to())
    }

    /// An ack; `None` when nothing is known of the conversation, so that the store must say whether it is harmless.
    pub(crate) fn ack(&mut self, conversation: ConversationId, seq: Seq) -> Option<AckOutcome> {
        let track = self.tracks.get_mut(&conversation)?;
        if track.pull == Pull::NeedsPosition {
            return None;
        }
        let outcome = track.sent.ack(seq);
        if let AckOutcome::Freed(count) = outcome {
            self.window.acked(count);
        }
        Some(outcome)
    }

    /// The device's position is stored up to `seq`. Returns the stamp that is now fully acknowledged, when there is one.
    pub(crate) fn stored(&mut self, conversation: ConversationId, seq: Seq) -> Option<ChangeStamp> {
        if let Some(track) = self.tracks.get_mut(&conversation) {
            track.stored = track.stored.max(seq);
        }
        if let Some(checkpoint) = &mut self.checkpoint
            && checkpoint
                .waiting
                .get(&conversation)
                .is_some_and(|target| seq >= *target)
        {
            checkpoint.waiting.remove(&conversation);
        }
        self.passed_checkpoint()
    }

    /// Whether everything known was sent that can be read: the time to read the next inbox page.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.needs_position.is_empty() && self.reading == 0
    }

    /// Where to go on in the inbox, when there may be more and everything known was sent.
    pub(crate) fn next_page(&self) -> Option<ChangeStamp> {
        (self.inbox_behind && self.is_drained() && self.aside.len() < PULLS_MAX).then_some(self.seen)
    }

    /// Rows up to `seen` were taken in; `end` when there were no more.
    pub(crate) fn page_done(&mut self, seen: ChangeStamp, end: bool) {
        self.seen = self.seen.max(seen);
        self.inbox_behind = !end;
    }

    /// The inbox may have changed without our hearing of it, and damage may have been mended.
    pub(crate) fn look_again(&mut self) {
        self.inbox_behind = true;
        self.take_back(Pull::Damaged);
    }

    /// Once everything of a page was sent, remembers what its acknowledgement waits for. Returns the stamp that is fully
    /// acknowledged already, when there is one.
    pub(crate) fn mark_checkpoint(&mut self) -> Option<ChangeStamp> {
        let all_sent = self.is_drained() && self.aside.is_empty();
        if self.checkpoint.is_some() || self.seen <= self.synced || !all_sent {
            return None;
        }
        let waiting = self
            .tracks
            .iter()
            .filter(|(_, track)| track.stored < track.sent.up_to())
            .map(|(conversation, track)| (*conversation, track.sent.up_to()))
            .collect();
        self.checkpoint = Some(Checkpoint {
            stamp: self.seen,
            waiting,
        });
        self.passed_checkpoint()
    }

    fn passed_checkpoint(&mut self) -> Option<ChangeStamp> {
        let passed = self.checkpoint.take_if(|checkpoint| checkpoint.waiting.is_empty())?;
        self.synced = passed.stamp;
        Some(passed.stamp)
    }

    /// True once, when all that was there at hello has been sent, as far as it can be read.
    pub(crate) fn take_caught_up(&mut self) -> bool {
        let done = !self.inbox_behind && self.backlog.as_ref().is_some_and(BTreeSet::is_empty);
        if done {
            self.backlog = None;
        }
        done
    }

    /// Takes a conversation out of the backlog once everything of it that was there at hello was sent.
    fn settle_backlog(&mut self, conversation: ConversationId) {
        let Some(open) = &mut self.backlog else {
            return;
        };
        let settled = self.tracks.get(&conversation).is_none_or(|track| {
            track.pull != Pull::NeedsPosition && track.sent.up_to() >= track.backlog_until.min(track.head)
        });
        if settled {
            open.remove(&conversation);
        }
    }

    /// Deliveries sent and not acknowledged.
    pub(crate) fn unacked(&self) -> usize {
        self.window.unacked()
    }
}

#[cfg(test)]
mod tests;
