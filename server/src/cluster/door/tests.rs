//! What the door for nodes holds against: silence, crowds, its own end, and what a node of the release before asks for.

use std::time::Duration;

use stonechat_host::{Host, PipeListener, TcpConnector};
use stonechat_proto::node::v1::ForwardRequest;
use stonechat_proto::node::v1::forward_request::Change;
use stonechat_proto::node::v1::forward_response::Outcome;
use stonechat_proto::node::v1::forward_service_client::ForwardServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::*;
use crate::bus::NodeRecord;
use crate::bus::embedded::EmbeddedBus;
use crate::conversation::{Backends, Limits};
use crate::domain::ConversationId;
use crate::storage::memory::MemoryStore;
use crate::storage::memory::directory::MemoryDirectory;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

struct Door {
    server: ForwardingServer,
    pipes: mpsc::Sender<DuplexStream>,
}

impl Door {
    fn open() -> Self {
        let host = Host::system();
        let store = Arc::new(MemoryStore::new(&host));
        let backends = Backends {
            log: Arc::clone(&store) as _,
            markers: store,
            directory: Arc::new(MemoryDirectory::default()),
            bus: Arc::new(EmbeddedBus::new()),
        };
        let me = NodeRecord {
            name: "me".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            core: true,
            hears_groups: true,
            hears_promoted: true,
            clock: None,
        };
        let cluster = Cluster::new(me, Arc::clone(&backends.bus), Arc::new(TcpConnector), Duration::ZERO);
        let conversations = Conversations::new(backends, host, Limits::default());
        let (pipes, accepted) = mpsc::channel(1);
        let server = serve(Arc::new(PipeListener::new(accepted)), cluster, conversations);
        Self { server, pipes }
    }

    /// A connection that has said this.
    async fn connect(&self, said: &[u8]) -> DuplexStream {
        let (mut here, there) = tokio::io::duplex(1024);
        here.write_all(said).await.expect("written");
        self.pipes.send(there).await.expect("a door");
        here
    }

    /// The answers to requests, in their order.
    async fn over_a_line(&self, requests: Vec<ForwardRequest>) -> Vec<Option<Outcome>> {
        let (here, there) = tokio::io::duplex(64 * 1024);
        self.pipes.send(there).await.expect("a door");
        let mut here = Some(hyper_util::rt::TokioIo::new(here));
        let connector = tower::service_fn(move |_| {
            let io = here.take().ok_or_else(|| std::io::Error::other("one connection"));
            async move { io }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://node");
        let channel = endpoint.connect_with_connector(connector).await.expect("a line");
        let count = requests.len();
        let mut client = ForwardServiceClient::new(channel);
        let answers = client.forward(tokio_stream::iter(requests)).await.expect("a line");
        let mut answers = answers.into_inner();
        let mut found = std::collections::BTreeMap::new();
        while let Ok(Some(answer)) = answers.message().await {
            found.insert(answer.request_id, answer.outcome);
        }
        assert_eq!(found.len(), count);
        found.into_values().collect()
    }
}

/// Reads until it is closed.
async fn closed(mut io: DuplexStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is a close, too.
    let _reset = io.read_to_end(&mut said).await;
    said
}

/// I9: a connection that begins no line is closed, whether it says nothing, a part of the greeting, or all of it.
#[tokio::test(start_paused = true)]
async fn i9_who_begins_no_line_is_cut_off() {
    let greeting = [PREFACE, &EMPTY_SETTINGS].concat();
    for said in [&b""[..], &PREFACE[..9], &greeting] {
        let door = Door::open();
        let io = door.connect(said).await;
        let started = stonechat_host::monotonic();
        closed(io).await;
        assert_eq!(started.elapsed(), BEGUN_WITHIN, "{:?}", said.escape_ascii().to_string());
    }
}

/// I9: there are so many connections at a time; one more is refused at once, and a place comes back.
#[tokio::test(start_paused = true)]
async fn i9_connections_are_bounded() {
    let door = Door::open();
    let started = stonechat_host::monotonic();
    let mut open = Vec::new();
    for _ in 0..NODE_CONNECTIONS_MAX {
        open.push(door.connect(b"").await);
    }
    assert!(closed(door.connect(PREFACE).await).await.is_empty());
    assert!(started.elapsed() < BEGUN_WITHIN);
    drop(open);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut next = door.connect(&[PREFACE, &EMPTY_SETTINGS].concat()).await;
    assert_eq!(next.read_u8().await.expect("the node's settings"), 0);
}

/// The limits are in the SETTINGS that go over the wire.
#[tokio::test(start_paused = true)]
async fn limits_are_announced() {
    let door = Door::open();
    let mut io = door.connect(&[PREFACE, &EMPTY_SETTINGS].concat()).await;
    let mut head = [0; 9];
    io.read_exact(&mut head).await.expect("the node's settings");
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(head[2])];
    io.read_exact(&mut settings).await.expect("all of them");
    let pairs: Vec<_> = settings
        .chunks_exact(6)
        .map(|pair| (pair[1], pair[2..].to_vec()))
        .collect();
    assert!(pairs.contains(&(3, STREAMS_MAX.to_be_bytes().to_vec())), "{pairs:?}");
    assert!(
        pairs.contains(&(6, HEADER_LIST_BYTES_MAX.to_be_bytes().to_vec())),
        "{pairs:?}"
    );
}

/// Dropping the server is a crash to the others: their connections are over at once.
#[tokio::test(start_paused = true)]
async fn its_end_ends_connections() {
    let Door { server, pipes } = Door::open();
    let (mut here, there) = tokio::io::duplex(1024);
    here.write_all(&[PREFACE, &EMPTY_SETTINGS].concat())
        .await
        .expect("written");
    pipes.send(there).await.expect("a door");
    assert_eq!(here.read_u8().await.expect("the node's settings"), 0);
    let started = stonechat_host::monotonic();
    drop(server);
    closed(here).await;
    assert!(started.elapsed().is_zero());
    assert!(pipes.is_closed(), "nobody is accepted any more");
}

/// I11, and nodes of two releases: what the one before asks for the system comes without a name. It is refused for certain, so
/// that it does it itself; and its next append on the same line is done as before.
#[tokio::test]
async fn i11_an_old_nodes_request_for_the_system_is_refused_for_certain() {
    let door = Door::open();
    let asked = |request_id, user: &str, system| ForwardRequest {
        request_id,
        user_id: user.to_owned(),
        system,
        correlation_id: vec![7; 16].into(),
        conversation_id: ConversationId([7; 16]).to_string(),
        client_msg_id: format!("m{request_id}"),
        change: Some(Change::Rename("Crew".to_owned())),
        ..ForwardRequest::default()
    };
    let requests = vec![asked(1, "", false), asked(2, "ada", false), asked(3, "", true)];
    let answers = door.over_a_line(requests).await;
    let reasons: Vec<String> = answers
        .into_iter()
        .map(|answer| match answer {
            Some(Outcome::Refusal(refusal)) => {
                assert_eq!(refusal.effect(), stonechat_proto::v1::Effect::NotDone);
                format!("{:?}", refusal.reason())
            }
            other => panic!("an answer to what cannot be done: {other:?}"),
        })
        .collect();
    assert!(reasons[0].contains("Unavailable"), "{reasons:?}");
    // Whoever is named is asked for a conversation that is not there.
    assert!(
        reasons[1..].iter().all(|reason| !reason.contains("Unavailable")),
        "{reasons:?}"
    );
}
