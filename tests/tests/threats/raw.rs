//! Calls with bytes in and bytes out, and requests below gRPC.

use bytes::Bytes;
use stonechat_host::{Connector, TcpConnector};
use stonechat_proto::v1;
use stonechat_tests::harness::{Bench, Raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Status;

/// A connection of its own.
pub(crate) fn client(bench: &Bench) -> tonic::client::Grpc<tonic::transport::Channel> {
    tonic::client::Grpc::new(bench.server.channel())
}

/// Calls a unary rpc.
pub(crate) async fn unary(bench: &Bench, path: &str, token: &str, message: Vec<u8>) -> Result<Bytes, Status> {
    let mut client = client(bench);
    unary_on(&mut client, path, token, message).await
}

/// The same on a connection that is there.
pub(crate) async fn unary_on(
    client: &mut tonic::client::Grpc<tonic::transport::Channel>,
    path: &str,
    token: &str,
    message: Vec<u8>,
) -> Result<Bytes, Status> {
    let mut request = tonic::Request::new(Bytes::from(message));
    let bearer = format!("Bearer {token}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    let device = "laptop".parse().expect("ASCII");
    request.metadata_mut().insert("stonechat-device-id", device);
    let path = path.parse().expect("a path");
    client.ready().await.expect("a connection");
    client.unary(request, path, Raw).await.map(tonic::Response::into_inner)
}

/// Sends encoded frames on a stream of their own; gives the last frame that comes, and how the stream ended.
pub(crate) async fn exchange(bench: &Bench, frames: Vec<Vec<u8>>) -> (Option<v1::ServerFrame>, Result<(), Status>) {
    let mut client = client(bench);
    client.ready().await.expect("a connection");
    let path = "/stonechat.v1.SessionService/Exchange".parse().expect("a path");
    // The stream stays open: what ends it is the server.
    let frames = tokio_stream::iter(frames.into_iter().map(Bytes::from));
    let frames = tokio_stream::StreamExt::chain(frames, tokio_stream::pending());
    let answer = client.streaming(tonic::Request::new(frames), path, Raw).await;
    let mut answers = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return (None, Err(status)),
    };
    let mut last = None;
    loop {
        match answers.message().await {
            Ok(Some(bytes)) => {
                let answer = <v1::ExchangeResponse as prost::Message>::decode(bytes).expect("an answer");
                last = answer.frame;
            }
            Ok(None) => return (last, Ok(())),
            Err(status) => return (last, Err(status)),
        }
    }
}

/// Writes to a connection and reads until the server closes it.
pub(crate) async fn http(bench: &Bench, request: &[u8]) -> String {
    let mut stream = TcpConnector
        .connect(&bench.server.authority())
        .await
        .expect("a connection");
    stream.write_all(request).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A gRPC-Web call over HTTP/1.1 with any header lines and any body.
pub(crate) async fn post(bench: &Bench, path: &str, headers: &str, body: &[u8]) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/grpc-web+proto\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    );
    http(bench, &[head.as_bytes(), body].concat()).await
}
