//! A whole node: the one place that picks backends, puts the parts together, starts and stops them.

mod backends;
mod listeners;
mod membership;

pub(crate) use backends::shown_pairs;
pub use backends::{check_trust, cql_options, open_backends, redis_options};
pub use listeners::{Listeners, tls_files};

use membership::{Membership, among_nodes};

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stonechat_host::{Host, Listener, TcpConnector};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::api::{Guard, Operations, add_admin_services, add_services};
use crate::auth::{AuthOptions, Authenticator, Jwks, JwksFile, JwksUrl, KeyError, Secret};
use crate::bus::redis::RedisError;
use crate::cluster::NODE_CONNECTIONS_MAX;
use crate::config::Config;
use crate::conversation::{Backends, Conversations, Limits, People};
use crate::domain::{CorrelationId, Refusal};
use crate::gateway::edge::{Edge, room_for_connections};
use crate::gateway::{Foundation, Gateway, Serving, SessionService, Web, router, serve};
use crate::operator::{self, OPERATOR_CONNECTIONS_MAX, OPERATOR_REQUESTS_AT_ONCE_MAX};
use crate::presence::Presence;
use crate::storage::DirectoryError;
use crate::storage::cql::CqlError;
use crate::storage::embedded::OpenError;
use crate::telemetry::meters::meters;
use crate::tls::TlsError;

/// Time that connections have after all sessions ended: enough to hand over last frames on a slow line.
const CONNECTIONS_WITHIN: Duration = Duration::from_secs(2);

/// Why a node does not start. Nothing was served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The directory cannot be opened.
    #[error("the directory {path} cannot be opened: {source}")]
    Directory {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: DirectoryError,
    },
    /// The data folder cannot be made.
    #[error("the data folder {path} cannot be made: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The CQL servers cannot be used.
    #[error("cql: {0}")]
    Cql(#[from] CqlError),
    /// The Postgres cannot be used.
    #[error("postgres: {0}")]
    Postgres(DirectoryError),
    /// The settings of Redis cannot be used; that it is away is no error.
    #[error("redis: {0}")]
    Redis(#[from] RedisError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Keys are given twice.
    #[error("jwks_file and jwks_url are both set: which keys count?")]
    TwoKeySets,
    /// This machine's clock is not the other nodes'.
    #[error(
        "this machine's clock is {} ms {} the other nodes': set it and keep it by NTP, or raise clock_offset_max_ms",
        .0.abs(), if *.0 < 0 { "behind" } else { "ahead of" }
    )]
    Clock(i64),
    /// What a crash left undone could not be done.
    #[error("recovery failed: {0}")]
    Recovery(Refusal),
    /// The address cannot be served.
    #[error("{address} cannot be served: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A setting makes no sense.
    #[error("cors_origins: {0}")]
    Origins(String),
    /// Settings make no sense together.
    #[error("{0}")]
    Contradiction(String),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The description of the rpcs, compiled in, cannot be read.
    #[error("reflection: {0}")]
    Reflection(String),
    /// A thread of the runtime failed.
    #[error("the store could not be opened: {0}")]
    Thread(String),
}

/// What nodes stand on; several nodes may share one. Cheap to clone.
#[derive(Clone)]
pub struct Grounds {
    /// Where everything is kept, and how events travel.
    pub backends: Backends,
    /// Who people are.
    pub authenticator: Arc<Authenticator>,
}

impl Grounds {
    /// Opens the embedded backends in the data folder. Everything in it is checked first, which may take seconds.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(config: &Config, host: &Host) -> Result<Self, StartError> {
        let backends = open_backends(config, host).await?;
        let authenticator = Arc::new(authenticator(config, &backends, host).await?);
        Ok(Self {
            backends,
            authenticator,
        })
    }
}

/// Where the keys of the identity provider are; `None` when tokens are issued here.
async fn key_set(config: &Config, host: &Host) -> Result<Option<Jwks>, StartError> {
    match (&config.jwks_file, &config.jwks_url) {
        (None, None) => Ok(None),
        (Some(path), None) => Ok(Some(Jwks::File(JwksFile::open(path.clone()).await?))),
        (None, Some(url)) => {
            let started = JwksUrl::start(url.clone(), Arc::new(TcpConnector), host.clone());
            Ok(Some(Jwks::Url(started.await?)))
        }
        (Some(_), Some(_)) => Err(StartError::TwoKeySets),
    }
}

async fn authenticator(config: &Config, backends: &Backends, host: &Host) -> Result<Authenticator, StartError> {
    let options = AuthOptions {
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        require_known_users: !config.provision_users,
    };
    let directory = Arc::clone(&backends.directory);
    if let Some(keys) = key_set(config, host).await? {
        return Ok(Authenticator::with_key_set(keys, options, directory, host.clone()));
    }
    let secret = Secret::load_or_create(&config.data_folder, &*host.random)?;
    Ok(Authenticator::with_secret(secret, options, directory, host.clone()))
}

/// Starts nodes.
pub struct Node;

impl Node {
    /// Opens the backends, binds the address and serves.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(config: &Config, host: Host) -> Result<NodeHandle, StartError> {
        say_what_was_built();
        let config = &Config {
            connections_max: room_for_connections(config.connections_max, other_connections(config)),
            ..config.clone()
        };
        let grounds = Grounds::open(config, &host).await?;
        let listeners = Listeners::open(config, &host).await?;
        Self::start(config, host, grounds, listeners).await
    }

    /// Does what a crash left undone, then serves the listeners. Takes time, randomness and sockets from its arguments
    /// alone.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        config: &Config,
        host: Host,
        grounds: Grounds,
        listeners: impl Into<Listeners>,
    ) -> Result<NodeHandle, StartError> {
        let Listeners {
            public,
            operator,
            nodes,
        } = listeners.into();
        listeners::check_admin(config, operator.is_some())?;
        let local_addr = address_of(&*public)?;
        let operator_addr = operator.as_deref().map(address_of).transpose()?;
        let limits = Limits {
            appends_per_second: config.conversation_entries_per_second,
            ..Limits::default()
        };
        let (conversations, mut membership) = among_nodes(config, &host, &grounds.backends, limits, nodes).await?;
        let recovered = conversations.recover().await.map_err(StartError::Recovery)?;
        if recovered > 0 {
            tracing::info!(conversations = recovered, "fanned out again what a crash had left");
        }
        let presence = presence(&grounds.backends, &host);
        let people = People::new(conversations.clone(), host.clone());
        let operations = Operations::new(conversations.clone(), people.clone(), presence.clone());
        let edge = Edge::new(config, host.clone());
        let gateway = gateway(config, &host, &grounds, &edge, &operations, &conversations, &presence);
        let guard = Guard::new(Arc::clone(&grounds.authenticator), Arc::clone(&edge) as _, host);
        let (health, health_service) = tonic_health::server::health_reporter();
        if let Some(membership) = &mut membership {
            membership.tell_of_clock(Arc::clone(&gateway), health.clone());
        }
        let session = guard.wrap(SessionService::new(Arc::clone(&gateway)));
        let rpcs = Routes::new(health_service.clone()).add_service(session);
        let mut rpcs = add_services(rpcs, &guard, operations);
        let mut own = Routes::new(health_service);
        let admin = if config.admin_on_operator { &mut own } else { &mut rpcs };
        let authenticator = grounds.authenticator;
        *admin = add_admin_services(
            std::mem::take(admin),
            &guard,
            conversations.clone(),
            people,
            authenticator,
        );
        let web = Web {
            origins: config.cors_origins.clone(),
        };
        let app = router(&gateway, rpcs, &web).map_err(StartError::Origins)?;
        let operators = edge_of_operators(config, gateway.host());
        let own = operator.is_some().then(|| operator::router(&gateway, own, &operators));
        let own = own.transpose();
        let operator = operator.zip(own.map_err(StartError::Reflection)?);
        meters().connections_limit.set(config.connections_max);
        tracing::info!(address = %local_addr, operator = ?operator_addr, "serving");
        Ok(NodeHandle {
            rates: share_rates(config, &edge, &grounds.backends),
            local_addr,
            operator_addr,
            doors: Mutex::new(Some(Doors {
                public: serve(public, app, edge, config.connections_max),
                operator: operator.map(|(listener, own)| serve(listener, own, operators, OPERATOR_CONNECTIONS_MAX)),
            })),
            presence: tokio::spawn(presence.run()),
            revocations: tokio::spawn(Arc::clone(&gateway).watch_revocations()),
            looking_after: tokio::spawn(conversations.clone().look_after_fanout()),
            membership,
            gateway,
            conversations,
            health,
            patience: config.drain,
            stopped: watch::Sender::new(false),
        })
    }
}

/// Connections that are not of clients: those of operators, those from other nodes, and those to them.
#[must_use]
pub fn other_connections(config: &Config) -> usize {
    let operators = config.operator_listen.map_or(0, |_| OPERATOR_CONNECTIONS_MAX);
    operators + config.node_listen.map_or(0, |_| 2 * NODE_CONNECTIONS_MAX)
}

/// Shares the rates of users with the other nodes; on a bus of its own a node has nobody to share with.
fn share_rates(config: &Config, edge: &Arc<Edge>, backends: &Backends) -> Option<JoinHandle<()>> {
    let shares = !config.redis.is_empty();
    shares.then(|| tokio::spawn(Arc::clone(edge).share_user_rates(Arc::clone(&backends.bus))))
}

/// Nobody serves people with a binary that was built to lose what they say, without being told.
fn say_what_was_built() {
    if !cfg!(any(feature = "sabotage", feature = "crash-points")) {
        return;
    }
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let (without, crash_at) = (set("STONECHAT_WITHOUT"), set("STONECHAT_CRASH_AT"));
    tracing::error!(
        without,
        crash_at,
        "this binary was built for tests (features sabotage, crash-points): its environment can take promises away and kill it"
    );
}

fn address_of(listener: &dyn Listener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen {
        address: "a listener without an address".to_owned(),
        source,
    })
}

/// The same limits as on the public port, used by operators alone: a probe is not refused because clients at the same address
/// are busy.
fn edge_of_operators(config: &Config, host: &Host) -> Arc<Edge> {
    let config = Config {
        requests_at_once_max: config.requests_at_once_max.min(OPERATOR_REQUESTS_AT_ONCE_MAX),
        ..config.clone()
    };
    Edge::new(&config, host.clone())
}

/// What is open to the outside.
struct Doors {
    public: Serving,
    operator: Option<Serving>,
}

/// Presence under a name that no other process and no earlier start has.
fn presence(backends: &Backends, host: &Host) -> Presence {
    let name = CorrelationId(host.random.bytes16()).to_string();
    let (bus, directory) = (Arc::clone(&backends.bus), Arc::clone(&backends.directory));
    Presence::new(bus, directory, host.clone(), name)
}

fn gateway(
    config: &Config,
    host: &Host,
    grounds: &Grounds,
    edge: &Arc<Edge>,
    operations: &Operations,
    conversations: &Conversations,
    presence: &Presence,
) -> Arc<Gateway> {
    Gateway::new(Foundation {
        operations: operations.clone(),
        conversations: conversations.clone(),
        presence: presence.clone(),
        directory: Arc::clone(&grounds.backends.directory),
        bus: Arc::clone(&grounds.backends.bus),
        authenticator: Arc::clone(&grounds.authenticator),
        host: host.clone(),
        create_users: config.provision_users,
        edge: Arc::clone(edge),
        frames_per_second: config.session_frames_per_second,
    })
}

/// A node that serves. Dropping it without a drain cuts everything off, as a crash would.
pub struct NodeHandle {
    local_addr: SocketAddr,
    operator_addr: Option<SocketAddr>,
    doors: Mutex<Option<Doors>>,
    presence: JoinHandle<()>,
    revocations: JoinHandle<()>,
    /// After fan-out that was left.
    looking_after: JoinHandle<()>,
    rates: Option<JoinHandle<()>>,
    membership: Option<Membership>,
    gateway: Arc<Gateway>,
    conversations: Conversations,
    health: HealthReporter,
    patience: Duration,
    stopped: watch::Sender<bool>,
}

impl NodeHandle {
    /// Where it serves.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the sessions share, for tests that hold a limit of it.
    #[cfg(test)]
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// How many other nodes it can hand appends to.
    #[cfg(test)]
    pub(crate) fn reachable_nodes(&self) -> usize {
        self.membership.as_ref().map_or(0, Membership::reachable_nodes)
    }

    /// Where it serves operators.
    #[must_use]
    pub fn operator_addr(&self) -> Option<SocketAddr> {
        self.operator_addr
    }

    /// Open sessions.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.gateway.sessions()
    }

    /// Stops in order: takes nothing new, gives every stream its answers and the reason draining, finishes what was
    /// accepted, and cuts off who is left after the configured time. Returns when it is done; may be called again.
    pub async fn drain(&self) {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Doors { public, operator }) = doors else {
            return self.stopped().await;
        };
        tracing::info!(sessions = self.sessions(), "draining");
        self.membership.as_ref().inspect(|membership| membership.hush());
        self.health.set_service_status("", ServingStatus::NotServing).await;
        let _draining = meters().draining.hold();
        // What others left is theirs from now on.
        self.looking_after.abort();
        if let Some(membership) = &self.membership {
            membership.leave().await;
        }
        public.stop_accepting();
        if tokio::time::timeout(self.patience, self.gateway.drain()).await.is_err() {
            tracing::warn!(sessions = self.sessions(), "sessions did not end in time");
        }
        if tokio::time::timeout(self.patience, self.conversations.drain())
            .await
            .is_err()
        {
            tracing::warn!("fan-out did not end in time, the next start finishes it");
        }
        public.finish(CONNECTIONS_WITHIN).await;
        // Last, so that operators see how it goes.
        if let Some(operator) = operator {
            operator.finish(CONNECTIONS_WITHIN).await;
        }
        self.end_tasks();
        tracing::info!("stopped");
        self.stopped.send_replace(true);
    }

    fn end_tasks(&self) {
        let always = [&self.presence, &self.revocations, &self.looking_after];
        always.into_iter().chain(&self.rates).for_each(JoinHandle::abort);
    }

    /// Waits until a drain is done.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // The sender is in `self`: it cannot be gone.
        let _stopped = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Serves until the operating system asks to stop (SIGTERM, or Ctrl-C), then drains.
    ///
    /// # Errors
    /// Signals cannot be listened for; the node was drained.
    pub async fn run_until_signal(&self) -> io::Result<()> {
        let asked = stop_signal().await;
        self.drain().await;
        asked
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.end_tasks();
    }
}

/// Returns when the operating system asks the process to stop.
async fn stop_signal() -> io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! { biased;
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
