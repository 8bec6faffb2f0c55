//! Several nodes as processes on the real services, with a proxy before each service and one Redis of their own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stonechat_host::{Connector, Host, TcpConnector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authority::Authority;
use super::bench::Bench;
use super::process::{ServerProcess, free_port};
use super::proxy::Proxy;

/// Between two looks at a condition that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A Redis that was started answers by then.
const REDIS_WITHIN: Duration = Duration::from_secs(20);
/// The file of a data folder that signs tokens.
const SECRET_FILE: &str = "secret.hs256";

/// Services that `scripts/services` started, by their variables.
struct Services {
    postgres: String,
    cql: String,
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
        })
    }
}

/// A Redis that a test may kill. Dropping it kills it.
pub struct Redis {
    port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Redis {
    async fn start() -> Self {
        let mut redis = Self {
            port: free_port(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            child: None,
        };
        redis.restart().await;
        redis
    }

    /// Starts it again, empty.
    ///
    /// # Panics
    /// It is not installed, or does not answer.
    pub async fn restart(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is installed"));
        let answers = async {
            while !self.answers().await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let came_up = tokio::time::timeout(REDIS_WITHIN, answers).await;
        assert!(came_up.is_ok(), "redis does not answer");
    }

    async fn answers(&self) -> bool {
        let Ok(mut io) = TcpConnector.connect(&self.authority()).await else {
            return false;
        };
        let mut answer = [0; 5];
        let asked = io.write_all(b"PING\r\n").await.is_ok();
        asked && io.read_exact(&mut answer).await.is_ok() && &answer == b"+PONG"
    }

    /// SIGKILL: everything it knew is gone.
    ///
    /// # Panics
    /// It was not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running redis");
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
    }

    fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
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
pub enum Lines {
    /// In the open, over loopback.
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

/// Nodes that share everything. Each is a bench of its own; all write into one history.
pub struct Fleet {
    /// The nodes.
    pub nodes: Vec<Bench>,
    /// Their Redis.
    pub redis: Redis,
    /// Before the Redis.
    pub to_redis: Proxy,
    /// Before the Postgres.
    pub to_postgres: Proxy,
    /// Before the CQL servers.
    pub to_cql: Proxy,
    /// Where each node serves its metrics.
    operators: Vec<String>,
    _lines: Lines,
}

impl Fleet {
    /// Starts nodes with these roles on empty services; `None`, and says so, where the services are not there.
    ///
    /// # Panics
    /// Something does not come up.
    pub async fn start(roles: &[Role]) -> Option<Self> {
        Self::start_over(Lines::Plain, roles).await
    }

    /// The same, with this between the nodes.
    ///
    /// # Panics
    /// Something does not come up.
    pub async fn start_over(lines: Lines, roles: &[Role]) -> Option<Self> {
        let services = Services::found()?;
        let name = unique();
        let (to_postgres, database_url) = database(&services.postgres, &name).await;
        let first_cql = services.cql.split(',').next().unwrap_or_default();
        let to_cql = Proxy::before(first_cql).await;
        let redis = Redis::start().await;
        let to_redis = Proxy::before(&redis.authority()).await;
        let redis_url = format!("redis://{}", to_redis.authority());
        let mut nodes: Vec<Bench> = Vec::new();
        let operators: Vec<String> = roles.iter().map(|_| format!("127.0.0.1:{}", free_port())).collect();
        for (number, role) in roles.iter().enumerate() {
            let of_lines = lines.flags(number, number + 1 == roles.len());
            let node_port = format!("127.0.0.1:{}", free_port());
            let cql = to_cql.authority();
            let flags = [
                "--redis",
                &redis_url,
                "--postgres",
                &database_url,
                "--postgres-connections-max",
                "4",
                "--cql",
                &cql,
                "--cql-keyspace",
                &name,
                "--cql-replication",
                "1",
                "--node-listen",
                &node_port,
                "--operator-listen",
                &operators[number],
                "--roles",
                role.flag(),
                "--drain-seconds",
                "5",
                "--address-connections-per-second",
                "0",
            ];
            let flags: Vec<&str> = flags.into_iter().chain(of_lines.iter().map(String::as_str)).collect();
            let mut process = ServerProcess::prepare(&flags);
            if let Some(first) = nodes.first() {
                share_secret(&first.server.data_folder(), &process.data_folder());
            }
            process.spawn(None);
            process.ready().await;
            let bench = match nodes.first() {
                Some(first) => first.beside(process),
                None => Bench::on(process).of_several(),
            };
            nodes.push(bench);
        }
        Some(Self {
            nodes,
            redis,
            to_redis,
            to_postgres,
            to_cql,
            operators,
            _lines: lines,
        })
    }

    /// The value of a node's counter, with its labels as Prometheus reads them.
    ///
    /// # Panics
    /// The node does not answer, or has no such counter.
    pub async fn count(&self, node: usize, counter: &str) -> u64 {
        let mut io = TcpConnector
            .connect(&self.operators[node])
            .await
            .expect("a port for operators");
        let request = b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        io.write_all(request).await.expect("written");
        let mut page = String::new();
        io.read_to_string(&mut page).await.expect("an answer");
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
        let value = value.and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{counter} is not in\n{page}"))
    }
}

/// A name that is also one for a keyspace and a database.
fn unique() -> String {
    let bytes = Host::system().random.bytes16();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t{hex}")
}

/// A database of its own, and a proxy to it.
async fn database(url: &str, name: &str) -> (Proxy, String) {
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
    let proxy = Proxy::before(host).await;
    let url = format!("{scheme}://{user}@{}/{name}", proxy.authority());
    (proxy, url)
}

/// All nodes sign and check tokens with one secret.
fn share_secret(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a data folder");
    std::fs::copy(from.join(SECRET_FILE), to.join(SECRET_FILE)).expect("the first node's secret");
}
