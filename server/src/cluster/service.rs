//! The far end of a line: takes appends from other nodes and does them, in the order in which they came.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use stonechat_proto::node::v1::forward_service_server::{ForwardService, ForwardServiceServer};
use stonechat_proto::node::v1::{ForwardRequest, ForwardResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::door::Work;
use super::{Cluster, LINE_BYTES_MAX, weight};
use crate::conversation::Conversations;
use crate::domain::limits::FRAME_BYTES_MAX;
use crate::telemetry::meters::meters;
use crate::wire::forward::{self, Asked};

/// Appends of one node that are done at a time; above it its stream waits.
const AT_ONCE_MAX: usize = 16_384;
/// Answers that wait for the transport.
const ANSWERS_MAX: usize = 256;
/// Bytes of one append: a frame of a client, and what a node adds to it.
const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX + 4 * 1024;

/// The service of one connection, as it is served.
pub(super) fn forwarding(forwarding: Forwarding) -> ForwardServiceServer<Forwarding> {
    ForwardServiceServer::new(forwarding).max_decoding_message_size(REQUEST_BYTES_MAX)
}

pub(super) struct Forwarding {
    pub(super) cluster: Arc<Cluster>,
    pub(super) conversations: Conversations,
    /// What runs on the connection.
    pub(super) work: Work,
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
            bytes: 0,
            answers,
        };
        self.work.spawn(line.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(sending)))
    }
}

/// An answer, and the bytes of what it answers.
type Done = (usize, ForwardResponse);

struct Line {
    cluster: Arc<Cluster>,
    conversations: Conversations,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Of all that is under way.
    bytes: usize,
    answers: mpsc::Sender<Result<ForwardResponse, Status>>,
}

impl Line {
    async fn run(mut self, mut requests: Streaming<ForwardRequest>) {
        let mut open = true;
        while open || !self.under_way.is_empty() {
            tokio::select! { biased;
                Some((bytes, answer)) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.bytes -= bytes;
                    if self.answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                request = requests.message(), if open && self.has_room() => match request {
                    Ok(Some(request)) => self.begin(request),
                    Ok(None) | Err(_) => open = false,
                },
            }
        }
    }

    /// Without room the line is not read: the other node waits, then does its appends itself.
    fn has_room(&self) -> bool {
        self.under_way.len() < AT_ONCE_MAX && self.bytes < LINE_BYTES_MAX
    }

    /// Begun at once, so that it has its place before the next one is read.
    fn begin(&mut self, request: ForwardRequest) {
        meters().forwards_taken.inc();
        if request.view != self.cluster.fingerprint() {
            meters().views_differ.inc();
        }
        let (request_id, bytes) = (request.request_id, weight(&request));
        self.bytes += bytes;
        let asked = forward::parse(request);
        let conversations = self.conversations.clone();
        let mut doing: BoxFuture<'static, Done> = Box::pin(async move {
            let answer = match asked {
                Ok(Asked::Append(append)) => forward::response(request_id, &conversations.append_here(*append).await),
                Ok(Asked::TakeOver(id, from)) => forward::taken(request_id, &conversations.take_over(id, from).await),
                Err(refusal) => forward::response(request_id, &Err(refusal)),
            };
            (bytes, answer)
        });
        let mut at_once = Context::from_waker(std::task::Waker::noop());
        match doing.as_mut().poll(&mut at_once) {
            Poll::Ready(answer) => self.under_way.push(Box::pin(std::future::ready(answer))),
            Poll::Pending => self.under_way.push(doing),
        }
    }
}
