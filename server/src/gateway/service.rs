//! The session rpcs in tonic's shape, by hand: the generated server would decode and encode every entry once more for
//! each stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stonechat_proto::v1;
use stonechat_proto::v1::session_service_server::SERVICE_NAME;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Status, Streaming};
use tower::Service;

use super::codec::{FrameCodec, MessageCodec};
use super::edge::Line;
use super::frames::Frame;
use super::limits::WRAPPER_BYTES;
use super::session::{self, OutgoingStream};
use super::{Gateway, web};
use crate::api::CallContext;
use crate::domain::limits::FRAME_BYTES_MAX;

/// `stonechat.v1.SessionService`.
#[derive(Clone)]
pub struct SessionService {
    gateway: Arc<Gateway>,
}

impl SessionService {
    /// Sessions of this gateway.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }
}

impl NamedService for SessionService {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<Request<Body>> for SessionService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gateway = Arc::clone(&self.gateway);
        match request.uri().path().rsplit('/').next() {
            Some("Exchange") => Box::pin(async move {
                let mut grpc = Grpc::new(FrameCodec::default())
                    .apply_max_message_size_config(Some(FRAME_BYTES_MAX + WRAPPER_BYTES), None);
                Ok(grpc.streaming(Exchange(gateway), request).await)
            }),
            Some("Listen") => Box::pin(async move {
                let mut grpc = Grpc::new(FrameCodec::default())
                    .apply_max_message_size_config(Some(FRAME_BYTES_MAX + WRAPPER_BYTES), None);
                Ok(grpc.server_streaming(Listen(gateway), request).await)
            }),
            Some("Submit") => Box::pin(async move {
                let mut grpc = Grpc::new(MessageCodec::default())
                    .apply_max_message_size_config(Some(FRAME_BYTES_MAX + WRAPPER_BYTES), None);
                Ok(grpc.unary(Submit(gateway), request).await)
            }),
            _ => Box::pin(async { Ok(Status::unimplemented("no such rpc").into_http()) }),
        }
    }
}

struct Exchange(Arc<Gateway>);

impl StreamingService<v1::ExchangeRequest> for Exchange {
    type Response = Frame;
    type ResponseStream = OutgoingStream;
    type Future = BoxFuture<'static, Result<tonic::Response<OutgoingStream>, Status>>;

    fn call(&mut self, mut request: tonic::Request<Streaming<v1::ExchangeRequest>>) -> Self::Future {
        let context = request.extensions_mut().remove::<CallContext>();
        let line = Line::of(request.extensions());
        let stream = session::exchange(&self.0, context, line, request.into_inner());
        Box::pin(async { Ok(tonic::Response::new(stream)) })
    }
}

struct Listen(Arc<Gateway>);

impl ServerStreamingService<v1::ListenRequest> for Listen {
    type Response = Frame;
    type ResponseStream = OutgoingStream;
    type Future = BoxFuture<'static, Result<tonic::Response<OutgoingStream>, Status>>;

    fn call(&mut self, mut request: tonic::Request<v1::ListenRequest>) -> Self::Future {
        let context = request.extensions_mut().remove::<CallContext>();
        let line = Line::of(request.extensions());
        let hello = request.into_inner().hello.unwrap_or_default();
        let stream = session::listen(&self.0, context, line, hello);
        Box::pin(async { Ok(tonic::Response::new(stream)) })
    }
}

struct Submit(Arc<Gateway>);

impl UnaryService<v1::SubmitRequest> for Submit {
    type Response = v1::SubmitResponse;
    type Future = BoxFuture<'static, Result<tonic::Response<v1::SubmitResponse>, Status>>;

    fn call(&mut self, mut request: tonic::Request<v1::SubmitRequest>) -> Self::Future {
        let gateway = Arc::clone(&self.0);
        Box::pin(async move {
            let context = request.extensions_mut().remove::<CallContext>();
            let answer = web::submit(&gateway, context, request.into_inner()).await;
            answer
                .map(tonic::Response::new)
                .map_err(|refusal| crate::api::status_of(&refusal))
        })
    }
}
