//! Refusals, both ways.

use stonechat_proto::v1;

use crate::domain::{ClientMsgId, Effect, Reason, Refusal, Seq};
use crate::telemetry::meters::meters;

/// For answers, frames and status details. All refusals go out through here, so they are counted here.
#[must_use]
pub fn to_proto(refusal: &Refusal) -> v1::Refusal {
    meters().refusals.inc((&refusal.reason).into());
    uncounted(refusal)
}

/// The same for another node, which counts it when it answers the caller.
#[must_use]
pub(super) fn uncounted(refusal: &Refusal) -> v1::Refusal {
    let mut proto = v1::Refusal {
        reason: code(&refusal.reason).into(),
        effect: effect(refusal.effect).into(),
        message: refusal.message.clone(),
        ..v1::Refusal::default()
    };
    match &refusal.reason {
        Reason::Invalid { field } => proto.field = field.to_string(),
        Reason::ClientMsgIdReused { stored } => proto.stored_seq = stored.0,
        Reason::OutOfOrder { last } => proto.last_client_msg_id = last.as_ref().map_or_else(String::new, text),
        Reason::BeyondHead { head } => proto.head_seq = head.0,
        Reason::CursorExpired { first_available, head } => {
            proto.first_available_seq = first_available.0;
            proto.head_seq = head.0;
        }
        Reason::RateLimited { retry_after_ms } | Reason::Unavailable { retry_after_ms } => {
            proto.retry_after_ms = *retry_after_ms;
        }
        Reason::Unauthenticated
        | Reason::Forbidden
        | Reason::NotFound
        | Reason::ResyncRequired
        | Reason::LimitReached
        | Reason::Internal
        | Reason::AlreadyExists
        | Reason::Protocol
        | Reason::Blocked => {}
    }
    proto
}

/// What another node or server refused. What cannot be read counts as a fault whose outcome is unknown.
#[must_use]
pub fn from_proto(proto: v1::Refusal) -> Refusal {
    let effect = match proto.effect() {
        v1::Effect::NotDone => Effect::NotDone,
        v1::Effect::Unknown | v1::Effect::Unspecified => Effect::Unknown,
    };
    let reason = reason(&proto);
    let message = proto.message;
    Refusal {
        reason,
        effect,
        message,
    }
}

/// The reason's name in the contract, also for logs.
#[must_use]
pub fn code(reason: &Reason) -> v1::RefusalReason {
    match reason {
        Reason::Invalid { .. } => v1::RefusalReason::Invalid,
        Reason::Unauthenticated => v1::RefusalReason::Unauthenticated,
        Reason::Forbidden => v1::RefusalReason::Forbidden,
        Reason::NotFound => v1::RefusalReason::NotFound,
        Reason::ClientMsgIdReused { .. } => v1::RefusalReason::ClientMsgIdReused,
        Reason::OutOfOrder { .. } => v1::RefusalReason::OutOfOrder,
        Reason::BeyondHead { .. } => v1::RefusalReason::BeyondHead,
        Reason::CursorExpired { .. } => v1::RefusalReason::CursorExpired,
        Reason::ResyncRequired => v1::RefusalReason::ResyncRequired,
        Reason::RateLimited { .. } => v1::RefusalReason::RateLimited,
        Reason::LimitReached => v1::RefusalReason::LimitReached,
        Reason::Unavailable { .. } => v1::RefusalReason::Unavailable,
        Reason::Internal => v1::RefusalReason::Internal,
        Reason::AlreadyExists => v1::RefusalReason::AlreadyExists,
        Reason::Protocol => v1::RefusalReason::Protocol,
        Reason::Blocked => v1::RefusalReason::Blocked,
    }
}

fn reason(proto: &v1::Refusal) -> Reason {
    let retry_after_ms = proto.retry_after_ms;
    match proto.reason() {
        v1::RefusalReason::Invalid => Reason::Invalid {
            field: proto.field.clone().into(),
        },
        v1::RefusalReason::Unauthenticated => Reason::Unauthenticated,
        v1::RefusalReason::Forbidden => Reason::Forbidden,
        v1::RefusalReason::NotFound => Reason::NotFound,
        v1::RefusalReason::ClientMsgIdReused => Reason::ClientMsgIdReused {
            stored: Seq(proto.stored_seq),
        },
        v1::RefusalReason::OutOfOrder => Reason::OutOfOrder {
            last: ClientMsgId::parse(&proto.last_client_msg_id).ok(),
        },
        v1::RefusalReason::BeyondHead => Reason::BeyondHead {
            head: Seq(proto.head_seq),
        },
        v1::RefusalReason::CursorExpired => Reason::CursorExpired {
            first_available: Seq(proto.first_available_seq),
            head: Seq(proto.head_seq),
        },
        v1::RefusalReason::ResyncRequired => Reason::ResyncRequired,
        v1::RefusalReason::RateLimited => Reason::RateLimited { retry_after_ms },
        v1::RefusalReason::LimitReached => Reason::LimitReached,
        v1::RefusalReason::Unavailable => Reason::Unavailable { retry_after_ms },
        v1::RefusalReason::Internal | v1::RefusalReason::Unspecified => Reason::Internal,
        v1::RefusalReason::AlreadyExists => Reason::AlreadyExists,
        v1::RefusalReason::Protocol => Reason::Protocol,
        v1::RefusalReason::Blocked => Reason::Blocked,
    }
}

fn effect(effect: Effect) -> v1::Effect {
    match effect {
        Effect::NotDone => v1::Effect::NotDone,
        Effect::Unknown => v1::Effect::Unknown,
    }
}

fn text(id: &ClientMsgId) -> String {
    id.as_str().to_owned()
}
