//! Requests that are not operations of the outbox. Each may be repeated, so a broken stream only delays them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::server_frame;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::RequestError;
use crate::inbox::Gap;

/// Requests of the app at a time; more are refused.
const REQUESTS_MAX: usize = 256;
/// A request that has no answer for so long is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A page that the server could not give is asked for again after this time.
const REPAIR_PAUSE: Duration = Duration::from_secs(2);

/// Who waits for the answer.
pub(super) enum Purpose {
    App(oneshot::Sender<Result<server_frame::Body, RequestError>>),
    /// A page for a gap.
    Repair(Gap),
    /// More rows of the list.
    Sync,
    /// Nobody: heartbeat, re-authentication, what a fresh session is told again.
    Session,
}

struct Pending {
    /// What to send; `None` for a repair that waits.
    body: Option<Body>,
    purpose: Purpose,
    deadline: Instant,
    /// It was on some stream: its outcome is unknown until answered.
    left: bool,
}

#[derive(Default)]
pub(super) struct Requests {
    pending: BTreeMap<u64, Pending>,
    unsent: VecDeque<u64>,
}

impl Requests {
    pub(super) fn add(&mut self, now: Instant, id: u64, body: Body, purpose: Purpose) {
        if let Purpose::App(_) = purpose
            && self.pending.len() >= REQUESTS_MAX
        {
            reply(
                purpose,
                Err(RequestError::NotSent("too many requests at a time".to_owned())),
            );
            return;
        }
        let pending = Pending {
            body: Some(body),
            purpose,
            deadline: now + REQUEST_TIMEOUT,
            left: false,
        };
        self.pending.insert(id, pending);
        self.unsent.push_back(id);
    }

    /// Makes a refused repair again when a request's time is over, instead of at once.
    pub(super) fn repair_later(&mut self, now: Instant, id: u64, gap: Gap) {
        let pending = Pending {
            body: None,
            purpose: Purpose::Repair(gap),
            deadline: now + REPAIR_PAUSE,
            left: false,
        };
        self.pending.insert(id, pending);
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<(u64, Body)> {
        loop {
            let id = self.unsent.pop_front()?;
            if let Some(pending) = self.pending.get_mut(&id)
                && let Some(body) = pending.body.clone()
            {
                pending.left = true;
                return Some((id, body));
            }
        }
    }

    /// Who waits for the answer to this request.
    pub(super) fn take(&mut self, id: u64) -> Option<Purpose> {
        self.pending.remove(&id).map(|pending| pending.purpose)
    }

    /// The stream is gone: what the app waits for is asked again, the session's own requests are forgotten.
    pub(super) fn disconnected(&mut self) {
        self.pending
            .retain(|_, pending| matches!(pending.purpose, Purpose::App(_)));
        self.unsent = self.pending.keys().copied().collect();
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    /// Gives up what is overdue; returns gaps that were not answered.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (_, pending) in self.pending.extract_if(.., |_, pending| pending.deadline <= now) {
            if let Purpose::Repair(gap) = pending.purpose {
                gaps.push(gap);
                continue;
            }
            let error = if pending.left {
                RequestError::Unknown("no answer from the server in time".to_owned())
            } else {
                RequestError::NotSent("no connection to the server in time".to_owned())
            };
            reply(pending.purpose, Err(error));
        }
        gaps
    }
}

pub(super) fn reply(purpose: Purpose, result: Result<server_frame::Body, RequestError>) {
    if let Purpose::App(answer) = purpose {
        // The caller may have stopped waiting.
        let _ = answer.send(result);
    }
}
