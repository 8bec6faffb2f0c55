//! Whole nodes over in-memory connections, so that paused time moves by itself, and clients by the generated stubs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use stonechat_host::{BoxedIo, Connector, Host, Listener, PipeListener, TcpConnector};
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;
use stonechat_proto::v1::session_service_client::SessionServiceClient;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use crate::auth::{AuthOptions, Authenticator, Secret};
use crate::bus::Bus;
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::conversation::Backends;
use crate::domain::{DeviceId, UserId};
use crate::node::{Grounds, Listeners, Node, NodeHandle};
use crate::storage::memory::MemoryStore;
use crate::storage::memory::directory::MemoryDirectory;
use crate::tests::comes_true;

/// Bytes one side of a connection may be ahead.
const PIPE_BYTES: usize = 64 * 1024;

/// Backends that nodes of a test share.
pub(super) fn grounds(bus: Arc<dyn Bus>) -> Grounds {
    grounds_on(bus, &Host::system())
}

/// The same by another clock.
fn grounds_on(bus: Arc<dyn Bus>, host: &Host) -> Grounds {
    let store = Arc::new(MemoryStore::new(host));
    let backends = Backends {
        log: Arc::clone(&store) as _,
        markers: store,
        directory: Arc::new(MemoryDirectory::default()),
        bus,
    };
    let options = AuthOptions {
        issuer: "test".into(),
        audience: "test".into(),
        require_known_users: false,
    };
    let directory = Arc::clone(&backends.directory);
    let authenticator = Authenticator::with_secret(Secret::from_bytes([7; 32]), options, directory, host.clone());
    Grounds {
        backends,
        authenticator: Arc::new(authenticator),
    }
}

/// A node and how to reach it.
pub(super) struct TestNode {
    pub(super) handle: NodeHandle,
    pub(super) grounds: Grounds,
    way: Way,
}

/// How clients reach a node.
enum Way {
    Pipes(mpsc::Sender<DuplexStream>),
    Tcp(TcpConnector),
}

pub(super) async fn node() -> TestNode {
    node_on(grounds(Arc::new(EmbeddedBus::new()))).await
}

pub(super) async fn node_on(grounds: Grounds) -> TestNode {
    node_with(grounds, Config::default()).await
}

fn pipes() -> (mpsc::Sender<DuplexStream>, Arc<dyn Listener>) {
    let (pipes, accepted) = mpsc::channel(8);
    (pipes, Arc::new(PipeListener::new(accepted)))
}

pub(super) async fn node_with(grounds: Grounds, config: Config) -> TestNode {
    let (pipes, public) = pipes();
    start(Host::system(), grounds, config, pipes, public.into()).await
}

/// A node by another clock.
pub(super) async fn node_by(host: Host) -> TestNode {
    let (pipes, public) = pipes();
    let grounds = grounds_on(Arc::new(EmbeddedBus::new()), &host);
    start(host, grounds, Config::default(), pipes, public.into()).await
}

/// A node with an operator's port, and the way to that.
pub(super) async fn node_with_operator(config: Config) -> (TestNode, mpsc::Sender<DuplexStream>) {
    let ((pipes_in, public), (operators, operator)) = (pipes(), pipes());
    let operator = Some(operator);
    let grounds = grounds(Arc::new(EmbeddedBus::new()));
    let listeners = Listeners {
        operator,
        ..public.into()
    };
    let node = start(Host::system(), grounds, config, pipes_in, listeners).await;
    (node, operators)
}

/// A node that others reach over a port of the machine.
pub(super) async fn node_among(grounds: Grounds, config: Config) -> TestNode {
    let (pipes, public) = pipes();
    let nodes = stonechat_host::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let listeners = Listeners {
        nodes: Some(Arc::new(nodes)),
        ..public.into()
    };
    start(Host::system(), grounds, config, pipes, listeners).await
}

async fn start(
    host: Host,
    grounds: Grounds,
    config: Config,
    pipes: mpsc::Sender<DuplexStream>,
    listeners: Listeners,
) -> TestNode {
    let handle = Node::start(&config, host, grounds.clone(), listeners).await;
    TestNode {
        handle: handle.expect("a node"),
        grounds,
        way: Way::Pipes(pipes),
    }
}

/// A channel over this connection alone.
pub(super) async fn channel_over(pipe: BoxedIo) -> Channel {
    let mut pipe = Some(pipe);
    let connector = tower::service_fn(move |_| {
        let pipe = pipe.take();
        async move {
            pipe.map(TokioIo::new)
                .ok_or_else(|| io::Error::other("the connection is used up"))
        }
    });
    let endpoint = Endpoint::from_static("http://node");
    endpoint.connect_with_connector(connector).await.expect("a channel")
}

impl TestNode {
    /// A node that listens on a port of the machine.
    pub(super) fn over_tcp(handle: NodeHandle, grounds: Grounds, connector: TcpConnector) -> Self {
        let way = Way::Tcp(connector);
        Self { handle, grounds, way }
    }

    /// A raw connection.
    pub(super) async fn pipe(&self) -> BoxedIo {
        match &self.way {
            Way::Pipes(pipes) => {
                let (client, server) = tokio::io::duplex(PIPE_BYTES);
                pipes.send(server).await.expect("the node listens");
                Box::new(client)
            }
            Way::Tcp(connector) => {
                let address = self.handle.local_addr().to_string();
                connector.connect(&address).await.expect("the node listens")
            }
        }
    }

    /// A channel over a connection of its own.
    pub(super) async fn channel(&self) -> Channel {
        channel_over(self.pipe().await).await
    }

    pub(super) fn token(&self, user: &str, ttl: Duration) -> String {
        let user = UserId::parse(user).expect("a user");
        let issued = self.grounds.authenticator.issue(&user, None, &Default::default(), ttl);
        issued.expect("a token").token.expose().clone()
    }

    pub(super) fn device_token(&self, user: &str, device: &str) -> String {
        let user = UserId::parse(user).expect("a user");
        let device = DeviceId::parse(device).expect("a device");
        let hour = Duration::from_secs(3_600);
        let issued = self
            .grounds
            .authenticator
            .issue(&user, Some(&device), &Default::default(), hour);
        issued.expect("a token").token.expose().clone()
    }

    pub(super) fn hello(&self, user: &str, device: &str) -> v1::Hello {
        v1::Hello {
            token: self.token(user, Duration::from_secs(24 * 3_600)),
            device_id: device.into(),
            protocol_min: 1,
            protocol_max: 1,
            ..Default::default()
        }
    }

    /// A request with the user's token and device in its metadata.
    pub(super) fn request<T>(&self, user: &str, device: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.token(user, Duration::from_secs(3_600)));
        request
            .metadata_mut()
            .insert("authorization", bearer.parse().expect("metadata"));
        request
            .metadata_mut()
            .insert("stonechat-device-id", device.parse().expect("metadata"));
        request
    }

    /// The 1:1 of two users, who exist from now on.
    pub(super) async fn direct(&self, one: &str, other: &str) -> String {
        for user in [one, other] {
            let id = UserId::parse(user).expect("a user");
            let created = self
                .grounds
                .backends
                .directory
                .ensure_user(&id, Default::default())
                .await;
            created.expect("a user");
        }
        let create = v1::CreateConversationRequest {
            client_msg_id: format!("create-{one}-{other}"),
            kind: v1::ConversationKind::Direct.into(),
            members: vec![v1::Member {
                user_id: other.into(),
                role: 0,
            }],
            ..Default::default()
        };
        let channel = self.channel().await;
        let mut client = v1::conversation_service_client::ConversationServiceClient::new(channel);
        let answer = client.create_conversation(self.request(one, "setup", create)).await;
        match answer.expect("an answer").into_inner().outcome {
            Some(v1::create_conversation_response::Outcome::Conversation(made)) => made.conversation_id,
            other => panic!("not created: {other:?}"),
        }
    }

    pub(super) async fn stream(&self) -> Peer {
        let (frames, outgoing) = mpsc::channel(1_024);
        let mut client = SessionServiceClient::new(self.channel().await);
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let incoming = client.exchange(outgoing).await.expect("a stream").into_inner();
        Peer {
            frames: Some(frames),
            incoming,
            next_id: 1,
        }
    }

    /// An open session.
    pub(super) async fn open(&self, hello: v1::Hello) -> (Peer, v1::Welcome) {
        let mut peer = self.stream().await;
        let id = peer.ask(Ask::Hello(hello)).await;
        match peer.next().await {
            (answered, Reply::Welcome(welcome)) if answered == id => (peer, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// An open session that has everything there was.
    pub(super) async fn live_with_backlog(&self, user: &str, device: &str) -> Peer {
        let (mut peer, _) = self.open(self.hello(user, device)).await;
        loop {
            match peer.next().await.1 {
                Reply::Delivery(delivery) => {
                    let entry = delivery.entry.expect("an entry");
                    peer.ack(&entry.conversation_id, entry.seq).await;
                }
                Reply::CaughtUp(_) => return peer,
                _ => {}
            }
        }
    }

    /// An open session whose backlog, at most a window, was sent.
    pub(super) async fn live(&self, user: &str, device: &str) -> Peer {
        let (mut peer, _) = self.open(self.hello(user, device)).await;
        peer.until(|body| matches!(body, Reply::CaughtUp(_))).await;
        peer
    }
}

/// Far more than anything here takes on a busy machine: a frame that is later is lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until it holds.
pub(super) async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    comes_true(what, PATIENCE, holds).await;
}

/// A client's side of a stream.
pub(super) struct Peer {
    pub(super) frames: Option<mpsc::Sender<v1::ExchangeRequest>>,
    pub(super) incoming: Streaming<v1::ExchangeResponse>,
    next_id: u64,
}

impl Peer {
    pub(super) async fn send_raw(&self, frame: v1::ClientFrame) {
        let request = v1::ExchangeRequest { frame: Some(frame) };
        let frames = self.frames.as_ref().expect("not closed");
        frames.send(request).await.expect("the stream lives");
    }

    /// Sends a request and returns its id.
    pub(super) async fn ask(&mut self, body: Ask) -> u64 {
        let request_id = self.next_id;
        self.next_id += 1;
        let body = Some(body);
        self.send_raw(v1::ClientFrame { request_id, body }).await;
        request_id
    }

    /// Sends a frame that wants no answer.
    pub(super) async fn tell(&self, body: Ask) {
        let body = Some(body);
        self.send_raw(v1::ClientFrame { request_id: 0, body }).await;
    }

    /// The next frame; panics at the end.
    pub(super) async fn next(&mut self) -> (u64, Reply) {
        self.try_next().await.expect("the stream ended")
    }

    pub(super) async fn try_next(&mut self) -> Option<(u64, Reply)> {
        let message = tokio::time::timeout(PATIENCE, self.incoming.message()).await;
        let response = message.expect("a frame that did not come").expect("no status")?;
        let frame = response.frame.expect("a frame");
        Some((frame.request_id, frame.body.expect("a body")))
    }

    /// The first frame that is wanted; the others are passed over.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Reply) -> bool) -> Reply {
        loop {
            let (_, body) = self.next().await;
            if wanted(&body) {
                return body;
            }
            assert!(!matches!(body, Reply::Closed(_)), "the stream ended: {body:?}");
        }
    }

    /// The answer to a request; other frames are passed over.
    pub(super) async fn answer(&mut self, id: u64) -> Reply {
        loop {
            let (answered, body) = self.next().await;
            if answered == id {
                return body;
            }
            assert!(!matches!(body, Reply::Closed(_)), "the stream ended: {body:?}");
        }
    }

    /// The next delivery, and whether it is backlog.
    pub(super) async fn delivery(&mut self) -> (v1::Entry, bool) {
        match self.until(|body| matches!(body, Reply::Delivery(_))).await {
            Reply::Delivery(delivery) => (delivery.entry.expect("an entry"), delivery.backlog),
            _ => unreachable!("only deliveries are wanted"),
        }
    }

    /// The reason the stream ends with, which is its last frame.
    pub(super) async fn closed(&mut self) -> v1::StreamClosed {
        let closed = match self.until(|body| matches!(body, Reply::Closed(_))).await {
            Reply::Closed(closed) => closed,
            _ => unreachable!("only the end is wanted"),
        };
        assert!(self.try_next().await.is_none(), "something came after the last frame");
        closed
    }

    /// Sends a text and waits for its seq.
    pub(super) async fn say(&mut self, conversation: &str, id: &str) -> u64 {
        let request = self.ask(send(conversation, id, id)).await;
        appended(self.answer(request).await)
    }

    pub(super) async fn ack(&self, conversation: &str, seq: u64) {
        self.tell(ack(conversation, seq)).await;
    }
}

pub(super) fn ack(conversation: &str, seq: u64) -> Ask {
    Ask::Ack(v1::Ack {
        conversation_id: conversation.into(),
        seq,
    })
}

pub(super) fn send(conversation: &str, id: &str, text: &str) -> Ask {
    Ask::Send(v1::SendRequest {
        header: Some(v1::AppendHeader {
            conversation_id: conversation.into(),
            client_msg_id: id.into(),
            ..Default::default()
        }),
        content: Some(v1::MessageContent {
            content: Some(v1::message_content::Content::Text(text.into())),
            ..Default::default()
        }),
    })
}

/// The seq of a send's answer.
pub(super) fn appended(reply: Reply) -> u64 {
    match reply {
        Reply::Send(v1::SendResponse {
            outcome: Some(v1::send_response::Outcome::Appended(appended)),
        }) => appended.seq,
        other => panic!("not appended: {other:?}"),
    }
}

/// The refusal of a frame.
pub(super) fn refusal(reply: Reply) -> v1::Refusal {
    match reply {
        Reply::Refusal(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}
