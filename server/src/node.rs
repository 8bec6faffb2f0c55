//! The one place that wires: picks the backends, starts everything in order, and stops it in the opposite one.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::{Host, Listener, TcpListener};
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tracing::info;

use crate::api::{Guard, Operations, add_services};
use crate::auth::{AuthOptions, Authenticator, JwksFile, KeyError, Secret};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::conversation::{Backends, Conversations, Limits, People};
use crate::domain::Refusal;
use crate::gateway::{Foundation, Gateway, Serving, SessionService, Web, router, serve};
use crate::presence::Presence;
use crate::storage::DirectoryError;
use crate::storage::embedded::directory::{Patience, SqliteDirectory};
use crate::storage::embedded::{EmbeddedStore, OpenError};

/// The directory's file in the data folder.
const DIRECTORY_FILE: &str = "directory.sqlite";

/// A node could not be started; nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The directory in it cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The keys that check tokens cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the operating system says.
        cause: io::Error,
    },
    /// The listener has no address.
    #[error("the listener is not usable: {0}")]
    Listener(#[from] io::Error),
    /// What a crash left undone could not be done.
    #[error("recovery failed: {0}")]
    Recovery(Refusal),
    /// A setting is not usable.
    #[error("setting {0}")]
    Setting(String),
}

/// What a node stands on. Several nodes may share it.
#[derive(Clone)]
pub struct Ground {
    /// Log, markers, directory, bus.
    pub backends: Backends,
    /// Who callers are.
    pub authenticator: Arc<Authenticator>,
}

impl Ground {
    /// Opens the embedded backends of a data folder, which no other process may use meanwhile.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn embedded(config: &Config, host: &Host) -> Result<Self, StartError> {
        let backends = open_embedded(&config.data_folder, host).await?;
        let options = AuthOptions {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            require_known_users: !config.provision_users,
        };
        let directory = Arc::clone(&backends.directory);
        let authenticator = match &config.jwks_file {
            Some(file) => {
                Authenticator::with_key_set(JwksFile::open(file.clone()).await?, options, directory, host.clone())
            }
            None => {
                let secret = Secret::load_or_create(&config.data_folder, &*host.random)?;
                Authenticator::with_secret(secret, options, directory, host.clone())
            }
        };
        Ok(Self {
            backends,
            authenticator: Arc::new(authenticator),
        })
    }
}

/// Opens the log, markers and directory of a data folder.
///
/// # Errors
/// The folder is in use, not writable, not a store, damaged, or of a newer version.
pub async fn open_embedded(folder: &Path, host: &Host) -> Result<Backends, StartError> {
    let (path, of_host) = (folder.to_owned(), host.clone());
    // Opening reads the whole journal: off the async threads.
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path, &of_host)).await;
    let store = Arc::new(opened.map_err(io::Error::other)??);
    let directory = SqliteDirectory::open(&folder.join(DIRECTORY_FILE), Patience::default()).await?;
    Ok(Backends {
        log: Arc::clone(&store) as Arc<_>,
        markers: store,
        directory: Arc::new(directory),
        bus: Arc::new(EmbeddedBus::default()),
    })
}

/// Listens where the config says.
///
/// # Errors
/// The address is taken or not local.
pub async fn listen(config: &Config) -> Result<Arc<dyn Listener>, StartError> {
    let bound = TcpListener::bind(&config.listen.to_string()).await;
    let listener = bound.map_err(|cause| StartError::Listen {
        address: config.listen,
        cause,
    })?;
    Ok(Arc::new(listener))
}

/// A running node. Dropping it stops presence; call [`Node::drain`] to end it well.
pub struct Node {
    address: SocketAddr,
    gateway: Arc<Gateway>,
    conversations: Conversations,
    serving: Serving,
    presence: JoinHandle<()>,
}

impl Node {
    /// Does what a crash left undone, then serves.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        config: &Config,
        host: Host,
        ground: Ground,
        listener: Arc<dyn Listener>,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr()?;
        let Ground {
            backends,
            authenticator,
        } = ground;
        let limits = Limits {
            appends_per_second: config.conversation_entries_per_second,
            ..Limits::default()
        };
        let conversations = Conversations::new(backends.clone(), host.clone(), limits);
        let recovered = conversations.recover().await.map_err(StartError::Recovery)?;
        let people = People::new(conversations.clone(), host.clone());
        // Unique for each process: presence of a gateway that died must not look like ours.
        let name = format!("gateway-{}", uuid::Uuid::from_bytes(host.random.bytes16()).simple());
        let presence = Presence::new(
            Arc::clone(&backends.bus),
            Arc::clone(&backends.directory),
            host.clone(),
            name,
        );
        let operations = Operations::new(conversations.clone(), people.clone(), presence.clone());
        let gateway = Gateway::new(Foundation {
            operations: operations.clone(),
            conversations: conversations.clone(),
            presence: presence.clone(),
            directory: Arc::clone(&backends.directory),
            bus: Arc::clone(&backends.bus),
            authenticator: Arc::clone(&authenticator),
            host: host.clone(),
            create_users: config.provision_users,
        });
        let guard = Guard::new(Arc::clone(&authenticator), host);
        let routes = Routes::new(guard.wrap(SessionService::new(Arc::clone(&gateway))));
        let rpcs = add_services(routes, &guard, operations, conversations.clone(), people, authenticator);
        let web = Web {
            origins: config.cors_origins.clone(),
        };
        let app = router(&gateway, rpcs, &web).map_err(StartError::Setting)?;
        let serving = serve(listener, app);
        info!(%address, recovered, "serving");
        Ok(Self {
            address,
            gateway,
            conversations,
            serving,
            presence: tokio::spawn(presence.run()),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it well: no new connections, each stream told why, answers and fan-out finished, all within `patience`.
    pub async fn drain(self, patience: Duration) {
        self.serving.stop_accepting();
        if tokio::time::timeout(patience, self.gateway.drain()).await.is_err() {
            tracing::warn!("sessions did not end in time");
        }
        self.conversations.drain().await;
        self.serving.finish(patience).await;
        self.presence.abort();
        info!("stopped");
    }
}
