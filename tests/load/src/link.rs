//! One client connection, light enough for ten thousand in a process: HTTP/2 by `h2`, gRPC framing by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Method, Request, header};
use prost::Message;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::Outcome;

/// Connections that one loopback source address takes before the next one is used: its ports are limited.
const PER_SOURCE: u32 = 10_000;
/// How long a browser gathers acks, as docs/protocol.md advises: each call costs it, and the server, more than what is in it.
const ACKS_GATHER_FOR: Duration = Duration::from_millis(500);
/// Deliveries without an ack that end its gathering, as advised there too: half of a window, so that the other half comes meanwhile.
const UNACKED_MAX: u64 = 128;
/// The same for everything else: what an app does in one turn of its event loop travels together.
const REQUESTS_GATHER_FOR: Duration = Duration::from_millis(1);
/// Frames of one call: half of what the server takes.
const GATHERED_MAX: usize = 32;
/// Bytes before each message: compressed or not, length.
const PREFIX: usize = 5;
/// The flag of a trailer frame in gRPC-Web.
const TRAILERS: u8 = 0x80;

static OPENED: AtomicU32 = AtomicU32::new(0);

/// How frames travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `Exchange`.
    Native,
    /// `Listen`, and `Submit` on the same connection.
    Web,
}

/// A connection.
pub(crate) struct Link {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
}

/// What came on a stream.
pub(crate) struct Inbound {
    body: RecvStream,
    bytes: BytesMut,
}

/// Where client frames go.
pub(crate) enum Outbound {
    /// The stream itself.
    Stream(SendStream<Bytes>),
    /// Calls, of frames that were gathered.
    Submit {
        link: Link,
        bearer: HeaderValue,
        session: String,
        frames: Vec<v1::ClientFrame>,
        /// Deliveries that acks among them are for.
        acked: u64,
        /// When they are to go.
        due: Option<Instant>,
    },
}

impl Link {
    /// Connects from the next source address.
    pub(crate) async fn open(address: SocketAddr) -> Outcome<Self> {
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let last = 1 + u8::try_from((number / PER_SOURCE) % 200)?;
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
        let tcp = socket.connect(address).await?;
        tcp.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(tcp).await?;
        tokio::spawn(async move {
            // It ends with the server or with us; the streams on it say so.
            let _ended = connection.await;
        });
        let requests = requests.ready().await?;
        Ok(Self { requests, address })
    }

    fn again(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            address: self.address,
        }
    }

    fn request(&self, rpc: &str, content: &'static str) -> Outcome<Request<()>> {
        let uri = format!("http://{}/stonechat.v1.SessionService/{rpc}", self.address);
        let request = Request::builder().method(Method::POST).uri(uri);
        let content = HeaderValue::from_static(content);
        Ok(request
            .header(header::CONTENT_TYPE, content)
            .header("te", "trailers")
            .body(())?)
    }

    /// Opens a session with this hello; welcome is the first frame to come.
    pub(crate) async fn session(&mut self, way: Way, hello: v1::Hello) -> Outcome<(Outbound, Inbound)> {
        match way {
            Way::Native => self.exchange(hello).await,
            Way::Web => self.listen(hello).await,
        }
    }

    async fn exchange(&mut self, hello: v1::Hello) -> Outcome<(Outbound, Inbound)> {
        let request = self.request("Exchange", "application/grpc")?;
        let (response, mut stream) = self.requests.send_request(request, false)?;
        let frame = v1::ClientFrame {
            request_id: 1,
            body: Some(Asked::Hello(hello)),
        };
        stream.send_data(framed(&v1::ExchangeRequest { frame: Some(frame) }), false)?;
        let inbound = Inbound::of(response.await?)?;
        Ok((Outbound::Stream(stream), inbound))
    }

    async fn listen(&mut self, hello: v1::Hello) -> Outcome<(Outbound, Inbound)> {
        let request = self.request("Listen", "application/grpc-web+proto")?;
        let (response, mut stream) = self.requests.send_request(request, false)?;
        let bearer = HeaderValue::try_from(format!("Bearer {}", hello.token))?;
        stream.send_data(framed(&v1::ListenRequest { hello: Some(hello) }), true)?;
        let inbound = Inbound::of(response.await?)?;
        let outbound = Outbound::Submit {
            link: self.again(),
            bearer,
            session: String::new(),
            frames: Vec::new(),
            acked: 0,
            due: None,
        };
        Ok((outbound, inbound))
    }

    async fn submit(
        &mut self,
        bearer: &HeaderValue,
        session: &str,
        frames: Vec<v1::ClientFrame>,
    ) -> Outcome<Vec<v1::ServerFrame>> {
        let mut request = self.request("Submit", "application/grpc-web+proto")?;
        request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
        let (response, mut stream) = self.requests.send_request(request, false)?;
        let submit = v1::SubmitRequest {
            session_id: session.to_owned(),
            frames,
        };
        stream.send_data(framed(&submit), true)?;
        let mut inbound = Inbound::of(response.await?)?;
        let answer = inbound.message().await?.ok_or("submit was not answered")?;
        Ok(v1::SubmitResponse::decode(answer)?.frames)
    }
}

impl Outbound {
    /// Sends a frame, or gathers it until [`due`](Self::due).
    pub(crate) fn send(&mut self, frame: v1::ClientFrame) -> Outcome<()> {
        match self {
            Self::Stream(stream) => stream.send_data(framed(&v1::ExchangeRequest { frame: Some(frame) }), false)?,
            Self::Submit { frames, .. } => {
                frames.push(frame);
                self.gather_for(REQUESTS_GATHER_FOR);
            }
        }
        Ok(())
    }

    /// Acknowledges so many deliveries of a conversation, up to a seq. Of acks that are gathered only the newest goes.
    pub(crate) fn acknowledge(&mut self, ack: v1::Ack, deliveries: u64) -> Outcome<()> {
        let frame = |ack| v1::ClientFrame {
            request_id: 0,
            body: Some(Asked::Ack(ack)),
        };
        let Self::Submit { frames, acked, .. } = self else {
            return self.send(frame(ack));
        };
        *acked += deliveries;
        let older = frames.iter_mut().find_map(|frame| match &mut frame.body {
            Some(Asked::Ack(older)) if older.conversation_id == ack.conversation_id => Some(older),
            _ => None,
        });
        match older {
            Some(older) => older.seq = older.seq.max(ack.seq),
            None => frames.push(frame(ack)),
        }
        self.gather_for(ACKS_GATHER_FOR);
        Ok(())
    }

    /// What was gathered is to go now when it is enough, else after this time.
    fn gather_for(&mut self, time: Duration) {
        if let Self::Submit { frames, acked, due, .. } = self {
            let enough = frames.len() >= GATHERED_MAX || *acked >= UNACKED_MAX;
            let latest = stonechat_host::monotonic() + if enough { Duration::ZERO } else { time };
            *due = Some(due.map_or(latest, |due| due.min(latest)));
        }
    }

    /// When gathered frames are to go; `None` while there are none.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self {
            Self::Stream(_) => None,
            Self::Submit { due, .. } => *due,
        }
    }

    /// Sends what was gathered; the answers to it.
    pub(crate) async fn flush(&mut self) -> Outcome<Vec<v1::ServerFrame>> {
        match self {
            Self::Submit {
                link,
                bearer,
                session,
                frames,
                acked,
                due,
            } => {
                (*acked, *due) = (0, None);
                link.submit(bearer, session, std::mem::take(frames)).await
            }
            Self::Stream(_) => Ok(Vec::new()),
        }
    }

    /// Says which session later frames belong to.
    pub(crate) fn welcomed(&mut self, welcome: &v1::Welcome) {
        if let Self::Submit { session, .. } = self {
            session.clone_from(&welcome.session_id);
        }
    }
}

impl Inbound {
    fn of(response: http::Response<RecvStream>) -> Outcome<Self> {
        if let Some(status) = response.headers().get("grpc-status") {
            let message = response.headers().get("grpc-message");
            return Err(format!("refused with status {status:?}: {message:?}").into());
        }
        Ok(Self {
            body: response.into_body(),
            bytes: BytesMut::new(),
        })
    }

    /// The next server frame; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Outcome<Option<v1::ServerFrame>> {
        let Some(message) = self.message().await? else {
            return Ok(None);
        };
        Ok(v1::ExchangeResponse::decode(message)?.frame)
    }

    async fn message(&mut self) -> Outcome<Option<Bytes>> {
        loop {
            if let Some(message) = self.take() {
                return Ok(message);
            }
            let Some(data) = self.body.data().await else {
                return Ok(None);
            };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            self.bytes.extend_from_slice(&data);
        }
    }

    /// A whole message that is here; `Some(None)` for the trailers of gRPC-Web.
    fn take(&mut self) -> Option<Option<Bytes>> {
        let mut prefix = self.bytes.get(..PREFIX)?;
        let flag = prefix.get_u8();
        let length = usize::try_from(prefix.get_u32()).ok()?;
        if self.bytes.len() < PREFIX + length {
            return None;
        }
        self.bytes.advance(PREFIX);
        let message = self.bytes.split_to(length).freeze();
        Some((flag & TRAILERS == 0).then_some(message))
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer has room for all of it: there is nothing else that can fail.
    let _encoded = message.encode(&mut bytes);
    bytes.freeze()
}
