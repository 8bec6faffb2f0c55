//! The loop of a session, and its end.

use futures_util::StreamExt;
use stonechat_host::rule_holds;
use tokio::time::Instant;

use super::close::{self, Close};
use super::input::Incoming;
use super::jobs::Done;
use super::watch::Glimpse;
use super::{Answered, Presence, Session};
use crate::bus::Event;
use crate::gateway::limits::{ANSWERS_WITHIN, SLOW_CONSUMER_AFTER};
use crate::presence::Ending;
use crate::telemetry::meters::meters;

/// What woke a session.
enum Wake {
    Timer,
    Answered(Answered),
    Done(Done),
    Incoming(Incoming),
    Event(Option<Event>),
    Glimpse(Glimpse),
    /// Something was said to all sessions.
    Word,
    /// The outgoing queue has room again, or its reader is gone.
    Moved,
}

impl Session {
    /// Lives until a reason to end; leaves nothing behind.
    pub(super) async fn run(mut self: Box<Self>) {
        // Dropped on every way out: also when a bug panics below.
        let mut presence = Presence {
            gateway: self.gateway.clone(),
            who: self.who.clone(),
            resume: self.resume.clone(),
            ending: Ending::Lost,
        };
        // What was said while it opened.
        self.heed();
        let close = loop {
            self.pump();
            let wake = self.wake().await;
            self.handle(wake);
            self.check_time();
            if let Some(close) = self.closing.take() {
                break close;
            }
        };
        presence.ending = close.ending();
        meters().sessions_ended.inc(close.label());
        tracing::debug!(reason = ?close, unacked = self.plan.unacked(), "session ends");
        if close.waits_for_answers() {
            self.answer_rest().await;
        }
        close::finish(&self.out, &close, &*self.gateway.on.host.random).await;
    }

    fn deadline(&self) -> Instant {
        let now = stonechat_host::monotonic();
        let mut deadline = self.timers.next(self.may_read());
        if let Some(at) = self.pace.next(now) {
            deadline = deadline.min(at);
        }
        if let Some(stuck) = self.out.stuck_since() {
            deadline = deadline.min(stuck + SLOW_CONSUMER_AFTER);
        }
        if !self.watch.is_empty() {
            deadline = deadline.min(self.timers.reread.max(now));
        }
        // While presence gives way to a full queue, the queue's own wake-up comes first.
        match self.watch.due(now) {
            Some(due) if !self.out.is_half_full() => deadline.min(due),
            _ => deadline,
        }
    }

    async fn wake(&mut self) -> Wake {
        let (deadline, reading) = (self.deadline(), self.may_read());
        // In turns, so that neither a busy client nor a busy bus keeps the other waiting.
        self.bus_first = !self.bus_first;
        let Self {
            input,
            events,
            watch,
            requests,
            jobs,
            word,
            out,
            bus_first,
            ..
        } = self;
        let outside = async {
            if *bus_first {
                tokio::select! { biased;
                    event = events.next() => Wake::Event(event),
                    Some(glimpse) = watch.next() => Wake::Glimpse(glimpse),
                    incoming = input.next(), if reading => Wake::Incoming(incoming),
                }
            } else {
                tokio::select! { biased;
                    incoming = input.next(), if reading => Wake::Incoming(incoming),
                    Some(glimpse) = watch.next() => Wake::Glimpse(glimpse),
                    event = events.next() => Wake::Event(event),
                }
            }
        };
        tokio::select! { biased;
            () = tokio::time::sleep_until(deadline) => Wake::Timer,
            Some(answered) = requests.next() => Wake::Answered(answered),
            Some(done) = jobs.next() => Wake::Done(done),
            _ = word.changed() => Wake::Word,
            () = out.moved() => Wake::Moved,
            wake = outside => wake,
        }
    }

    fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Timer => {}
            Wake::Moved => {
                if self.out.reader_gone() {
                    self.close(Close::Gone);
                }
            }
            Wake::Answered(answered) => self.operation_done(answered),
            Wake::Done(done) => self.done(done),
            Wake::Incoming(incoming) => self.incoming(incoming),
            Wake::Event(event) => self.event(event),
            Wake::Glimpse(glimpse) => self.glimpse(glimpse),
            Wake::Word => self.heed(),
        }
    }

    fn check_time(&mut self) {
        let now = stonechat_host::monotonic();
        self.timers.unpause(now);
        if self.timers.take_heal(now) && rule_holds("inbox_is_compared") {
            self.plan.look_again();
        }
        if self
            .out
            .stuck_since()
            .is_some_and(|stuck| now >= stuck + SLOW_CONSUMER_AFTER)
        {
            self.close(Close::SlowConsumer);
        } else if self.timers.is_expired(now, || self.gateway.on.host.clock.unix_ms()) {
            self.close(Close::Expired);
        } else if self.timers.must_move(now) {
            self.close(Close::Old);
        } else if self.may_read() && self.timers.is_silent(now) {
            self.close(Close::Idle("no frame for 45 s"));
        }
    }

    /// Hands over the answers to requests under way, and stores acks that came, for a while.
    async fn answer_rest(&mut self) {
        let rest = async {
            loop {
                self.flush_acks();
                if self.requests.is_empty() && self.in_flight.ids.is_empty() && !self.acks_open() {
                    return;
                }
                tokio::select! { biased;
                    Some(answered) = self.requests.next() => self.operation_done(answered),
                    Some(done) = self.jobs.next() => self.done(done),
                    () = self.out.moved() => if self.out.reader_gone() { return; },
                    else => return,
                }
            }
        };
        let _late = tokio::time::timeout(ANSWERS_WITHIN, rest).await;
    }
}
