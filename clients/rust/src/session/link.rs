//! The connection, in whatever state it is.

use std::future::pending;

use futures_util::future::BoxFuture;
use stonechat_proto::v1::{ClientFrame, ExchangeRequest, ServerFrame};
use tokio::sync::mpsc::OwnedPermit;
use tokio::time::Instant;

use crate::event::DisconnectReason;
use crate::transport::{Connection, Failure};

pub(super) enum Link {
    /// Waits for the app: nothing the client could do by itself would help.
    Stopped,
    /// Tries again then.
    Waiting(Instant),
    Connecting(BoxFuture<'static, Result<Connection, Failure>>),
    Up(Box<Connection>),
}

pub(super) enum LinkStep {
    /// The delay is over.
    Due,
    Connected(Box<Connection>),
    Failed(Failure),
    /// There is room for a frame.
    Room(OwnedPermit<ExchangeRequest>),
    Received(ServerFrame),
}

impl Link {
    /// Waits for what happens next. Cancelling it loses nothing.
    pub(super) async fn step(&mut self, sending: bool, reading: bool) -> LinkStep {
        match self {
            Self::Stopped => pending().await,
            Self::Waiting(at) => {
                tokio::time::sleep_until(*at).await;
                LinkStep::Due
            }
            Self::Connecting(attempt) => match attempt.await {
                Ok(connection) => LinkStep::Connected(Box::new(connection)),
                Err(failure) => LinkStep::Failed(failure),
            },
            Self::Up(connection) => step_up(connection, sending, reading).await,
        }
    }
}

async fn step_up(connection: &mut Connection, sending: bool, reading: bool) -> LinkStep {
    let frames = connection.frames.clone();
    tokio::select! {
        biased;
        message = connection.inbound.message(), if reading => match message {
            Ok(Some(response)) => LinkStep::Received(response.frame.unwrap_or_default()),
            Ok(None) => LinkStep::Failed(broken("the server ended the stream without a reason")),
            Err(status) => LinkStep::Failed(Failure::status(status, &connection.token)),
        },
        permit = frames.reserve_owned(), if sending => match permit {
            Ok(permit) => LinkStep::Room(permit),
            // The transport took the stream down; its status comes from the other side.
            Err(_) => LinkStep::Failed(broken("the connection broke")),
        },
        else => pending().await,
    }
}

pub(super) fn broken(text: &str) -> Failure {
    Failure::retry(DisconnectReason::Network(text.to_owned()))
}

pub(super) fn send(permit: OwnedPermit<ExchangeRequest>, frame: ClientFrame) {
    permit.send(ExchangeRequest { frame: Some(frame) });
}
