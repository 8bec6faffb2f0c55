//! The far end of a line: takes appends from other nodes and does them, in the order in which they came.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use stonechat_host::{BoxedIo, Listener};
use stonechat_proto::node::v1::forward_service_server::{ForwardService, ForwardServiceServer};
use stonechat_proto::node::v1::{ForwardRequest, ForwardResponse};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::Cluster;
use crate::conversation::Conversations;
use crate::domain::limits::FRAME_BYTES_MAX;
use crate::telemetry::meters::meters;
use crate::wire::forward;

/// Appends of one node that are done at a time; above it its stream waits.
const AT_ONCE_MAX: usize = 16_384;
/// Answers that wait for the transport.
const ANSWERS_MAX: usize = 256;
/// Bytes of one append: a frame of a client, and what a node adds to it.
const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX + 4 * 1024;
/// Pause after a failed accept: descriptors come back as connections end.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A node that does not answer a ping is gone.
const PING_EVERY: Duration = Duration::from_secs(10);

/// The listener for other nodes. Dropping it ends all its lines.
pub struct ForwardingServer(JoinHandle<()>);

impl Drop for ForwardingServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves other nodes.
#[must_use]
pub fn serve(listener: Arc<dyn Listener>, cluster: Arc<Cluster>, conversations: Conversations) -> ForwardingServer {
    let service = ForwardServiceServer::new(Forwarding { cluster, conversations });
    let service = service.max_decoding_message_size(REQUEST_BYTES_MAX);
    let accepted = futures_util::stream::unfold(listener, |listener| async {
        let accepted = accept(&*listener).await;
        Some((Ok::<_, io::Error>(accepted), listener))
    });
    ForwardingServer(tokio::spawn(async move {
        let server = Server::builder().http2_keepalive_interval(Some(PING_EVERY));
        if let Err(error) = { server }.add_service(service).serve_with_incoming(accepted).await {
            tracing::error!(%error, "other nodes are no longer served");
        }
    }))
}

async fn accept(listener: &dyn Listener) -> NodeIo {
    loop {
        match listener.accept().await {
            Ok((io, _)) => return NodeIo(io),
            Err(error) => {
                meters().accept_errors.inc();
                tracing::warn!(%error, "another node was not accepted, trying again");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

struct Forwarding {
    cluster: Arc<Cluster>,
    conversations: Conversations,
}

#[async_trait::async_trait]
impl ForwardService for Forwarding {
    type ForwardStream = ReceiverStream<Result<ForwardResponse, Status>>;

    async fn forward(
        &self,
        request: Request<Streaming<ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let (answers, sending) = mpsc::channel(ANSWERS_MAX);
        let line = Line {
            cluster: Arc::clone(&self.cluster),
            conversations: self.conversations.clone(),
            under_way: FuturesUnordered::new(),
            answers,
        };
        tokio::spawn(line.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(sending)))
    }
}

struct Line {
    cluster: Arc<Cluster>,
    conversations: Conversations,
    under_way: FuturesUnordered<BoxFuture<'static, ForwardResponse>>,
    answers: mpsc::Sender<Result<ForwardResponse, Status>>,
}

impl Line {
    async fn run(mut self, mut requests: Streaming<ForwardRequest>) {
        let mut open = true;
        while open || !self.under_way.is_empty() {
            tokio::select! { biased;
                Some(answer) = self.under_way.next(), if !self.under_way.is_empty() => {
                    if self.answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                request = requests.message(), if open && self.under_way.len() < AT_ONCE_MAX => match request {
                    Ok(Some(request)) => self.begin(request),
                    Ok(None) | Err(_) => open = false,
                },
            }
        }
    }

    /// Begun at once, so that it has its place before the next one is read.
    fn begin(&mut self, request: ForwardRequest) {
        meters().forwards_taken.inc();
        if request.view != self.cluster.fingerprint() {
            meters().views_differ.inc();
        }
        let request_id = request.request_id;
        let append = forward::parse(request);
        let conversations = self.conversations.clone();
        let mut doing: BoxFuture<'static, ForwardResponse> = Box::pin(async move {
            let answer = match append {
                Ok(append) => conversations.append_here(append).await,
                Err(refusal) => Err(refusal),
            };
            forward::response(request_id, &answer)
        });
        let mut at_once = Context::from_waker(std::task::Waker::noop());
        match doing.as_mut().poll(&mut at_once) {
            Poll::Ready(answer) => self.under_way.push(Box::pin(std::future::ready(answer))),
            Poll::Pending => self.under_way.push(doing),
        }
    }
}

/// A connection, as tonic wants it.
struct NodeIo(BoxedIo);

impl Connected for NodeIo {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for NodeIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for NodeIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
