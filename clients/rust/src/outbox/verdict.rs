//! What an answer means for an operation.

use std::time::Duration;

use stonechat_proto::v1::{Appended, Effect, Refusal, RefusalReason};

/// Faults of the server with nothing done, in a row, after which an operation counts as refused for good: it would
/// block its conversation for ever.
const FAULTS_MAX: u32 = 8;

/// An answer to an operation.
#[derive(Debug)]
pub(crate) enum Answer {
    Appended(Appended),
    Refused(Refusal),
    /// The answer was none that this client understands: the outcome is unknown.
    Unreadable,
}

/// What it means.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted(Appended),
    /// Certainly not done, and no retry as is can change that.
    Failed(Refusal),
    /// Certainly not done: this was the device's newest accepted operation instead.
    OutOfOrder {
        last: String,
    },
    /// Try again, not before this time.
    Retry {
        after: Duration,
        fault: bool,
    },
}

pub(super) fn judge(answer: Answer, faults: u32) -> Verdict {
    match answer {
        Answer::Appended(appended) => Verdict::Accepted(appended),
        Answer::Unreadable => Verdict::Retry {
            after: Duration::ZERO,
            fault: false,
        },
        Answer::Refused(refusal) => judge_refusal(refusal, faults),
    }
}

fn judge_refusal(refusal: Refusal, faults: u32) -> Verdict {
    let retry = |fault| Verdict::Retry {
        after: Duration::from_millis(refusal.retry_after_ms),
        fault,
    };
    if refusal.effect() != Effect::NotDone {
        return retry(false);
    }
    match refusal.reason() {
        RefusalReason::OutOfOrder => Verdict::OutOfOrder {
            last: refusal.last_client_msg_id,
        },
        RefusalReason::RateLimited | RefusalReason::Unavailable | RefusalReason::Unauthenticated => retry(false),
        RefusalReason::Internal | RefusalReason::Unspecified if faults < FAULTS_MAX => retry(true),
        _ => Verdict::Failed(refusal),
    }
}
