//! The outbox: every operation is tried with the same id until the server stored it or refused it for good, each
//! conversation's in the order they were taken (I2, I4). Pure: it neither waits nor writes.
//!
//! Each conversation has a lane. Operations of a lane are pipelined, each naming the one before it as its predecessor,
//! so that the server appends none whose predecessor is missing. When one is not accepted, the lane waits until all that
//! is in flight was answered, and starts again from the oldest: alone while the server asks for patience.

mod lane;
mod verdict;

pub(crate) use verdict::Answer;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::{Appended, Refusal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::store::{QueuedOperation, Record};
use lane::{Lane, Operation};

/// Unfinished operations: a device that writes one message a second while offline for hours; some 20 MiB at the most
/// common sizes.
pub(crate) const OPERATIONS_MAX: usize = 10_000;
/// Operations in flight over all conversations when the server allows more: enough to fill a group commit.
const IN_FLIGHT_MAX: usize = 64;

/// Tells the caller of `send` how it went.
pub(crate) type Notify = oneshot::Sender<Result<Appended, Refusal>>;

/// How an operation ended.
pub(crate) enum Settled {
    Accepted(Appended),
    Failed {
        conversation_id: String,
        client_msg_id: String,
        refusal: Refusal,
    },
}

pub(crate) struct Outbox {
    lanes: BTreeMap<String, Lane>,
    /// Conversation of each request in flight.
    sent: BTreeMap<u64, String>,
    /// Lanes that can send now.
    ready: BTreeSet<String>,
    /// Lanes that can send later.
    delayed: BTreeSet<(Instant, String)>,
    /// Lane that sent last; the next one's turn comes after it.
    served: String,
    backoff: Backoff,
    in_flight_max: usize,
    len: usize,
}

impl Outbox {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            lanes: BTreeMap::new(),
            sent: BTreeMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            served: String::new(),
            backoff,
            in_flight_max: IN_FLIGHT_MAX,
            len: 0,
        }
    }

    /// Takes an operation; the caller has made it durable and has checked `is_full`.
    pub(crate) fn push(&mut self, operation: QueuedOperation, notify: Option<Notify>) {
        let conversation = operation.conversation_id().to_owned();
        let lane = self.lanes.entry(conversation.clone()).or_default();
        lane.push(Operation::new(operation, notify));
        self.len += 1;
        self.refresh(&conversation);
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A new stream began; the server answers at most this many requests at a time.
    pub(crate) fn allow(&mut self, requests_in_flight: usize) {
        self.in_flight_max = requests_in_flight.clamp(1, IN_FLIGHT_MAX);
    }

    /// The stream is gone, with the answers it owed: everything in flight is tried again.
    pub(crate) fn disconnected(&mut self) {
        self.sent.clear();
        let conversations: Vec<String> = self.lanes.keys().cloned().collect();
        for conversation in conversations {
            if let Some(lane) = self.lanes.get_mut(&conversation) {
                lane.rewind_all();
            }
            self.refresh(&conversation);
        }
    }

    /// Whether `next` would give something.
    pub(crate) fn can_send(&self, now: Instant) -> bool {
        let due = self.delayed.first().is_some_and(|(at, _)| *at <= now);
        self.sent.len() < self.in_flight_max && (due || !self.ready.is_empty())
    }

    /// When something can be sent that cannot be now.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// The next operation to send, as request `request_id`.
    pub(crate) fn next(&mut self, now: Instant, request_id: u64) -> Option<Body> {
        self.wake(now);
        if self.sent.len() >= self.in_flight_max {
            return None;
        }
        let after = (Bound::Excluded(self.served.as_str()), Bound::Unbounded);
        let turn = self.ready.range::<str, _>(after).next().or_else(|| self.ready.first());
        let conversation = turn?.clone();
        let body = self.lanes.get_mut(&conversation)?.send_next(request_id)?;
        self.sent.insert(request_id, conversation.clone());
        self.refresh(&conversation);
        self.served = conversation;
        Some(body)
    }

    /// Whether a request in flight is one of the outbox.
    pub(crate) fn owns(&self, request_id: u64) -> bool {
        self.sent.contains_key(&request_id)
    }

    /// Takes the answer to a request of the outbox; says what it settles, and what to remember of that.
    pub(crate) fn answer(&mut self, now: Instant, request_id: u64, answer: Answer) -> Option<(Settled, Record)> {
        let conversation = self.sent.remove(&request_id)?;
        let lane = self.lanes.get_mut(&conversation)?;
        let settled = lane.answer(now, request_id, answer, &mut self.backoff);
        if settled.is_some() {
            self.len -= 1;
        }
        self.refresh(&conversation);
        settled.map(|(settled, client_msg_id)| {
            let conversation_id = conversation;
            let finished = Record::Finished {
                conversation_id,
                client_msg_id,
            };
            (settled, finished)
        })
    }

    fn wake(&mut self, now: Instant) {
        while let Some((at, conversation)) = self.delayed.first().cloned()
            && at <= now
        {
            if let Some(lane) = self.lanes.get_mut(&conversation) {
                lane.wake();
            }
            self.refresh(&conversation);
        }
    }

    /// Puts a lane where it belongs after a change.
    fn refresh(&mut self, conversation: &str) {
        self.ready.remove(conversation);
        let Some(lane) = self.lanes.get_mut(conversation) else {
            return;
        };
        if let Some(listed) = lane.listed.take() {
            self.delayed.remove(&(listed, conversation.to_owned()));
        }
        if lane.is_empty() {
            self.lanes.remove(conversation);
        } else if let Some(at) = lane.retry_at() {
            lane.listed = Some(at);
            self.delayed.insert((at, conversation.to_owned()));
        } else if lane.can_send() {
            self.ready.insert(conversation.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
