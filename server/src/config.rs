//! One struct of settings: embedded defaults, then a TOML file, then the environment, then flags; the last one wins.

mod describe;
mod given;
mod load;

#[cfg(test)]
mod tests;

pub use describe::{Setting, markdown, settings};
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
    /// default 100. Integrators have no such limit.
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

// The first paragraph of each flag says what it is, its range and its default, the second why that is the default:
// `stonechat settings --markdown` prints both, and docs/operations.md has that table.
/// The settings as flags, for commands that start a server. Each can also be set in the environment, as `STONECHAT_` and its
/// name in capitals, or in the file, by its name with underscores; flags win over the environment, and that over the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigFlags {
    /// TOML file with settings [env: STONECHAT_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of everything that is kept [default: ./stonechat-data]
    ///
    /// It holds the log, the directory and the secret of tokens: on a disk of its own, a full log of the machine cannot
    /// stop it.
    #[arg(long, value_name = "FOLDER")]
    pub data_folder: Option<String>,
    /// Address and port to serve on [default: 127.0.0.1:7400]
    ///
    /// A fresh server is reached by its own machine alone until somebody decides otherwise.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Issuer of tokens [default: stonechat]
    ///
    /// A token of another issuer proves nothing, whatever its key.
    #[arg(long, value_name = "TEXT")]
    pub issuer: Option<String>,
    /// Audience of tokens [default: stonechat]
    ///
    /// A token that the same provider issued for another service must not open this one.
    #[arg(long, value_name = "TEXT")]
    pub audience: Option<String>,
    /// Public keys (JWKS) of the identity provider that issues tokens [default: none, tokens are issued here]
    ///
    /// A secret that nobody has to manage is right for a first try, a provider's keys for everything else; the file is
    /// read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub jwks_file: Option<String>,
    /// Address of those keys, fetched again and again [default: none]
    ///
    /// Providers rotate their keys by publishing them; a file is right where the node must not reach out.
    #[arg(long, value_name = "URL")]
    pub jwks_url: Option<String>,
    /// Create a user at their first hello [default: true]
    ///
    /// Where the provider's users are the chat's users, nobody has to create them twice.
    #[arg(long, value_name = "BOOL")]
    pub provision_users: Option<String>,
    /// Origins whose web pages may call, comma-separated [default: none]
    ///
    /// A page that nobody named cannot act for its visitor.
    #[arg(long, value_name = "ORIGINS")]
    pub cors_origins: Option<String>,
    /// Seconds that streams may go on when the server stops, 0 to 300 [default: 10]
    ///
    /// Answers under way arrive, and supervisors that kill after 30 s do not see it.
    #[arg(long, value_name = "SECONDS")]
    pub drain_seconds: Option<String>,
    /// Connections at a time, 1 to 1000000 [default: 10000]
    ///
    /// Each takes a file descriptor: the process's limit must be above it, with a thousand left for the store.
    #[arg(long, value_name = "COUNT")]
    pub connections_max: Option<String>,
    /// Open connections of one source address, 0 for no limit [default: 2000]
    ///
    /// Offices and mobile carriers put hundreds of people behind one address; one address must not take all connections.
    #[arg(long, value_name = "COUNT")]
    pub address_connections_max: Option<String>,
    /// Sustained new connections a second from one source address, 0 for no limit [default: 100]
    ///
    /// A network that comes back after an outage is taken in within seconds, a loop that only connects is slowed.
    #[arg(long, value_name = "COUNT")]
    pub address_connections_per_second: Option<String>,
    /// Sustained requests a second from one source address, 0 for no limit [default: 1000]
    ///
    /// Above what the people behind one address ask for, below what one machine could.
    #[arg(long, value_name = "COUNT")]
    pub address_requests_per_second: Option<String>,
    /// Sustained unary calls and hellos a second of one user, 0 for no limit [default: 100]
    ///
    /// A backend that acts for a user has room, one user alone cannot fill the node.
    #[arg(long, value_name = "COUNT")]
    pub user_requests_per_second: Option<String>,
    /// Unary calls and hellos that are worked on at a time [default: 512]
    ///
    /// More would only wait inside the store; those above wait in line for a moment, then are refused with a time to come back.
    #[arg(long, value_name = "COUNT")]
    pub requests_at_once_max: Option<String>,
    /// Age in seconds at which a connection's streams are told to move to a new one, 0 for never [default: 43200]
    ///
    /// Half a day spreads connections over nodes that joined later, and nobody notices one reconnect in it.
    #[arg(long, value_name = "SECONDS")]
    pub connection_age_seconds: Option<String>,
    /// Sustained frames a second from one session, 1 to 100000 [default: 100]
    ///
    /// No person types so fast, and a client that repeats itself without a pause is slowed, not cut off.
    #[arg(long, value_name = "COUNT")]
    pub session_frames_per_second: Option<String>,
    /// Sustained entries a second in one conversation, 1 to 100000 [default: 1000]
    ///
    /// One busy group leaves the disk to the others; every member reads each entry.
    #[arg(long, value_name = "COUNT")]
    pub conversation_entries_per_second: Option<String>,
    /// Certificate of the public port, a PEM file read again when it changes [default: none, plain HTTP]
    ///
    /// Certificates belong to who runs the machine; without one it must be for this machine or behind a proxy that
    /// encrypts.
    #[arg(long, value_name = "FILE")]
    pub tls_certificate: Option<String>,
    /// Private key of the certificate, a PEM file [default: none]
    ///
    /// It belongs to the certificate; readable by the server's user alone.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Address and port for operators: metrics, health, reflection [default: none]
    ///
    /// Several servers on one machine must not meet at one port; where metrics are wanted, 127.0.0.1:7401 is the usual
    /// one.
    #[arg(long, value_name = "ADDRESS")]
    pub operator_listen: Option<String>,
    /// Authorities of client certificates that the operator's port demands, a PEM file [default: none]
    ///
    /// On loopback or in a network of operators alone none is needed; anywhere else it keeps the curious out.
    #[arg(long, value_name = "FILE")]
    pub operator_client_ca: Option<String>,
    /// Names of which such a certificate must have one, comma-separated [default: none]
    ///
    /// An authority signs for many; the list says who of them is an operator. Wildcards name nobody.
    #[arg(long, value_name = "NAMES")]
    pub operator_client_names: Option<String>,
    /// Serve the admin rpcs on the operator's port alone [default: false]
    ///
    /// Integrators' backends often reach the public port alone; where they do not have to, a stolen admin token is
    /// worth nothing outside.
    #[arg(long, value_name = "BOOL")]
    pub admin_on_operator: Option<String>,
    /// Collector of traces (OTLP over gRPC), such as http://127.0.0.1:4317 [default: none]
    ///
    /// Traces are for finding out where a message waits; needs a binary built with `--features otlp`.
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// One message in so many is traced, 1 to 1000000 [default: 100]
    ///
    /// A trace costs more than the message itself, and one in a hundred shows what is slow.
    #[arg(long, value_name = "COUNT")]
    pub otlp_one_in: Option<String>,
    /// Log lines to write, such as info or stonechat_server=debug [default: info]
    ///
    /// Sessions that open and end, and whatever goes wrong; nothing for each message.
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// human or json [default: human]
    ///
    /// Read by a person first; collectors take json.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl ConfigFlags {
    /// The flag that sets an option.
    fn value(&self, key: &str) -> Option<&str> {
        let flag = match key {
            "data_folder" => &self.data_folder,
            "listen" => &self.listen,
            "issuer" => &self.issuer,
            "audience" => &self.audience,
            "jwks_file" => &self.jwks_file,
            "jwks_url" => &self.jwks_url,
            "provision_users" => &self.provision_users,
            "cors_origins" => &self.cors_origins,
            "drain_seconds" => &self.drain_seconds,
            "connections_max" => &self.connections_max,
            "address_connections_max" => &self.address_connections_max,
            "address_connections_per_second" => &self.address_connections_per_second,
            "address_requests_per_second" => &self.address_requests_per_second,
            "user_requests_per_second" => &self.user_requests_per_second,
            "requests_at_once_max" => &self.requests_at_once_max,
            "connection_age_seconds" => &self.connection_age_seconds,
            "session_frames_per_second" => &self.session_frames_per_second,
            "conversation_entries_per_second" => &self.conversation_entries_per_second,
            "tls_certificate" => &self.tls_certificate,
            "tls_key" => &self.tls_key,
            "operator_listen" => &self.operator_listen,
            "operator_client_ca" => &self.operator_client_ca,
            "operator_client_names" => &self.operator_client_names,
            "admin_on_operator" => &self.admin_on_operator,
            "otlp_endpoint" => &self.otlp_endpoint,
            "otlp_one_in" => &self.otlp_one_in,
            "log_filter" => &self.log_filter,
            "log_format" => &self.log_format,
            _ => &None,
        };
        flag.as_deref()
    }
}
