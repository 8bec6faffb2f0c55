//! The settings as flags, with the documentation that `settings --markdown` prints.

use std::path::PathBuf;

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
    /// Redis for live delivery and presence, redis:// or rediss://, comma-separated [default: none, within this process]
    ///
    /// A node alone needs none; several need it to tell each other at once, and lose nothing when it is gone.
    #[arg(long, value_name = "URLS")]
    pub redis: Option<String>,
    /// Those are nodes of a Redis cluster [default: false]
    ///
    /// A single server carries tens of thousands of users; a cluster is a decision.
    #[arg(long, value_name = "BOOL")]
    pub redis_cluster: Option<String>,
    /// Authorities of Redis' certificates at rediss://, a PEM file [default: none, the public ones]
    ///
    /// Who runs Redis within a network of its own signs its certificates, too.
    #[arg(long, value_name = "FILE")]
    pub redis_ca: Option<String>,
    /// Certificate that this node shows to Redis, a PEM file; needs redis_ca [default: none]
    ///
    /// Only where Redis asks for one (`tls-auth-clients`); a password in the address does without.
    #[arg(long, value_name = "FILE")]
    pub redis_certificate: Option<String>,
    /// Private key of that certificate, a PEM file [default: none]
    ///
    /// It belongs to the certificate; readable by the server's user alone.
    #[arg(long, value_name = "FILE")]
    pub redis_key: Option<String>,
    /// Postgres for users, devices, conversations, as postgres://user:password@host/database [default: none, in the data
    /// folder]
    ///
    /// SQLite in the data folder serves one node; several share a Postgres.
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// Connections to Postgres at a time, 2 to 1000 [default: 16]
    ///
    /// A node's questions are short; twenty nodes of sixteen stay below what a Postgres of usual size allows.
    #[arg(long, value_name = "COUNT")]
    pub postgres_connections_max: Option<String>,
    /// CQL servers (ScyllaDB, Cassandra) of the message log, host:port, comma-separated [default: none, in the data folder]
    ///
    /// The log in the data folder serves one node and is the fastest there is; several nodes need one they share.
    #[arg(long, value_name = "ADDRESSES")]
    pub cql: Option<String>,
    /// Keyspace of the log [default: stonechat]
    ///
    /// One cluster can serve several installations, each in its own.
    #[arg(long, value_name = "NAME")]
    pub cql_keyspace: Option<String>,
    /// Data centre that is asked [default: none, that of the first server reached]
    ///
    /// Conditional writes of two data centres do not see each other: all nodes must ask the same one.
    #[arg(long, value_name = "NAME")]
    pub cql_datacenter: Option<String>,
    /// Copies of everything when the keyspace is made, 1 to 9 [default: 3]
    ///
    /// With three copies one server may die and every message is still there and still taken.
    #[arg(long, value_name = "COUNT")]
    pub cql_replication: Option<String>,
    /// User of the CQL servers [default: none]
    ///
    /// Servers as they come ask for none.
    #[arg(long, value_name = "NAME")]
    pub cql_user: Option<String>,
    /// Password of the CQL servers [default: none]
    ///
    /// Better given in the environment or the file than as a flag, which others on the machine can see.
    #[arg(long, value_name = "TEXT", hide_env_values = true)]
    pub cql_password: Option<String>,
    /// Authorities of the CQL servers' certificates, a PEM file [default: none, plain]
    ///
    /// With it lines to them are encrypted; without it messages and the password cross the network as they are.
    #[arg(long, value_name = "FILE")]
    pub cql_ca: Option<String>,
    /// Names of which a CQL server's certificate must have one, comma-separated [default: none, its address]
    ///
    /// Servers are found by address, and many a cluster has certificates of one name.
    #[arg(long, value_name = "NAMES")]
    pub cql_names: Option<String>,
    /// Certificate that this node shows to the CQL servers, a PEM file; needs cql_ca [default: none]
    ///
    /// Only where they ask for one (`require_client_auth`); it is beside user and password, not in their place.
    #[arg(long, value_name = "FILE")]
    pub cql_certificate: Option<String>,
    /// Private key of that certificate, a PEM file [default: none]
    ///
    /// It belongs to the certificate; readable by the server's user alone.
    #[arg(long, value_name = "FILE")]
    pub cql_key: Option<String>,
    /// Roles of this node, of gateway, core; comma-separated [default: none, which is both]
    ///
    /// One process that does everything is right until streams or conversations alone need more machines.
    #[arg(long, visible_alias = "role", value_name = "ROLES")]
    pub roles: Option<String>,
    /// Address and port for other nodes [default: none, a node alone]
    ///
    /// Nobody listens for nodes that do not exist; never reachable from outside.
    #[arg(long, value_name = "ADDRESS")]
    pub node_listen: Option<String>,
    /// host:port at which other nodes reach that [default: none, as node_listen]
    ///
    /// Behind address translation, or when listening on all addresses, it is another one.
    #[arg(long, value_name = "ADDRESS")]
    pub node_advertise: Option<String>,
    /// Let the port for other nodes be plain where it is not loopback [default: false]
    ///
    /// Whoever reaches a plain one can write as anybody: right only inside a network that nobody else is in.
    #[arg(long, value_name = "BOOL")]
    pub node_plain: Option<String>,
    /// Certificate that this node shows to others, a PEM file [default: none, plain]
    ///
    /// On loopback, or with node_plain in a network of its own, none is needed; anywhere else nodes must know each other.
    #[arg(long, value_name = "FILE")]
    pub node_certificate: Option<String>,
    /// Its private key, a PEM file [default: none]
    ///
    /// It belongs to the certificate; readable by the server's user alone.
    #[arg(long, value_name = "FILE")]
    pub node_key: Option<String>,
    /// Authorities of other nodes' certificates, a PEM file [default: none]
    ///
    /// With it only nodes that one of them signed are spoken to, in both directions.
    #[arg(long, value_name = "FILE")]
    pub node_ca: Option<String>,
    /// Names of which a node's certificate must have one, comma-separated [default: none]
    ///
    /// An authority signs for many; the list says who of them is a node.
    #[arg(long, value_name = "NAMES")]
    pub node_names: Option<String>,
    /// Milliseconds that this node's clock may be from the other nodes', 0 to 600000, 0 for any number [default: 500]
    ///
    /// Times of messages and the life of tokens follow it; clocks kept by NTP are a few milliseconds apart, and one that is not kept is found before people notice.
    #[arg(long, value_name = "MILLISECONDS")]
    pub clock_offset_max_ms: Option<String>,
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
    pub(super) fn value(&self, key: &str) -> Option<&str> {
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
            "redis" => &self.redis,
            "redis_cluster" => &self.redis_cluster,
            "redis_ca" => &self.redis_ca,
            "redis_certificate" => &self.redis_certificate,
            "redis_key" => &self.redis_key,
            "postgres" => &self.postgres,
            "postgres_connections_max" => &self.postgres_connections_max,
            "cql" => &self.cql,
            "cql_keyspace" => &self.cql_keyspace,
            "cql_datacenter" => &self.cql_datacenter,
            "cql_replication" => &self.cql_replication,
            "cql_user" => &self.cql_user,
            "cql_password" => &self.cql_password,
            "cql_ca" => &self.cql_ca,
            "cql_names" => &self.cql_names,
            "cql_certificate" => &self.cql_certificate,
            "cql_key" => &self.cql_key,
            "roles" => &self.roles,
            "node_listen" => &self.node_listen,
            "node_advertise" => &self.node_advertise,
            "node_plain" => &self.node_plain,
            "node_certificate" => &self.node_certificate,
            "node_key" => &self.node_key,
            "node_ca" => &self.node_ca,
            "node_names" => &self.node_names,
            "clock_offset_max_ms" => &self.clock_offset_max_ms,
            "otlp_endpoint" => &self.otlp_endpoint,
            "otlp_one_in" => &self.otlp_one_in,
            "log_filter" => &self.log_filter,
            "log_format" => &self.log_format,
            _ => &None,
        };
        flag.as_deref()
    }
}
