//! Several nodes as processes on the real services, with a proxy before each service and one Redis of their own.

use std::path::Path;
use std::process::Command;

use stonechat_host::Host;

use super::authority::Authority;
use super::bench::Bench;
use super::counts::count;
use super::network::Network;
use super::process::{ServerProcess, free_port};
use super::proxy::Proxy;
use super::redis::Redis;

/// The file of a data folder that signs tokens.
const SECRET_FILE: &str = "secret.hs256";

/// Services that `scripts/services` started, by their variables.
struct Services {
    postgres: String,
    cql: String,
    /// The file with the authority of the CQL servers' certificates.
    cql_authority: String,
}

impl Services {
    /// `None`, and says so, where nobody started them.
    ///
    /// # Panics
    /// In CI, where a suite that is skipped is a failure.
    fn found() -> Option<Self> {
        let address = |variable: &str| {
            let address = std::env::var(variable).ok().filter(|address| !address.is_empty());
            if address.is_none() {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "{variable} is not set: in CI nothing is skipped"
                );
                println!("skipped: {variable} is not set, scripts/services starts what it names");
            }
            address
        };
        Some(Self {
            postgres: address("STONECHAT_TEST_POSTGRES")?,
            cql: address("STONECHAT_TEST_CQL")?,
            cql_authority: address("STONECHAT_TEST_CQL_CA")?,
        })
    }
}

/// What each node of a fleet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Both,
    /// Holds streams.
    Gateway,
    /// Owns conversations.
    Core,
}

impl Role {
    fn flag(self) -> &'static str {
        match self {
            Self::Both => "gateway,core",
            Self::Gateway => "gateway",
            Self::Core => "core",
        }
    }
}

/// The name of every node of an encrypted fleet.
const NODE_URI: &str = "spiffe://fleet.test/node";

/// How the nodes of a fleet speak to each other.
#[derive(Default)]
pub enum Lines {
    /// In the open, over loopback.
    #[default]
    Plain,
    /// With certificates of this authority, all of one name; the last node has one of another name.
    Certified(Box<Authority>),
}

impl Lines {
    /// With certificates.
    #[must_use]
    pub fn certified() -> Self {
        Self::Certified(Box::default())
    }

    fn flags(&self, number: usize, stranger: bool) -> Vec<String> {
        let uri = if stranger { "spiffe://fleet.test/web" } else { NODE_URI };
        match self {
            Self::Plain => Vec::new(),
            Self::Certified(authority) => authority.flags(&format!("node{number}"), uri, NODE_URI),
        }
    }
}

/// What a fleet stands on, where it is not what every fleet has.
#[derive(Default)]
pub struct Ground {
    /// Between the nodes.
    pub lines: Lines,
    /// Contact points of CQL servers of the test's own, three or more: they are asked without a proxy, and each keeps
    /// everything.
    pub cql: Option<String>,
    /// Address of a Postgres of the test's own, asked without a proxy.
    pub postgres: Option<String>,
    /// Addresses of a Redis cluster of the test's own, with commas, asked without a proxy; the fleet's own Redis is then idle.
    pub redis_cluster: Option<String>,
    /// Each node is alone in a network of its own, and reaches the others and the services by way of this.
    pub network: Option<Network>,
    /// Lines to Redis are encrypted, by certificates of this authority on both sides, and those to the CQL servers, by their own.
    pub stores: Option<Authority>,
    /// Settings of every node.
    pub flags: Vec<&'static str>,
}

/// Nodes that share everything. Each is a bench of its own; all write into one history.
pub struct Fleet {
    /// The nodes.
    pub nodes: Vec<Bench>,
    /// Their Redis.
    pub redis: Redis,
    /// Before the Redis.
    pub to_redis: Proxy,
    /// Before the Postgres, unless it is the test's own.
    pub to_postgres: Proxy,
    /// Before the CQL server, unless the test has its own.
    pub to_cql: Proxy,
    /// The name of their keyspace, and of their database.
    pub name: String,
    cql_server: String,
    cql_authority: String,
    /// Where each node serves its metrics.
    operators: Vec<String>,
    /// What it stands on.
    pub ground: Ground,
}

/// Copies of everything that a fleet on servers of its own has.
const COPIES: &str = "3";

impl Fleet {
    /// Starts nodes with these roles on empty services; `None`, and says so, where the services are not there.
    ///
    /// # Panics
    /// Something does not come up.
    pub async fn start(roles: &[Role]) -> Option<Self> {
        Self::start_on(Ground::default(), roles).await
    }

    /// The same, on this.
    ///
    /// # Panics
    /// Something does not come up.
    pub async fn start_on(ground: Ground, roles: &[Role]) -> Option<Self> {
        let services = Services::found()?;
        let name = unique();
        let cql_server = services.cql.split(',').next().unwrap_or_default().to_owned();
        let host = ground.network.as_ref().map_or("127.0.0.1", Network::services_host);
        let own_postgres = ground.postgres.as_deref();
        let postgres = Database::create(own_postgres.unwrap_or(&services.postgres), &name);
        let redis = Redis::start(ground.stores.as_ref()).await;
        let mut fleet = Self {
            nodes: Vec::new(),
            to_redis: Proxy::before(host, &redis.authority()).await,
            to_postgres: Proxy::before(host, &postgres.host).await,
            to_cql: Proxy::before(host, &cql_server).await,
            redis,
            name,
            cql_server,
            cql_authority: services.cql_authority,
            operators: roles.iter().map(|_| format!("127.0.0.1:{}", free_port())).collect(),
            ground,
        };
        let database_url = if fleet.ground.postgres.is_some() {
            postgres.url(&postgres.host)
        } else {
            postgres.url(&fleet.to_postgres.authority())
        };
        for (number, role) in roles.iter().enumerate() {
            let flags = fleet.flags_of(number, *role, number + 1 == roles.len(), &database_url);
            fleet.add(flags).await;
        }
        Some(fleet)
    }

    /// Whether the services are there that every fleet needs; says so where they are not.
    #[must_use]
    pub fn can_start() -> bool {
        Services::found().is_some()
    }

    /// Contact points of its CQL servers, with commas.
    pub(super) fn cql_points(&self) -> &str {
        self.ground.cql.as_ref().unwrap_or(&self.cql_server)
    }

    fn flags_of(&self, number: usize, role: Role, last: bool, database_url: &str) -> Vec<String> {
        let ground = &self.ground;
        let host = ground.network.as_ref().map(|network| network.node_host(number));
        let node_port = format!("{}:{}", host.as_deref().unwrap_or("127.0.0.1"), free_port());
        let (cql, copies) = match &ground.cql {
            Some(servers) => (servers.clone(), COPIES),
            None => (self.to_cql.authority(), "1"),
        };
        let scheme = if ground.stores.is_some() { "rediss" } else { "redis" };
        let (redis_url, clustered) = match &ground.redis_cluster {
            Some(addresses) => (addresses.clone(), "true"),
            None => (format!("{scheme}://{}", self.to_redis.authority()), "false"),
        };
        let mut flags: Vec<String> = [
            ("--redis", redis_url.as_str()),
            ("--redis-cluster", clustered),
            ("--postgres", database_url),
            ("--postgres-connections-max", "4"),
            ("--cql", &cql),
            ("--cql-keyspace", &self.name),
            ("--cql-replication", copies),
            ("--node-listen", &node_port),
            ("--operator-listen", &self.operators[number]),
            ("--roles", role.flag()),
            ("--drain-seconds", "5"),
            ("--address-connections-per-second", "0"),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
        .collect();
        if host.is_some() {
            flags.extend(["--node-plain", "true"].map(str::to_owned));
        }
        flags.extend(ground.lines.flags(number, last));
        if let Some(authority) = &ground.stores {
            let redis_authority = authority.file().display().to_string();
            let (certificate, key) = authority.service("client");
            let files = [
                ("--redis-ca", redis_authority),
                ("--redis-certificate", certificate.display().to_string()),
                ("--redis-key", key.display().to_string()),
                ("--cql-ca", self.cql_authority.clone()),
            ];
            flags.extend(files.into_iter().flat_map(|(flag, file)| [flag.to_owned(), file]));
        }
        flags.extend(ground.flags.iter().map(|flag| (*flag).to_owned()));
        flags
    }

    /// Starts one more node.
    async fn add(&mut self, flags: Vec<String>) {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut process = ServerProcess::prepare(&flags);
        if let Some(network) = &self.ground.network {
            let number = self.nodes.len();
            process = process.inside(&network.namespace(number), &network.node_host(number));
        }
        if let Some(first) = self.nodes.first() {
            share_secret(&first.server.data_folder(), &process.data_folder());
        }
        process.spawn(None);
        process.ready().await;
        let bench = match self.nodes.first() {
            Some(first) => first.beside(process),
            None => Bench::on(process).of_several(),
        };
        self.nodes.push(bench);
    }

    /// The values of all nodes' counter of this name.
    ///
    /// # Panics
    /// A node does not answer, or has no such counter.
    pub async fn counts(&self, counter: &str) -> Vec<u64> {
        let mut counts = Vec::new();
        for node in 0..self.nodes.len() {
            counts.push(self.count(node, counter).await);
        }
        counts
    }

    /// The value of a node's counter, with its labels as Prometheus reads them.
    ///
    /// # Panics
    /// The node does not answer, or has no such counter.
    pub async fn count(&self, node: usize, counter: &str) -> u64 {
        count(&self.operators[node], counter).await
    }
}

/// A name that is also one for a keyspace and a database.
fn unique() -> String {
    let bytes = Host::system().random.bytes16();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t{hex}")
}

/// A database of its own.
struct Database {
    scheme: String,
    user: String,
    /// Host and port of the server.
    host: String,
    name: String,
}

impl Database {
    fn create(url: &str, name: &str) -> Self {
        let created = Command::new("psql")
            .args([url, "-qc", &format!("create database {name}")])
            .status();
        assert!(
            created.is_ok_and(|status| status.success()),
            "psql cannot create a database"
        );
        let (scheme, rest) = url.split_once("://").expect("an address");
        let (authority, _) = rest.split_once('/').expect("an address with a database");
        let (user, host) = authority.rsplit_once('@').expect("an address with a user");
        Self {
            scheme: scheme.to_owned(),
            user: user.to_owned(),
            host: host.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its address by way of a host and port.
    fn url(&self, by: &str) -> String {
        format!("{}://{}@{by}/{}", self.scheme, self.user, self.name)
    }
}

/// All nodes sign and check tokens with one secret.
fn share_secret(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a data folder");
    std::fs::copy(from.join(SECRET_FILE), to.join(SECRET_FILE)).expect("the first node's secret");
}
