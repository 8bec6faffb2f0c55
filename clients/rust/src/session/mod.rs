//! The task behind a client: `driver` waits and writes, `core` decides, the rest is what they share.

mod confirmations;
mod core;
mod driver;
mod frames;
mod heartbeat;
mod link;
mod queue;
mod requests;

pub(crate) use confirmations::Confirmations;
pub(crate) use driver::Driver;

use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::{SetTypingRequest, server_frame};
use tokio::sync::oneshot;

use crate::error::{ClientError, RequestError};
use crate::event::Event;
use crate::outbox::Notify;
use crate::store::QueuedOperation;

/// What the handle asks of the task.
pub(crate) enum Command {
    /// Take an operation: durable when answered.
    Enqueue {
        operation: QueuedOperation,
        taken: oneshot::Sender<Result<(), ClientError>>,
        notify: Notify,
    },
    /// Ask the server. Every request that comes this way may be repeated.
    Request {
        body: Body,
        answer: oneshot::Sender<Result<server_frame::Body, RequestError>>,
    },
    /// Tell that the user types; forgotten when there is no session.
    Typing(SetTypingRequest),
    /// Try to connect now.
    Reconnect,
    /// Say goodbye and end.
    Close(oneshot::Sender<()>),
}

/// An event on its way to the app.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) event: Event,
    /// List cursor to remember once the app has handled the event.
    pub(crate) cursor: Option<Vec<u8>>,
}
