//! A node: picks the backends, puts the parts together, starts and stops them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::{Host, Listener, TcpListener};
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use crate::api::{self, Guard, Operations};
use crate::auth::{AuthOptions, Authenticator, JwksFile, KeyError, Secret};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::conversation::{Backends, Conversations, Limits, People};
use crate::domain::Refusal;
use crate::gateway::{self, Foundation, Gateway, Serving, SessionService, Web};
use crate::presence::Presence;
use crate::storage::DirectoryError;
use crate::storage::embedded::directory::{Patience, SqliteDirectory};
use crate::storage::embedded::{EmbeddedStore, OpenError};

/// Name of the directory's file in the data folder.
const DIRECTORY_FILE: &str = "directory.sqlite";
/// Time that connections have to end after their streams did.
const CONNECTIONS_END_WITHIN: Duration = Duration::from_secs(2);

/// The node did not start; nothing is served and nothing was changed, but that a new data folder may have been made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The directory in it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The keys for tokens.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The address to serve on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The store could not take up what a crash left.
    #[error("cannot take up what an earlier run left: {0}")]
    Recover(Refusal),
    /// A setting that only shows here.
    #[error("{0}")]
    Setting(String),
}

/// The backends on local disk. The folder is locked until the last handle is dropped.
///
/// # Errors
/// The folder or the directory in it cannot be used.
pub async fn open_backends(config: &Config, host: &Host) -> Result<Backends, StartError> {
    let (folder, machine) = (config.data_folder.clone(), host.clone());
    // Opening reads the whole journal. The store comes first: it judges what else is in the folder.
    let opening = tokio::task::spawn_blocking(move || EmbeddedStore::open(&folder, &machine));
    let opened = opening.await.map_err(|error| StartError::Setting(error.to_string()))?;
    let store = Arc::new(opened?);
    let directory = SqliteDirectory::open(&config.data_folder.join(DIRECTORY_FILE), Patience::default()).await?;
    Ok(Backends {
        log: store.clone(),
        markers: store,
        directory: Arc::new(directory),
        bus: Arc::new(EmbeddedBus::new()),
    })
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    gateway: Arc<Gateway>,
    conversations: Conversations,
    serving: Serving,
    presence: JoinHandle<()>,
    health: HealthReporter,
    drain: Duration,
}

impl Node {
    /// Starts a node on the machine's disk and network.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config, host: Host) -> Result<Self, StartError> {
        let address = config.listen;
        let listener = TcpListener::bind(&address.to_string())
            .await
            .map_err(|source| StartError::Listen { address, source })?;
        let backends = open_backends(&config, &host).await?;
        let authenticator = authenticator(&config, &backends, &host).await?;
        Self::assemble(&config, host, backends, authenticator, Arc::new(listener)).await
    }

    /// Puts a node together on any backends and listener, of a simulation too.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn assemble(
        config: &Config,
        host: Host,
        backends: Backends,
        authenticator: Authenticator,
        listener: Arc<dyn Listener>,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr();
        let address = address.map_err(|error| StartError::Setting(format!("no address to serve on: {error}")))?;
        let limits = Limits {
            appends_per_second: config.conversation_entries_per_second,
            ..Limits::default()
        };
        let conversations = Conversations::new(backends.clone(), host.clone(), limits);
        let pending = conversations.recover().await.map_err(StartError::Recover)?;
        let on = foundation(config, &host, &backends, conversations.clone(), authenticator);
        let presence = tokio::spawn(on.presence.clone().run());
        let (health, health_service) = tonic_health::server::health_reporter();
        let (gateway, rpcs) = rpcs(on, health_service);
        let web = Web {
            origins: config.cors_origins.clone(),
        };
        let app = gateway::router(&gateway, rpcs, &web).map_err(StartError::Setting)?;
        let serving = gateway::serve(listener, app);
        tracing::info!(%address, pending, data_folder = %config.data_folder.display(), "serving");
        Ok(Self {
            address,
            gateway,
            conversations,
            serving,
            presence,
            health,
            drain: config.drain,
        })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drains: every stream ends with its reason, what was accepted is answered and fanned out, then connections end.
    pub async fn stop(self) {
        tracing::info!(sessions = self.gateway.sessions(), "draining");
        self.health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        self.serving.stop_accepting();
        if tokio::time::timeout(self.drain, self.gateway.drain()).await.is_err() {
            tracing::warn!(left = self.gateway.sessions(), "sessions did not end in time");
        }
        self.conversations.drain().await;
        self.serving.finish(CONNECTIONS_END_WITHIN).await;
        self.presence.abort();
        tracing::info!("stopped");
    }
}

async fn authenticator(config: &Config, backends: &Backends, host: &Host) -> Result<Authenticator, StartError> {
    let options = AuthOptions {
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        require_known_users: !config.provision_users,
    };
    let directory = Arc::clone(&backends.directory);
    Ok(match &config.jwks_file {
        Some(path) => {
            let keys = JwksFile::open(path.clone()).await?;
            Authenticator::with_key_set(keys, options, directory, host.clone())
        }
        None => {
            let secret = Secret::load_or_create(&config.data_folder, host.random.as_ref())?;
            Authenticator::with_secret(secret, options, directory, host.clone())
        }
    })
}

fn foundation(
    config: &Config,
    host: &Host,
    backends: &Backends,
    conversations: Conversations,
    authenticator: Authenticator,
) -> Foundation {
    let (bus, directory) = (Arc::clone(&backends.bus), Arc::clone(&backends.directory));
    // One process, one gateway: any name that no other has.
    let name = crate::telemetry::new_correlation_id(host.random.as_ref()).to_string();
    let presence = Presence::new(Arc::clone(&bus), Arc::clone(&directory), host.clone(), name);
    let people = People::new(conversations.clone(), host.clone());
    Foundation {
        operations: Operations::new(conversations.clone(), people, presence.clone()),
        conversations,
        presence,
        directory,
        bus,
        authenticator: Arc::new(authenticator),
        host: host.clone(),
        create_users: config.provision_users,
    }
}

fn rpcs(on: Foundation, health: HealthServer<impl Health>) -> (Arc<Gateway>, Routes) {
    let guard = Guard::new(Arc::clone(&on.authenticator), on.host.clone());
    let people = People::new(on.conversations.clone(), on.host.clone());
    let (operations, conversations) = (on.operations.clone(), on.conversations.clone());
    let authenticator = Arc::clone(&on.authenticator);
    let gateway = Gateway::new(on);
    let routes = Routes::new(health).add_service(SessionService::new(Arc::clone(&gateway)));
    let routes = api::add_services(routes, &guard, operations, conversations, people, authenticator);
    (gateway, routes)
}
