//! Channels over the host's sockets, and opening a session.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use hyper_util::rt::TokioIo;
use stonechat_host::Connector;
use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::session_service_client::SessionServiceClient;
use stonechat_proto::v1::{
    ClientFrame, CloseReason, ExchangeRequest, ExchangeResponse, Hello, Refusal, RefusalReason, StreamClosed, Welcome,
    server_frame,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::config::{AccessToken, TokenProvider};
use crate::error::{ClientError, RequestError};
use crate::event::DisconnectReason;
use crate::tls::Tls;

/// A peer that does not answer a connection attempt or a hello for so long is not there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 pings: twice within the server's silence limit, and the connection of a vanished peer is closed before it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames handed to the transport and not yet on the wire: the rest stays where it can still be re-ordered.
const FRAMES_QUEUED_MAX: usize = 16;
/// Request id of the hello.
pub(crate) const HELLO_REQUEST: u64 = 1;
/// Largest answer decoded: a history page of 512 KiB, with room for a welcome of 500 long rows.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Checks an endpoint of the form `https://host:port`, `http://host:port`, or `host:port`, which is not encrypted.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, ClientError> {
    endpoint_under("http", text)
}

/// Where a server says to go; a bare `host:port` is reached as the server was. `None` when it is no endpoint, or would
/// give up encryption: whoever speaks for a server must not send its clients into the open.
pub(crate) fn moved(from: &Endpoint, text: &str) -> Option<Endpoint> {
    let scheme = from.uri().scheme_str()?;
    let to = endpoint_under(scheme, text).ok()?;
    (scheme != "https" || to.uri().scheme_str() == Some("https")).then_some(to)
}

fn endpoint_under(scheme: &str, text: &str) -> Result<Endpoint, ClientError> {
    let malformed = || ClientError::Endpoint(text.to_owned());
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("{scheme}://{text}")
    };
    let uri: Uri = full.parse().map_err(|_| malformed())?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    if uri.port_u16().is_none() || uri.host().is_none_or(str::is_empty) || !is_known {
        return Err(malformed());
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(OPEN_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Connects; the channel lives on one socket and connects again when it breaks.
pub(crate) async fn channel(
    endpoint: &Endpoint,
    connector: Arc<dyn Connector>,
    tls: Tls,
) -> Result<Channel, RequestError> {
    let dial = move |uri: Uri| {
        let (connector, tls) = (Arc::clone(&connector), tls.clone());
        async move {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let io = connector.connect(authority).await?;
            let io = if uri.scheme_str() == Some("https") {
                tls.encrypt(io, &uri).await?
            } else {
                io
            };
            Ok::<_, std::io::Error>(TokioIo::new(io))
        }
    };
    endpoint
        .connect_with_connector(tower::service_fn(dial))
        .await
        .map_err(|error| RequestError::NotSent(format!("cannot connect to {}: {}", endpoint.uri(), innermost(&error))))
}

/// The cause of causes: tonic's own text says only "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn cause_of(error: &RequestError) -> String {
    match error {
        RequestError::NotSent(text) | RequestError::Unknown(text) => text.clone(),
        RequestError::Refused(refusal) => refusal.message.clone(),
    }
}

/// What a session is opened with.
pub(crate) struct Dial {
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) tls: Tls,
    pub(crate) tokens: Arc<dyn TokenProvider>,
    /// A token that was refused: another one is needed.
    pub(crate) refused_token: Option<String>,
    pub(crate) hello: Hello,
}

/// An open session.
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    pub(crate) frames: mpsc::Sender<ExchangeRequest>,
    pub(crate) inbound: Streaming<ExchangeResponse>,
    pub(crate) welcome: Welcome,
    pub(crate) token: AccessToken,
}

/// Why there is no session (any more), and how to go on.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: DisconnectReason,
    /// Not before this time.
    pub(crate) after: Duration,
    /// Do not try again by oneself.
    pub(crate) stop: bool,
    /// This token is no good any more.
    pub(crate) refused_token: Option<String>,
    /// Where to connect from now on.
    pub(crate) endpoint: Option<String>,
}

impl Failure {
    pub(crate) fn retry(reason: DisconnectReason) -> Self {
        Self {
            reason,
            after: Duration::ZERO,
            stop: false,
            refused_token: None,
            endpoint: None,
        }
    }

    fn stop(reason: DisconnectReason) -> Self {
        Self {
            stop: true,
            ..Self::retry(reason)
        }
    }

    /// The server ended the stream.
    pub(crate) fn closed(closed: StreamClosed, token: &AccessToken) -> Self {
        let expired = closed.reason() == CloseReason::Expired;
        Self {
            after: Duration::from_millis(closed.retry_after_ms),
            // An expired token is replaced here, without the user; the other cases are the server's to decide.
            stop: !expired && !closed.reconnect,
            refused_token: expired.then(|| token.text.clone()),
            endpoint: (!closed.endpoint.is_empty()).then(|| closed.endpoint.clone()),
            reason: DisconnectReason::Closed(closed),
        }
    }

    fn refused(refusal: Refusal, token: &AccessToken) -> Self {
        let after = Duration::from_millis(refusal.retry_after_ms);
        let reason = refusal.reason();
        let failure = Self::retry(DisconnectReason::Refused(Box::new(refusal)));
        match reason {
            RefusalReason::Unauthenticated => Self {
                refused_token: Some(token.text.clone()),
                ..failure
            },
            RefusalReason::Invalid | RefusalReason::Protocol | RefusalReason::Forbidden | RefusalReason::NotFound => {
                Self { stop: true, ..failure }
            }
            _ => Self { after, ..failure },
        }
    }

    /// The stream ended with a status instead of a frame.
    pub(crate) fn status(status: tonic::Status, token: &AccessToken) -> Self {
        if let Some(refusal) = stonechat_proto::refusal_of_status(&status) {
            return Self::refused(refusal, token);
        }
        let text = match status.source() {
            // Made on this side, of what the transport says.
            Some(cause) => format!("the connection broke: {}", innermost(cause)),
            None => format!("{}: {}", status.code(), status.message()),
        };
        let failure = Self::retry(DisconnectReason::Network(text));
        if status.code() == tonic::Code::Unauthenticated {
            return Self {
                refused_token: Some(token.text.clone()),
                ..failure
            };
        }
        Self {
            stop: status.code() == tonic::Code::Unimplemented,
            ..failure
        }
    }
}

/// Connects, says hello and waits for the welcome.
pub(crate) async fn open(dial: Dial) -> Result<Connection, Failure> {
    match tokio::time::timeout(2 * OPEN_TIMEOUT, open_patiently(dial)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::retry(DisconnectReason::Silent)),
    }
}

async fn open_patiently(dial: Dial) -> Result<Connection, Failure> {
    let token = token(&dial).await?;
    let channel = channel(&dial.endpoint, dial.connector, dial.tls)
        .await
        .map_err(|error| Failure::retry(DisconnectReason::Network(cause_of(&error))))?;
    let hello = Hello {
        token: token.text.clone(),
        ..dial.hello
    };
    let (frames, queued) = mpsc::channel(FRAMES_QUEUED_MAX);
    let first = ExchangeRequest {
        frame: Some(ClientFrame {
            request_id: HELLO_REQUEST,
            body: Some(Body::Hello(hello)),
        }),
    };
    // The channel was just made and has room.
    let _ = frames.try_send(first);
    let mut service = SessionServiceClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut inbound = service
        .exchange(ReceiverStream::new(queued))
        .await
        .map_err(|status| Failure::status(status, &token))?
        .into_inner();
    let welcome = welcome(&mut inbound, &token).await?;
    Ok(Connection {
        channel,
        frames,
        inbound,
        welcome,
        token,
    })
}

async fn token(dial: &Dial) -> Result<AccessToken, Failure> {
    let renew = dial.refused_token.is_some();
    let token = dial.tokens.token(renew).await.map_err(|error| {
        let reason = DisconnectReason::BadToken(error.to_string());
        if error.permanent {
            Failure::stop(reason)
        } else {
            Failure {
                refused_token: dial.refused_token.clone(),
                ..Failure::retry(reason)
            }
        }
    })?;
    if dial.refused_token.as_ref() == Some(&token.text) {
        let text = "the server refused the token and there is no other".to_owned();
        return Err(Failure::stop(DisconnectReason::BadToken(text)));
    }
    Ok(token)
}

async fn welcome(inbound: &mut Streaming<ExchangeResponse>, token: &AccessToken) -> Result<Welcome, Failure> {
    let message = inbound
        .message()
        .await
        .map_err(|status| Failure::status(status, token))?;
    match message.and_then(|message| message.frame).and_then(|frame| frame.body) {
        Some(server_frame::Body::Welcome(welcome)) => Ok(welcome),
        Some(server_frame::Body::Refusal(refusal)) => Err(Failure::refused(refusal, token)),
        Some(server_frame::Body::Closed(closed)) => Err(Failure::closed(closed, token)),
        Some(_) => Err(Failure::retry(DisconnectReason::Protocol(
            "the first frame was not a welcome".to_owned(),
        ))),
        None => Err(Failure::retry(DisconnectReason::Network(
            "the stream ended before the welcome".to_owned(),
        ))),
    }
}

/// Bytes of a cursor or resume token as the contract wants them.
pub(crate) fn wire_bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(from: &str, text: &str) -> Option<String> {
        let from = endpoint(from).expect("an endpoint");
        moved(&from, text).map(|to| to.uri().to_string())
    }

    #[test]
    fn endpoints_say_where_and_how() {
        for good in ["http://chat.example.org:80", "https://[::1]:443", "127.0.0.1:7400"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "https://chat.example.org",
            "ftp://chat.example.org:21",
            "https://:443",
            "",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    /// A server may send its clients elsewhere, but not out of encryption.
    #[test]
    fn no_server_moves_its_clients_into_the_open() {
        let home = "https://a.example.org:443";
        assert_eq!(
            to(home, "b.example.org:443").as_deref(),
            Some("https://b.example.org:443/")
        );
        assert_eq!(
            to(home, "https://b.example.org:443").as_deref(),
            Some("https://b.example.org:443/")
        );
        assert_eq!(to(home, "http://b.example.org:80"), None);
        assert_eq!(to("http://a:1", "b:2").as_deref(), Some("http://b:2/"));
        assert_eq!(to("http://a:1", "https://b:2").as_deref(), Some("https://b:2/"));
    }
}
