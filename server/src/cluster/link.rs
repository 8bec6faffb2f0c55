//! The line to one other node: a stream of appends and other requests in order, their answers in any order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use stonechat_host::Connector;
use stonechat_proto::node::v1::forward_service_client::ForwardServiceClient;
use stonechat_proto::node::v1::{ForwardRequest, ForwardResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::{LINE_BYTES_MAX, weight};
use crate::bus::NodeRecord;
use crate::conversation::{AppendRequest, Appended, ForwardAnswer, TakenAnswer};
use crate::domain::{Refusal, Seq};
use crate::telemetry::meters::{Held, meters};
use crate::wire::forward;

/// Appends that wait for the line; above it they are done by the node that has them. A second's worth for one node.
const QUEUE_MAX: usize = 4_096;
/// Appends sent and not answered; above it the queue waits.
const UNANSWERED_MAX: usize = 16_384;
/// Requests handed to the transport at a time: what lies there cannot be taken back.
const SENDING_MAX: usize = 256;
/// A node that does not take a connection in this time is passed by.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A frozen node is noticed after both of these: sooner than an append on its way there is given up.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Pause before a broken line is tried again: short, since conversations are owned by nobody meanwhile; long enough that a
/// dead node costs nothing.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How often it is said that a node cannot be reached.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Causes of an error that are said.
const CAUSES_MAX: usize = 8;

struct Outbound {
    message: ForwardRequest,
    asked: Asked,
}

/// A request until it is answered.
struct Asked {
    reply: Reply,
    _room: OwnedSemaphorePermit,
    _counted: Held,
}

/// Who waits for the answer, which is one to this.
enum Reply {
    Append(Box<AppendRequest>, oneshot::Sender<Result<Appended, Refusal>>),
    TakeOver(oneshot::Sender<Result<Seq, Refusal>>),
}

impl Reply {
    fn send(self, answer: ForwardResponse) {
        // Whoever no longer listens does not hinder the others.
        let _gone = match self {
            Self::Append(append, to) => to.send(forward::answer(&append, answer)).is_err(),
            Self::TakeOver(to) => to.send(forward::taken_up_to(answer)).is_err(),
        };
    }
}

/// The near end. Dropping it closes the line.
pub(super) struct Link {
    queue: mpsc::Sender<Outbound>,
    /// Bytes that may still be queued or unanswered.
    room: Arc<Semaphore>,
    up: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub(super) fn open(node: NodeRecord, connector: Arc<dyn Connector>) -> Arc<Self> {
        let (queue, outbound) = mpsc::channel(QUEUE_MAX);
        let up = Arc::new(AtomicBool::new(false));
        let line = Line {
            node,
            connector,
            outbound,
            up: Arc::clone(&up),
        };
        let task = tokio::spawn(line.run());
        let room = Arc::new(Semaphore::new(LINE_BYTES_MAX));
        Arc::new(Self { queue, room, up, task })
    }

    /// Whether the other node answers.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Sends without waiting; `None` when nothing was sent.
    pub(super) fn send(&self, message: ForwardRequest, append: AppendRequest) -> Option<ForwardAnswer> {
        let (to, answer) = oneshot::channel();
        self.ask(message, Reply::Append(Box::new(append), to)).map(|()| answer)
    }

    /// The same for fan-out to take over.
    pub(super) fn take_over(&self, message: ForwardRequest) -> Option<TakenAnswer> {
        let (to, answer) = oneshot::channel();
        self.ask(message, Reply::TakeOver(to)).map(|()| answer)
    }

    fn ask(&self, message: ForwardRequest, reply: Reply) -> Option<()> {
        let bytes = u32::try_from(weight(&message)).ok()?;
        let asked = Asked {
            reply,
            _room: Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()?,
            _counted: meters().node_line_appends.hold(),
        };
        let outbound = Outbound { message, asked };
        self.queue.try_send(outbound).ok()
    }
}

/// Says that the line is up for as long as it lives.
struct Up<'a>(&'a AtomicBool);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

struct Line {
    node: NodeRecord,
    connector: Arc<dyn Connector>,
    outbound: mpsc::Receiver<Outbound>,
    up: Arc<AtomicBool>,
}

impl Line {
    async fn run(mut self) {
        let mut said: Option<Instant> = None;
        loop {
            match self.connect().await {
                Ok((requests, answers)) => {
                    said = None;
                    tracing::info!(node = self.node.name, "line to another node is up");
                    self.carry(requests, answers).await;
                    tracing::info!(node = self.node.name, "line to another node broke");
                }
                Err(error) => self.unreached(&*error, &mut said),
            }
            // Whoever waits in the queue asks somebody else.
            while self.outbound.try_recv().is_ok() {}
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Said at the first time, and then now and again: it may be a node that just died, or a setting that is wrong.
    fn unreached(&self, error: &(dyn std::error::Error + Send + Sync), said: &mut Option<Instant>) {
        let now = stonechat_host::monotonic();
        if said.is_some_and(|said| now < said + SAY_EVERY) {
            return;
        }
        *said = Some(now);
        let Self { node, .. } = self;
        let why = causes(error);
        tracing::warn!(
            node = node.name,
            address = node.address,
            why,
            "no line to another node, trying again"
        );
    }

    async fn connect(
        &self,
    ) -> Result<(mpsc::Sender<ForwardRequest>, Streaming<ForwardResponse>), Box<dyn std::error::Error + Send + Sync>>
    {
        let channel = self.channel().await?;
        let (requests, sending) = mpsc::channel(SENDING_MAX);
        let mut client = ForwardServiceClient::new(channel);
        let asking = client.forward(ReceiverStream::new(sending));
        let answers = tokio::time::timeout(CONNECT_WITHIN, asking).await??;
        Ok((requests, answers.into_inner()))
    }

    async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.node.address))?
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWERED_WITHIN)
            .keep_alive_while_idle(true);
        let connector = Arc::clone(&self.connector);
        let dial = move |uri: http::Uri| {
            let connector = Arc::clone(&connector);
            async move {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                connector.connect(authority).await.map(TokioIo::new)
            }
        };
        endpoint.connect_with_connector(tower::service_fn(dial)).await
    }

    /// Carries appends until the line breaks; who has no answer then does not know the outcome.
    async fn carry(&mut self, requests: mpsc::Sender<ForwardRequest>, mut answers: Streaming<ForwardResponse>) {
        let mut unanswered: BTreeMap<u64, Asked> = BTreeMap::new();
        let mut next = 1;
        self.up.store(true, Ordering::Release);
        let up = Arc::clone(&self.up);
        let _up = Up(&up);
        let _counted = meters().node_lines_up.hold();
        loop {
            tokio::select! { biased;
                answer = answers.message() => {
                    let Ok(Some(answer)) = answer else { return };
                    if let Some(asked) = unanswered.remove(&answer.request_id) {
                        asked.reply.send(answer);
                    }
                }
                outbound = self.outbound.recv(), if unanswered.len() < UNANSWERED_MAX => {
                    let Some(Outbound { mut message, asked }) = outbound else { return };
                    message.request_id = next;
                    unanswered.insert(next, asked);
                    next += 1;
                    if requests.send(message).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// An error with what caused it: the outermost alone says "transport error".
fn causes(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    // Errors of errors are few; a cycle would be a bug of a library.
    for _ in 0..CAUSES_MAX {
        let Some(inner) = cause else { break };
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
