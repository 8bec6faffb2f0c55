//! The measure of all ratios: a bare tonic server that moves the bytes of a chat and keeps, knows and checks nothing. A
//! hello registers a stream under its device id; a send is answered, and goes as a delivery to the stream it names as
//! conversation, or to every stream for `*`; an ack goes back to the stream it names. It is served by way of `codec`, where the
//! generated service would stand: that encodes a delivery once for each stream, and every ratio to it would be too good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Said;
use stonechat_proto::v1::{self, ExchangeRequest, ExchangeResponse, send_response::Outcome as Sent};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Frames that may wait for one stream.
const QUEUE_FRAMES: usize = 512;

type Sender = mpsc::Sender<Result<Bytes, Status>>;
type Frames = ReceiverStream<Result<Bytes, Status>>;

#[derive(Clone, Default)]
pub(crate) struct Bare(Arc<Mutex<BTreeMap<String, Sender>>>);

fn said(request_id: u64, body: Said) -> Bytes {
    let body = Some(body);
    let frame = Some(v1::ServerFrame { request_id, body });
    ExchangeResponse { frame }.encode_to_vec().into()
}

/// The delivery of a message, as a chat would send it: prepared once, whatever the number of streams.
fn delivery(send: &v1::SendRequest) -> Bytes {
    let header = send.header.clone().unwrap_or_default();
    let entry = Some(v1::Entry {
        conversation_id: header.conversation_id,
        client_msg_id: header.client_msg_id,
        body: send.content.clone().map(v1::entry::Body::Message),
        ..Default::default()
    });
    said(0, Said::Delivery(v1::Delivery { entry, backlog: false }))
}

impl Bare {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Sender>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self, name: &str) -> Vec<Sender> {
        let streams = self.lock();
        match name {
            "*" => streams.values().cloned().collect(),
            name => streams.get(name).cloned().into_iter().collect(),
        }
    }

    async fn push(&self, name: &str, frame: Bytes) {
        for stream in self.streams(name) {
            let _gone = stream.send(Ok(frame.clone())).await;
        }
    }

    async fn handle(&self, own: &Sender, frame: v1::ClientFrame) {
        match frame.body {
            Some(Asked::Hello(hello)) => {
                let welcome = said(frame.request_id, Said::Welcome(v1::Welcome::default()));
                self.lock().insert(hello.device_id, own.clone());
                let _gone = own.send(Ok(welcome)).await;
            }
            Some(Asked::Send(send)) => {
                let outcome = Some(Sent::Appended(v1::Appended::default()));
                let answer = said(frame.request_id, Said::Send(v1::SendResponse { outcome }));
                let _gone = own.send(Ok(answer)).await;
                let name = send.header.as_ref().map_or("", |header| &header.conversation_id);
                self.push(name, delivery(&send)).await;
            }
            Some(Asked::Ack(ack)) => {
                let receipts = said(0, Said::Receipts(v1::ReceiptsMoved::default()));
                self.push(&ack.conversation_id, receipts).await;
            }
            _ => {}
        }
    }

    pub(crate) fn open(self, request: Request<Streaming<ExchangeRequest>>) -> Response<Frames> {
        let (own, queue) = mpsc::channel(QUEUE_FRAMES);
        let mut frames = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(request)) = frames.next().await {
                self.handle(&own, request.frame.unwrap_or_default()).await;
            }
        });
        Response::new(ReceiverStream::new(queue))
    }
}
