//! What can go wrong, each time with whether the thing was certainly not done or its outcome is unknown.

use stonechat_proto::v1::{Effect, Refusal, RefusalReason};

use crate::store::StoreError;

/// The client could not start or take an operation; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint is neither `https://host:port` nor `http://host:port`.
    #[error("the endpoint \"{0}\" is not of the form https://host:port or http://host:port")]
    Endpoint(String),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The outbox holds as many unsent operations as it may; nothing was taken.
    #[error("the outbox is full: the operation was not taken")]
    OutboxFull,
    /// The operation is larger than a frame may be; nothing was taken.
    #[error("the operation is larger than 64 KiB: it was not taken")]
    TooLarge,
    /// The client was closed; nothing was taken.
    #[error("the client is closed: the operation was not taken")]
    Closed,
}

/// A request was not answered with what it asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The server refused; the refusal says why and whether it was certainly not done.
    #[error("{}", describe(.0))]
    Refused(Box<Refusal>),
    /// Certainly not done: the request never left.
    #[error("not done: {0}")]
    NotSent(String),
    /// It may have been done.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

impl RequestError {
    /// Whether it was certainly not done.
    #[must_use]
    pub fn certainly_not_done(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.effect() == Effect::NotDone,
            Self::NotSent(_) => true,
            Self::Unknown(_) => false,
        }
    }

    /// Why the server refused, when it did.
    #[must_use]
    pub fn reason(&self) -> Option<RefusalReason> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason()),
            Self::NotSent(_) | Self::Unknown(_) => None,
        }
    }
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<tonic::Status> for RequestError {
    fn from(status: tonic::Status) -> Self {
        if let Some(refusal) = stonechat_proto::refusal_of_status(&status) {
            return refusal.into();
        }
        let text = format!("{}: {}", status.code(), status.message());
        match status.code() {
            // The server's framework says these before any handler runs.
            tonic::Code::Unimplemented | tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
                Self::NotSent(text)
            }
            _ => Self::Unknown(text),
        }
    }
}

fn describe(refusal: &Refusal) -> String {
    let reason = refusal.reason().as_str_name().trim_start_matches("REFUSAL_REASON_");
    let effect = match refusal.effect() {
        Effect::NotDone => "not done",
        Effect::Unknown | Effect::Unspecified => "outcome unknown",
    };
    format!("{effect}: {} ({reason})", refusal.message)
}
