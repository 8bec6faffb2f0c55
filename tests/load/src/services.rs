//! The services of a fleet, as `scripts/services` names them in the environment, and nodes on them.

use std::path::Path;
use std::process::Command;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use stonechat_host::Host;

use crate::Outcome;
use crate::process::{Server, free_address};

/// Where they are, and the name of what a run makes there.
pub(crate) struct Services {
    redis: String,
    postgres: String,
    cql: String,
    name: String,
}

impl Services {
    /// `None` where nobody started them; with a new database for this run, as the keyspace is a new one: what one of them knows
    /// and the other does not is damage.
    pub(crate) fn found() -> Outcome<Option<Self>> {
        let Some(mut services) = Self::named() else {
            return Ok(None);
        };
        let create = format!("create database {}", services.name);
        let created = Command::new("psql")
            .args([&services.postgres, "-qc", &create])
            .status()?;
        let (server, _) = services
            .postgres
            .rsplit_once('/')
            .ok_or("an address without a database")?;
        if !created.success() {
            return Err(format!("psql cannot create a database on {server}").into());
        }
        services.postgres = format!("{server}/{}", services.name);
        Ok(Some(services))
    }

    fn named() -> Option<Self> {
        let address = |name: &str| {
            let variable = format!("STONECHAT_TEST_{name}");
            std::env::var(variable).ok().filter(|address| !address.is_empty())
        };
        let random = u64::from_be_bytes(Host::system().random.bytes16()[..8].try_into().ok()?);
        Some(Self {
            redis: address("REDIS")?,
            postgres: address("POSTGRES")?,
            cql: address("CQL")?,
            name: format!("load{random:016x}"),
        })
    }

    /// The name of the run's keyspace.
    pub(crate) fn keyspace(&self) -> &str {
        &self.name
    }

    /// Some of the CQL servers.
    pub(crate) fn cql(&self) -> Vec<String> {
        self.cql.split(',').map(str::to_owned).collect()
    }

    /// The Redis.
    pub(crate) fn redis(&self) -> &str {
        &self.redis
    }

    /// A session with the CQL servers, of the driver that the server has.
    pub(crate) async fn session(&self) -> Outcome<Session> {
        let builder = SessionBuilder::new().known_nodes(self.cql()).tcp_nodelay(true);
        Ok(builder.build().await?)
    }

    /// A node with these roles.
    pub(crate) async fn node(&self, binary: &Path, roles: &str, secret_of: Option<&Server>) -> Outcome<Server> {
        let kept = tempfile::tempdir()?;
        let folder = kept.path().join("data");
        if let Some(other) = secret_of {
            std::fs::create_dir_all(&folder)?;
            std::fs::copy(other.folder.join("secret.hs256"), folder.join("secret.hs256"))?;
        }
        let listen = free_address().await?.to_string();
        let flags = [
            ("--roles", roles),
            ("--redis", &self.redis),
            ("--postgres", &self.postgres),
            ("--cql", &self.cql),
            ("--cql-keyspace", &self.name),
            ("--cql-replication", "1"),
            ("--node-listen", &listen),
            ("--conversation-entries-per-second", "100000"),
        ];
        let flags: Vec<&str> = flags.iter().flat_map(|(name, value)| [*name, *value]).collect();
        Server::on_folder(binary, folder, &flags, Some(kept)).await
    }
}
