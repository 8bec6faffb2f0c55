//! What the bare server is served with: a bidirectional rpc whose answers are bytes already, for which the generated code has
//! no room.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use futures_util::future::BoxFuture;
use prost::Message;
use stonechat_proto::v1::ExchangeRequest;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use crate::Outcome;
use crate::bare::Bare;

#[derive(Default)]
struct Prepared;

impl Codec for Prepared {
    type Encode = Bytes;
    type Decode = ExchangeRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Prepared {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, frame: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(frame);
        Ok(())
    }
}

impl Decoder for Prepared {
    type Item = ExchangeRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<ExchangeRequest>, Status> {
        let frame = ExchangeRequest::decode(buffer);
        frame
            .map(Some)
            .map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

struct Open(Bare);

impl StreamingService<ExchangeRequest> for Open {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<ExchangeRequest>>) -> Self::Future {
        let bare = self.0.clone();
        Box::pin(async { Ok(bare.open(request)) })
    }
}

/// The bare server's only service, under the name of the real one.
#[derive(Clone)]
struct BareService(Bare);

impl NamedService for BareService {
    const NAME: &'static str = "stonechat.v1.SessionService";
}

impl tonic::codegen::Service<http::Request<Body>> for BareService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let open = Open(self.0.clone());
        Box::pin(async { Ok(Grpc::new(Prepared).streaming(open, request).await) })
    }
}

/// Serves as the bare server until the process is killed.
pub(crate) async fn serve(address: SocketAddr) -> Outcome<()> {
    let mut server = tonic::transport::Server::builder().tcp_nodelay(true);
    let service = BareService(Bare::default());
    Ok(server.add_service(service).serve(address).await?)
}
