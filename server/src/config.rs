//! One struct of settings: embedded defaults, then a TOML file, then the environment, then flags; the last one wins.

mod describe;
mod flags;
mod given;
mod load;

#[cfg(test)]
mod tests;

pub use describe::{Setting, markdown, settings};
pub use flags::ConfigFlags;
pub use load::{ConfigError, Origin};

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::telemetry::LogFormat;
use crate::telemetry::traces::TraceOptions;

/// All settings of a server. In a file each has the name of its field, in the environment `STONECHAT_` and that name in
/// capitals, as a flag `--` and that name with hyphens; where they differ it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of everything that is kept; made when it is missing. Default `./stonechat-data`.
    pub data_folder: PathBuf,
    /// Address and port to serve on; port 0 takes a free one. Default `127.0.0.1:7400`: this machine only.
    pub listen: SocketAddr,
    /// The `iss` that tokens must have, and get when they are issued here. Default `stonechat`.
    pub issuer: String,
    /// The `aud` that tokens must have, and get when they are issued here. Default `stonechat`.
    pub audience: String,
    /// File with the public keys (JWKS) of the identity provider that issues tokens. Default none: tokens are issued here,
    /// with a secret in the data folder.
    pub jwks_file: Option<PathBuf>,
    /// Address of those keys instead of a file, `https` (or `http`: then who is on the way can forge tokens). Fetched at the
    /// start, which fails when nothing comes within 20 s, then as often as `Cache-Control` says (1 minute to 1 hour, 5 minutes
    /// when it says nothing), and at most every 30 s for tokens with unknown keys. During an outage the last keys count for
    /// 24 hours. Default none; not together with `jwks_file`.
    pub jwks_url: Option<http::Uri>,
    /// Create a user at their first hello. Default true; when false, integrators create them.
    pub provision_users: bool,
    /// Origins whose web pages may call, such as `https://chat.example.org`; comma-separated outside of a file. Default
    /// none.
    pub cors_origins: Vec<String>,
    /// How long streams may go on when the server stops. `drain_seconds`, 0 to 300; default 10.
    pub drain: Duration,
    /// Connections at a time, 1 to 1,000,000; default 10,000. Each takes one file descriptor.
    pub connections_max: usize,
    /// Open connections of one source address (of IPv6: one /64), 0 to 1,000,000; 0 for no limit; default 2,000: offices and
    /// carriers have many users behind one address. Behind a proxy all clients have the proxy's: set all limits by address to 0
    /// there.
    pub address_connections_max: usize,
    /// Sustained connections a second that one source address may open, with a burst of ten seconds' worth, 0 to 100,000; 0
    /// for no limit; default 100.
    pub address_connections_per_second: u32,
    /// Sustained requests a second from one source address, counted before their tokens are looked at, with a burst of ten
    /// seconds' worth, 0 to 100,000; 0 for no limit; default 1,000. Frames of streams are not requests.
    pub address_requests_per_second: u32,
    /// Sustained unary calls and hellos a second of one user, with a burst of ten seconds' worth, 0 to 100,000; 0 for no limit;
    /// default 100. Nodes with one Redis share it. Integrators have no such limit.
    pub user_requests_per_second: u32,
    /// Unary calls and hellos that are worked on at a time, 1 to 100,000; default 512: enough to fill the store's commits. More
    /// wait up to 2 s, then they are refused.
    pub requests_at_once_max: usize,
    /// How old a connection may become until its streams are told to move to a new one, spread by a tenth to both sides.
    /// `connection_age_seconds`, 0 to 604,800; 0 for no limit; default 43,200 (12 hours): so that load spreads again after a
    /// node was added.
    pub connection_age: Duration,
    /// Sustained frames a second that one session may send, 1 to 100,000; default 100.
    pub session_frames_per_second: u32,
    /// Sustained entries a second that one conversation takes, 1 to 100,000; default 1,000.
    pub conversation_entries_per_second: u32,
    /// PEM file with the certificate of the public port, and what leads to its authority; it is read again when it changes.
    /// Default none: plain HTTP, for this machine or behind a proxy that encrypts.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key. Default none.
    pub tls_key: Option<PathBuf>,
    /// Address and port for operators: metrics, health, reflection. Default none, so that several servers on one machine
    /// do not meet at one port.
    pub operator_listen: Option<SocketAddr>,
    /// PEM file with the authorities of client certificates that the operator's port demands; it is then encrypted with the
    /// certificate of the public port. Default none: plain HTTP, for a network that only operators reach.
    pub operator_client_ca: Option<PathBuf>,
    /// Subject alternative names (DNS names or URIs) that such a certificate must have one of; comma-separated outside of
    /// a file. Default none.
    pub operator_client_names: Vec<String>,
    /// Serve the admin rpcs on the operator's port, and no longer on the public one. Default false.
    pub admin_on_operator: bool,
    /// Redis: one address of a server, or some of a cluster with `redis_cluster`; `redis://` or `rediss://`, comma-separated
    /// outside of a file. Default none: live delivery within this process alone.
    pub redis: Vec<String>,
    /// The addresses are those of a cluster. Default false.
    pub redis_cluster: bool,
    /// PEM file with the authorities of the certificates that Redis shows at `rediss://`. Default none: the public ones.
    pub redis_ca: Option<PathBuf>,
    /// PEM file with the certificate that this node shows to Redis. Default none: a user and a password, if any, say who it is.
    pub redis_certificate: Option<PathBuf>,
    /// PEM file with the private key of that. Default none.
    pub redis_key: Option<PathBuf>,
    /// Postgres, `postgres://user:password@host:port/database`, with `sslmode` as it is used there. Default none: the directory
    /// lies in the data folder.
    pub postgres: Option<String>,
    /// Connections to Postgres at a time, 2 to 1,000; default 16.
    pub postgres_connections_max: u32,
    /// CQL servers, `host:port`, comma-separated outside of a file. Default none: the log lies in the data folder.
    pub cql: Vec<String>,
    /// Keyspace of the log and the markers; made when it is missing. Default `stonechat`.
    pub cql_keyspace: String,
    /// Home data centre of the conversations; its nodes alone are asked. Default none: that of the first server reached.
    pub cql_datacenter: Option<String>,
    /// Copies of everything when the keyspace is made, 1 to 9; default 3.
    pub cql_replication: u8,
    /// User of the CQL servers. Default none.
    pub cql_user: Option<String>,
    /// Their password. Default none.
    pub cql_password: Option<String>,
    /// PEM file with the authorities of the CQL servers' certificates; lines to them are then encrypted. Default none: plain.
    pub cql_ca: Option<PathBuf>,
    /// Subject alternative names (DNS names or URIs) of which a CQL server's certificate must have one; comma-separated outside
    /// of a file. Default none: it must have the address at which the server is reached.
    pub cql_names: Vec<String>,
    /// PEM file with the certificate that this node shows to the CQL servers. Default none: `cql_user`, if any, says who it is.
    pub cql_certificate: Option<PathBuf>,
    /// PEM file with the private key of that. Default none.
    pub cql_key: Option<PathBuf>,
    /// What this node does: `gateway` holds streams, `core` owns conversations; comma-separated outside of a file. Default both.
    pub roles: Roles,
    /// Address and port for other nodes. Default none: a node alone.
    pub node_listen: Option<SocketAddr>,
    /// `host:port` at which others reach that. Default `node_listen`.
    pub node_advertise: Option<String>,
    /// The port for other nodes is plain and asks nobody who they are, also where it is not loopback. Default false: without the
    /// four settings below a node does not start there.
    pub node_plain: bool,
    /// PEM file with the certificate that this node shows to others, as client and as server. Default none: plain, which a
    /// port beyond loopback needs `node_plain` for.
    pub node_certificate: Option<PathBuf>,
    /// PEM file with its private key. Default none.
    pub node_key: Option<PathBuf>,
    /// PEM file with the authorities of other nodes' certificates; then only who has one is spoken to. Default none.
    pub node_ca: Option<PathBuf>,
    /// Subject alternative names of which a node's certificate must have one. Default none.
    pub node_names: Vec<String>,
    /// How far this node's clock may be from the middle of the other nodes', `clock_offset_max_ms`, 0 to 600,000; 0: it is not
    /// judged; default 500. Farther off a node does not start, and one that serves is not ready and owns no conversations.
    pub clock_offset_max: Duration,
    /// Collector of traces, `http://host:port`, which speaks OTLP over gRPC. Default none. Needs a binary built with the
    /// feature `otlp`.
    pub otlp_endpoint: Option<String>,
    /// One message in so many is traced, 1 to 1,000,000; default 100.
    pub otlp_one_in: u32,
    /// Which log lines are written, as `level` or `module=level`, comma-separated. Default `info`.
    pub log_filter: String,
    /// `human` or `json`. Default `human`.
    pub log_format: LogFormat,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Holds streams and answers unary calls.
    pub gateway: bool,
    /// Owns conversations: appends and fans out.
    pub core: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self {
            gateway: true,
            core: true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_folder: PathBuf::from("./stonechat-data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            issuer: "stonechat".to_owned(),
            audience: "stonechat".to_owned(),
            jwks_file: None,
            jwks_url: None,
            provision_users: true,
            cors_origins: Vec::new(),
            drain: Duration::from_secs(10),
            connections_max: 10_000,
            address_connections_max: 2_000,
            address_connections_per_second: 100,
            address_requests_per_second: 1_000,
            user_requests_per_second: 100,
            requests_at_once_max: 512,
            connection_age: Duration::from_secs(12 * 3_600),
            session_frames_per_second: 100,
            conversation_entries_per_second: 1_000,
            tls_certificate: None,
            tls_key: None,
            operator_listen: None,
            operator_client_ca: None,
            operator_client_names: Vec::new(),
            admin_on_operator: false,
            redis: Vec::new(),
            redis_cluster: false,
            redis_ca: None,
            redis_certificate: None,
            redis_key: None,
            postgres: None,
            postgres_connections_max: 16,
            cql: Vec::new(),
            cql_keyspace: "stonechat".to_owned(),
            cql_datacenter: None,
            cql_replication: 3,
            cql_user: None,
            cql_password: None,
            cql_ca: None,
            cql_names: Vec::new(),
            cql_certificate: None,
            cql_key: None,
            roles: Roles::default(),
            node_listen: None,
            node_advertise: None,
            node_plain: false,
            node_certificate: None,
            node_key: None,
            node_ca: None,
            node_names: Vec::new(),
            clock_offset_max: Duration::from_millis(500),
            otlp_endpoint: None,
            otlp_one_in: 100,
            log_filter: "info".to_owned(),
            log_format: LogFormat::Human,
        }
    }
}

impl Config {
    /// Where traces go, if anywhere.
    #[must_use]
    pub fn traces(&self) -> Option<TraceOptions> {
        let endpoint = self.otlp_endpoint.clone()?;
        let one_in = self.otlp_one_in;
        Some(TraceOptions { endpoint, one_in })
    }
}
