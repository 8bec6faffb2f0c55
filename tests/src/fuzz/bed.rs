//! A whole node on connections in memory: what comes over them goes the way of every request.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use stonechat_host::{Host, PipeListener};
use stonechat_server::auth::{AuthOptions, Authenticator, Secret};
use stonechat_server::bus::embedded::EmbeddedBus;
use stonechat_server::config::Config;
use stonechat_server::conversation::{Backends, Caller, Conversations, CreateRequest, Limits};
use stonechat_server::domain::authorization::Actor;
use stonechat_server::domain::{ClientMsgId, CorrelationId, Kind, Member, Role, UnixMillis, UserId};
use stonechat_server::node::{Grounds, Node, NodeHandle};
use stonechat_server::storage::Directory;
use stonechat_server::storage::memory::MemoryStore;
use stonechat_server::storage::memory::directory::MemoryDirectory;
use tokio::io::DuplexStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

/// Bytes one side of a connection may be ahead.
const PIPE_BYTES: usize = 256 * 1024;
/// Inputs that one node takes: what they store stays in memory.
const INPUTS_MAX: usize = 500;
/// What never takes long took too long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A node, and what targets need of it.
pub(super) struct Bed {
    _node: NodeHandle,
    pipes: mpsc::Sender<DuplexStream>,
    authenticator: Arc<Authenticator>,
    /// A group of alice and bob.
    pub(super) room: String,
}

thread_local! {
    static BED: RefCell<Option<(Runtime, Bed, usize)>> = const { RefCell::new(None) };
}

/// Runs a target on this thread's node.
pub(super) fn on_a_node(target: impl AsyncFnOnce(&Bed)) {
    // Taken out: a target that panics leaves no half-broken node behind.
    let taken = BED.with_borrow_mut(Option::take);
    let (runtime, bed, used) = taken.filter(|(.., used)| *used < INPUTS_MAX).unwrap_or_else(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let bed = runtime.block_on(Bed::new());
        (runtime, bed, 0)
    });
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, target(&bed)).await })
        .expect("it came to an end");
    BED.set(Some((runtime, bed, used + 1)));
}

/// Backends in memory.
pub(super) fn backends(host: &Host) -> Backends {
    let store = Arc::new(MemoryStore::new(host));
    Backends {
        log: Arc::clone(&store) as _,
        markers: store,
        directory: Arc::new(MemoryDirectory::new()),
        bus: Arc::new(EmbeddedBus::new()),
    }
}

pub(super) fn auth_options() -> AuthOptions {
    AuthOptions {
        issuer: "stonechat".to_owned(),
        audience: "stonechat".to_owned(),
        require_known_users: false,
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("an id")
}

async fn room(backends: &Backends, host: &Host) -> String {
    for name in ["alice", "bob"] {
        let made = backends.directory.ensure_user(&user(name), UnixMillis(0)).await;
        made.expect("a user");
    }
    let request = CreateRequest {
        client_msg_id: ClientMsgId::parse("create").expect("an id"),
        owner: user("alice"),
        kind: Kind::Group,
        name: "group".to_owned(),
        members: vec![Member {
            user: user("bob"),
            role: Role::Member,
        }],
        created: None,
    };
    let caller = Caller {
        actor: Actor::User(user("alice")),
        device: None,
        correlation: CorrelationId::default(),
    };
    let rules = Conversations::new(backends.clone(), host.clone(), Limits::default());
    rules.create(&caller, request).await.expect("a group").id.to_string()
}

impl Bed {
    async fn new() -> Self {
        let host = Host::system();
        let backends = backends(&host);
        let room = room(&backends, &host).await;
        let directory: Arc<dyn Directory> = Arc::clone(&backends.directory);
        let secret = Secret::from_bytes([7; 32]);
        let authenticator = Arc::new(Authenticator::with_secret(
            secret,
            auth_options(),
            directory,
            host.clone(),
        ));
        let grounds = Grounds {
            backends,
            authenticator: Arc::clone(&authenticator),
        };
        let config = Config {
            session_frames_per_second: 100_000,
            conversation_entries_per_second: 100_000,
            ..Config::default()
        };
        let (pipes, accepted) = mpsc::channel(8);
        let listener = Arc::new(PipeListener::new(accepted));
        let node = Node::start(&config, host, grounds, listener).await;
        Self {
            _node: node.expect("a node"),
            pipes,
            authenticator,
            room,
        }
    }

    /// A raw connection.
    pub(super) async fn pipe(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        self.pipes.send(server).await.expect("the node listens");
        client
    }

    /// A channel over a connection of its own.
    pub(super) async fn channel(&self) -> Channel {
        let mut pipe = Some(self.pipe().await);
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

    /// A good token.
    pub(super) fn token(&self, name: &str) -> String {
        let day = Duration::from_secs(86_400);
        let issued = self.authenticator.issue(&user(name), None, &BTreeSet::new(), day);
        issued.expect("a token").token.expose().clone()
    }
}
