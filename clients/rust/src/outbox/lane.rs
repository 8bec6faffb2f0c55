//! The operations of one conversation.

use std::collections::VecDeque;
use std::time::Duration;

use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::{Appended, Refusal};
use tokio::time::Instant;

use super::verdict::{Verdict, judge};
use super::{Answer, Notify, Settled};
use crate::backoff::Backoff;
use crate::store::QueuedOperation;

/// Operations of one conversation in flight: one of them refused makes the rest go twice, so not many.
const LANE_IN_FLIGHT_MAX: usize = 16;

pub(super) struct Operation {
    queued: QueuedOperation,
    /// The request it is in flight as.
    sent: Option<u64>,
    /// Faults of the server in a row.
    faults: u32,
    notify: Option<Notify>,
}

impl Operation {
    pub(super) fn new(queued: QueuedOperation, notify: Option<Notify>) -> Self {
        Self {
            queued,
            sent: None,
            faults: 0,
            notify,
        }
    }
}

#[derive(Default)]
pub(super) struct Lane {
    /// Unfinished, in the order they were taken.
    queue: VecDeque<Operation>,
    in_flight: usize,
    /// Something was not accepted: send nothing until all in flight is answered.
    rewinding: bool,
    /// The server asked for patience: one at a time until one is accepted.
    probing: bool,
    /// What the oldest must follow, as the server told it. Empty otherwise: everything before it is finished, so there is
    /// nothing it could overtake.
    chain: String,
    failures: u32,
    retry_at: Option<Instant>,
    /// Under which moment the outbox lists it as delayed.
    pub(super) listed: Option<Instant>,
}

impl Lane {
    pub(super) fn push(&mut self, operation: Operation) {
        self.queue.push_back(operation);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.rewinding)
    }

    pub(super) fn wake(&mut self) {
        self.retry_at = None;
    }

    pub(super) fn can_send(&self) -> bool {
        let window = if self.probing { 1 } else { LANE_IN_FLIGHT_MAX };
        self.retry_at.is_none() && !self.rewinding && self.in_flight < window.min(self.queue.len())
    }

    pub(super) fn send_next(&mut self, request_id: u64) -> Option<Body> {
        if !self.can_send() {
            return None;
        }
        // While nothing is rewinding, what is in flight is the front of the queue.
        let at = self.in_flight;
        let previous = match at.checked_sub(1) {
            Some(before) => self.queue[before].queued.client_msg_id(),
            None => &self.chain,
        };
        let body = self.queue[at].queued.body_after(previous);
        self.queue[at].sent = Some(request_id);
        self.in_flight += 1;
        Some(body)
    }

    pub(super) fn rewind_all(&mut self) {
        for operation in &mut self.queue {
            operation.sent = None;
        }
        self.in_flight = 0;
        self.rewinding = false;
        self.probing = false;
        self.chain.clear();
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        request_id: u64,
        answer: Answer,
        backoff: &mut Backoff,
    ) -> Option<(Settled, String)> {
        let at = self
            .queue
            .iter()
            .position(|operation| operation.sent == Some(request_id))?;
        self.in_flight -= 1;
        self.queue[at].sent = None;
        let settled = match judge(answer, self.queue[at].faults) {
            Verdict::Accepted(appended) => self.accept(at, appended),
            Verdict::Failed(refusal) => self.fail(at, refusal),
            Verdict::OutOfOrder { last } => {
                self.reorder(now, at, last, backoff);
                None
            }
            Verdict::Retry { after, fault } => {
                self.queue[at].faults = if fault { self.queue[at].faults + 1 } else { 0 };
                self.retry(now, after, backoff);
                None
            }
        };
        self.rewinding &= self.in_flight > 0;
        settled
    }

    fn accept(&mut self, at: usize, appended: Appended) -> Option<(Settled, String)> {
        self.failures = 0;
        self.probing = false;
        // One accepted behind one that was not: only a retry of something stored long ago can be.
        self.rewinding |= at > 0;
        if at == 0 {
            self.chain.clear();
        }
        let operation = self.queue.remove(at)?;
        let id = operation.queued.client_msg_id().to_owned();
        if let Some(notify) = operation.notify {
            // The caller may have stopped waiting.
            let _ = notify.send(Ok(appended.clone()));
        }
        Some((Settled::Accepted(appended), id))
    }

    fn fail(&mut self, at: usize, refusal: Refusal) -> Option<(Settled, String)> {
        // What follows in flight names it as predecessor and will be refused.
        self.rewinding = true;
        let operation = self.queue.remove(at)?;
        let id = operation.queued.client_msg_id().to_owned();
        if let Some(notify) = operation.notify {
            let _ = notify.send(Err(refusal.clone()));
        }
        let settled = Settled::Failed {
            conversation_id: operation.queued.conversation_id().to_owned(),
            client_msg_id: id.clone(),
            refusal,
        };
        Some((settled, id))
    }

    fn reorder(&mut self, now: Instant, at: usize, last: String, backoff: &mut Backoff) {
        self.rewinding = true;
        self.chain = last;
        if at > 0 {
            // It waits for one before it, which sets the pace.
            return;
        }
        self.failures += 1;
        // The first time the answer itself says how to go on. Again: somebody else writes as this device.
        if self.failures > 1 {
            self.delay(now, Duration::ZERO, backoff);
        }
    }

    fn retry(&mut self, now: Instant, after: Duration, backoff: &mut Backoff) {
        self.rewinding = true;
        self.probing = true;
        if self.retry_at.is_none() {
            self.failures += 1;
        }
        self.delay(now, after, backoff);
    }

    /// One delay per round, however many of its operations were refused.
    fn delay(&mut self, now: Instant, after: Duration, backoff: &mut Backoff) {
        let at = match self.retry_at {
            Some(at) => at.max(now + after),
            None => backoff.next(now, self.failures, after),
        };
        self.retry_at = Some(at);
    }
}
