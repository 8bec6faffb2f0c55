//! The task behind a client: waits for whatever comes next and hands it to the core.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::{Bye, ClientFrame};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::confirmations::Confirmations;
use super::core::Core;
use super::link::{Link, LinkStep, send};
use super::requests::Purpose;
use super::{Command, Envelope};
use crate::backoff::Backoff;
use crate::config::{AccessToken, ClientConfig, TokenError};
use crate::error::{ClientError, RequestError};
use crate::event::{DisconnectReason, Event};
use crate::outbox::{Notify, OPERATIONS_MAX};
use crate::store::{QueuedOperation, Record, StoreError, Stored};
use crate::transport::{Connection, Dial, Failure, open};

/// Commands taken before the store is written: they share one fsync.
const COMMANDS_PER_WRITE: usize = 256;
/// Confirmations are gathered for so long: one write and one acknowledgement for many.
const CONFIRM_DELAY: Duration = Duration::from_millis(10);
/// After a failed write the store is tried again after this time.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How long a goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// An operation that is not in the store yet.
struct Taking {
    operation: QueuedOperation,
    taken: oneshot::Sender<Result<(), ClientError>>,
    notify: Notify,
}

pub(crate) struct Driver {
    core: Core,
    config: ClientConfig,
    endpoint: Endpoint,
    commands: mpsc::Receiver<Command>,
    confirmations: Arc<Confirmations>,
    events: mpsc::Sender<Envelope>,
    channels: watch::Sender<Option<(Channel, String)>>,
    link: Link,
    backoff: Backoff,
    failures: u32,
    taking: Vec<Taking>,
    refused_token: Option<String>,
    renewal: Option<BoxFuture<'static, Result<AccessToken, TokenError>>>,
    confirm_at: Option<Instant>,
    store_retry_at: Option<Instant>,
    goodbye: Option<oneshot::Sender<()>>,
}

/// What came next.
enum Step {
    Command(Option<Command>),
    Confirmed,
    Emit(Option<mpsc::OwnedPermit<Envelope>>),
    Link(LinkStep),
    Renewed(Result<AccessToken, TokenError>),
    Time,
}

impl Driver {
    pub(crate) fn new(
        config: ClientConfig,
        endpoint: Endpoint,
        stored: Stored,
        commands: mpsc::Receiver<Command>,
        confirmations: Arc<Confirmations>,
        events: mpsc::Sender<Envelope>,
        channels: watch::Sender<Option<(Channel, String)>>,
    ) -> Self {
        Self {
            core: Core::new(&config, stored),
            backoff: Backoff::new(config.connect_retry, config.host.random.clone()),
            link: Link::Waiting(stonechat_host::monotonic()),
            config,
            endpoint,
            commands,
            confirmations,
            events,
            channels,
            failures: 0,
            taking: Vec::new(),
            refused_token: None,
            renewal: None,
            confirm_at: None,
            store_retry_at: None,
            goodbye: None,
        }
    }

    /// Runs until the client is closed or its last handle dropped.
    pub(crate) async fn run(mut self) {
        loop {
            self.persist().await;
            match self.wait().await {
                Step::Command(None) => break,
                Step::Command(Some(command)) => self.take_commands(command),
                Step::Confirmed => self.confirm_soon(),
                Step::Emit(permit) => self.emit(permit),
                Step::Link(step) => self.on_link(step),
                Step::Renewed(result) => self.on_renewed(result),
                Step::Time => self.on_time(),
            }
            if self.goodbye.is_some() {
                break;
            }
        }
        self.end().await;
    }

    async fn wait(&mut self) -> Step {
        let now = stonechat_host::monotonic();
        let sending = self.core.has_frame(now);
        let reading = !self.core.events.is_full();
        let timer = self.next_timer(now);
        let events = self.events.clone();
        tokio::select! {
            biased;
            command = self.commands.recv() => Step::Command(command),
            () = self.confirmations.changed() => Step::Confirmed,
            permit = events.reserve_owned(), if !self.core.events.is_empty() => Step::Emit(permit.ok()),
            step = self.link.step(sending, reading) => Step::Link(step),
            result = renewal(&mut self.renewal) => Step::Renewed(result),
            () = tokio::time::sleep_until(timer) => Step::Time,
        }
    }

    fn next_timer(&self, now: Instant) -> Instant {
        // Without anything to do, a look per minute costs nothing.
        let idle = now + Duration::from_secs(60);
        [self.core.next_timer(), self.confirm_at, self.store_retry_at]
            .into_iter()
            .flatten()
            .fold(idle, Instant::min)
    }

    fn take_commands(&mut self, first: Command) {
        let now = stonechat_host::monotonic();
        self.on_command(now, first);
        for _ in 1..COMMANDS_PER_WRITE {
            match self.commands.try_recv() {
                Ok(command) => self.on_command(now, command),
                Err(_) => return,
            }
        }
    }

    fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Enqueue { taken, .. } if self.core.outbox.len() + self.taking.len() >= OPERATIONS_MAX => {
                let _ = taken.send(Err(ClientError::OutboxFull));
            }
            Command::Enqueue {
                operation,
                taken,
                notify,
            } => self.taking.push(Taking {
                operation,
                taken,
                notify,
            }),
            Command::Request { body, answer } => self.core.request(now, body, Purpose::App(answer)),
            Command::Typing(typing) => self.core.type_notice(typing),
            Command::Reconnect => self.reconnect(now),
            Command::Close(done) => self.goodbye = Some(done),
        }
    }

    fn reconnect(&mut self, now: Instant) {
        if matches!(self.link, Link::Stopped | Link::Waiting(_)) {
            self.failures = 0;
            self.refused_token = None;
            // The budget holds also for an impatient app.
            self.link = Link::Waiting(self.backoff.next(now, 1, Duration::ZERO));
        }
    }

    /// Writes what must be durable before anything else happens.
    async fn persist(&mut self) {
        let now = stonechat_host::monotonic();
        let paused = self.store_retry_at.is_some_and(|at| at > now);
        let nothing = self.core.records.is_empty() && self.taking.is_empty();
        if nothing || (paused && self.taking.is_empty()) {
            return;
        }
        let mut records = self.core.records.clone();
        records.extend(
            self.taking
                .iter()
                .map(|taking| Record::Queued(taking.operation.clone())),
        );
        match self.config.store.append(&records).await {
            Ok(()) => self.persisted(),
            Err(error) => self.not_persisted(now, &error),
        }
    }

    fn persisted(&mut self) {
        self.store_retry_at = None;
        self.core.records.clear();
        for taking in self.taking.drain(..) {
            self.core.outbox.push(taking.operation, Some(taking.notify));
            // Taken, even when the caller stopped waiting to hear so.
            let _ = taking.taken.send(Ok(()));
        }
    }

    /// Nothing of the batch counts: operations are refused, the rest is written later.
    fn not_persisted(&mut self, now: Instant, error: &StoreError) {
        tracing::warn!(%error, "the client's store was not written");
        if self.store_retry_at.is_none() {
            self.core.events.push(Event::StoreFailed(error.to_string()));
        }
        self.store_retry_at = Some(now + STORE_RETRY);
        for taking in self.taking.drain(..) {
            let _ = taking.taken.send(Err(ClientError::Store(error.clone())));
        }
    }

    fn confirm_soon(&mut self) {
        let due = stonechat_host::monotonic() + CONFIRM_DELAY;
        self.confirm_at.get_or_insert(due);
    }

    fn emit(&mut self, permit: Option<mpsc::OwnedPermit<Envelope>>) {
        match permit {
            Some(permit) => {
                if let Some(envelope) = self.core.events.pop() {
                    permit.send(envelope);
                }
            }
            // The app no longer listens.
            None => self.core.events.clear(),
        }
    }

    fn on_time(&mut self) {
        let now = stonechat_host::monotonic();
        if self.confirm_at.is_some_and(|at| at <= now) {
            self.confirm_at = None;
            self.core.confirm(self.confirmations.take());
        }
        let reading = !self.core.events.is_full();
        if !self.core.on_time(now, reading) {
            self.on_failure(Failure::retry(DisconnectReason::Silent));
            return;
        }
        let due = self
            .core
            .heartbeat
            .as_mut()
            .is_some_and(|heartbeat| heartbeat.renewal_due(now));
        if due && self.renewal.is_none() {
            let tokens = Arc::clone(&self.config.tokens);
            self.renewal = Some(async move { tokens.token(true).await }.boxed());
        }
    }

    fn on_link(&mut self, step: LinkStep) {
        match step {
            LinkStep::Due => self.connect(),
            LinkStep::Connected(connection) => self.on_connected(connection),
            LinkStep::Failed(failure) => self.on_failure(failure),
            LinkStep::Room(permit) => {
                if let Some(frame) = self.core.next_frame(stonechat_host::monotonic()) {
                    send(permit, frame);
                }
            }
            LinkStep::Received(frame) => {
                let closed = self.core.on_frame(stonechat_host::monotonic(), frame);
                if let (Some(closed), Link::Up(connection)) = (closed, &self.link) {
                    self.on_failure(Failure::closed(closed, &connection.token));
                }
            }
        }
    }

    fn connect(&mut self) {
        let dial = Dial {
            endpoint: self.endpoint.clone(),
            connector: Arc::clone(&self.config.connector),
            tls: self.config.tls.clone(),
            tokens: Arc::clone(&self.config.tokens),
            refused_token: self.refused_token.clone(),
            hello: self.core.hello(),
        };
        self.link = Link::Connecting(open(dial).boxed());
    }

    fn on_connected(&mut self, connection: Box<Connection>) {
        self.failures = 0;
        self.refused_token = None;
        let shared = (connection.channel.clone(), connection.token.text.clone());
        self.channels.send_replace(Some(shared));
        self.core
            .connected(stonechat_host::monotonic(), connection.welcome.clone());
        self.link = Link::Up(connection);
    }

    fn on_failure(&mut self, failure: Failure) {
        let now = stonechat_host::monotonic();
        self.core.disconnected();
        self.renewal = None;
        self.channels.send_replace(None);
        let moved = failure
            .endpoint
            .and_then(|text| crate::transport::moved(&self.endpoint, &text));
        if let Some(endpoint) = moved {
            self.endpoint = endpoint;
        }
        self.refused_token = failure.refused_token;
        self.failures += 1;
        let retry = (!failure.stop).then(|| self.backoff.next(now, self.failures, failure.after));
        self.link = retry.map_or(Link::Stopped, Link::Waiting);
        self.core.events.push(Event::Disconnected {
            reason: failure.reason,
            retry: retry.map(|at| at.saturating_duration_since(now)),
        });
    }

    fn on_renewed(&mut self, result: Result<AccessToken, TokenError>) {
        self.renewal = None;
        let now = stonechat_host::monotonic();
        let Link::Up(connection) = &mut self.link else {
            return;
        };
        match result {
            Ok(token) if token.text != connection.token.text => {
                let life = life_of(&token, self.config.host.clock.unix_ms());
                self.channels
                    .send_replace(Some((connection.channel.clone(), token.text.clone())));
                self.core.token_renewed(now, token.text.clone(), life);
                connection.token = token;
            }
            // There is no other: the stream ends when this one does.
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the token was not renewed");
                if let Some(heartbeat) = self.core.heartbeat.as_mut().filter(|_| !error.permanent) {
                    heartbeat.renewal_failed(now);
                }
            }
        }
    }

    /// Remembers what was confirmed and, when the client was closed, says goodbye.
    async fn end(mut self) {
        self.core.confirm(self.confirmations.take());
        self.store_retry_at = None;
        self.persist().await;
        for taking in self.taking.drain(..) {
            let _ = taking.taken.send(Err(ClientError::Closed));
        }
        if let (Some(done), Link::Up(connection)) = (self.goodbye.take(), &mut self.link) {
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, say_goodbye(connection, &mut self.core)).await;
            let _ = done.send(());
        }
    }
}

/// Sends the acknowledgements due and a bye, then waits for the server to end the stream.
async fn say_goodbye(connection: &mut Connection, core: &mut Core) {
    while let Some(ack) = core.inbox.next_ack() {
        let frame = ClientFrame {
            request_id: 0,
            body: Some(Body::Ack(ack)),
        };
        if let Ok(permit) = connection.frames.clone().reserve_owned().await {
            send(permit, frame);
        }
    }
    let bye = ClientFrame {
        request_id: 0,
        body: Some(Body::Bye(Bye {})),
    };
    if let Ok(permit) = connection.frames.clone().reserve_owned().await {
        send(permit, bye);
    }
    while let Ok(Some(_)) = connection.inbound.message().await {}
}

async fn renewal(
    running: &mut Option<BoxFuture<'static, Result<AccessToken, TokenError>>>,
) -> Result<AccessToken, TokenError> {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

fn life_of(token: &AccessToken, now_ms: i64) -> Option<Duration> {
    let life = token.expires_ms?.saturating_sub(now_ms).max(0);
    u64::try_from(life).ok().map(Duration::from_millis)
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        Self::NotSent(error.to_string())
    }
}
