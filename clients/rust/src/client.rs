//! The app's end: a handle to ask with and a stream of events to read.

use std::future::Future;
use std::sync::Arc;

use stonechat_host::Random;
use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::{
    AppendHeader, Appended, EditRequest, MessageContent, PinRequest, ReactRequest, RedactRequest, Refusal, SendRequest,
    message_content,
};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::Channel;

use crate::config::{ClientConfig, ConfirmMode};
use crate::error::{ClientError, RequestError};
use crate::event::Event;
use crate::session::{Command, Confirmations, Driver, Envelope};
use crate::store::QueuedOperation;
use crate::unary::Unary;

mod requests;

/// Commands on their way to the task: callers wait when it is full.
const COMMANDS_MAX: usize = 256;
/// Events on their way to the app; the task holds more.
const EVENTS_MAX: usize = 64;

/// A handle to a device's session. Cheap to clone; the session ends with the last one.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    confirmations: Arc<Confirmations>,
    channels: watch::Receiver<Option<(Channel, String)>>,
    random: Arc<dyn Random>,
    device_id: String,
}

/// What the client tells the app, in order.
pub struct Events {
    events: mpsc::Receiver<Envelope>,
    confirmations: Arc<Confirmations>,
    mode: ConfirmMode,
    /// Confirmed when the next event is asked for.
    position: Option<(String, u64)>,
    cursor: Option<Vec<u8>>,
}

/// An operation that the outbox took: it survives a restart of the app, if the store does.
pub struct Sent {
    /// Its id, the same on every try.
    pub client_msg_id: String,
    outcome: oneshot::Receiver<Result<Appended, Refusal>>,
}

impl Sent {
    /// Waits until it is stored on the server or refused for good. The same is told by `Event::SendAccepted` and
    /// `Event::SendFailed`, also after a restart of the app.
    ///
    /// # Errors
    /// Refused and certainly not done; or, with an unknown outcome, the client ended first: it is tried again by the next
    /// client with the same store.
    pub async fn outcome(self) -> Result<Appended, RequestError> {
        match self.outcome.await {
            Ok(Ok(appended)) => Ok(appended),
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(_) => Err(RequestError::Unknown("the client ended before the answer".to_owned())),
        }
    }
}

impl Client {
    /// Starts a client. It connects in the background, now and whenever it must.
    ///
    /// # Errors
    /// The endpoint is malformed or the store cannot be read.
    pub async fn connect(config: ClientConfig) -> Result<(Self, Events), ClientError> {
        let endpoint = crate::transport::endpoint(&config.endpoint)?;
        let stored = config.store.load().await?;
        let (commands, taken) = mpsc::channel(COMMANDS_MAX);
        let (emitted, events) = mpsc::channel(EVENTS_MAX);
        let (published, channels) = watch::channel(None);
        let confirmations = Arc::new(Confirmations::default());
        let client = Self {
            commands,
            confirmations: Arc::clone(&confirmations),
            channels,
            random: Arc::clone(&config.host.random),
            device_id: config.device_id.clone(),
        };
        let events = Events {
            events,
            confirmations: Arc::clone(&confirmations),
            mode: config.confirm,
            position: None,
            cursor: None,
        };
        let driver = Driver::new(config, endpoint, stored, taken, confirmations, emitted, published);
        tokio::spawn(driver.run());
        Ok((client, events))
    }

    /// Sends a message. It is in the store when this returns.
    ///
    /// # Errors
    /// The operation was not taken.
    pub async fn send(&self, conversation_id: &str, content: MessageContent) -> Result<Sent, ClientError> {
        let request = SendRequest {
            header: Some(self.header(conversation_id)),
            content: Some(content),
        };
        self.enqueue(Body::Send(request)).await
    }

    /// Sends a message under an id of the app's own: 1 to 64 characters of [A-Za-z0-9._:-], for ever the same message.
    ///
    /// # Errors
    /// The operation was not taken.
    pub async fn send_as(
        &self,
        conversation_id: &str,
        client_msg_id: &str,
        content: MessageContent,
    ) -> Result<Sent, ClientError> {
        let header = AppendHeader {
            client_msg_id: client_msg_id.to_owned(),
            ..self.header(conversation_id)
        };
        let request = SendRequest {
            header: Some(header),
            content: Some(content),
        };
        self.enqueue(Body::Send(request)).await
    }

    /// Sends a text.
    ///
    /// # Errors
    /// The operation was not taken.
    pub async fn send_text(&self, conversation_id: &str, text: &str) -> Result<Sent, ClientError> {
        self.send(conversation_id, text_content(text)).await
    }

    /// Replaces the content of one's own message.
    ///
    /// # Errors
    /// The operation was not taken.
    pub async fn edit(
        &self,
        conversation_id: &str,
        target_seq: u64,
        content: MessageContent,
    ) -> Result<Sent, ClientError> {
        let request = EditRequest {
            header: Some(self.header(conversation_id)),
            target_seq,
            content: Some(content),
        };
        self.enqueue(Body::Edit(request)).await
    }

    /// Removes the content of a message.
    ///
    /// # Errors
    /// The operation was not taken.
    pub async fn redact(&self, conversation_id: &str, target_seq: u64, reason: &str) -> Result<Sent, ClientError> {
        let request = RedactRequest {
            header: Some(self.header(conversation_id)),
            target_seq,
            reason: reason.to_owned(),
        };
        self.enqueue(Body::Redact(request)).await
    }

    /// Adds a reaction, or takes it back.
    ///
    /// # Errors
    /// The operation was not taken.
    pub async fn react(
        &self,
        conversation_id: &str,
        target_seq: u64,
        reaction: &str,
        remove: bool,
    ) -> Result<Sent, ClientError> {
        let request = ReactRequest {
            header: Some(self.header(conversation_id)),
            target_seq,
            reaction: reaction.to_owned(),
            remove,
        };
        self.enqueue(Body::React(request)).await
    }

    /// Pins a message, or unpins it.
    ///
    /// # Errors
    /// The operation was not taken.
    pub async fn pin(&self, conversation_id: &str, target_seq: u64, unpin: bool) -> Result<Sent, ClientError> {
        let request = PinRequest {
            header: Some(self.header(conversation_id)),
            target_seq,
            unpin,
        };
        self.enqueue(Body::Pin(request)).await
    }

    /// The app has stored the conversation up to `seq`; for `ConfirmMode::Explicit`.
    pub fn confirm(&self, conversation_id: &str, seq: u64) {
        self.confirmations.position(conversation_id, seq);
    }

    /// Tries to connect now: after the user signed in again, or when the network came back.
    pub async fn reconnect(&self) {
        let _ = self.commands.send(Command::Reconnect).await;
    }

    /// Says goodbye, so that presence goes offline at once, and ends the session for every clone of this handle.
    pub async fn close(self) {
        let (done, gone) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            // An error means the task ended without a goodbye: it had no connection.
            let _ = gone.await;
        }
    }

    /// The unary services over the session's connection, as they are now: take a new one for each use.
    ///
    /// # Errors
    /// There is no connection now; nothing was done.
    pub fn unary(&self) -> Result<Unary, RequestError> {
        let shared = self.channels.borrow().clone();
        let (channel, token) = shared.ok_or_else(|| RequestError::NotSent("no connection to the server".to_owned()))?;
        Unary::over(channel, &token, Some(&self.device_id))
    }

    /// A fresh id for a request that carries a `client_msg_id`.
    #[must_use]
    pub fn fresh_id(&self) -> String {
        crate::id::fresh(self.random.as_ref())
    }

    fn header(&self, conversation_id: &str) -> AppendHeader {
        AppendHeader {
            conversation_id: conversation_id.to_owned(),
            client_msg_id: self.fresh_id(),
            ..AppendHeader::default()
        }
    }

    async fn enqueue(&self, body: Body) -> Result<Sent, ClientError> {
        let operation = QueuedOperation::new(body).ok_or(ClientError::Closed)?;
        if operation.is_too_large() {
            return Err(ClientError::TooLarge);
        }
        let client_msg_id = operation.client_msg_id().to_owned();
        let (taken, answer) = oneshot::channel();
        let (notify, outcome) = oneshot::channel();
        let command = Command::Enqueue {
            operation,
            taken,
            notify,
        };
        self.commands.send(command).await.map_err(|_| ClientError::Closed)?;
        answer.await.map_err(|_| ClientError::Closed)??;
        Ok(Sent { client_msg_id, outcome })
    }
}

/// A plain text as content.
#[must_use]
pub fn text_content(text: &str) -> MessageContent {
    MessageContent {
        content: Some(message_content::Content::Text(text.to_owned())),
        ..MessageContent::default()
    }
}

impl Events {
    /// The next event; `None` once the client ended. Asking confirms the event before, unless the mode is explicit.
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        self.confirm_last();
        let envelope = self.events.recv().await?;
        if self.mode == ConfirmMode::NextEvent {
            let position = envelope.event.position();
            self.position = position.map(|(conversation, seq)| (conversation.to_owned(), seq));
        }
        self.cursor = envelope.cursor;
        Some(envelope.event)
    }

    /// Handles events until the client ends; each is confirmed when its handler returned.
    pub async fn for_each<F, R>(mut self, mut handler: F)
    where
        F: FnMut(Event) -> R,
        R: Future<Output = ()>,
    {
        while let Some(event) = self.next().await {
            handler(event).await;
        }
    }

    fn confirm_last(&mut self) {
        if let Some((conversation, seq)) = self.position.take() {
            self.confirmations.position(&conversation, seq);
        }
        if let Some(cursor) = self.cursor.take() {
            self.confirmations.cursor(cursor);
        }
    }
}
