//! The window of one stream: how many deliveries may be unacknowledged, and which are.

use std::collections::VecDeque;

use crate::domain::Seq;

/// Room for deliveries over all conversations of a stream.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    unacked: usize,
    reserved: usize,
}

impl Window {
    /// A window of `limit` deliveries, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            unacked: 0,
            reserved: 0,
        }
    }

    /// How many more may be sent or read ahead.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.unacked + self.reserved)
    }

    /// Deliveries sent and not acknowledged.
    pub(crate) fn unacked(&self) -> usize {
        self.unacked
    }

    /// Sets room aside for a read, `want` or what there is.
    pub(crate) fn reserve(&mut self, want: usize) -> usize {
        let granted = want.min(self.room());
        self.reserved += granted;
        granted
    }

    /// Gives back what a read had set aside.
    pub(crate) fn release(&mut self, granted: usize) {
        self.reserved = self.reserved.saturating_sub(granted);
    }

    /// A delivery was sent.
    pub(crate) fn sent(&mut self) {
        self.unacked += 1;
    }

    /// Deliveries were acknowledged.
    pub(crate) fn acked(&mut self, count: usize) {
        self.unacked = self.unacked.saturating_sub(count);
    }
}

/// What became of an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckOutcome {
    /// It freed this much room, perhaps none (a duplicate, or lower than an earlier one).
    Freed(usize),
    /// Nothing up to that seq was ever sent here.
    BeyondSent,
}

/// Deliveries of one conversation: sent up to where, and which of them are unacknowledged.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sent {
    up_to: Seq,
    unacked: VecDeque<Seq>,
}

impl Sent {
    /// The device has everything up to here.
    pub(crate) fn from_position(position: Seq) -> Self {
        Self {
            up_to: position,
            unacked: VecDeque::new(),
        }
    }

    /// Newest seq sent, or had from the start.
    pub(crate) fn up_to(&self) -> Seq {
        self.up_to
    }

    /// Takes the next delivery; false for what was sent before.
    pub(crate) fn push(&mut self, seq: Seq) -> bool {
        if seq <= self.up_to {
            return false;
        }
        self.up_to = seq;
        self.unacked.push_back(seq);
        true
    }

    /// Takes a cumulative ack.
    pub(crate) fn ack(&mut self, seq: Seq) -> AckOutcome {
        if seq > self.up_to {
            return AckOutcome::BeyondSent;
        }
        let before = self.unacked.len();
        while self.unacked.front().is_some_and(|first| *first <= seq) {
            self.unacked.pop_front();
        }
        if self.unacked.is_empty() {
            // A stream that was busy once must not keep a buffer for it.
            self.unacked.shrink_to_fit();
        }
        AckOutcome::Freed(before - self.unacked.len())
    }
}
