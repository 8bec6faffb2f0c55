//! Which refusals are error statuses, and the statuses: few codes, always with details.
//!
//! Faults are statuses: malformed input, a bad or insufficient token, too much load, trouble of the server. What an
//! application must expect (absent, out of order, full, blocked …) is an arm of an OK answer.

use stonechat_proto::{status_details, v1};
use tonic::{Code, Status};

use crate::domain::{Reason, Refusal};
use crate::wire;

/// The status of a refusal that is a fault; `None` for an expected outcome.
pub(super) fn fault_of(refusal: &v1::Refusal) -> Option<Status> {
    let code = match refusal.reason() {
        v1::RefusalReason::Invalid => Code::InvalidArgument,
        v1::RefusalReason::Unauthenticated => Code::Unauthenticated,
        v1::RefusalReason::RateLimited => Code::ResourceExhausted,
        v1::RefusalReason::Internal | v1::RefusalReason::Unspecified => Code::Internal,
        v1::RefusalReason::Unavailable => Code::Unavailable,
        // Nobody knows whether it was done: the client must ask again, whatever the reason.
        _ if refusal.effect() != v1::Effect::NotDone => Code::Unavailable,
        _ => return None,
    };
    Some(with_details(code, refusal))
}

/// The status of a call that does not reach its operation. Here a lack of permission is a fault as well.
#[must_use]
pub fn status_of(refusal: &Refusal) -> Status {
    let proto = wire::refusal::to_proto(refusal);
    match refusal.reason {
        Reason::Forbidden => with_details(Code::PermissionDenied, &proto),
        _ => fault_of(&proto).unwrap_or_else(|| with_details(Code::Internal, &proto)),
    }
}

/// The status of a call that was not answered within its deadline.
#[must_use]
pub fn status_of_deadline(refusal: &Refusal) -> Status {
    with_details(Code::DeadlineExceeded, &wire::refusal::to_proto(refusal))
}

/// A status that tonic made before the handler ran (undecodable, too large, without a message) with a code of ours and
/// details; others stay.
pub(super) fn of_tonic(status: &Status) -> Option<Status> {
    if !status.details().is_empty() {
        return None;
    }
    let message = match status.code() {
        Code::OutOfRange => "the request is larger than this rpc takes; not done",
        Code::Internal | Code::InvalidArgument => "the request is not a message of this rpc; not done",
        _ => return None,
    };
    Some(status_of(&Refusal::invalid("", message)))
}

fn with_details(code: Code, refusal: &v1::Refusal) -> Status {
    Status::with_details(code, refusal.message.clone(), status_details(code, refusal))
}
