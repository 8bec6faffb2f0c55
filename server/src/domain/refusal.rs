//! Typed refusals: why not, and whether it was certainly not done or its outcome is unknown.

use std::borrow::Cow;

use super::ids::{ClientMsgId, IdError, Seq};
use super::limits::DEVICES_MAX;

/// Whether a refused request had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Certainly not done, now or later.
    NotDone,
    /// May have been done: retry with the same id, which never duplicates.
    Unknown,
}

/// Why a request was refused. The variants are those of `stonechat.v1.RefusalReason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A field is missing, malformed or over its limit.
    Invalid {
        /// Name of the field as in the proto, with those of the messages around it.
        field: Cow<'static, str>,
    },
    /// Token missing, malformed, expired, or signed by an unknown key.
    Unauthenticated,
    /// The caller may see the thing but not do this to it.
    Forbidden,
    /// Absent or not visible: both answer alike.
    NotFound,
    /// The id was used before with another payload.
    ClientMsgIdReused {
        /// What is stored under it.
        stored: Seq,
    },
    /// The named predecessor is not this device's newest accepted entry.
    OutOfOrder {
        /// Which is.
        last: Option<ClientMsgId>,
    },
    /// Seq above the head.
    BeyondHead {
        /// The head.
        head: Seq,
    },
    /// The cursor is older than what is kept.
    CursorExpired {
        /// Where reading can start.
        first_available: Seq,
        /// The head.
        head: Seq,
    },
    /// The sync cursor is of another store or damaged.
    ResyncRequired,
    /// Too much, or a bounded queue is full.
    RateLimited {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// A limit of the object is reached.
    LimitReached,
    /// The server cannot do it now.
    Unavailable {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// A fault of the server.
    Internal,
    /// It exists already with other content.
    AlreadyExists,
    /// The state does not allow it.
    Protocol,
    /// One of the two users has blocked the other.
    Blocked,
}

/// A typed "no".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Whether it had an effect.
    pub effect: Effect,
    /// For developers; never holds bodies or tokens.
    pub message: String,
}

impl Refusal {
    /// Refused, and certainly not done.
    #[must_use]
    pub fn not_done(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            effect: Effect::NotDone,
            message: message.into(),
        }
    }

    /// Nobody knows whether it was done: retry with the same id.
    #[must_use]
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            effect: Effect::Unknown,
            message: message.into(),
        }
    }

    /// Whether the server cannot say or do it now, rather than will not: then the same request may go through later.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        self.effect == Effect::Unknown || matches!(self.reason, Reason::Unavailable { .. } | Reason::Internal)
    }

    /// A field is missing, malformed or over its limit.
    #[must_use]
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let field = field.into();
        Self::not_done(Reason::Invalid { field }, message)
    }

    /// Puts the name of the message around it before the field it names; other refusals stay as they are.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        if let Reason::Invalid { field } = &mut self.reason {
            *field = Cow::Owned(format!("{outer}.{field}"));
        }
        self
    }

    /// No such conversation, or none the caller may see.
    #[must_use]
    pub fn no_conversation() -> Self {
        Self::not_done(Reason::NotFound, "no such conversation")
    }

    /// A user has as many devices as are kept.
    #[must_use]
    pub fn too_many_devices() -> Self {
        let message = format!("a user has at most {DEVICES_MAX} devices, removed ones included; not done");
        Self::not_done(Reason::LimitReached, message)
    }

    /// The caller may see the thing but not do this to it.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::not_done(Reason::Forbidden, message)
    }
}

impl From<IdError> for Refusal {
    fn from(error: IdError) -> Self {
        Self::invalid(error.what, error.to_string())
    }
}
