//! Reading the sources in their order.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::given::Given;
use super::{Config, ConfigFlags};

/// Longest drain: above it supervisors have killed the process.
const DRAIN_SECONDS_MAX: u64 = 300;
/// Most connections: Linux's own bound of descriptors (fs.nr_open) is near it.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Highest rate: above any measured one, it is no limit.
const PER_SECOND_MAX: u32 = 100_000;
/// Most calls at a time: more than any store commits together.
const REQUESTS_AT_ONCE_MAX: usize = 100_000;
/// Oldest connection: a week, above any token's life.
const CONNECTION_AGE_SECONDS_MAX: u64 = 7 * 24 * 3_600;
/// Farthest clock: beyond ten minutes tokens are refused anyhow.
const CLOCK_OFFSET_MAX_MS: u64 = 600_000;
/// Thinnest sample: at the highest rate of one conversation still one message in ten seconds.
const ONE_IN_MAX: u32 = 1_000_000;
/// Most connections to Postgres: above what one server takes well.
const POSTGRES_CONNECTIONS_MAX: u32 = 1_000;
/// Most copies: more than anybody's servers in one place.
const CQL_REPLICATION_MAX: u8 = 9;
/// Name of the file's variable, and what those of all options begin with.
const ENVIRONMENT_PREFIX: &str = "STONECHAT_";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The environment.
    Environment,
    /// A flag.
    Flag,
}

/// The settings cannot be used: do not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("settings file {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("settings file {path} is not TOML: {why}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
    /// The file has an option that does not exist.
    #[error("settings file {path}: there is no option {key:?}; there are {known}")]
    UnknownKey {
        /// Which.
        path: PathBuf,
        /// The key.
        key: String,
        /// All that exist.
        known: String,
    },
    /// A value is not what its option takes.
    #[error("{}: {why}", Named { origin, key })]
    Wrong {
        /// Where it stands.
        origin: Origin,
        /// The option.
        key: &'static str,
        /// What it should be.
        why: String,
    },
}

/// An option as its source spells it.
struct Named<'a> {
    origin: &'a Origin,
    key: &'a str,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::File(path) => write!(f, "settings file {}: {}", path.display(), self.key),
            Origin::Environment => write!(f, "environment variable {}", variable(self.key)),
            Origin::Flag => write!(f, "flag --{}", self.key.replace('_', "-")),
        }
    }
}

/// An option: its name in a file, and what it sets.
pub(super) struct OptionRow {
    pub(super) key: &'static str,
    set: fn(&mut Config, Given) -> Result<(), String>,
}

macro_rules! options {
    ($($key:literal => $field:ident = |$given:ident| $read:expr;)*) => {
        [$(OptionRow {
            key: $key,
            set: |config, $given| {
                config.$field = $read;
                Ok(())
            },
        }),*]
    };
}

/// Every option there is.
pub(super) const OPTIONS: [OptionRow; 54] = options! {
    "data_folder" => data_folder = |given| given.path()?;
    "listen" => listen = |given| given.address()?;
    "issuer" => issuer = |given| given.text()?;
    "audience" => audience = |given| given.text()?;
    "jwks_file" => jwks_file = |given| given.optional_path()?;
    "jwks_url" => jwks_url = |given| given.optional_url()?;
    "provision_users" => provision_users = |given| given.boolean()?;
    "cors_origins" => cors_origins = |given| given.origins()?;
    "drain_seconds" => drain = |given| Duration::from_secs(given.number(0, DRAIN_SECONDS_MAX)?);
    "connections_max" => connections_max = |given| given.number(1, CONNECTIONS_MAX)?;
    "address_connections_max" => address_connections_max = |given| given.number(0, CONNECTIONS_MAX)?;
    "address_connections_per_second" => address_connections_per_second = |given| given.number(0, PER_SECOND_MAX)?;
    "address_requests_per_second" => address_requests_per_second = |given| given.number(0, PER_SECOND_MAX)?;
    "user_requests_per_second" => user_requests_per_second = |given| given.number(0, PER_SECOND_MAX)?;
    "requests_at_once_max" => requests_at_once_max = |given| given.number(1, REQUESTS_AT_ONCE_MAX)?;
    "connection_age_seconds" => connection_age = |given| Duration::from_secs(given.number(0, CONNECTION_AGE_SECONDS_MAX)?);
    "session_frames_per_second" => session_frames_per_second = |given| given.number(1, PER_SECOND_MAX)?;
    "conversation_entries_per_second" => conversation_entries_per_second = |given| given.number(1, PER_SECOND_MAX)?;
    "tls_certificate" => tls_certificate = |given| given.optional_path()?;
    "tls_key" => tls_key = |given| given.optional_path()?;
    "operator_listen" => operator_listen = |given| given.optional_address()?;
    "operator_client_ca" => operator_client_ca = |given| given.optional_path()?;
    "operator_client_names" => operator_client_names = |given| given.names()?;
    "admin_on_operator" => admin_on_operator = |given| given.boolean()?;
    "redis" => redis = |given| given.urls(&["redis", "rediss"])?;
    "redis_cluster" => redis_cluster = |given| given.boolean()?;
    "redis_ca" => redis_ca = |given| given.optional_path()?;
    "redis_certificate" => redis_certificate = |given| given.optional_path()?;
    "redis_key" => redis_key = |given| given.optional_path()?;
    "postgres" => postgres = |given| given.urls(&["postgres", "postgresql"])?.pop();
    "postgres_connections_max" => postgres_connections_max = |given| given.number(2, POSTGRES_CONNECTIONS_MAX)?;
    "cql" => cql = |given| given.hosts()?;
    "cql_keyspace" => cql_keyspace = |given| given.identifier()?;
    "cql_datacenter" => cql_datacenter = |given| given.optional_text()?;
    "cql_replication" => cql_replication = |given| given.number(1, CQL_REPLICATION_MAX)?;
    "cql_user" => cql_user = |given| given.optional_text()?;
    "cql_password" => cql_password = |given| given.optional_text()?;
    "cql_ca" => cql_ca = |given| given.optional_path()?;
    "cql_names" => cql_names = |given| given.names()?;
    "cql_certificate" => cql_certificate = |given| given.optional_path()?;
    "cql_key" => cql_key = |given| given.optional_path()?;
    "roles" => roles = |given| given.roles()?;
    "node_listen" => node_listen = |given| given.optional_address()?;
    "node_advertise" => node_advertise = |given| given.hosts()?.pop();
    "node_plain" => node_plain = |given| given.boolean()?;
    "node_certificate" => node_certificate = |given| given.optional_path()?;
    "node_key" => node_key = |given| given.optional_path()?;
    "node_ca" => node_ca = |given| given.optional_path()?;
    "node_names" => node_names = |given| given.names()?;
    "clock_offset_max_ms" => clock_offset_max = |given| Duration::from_millis(given.number(0, CLOCK_OFFSET_MAX_MS)?);
    "otlp_endpoint" => otlp_endpoint = |given| given.collector()?;
    "otlp_one_in" => otlp_one_in = |given| given.number(1, ONE_IN_MAX)?;
    "log_filter" => log_filter = |given| given.log_filter()?;
    "log_format" => log_format = |given| given.log_format()?;
};

impl Config {
    /// Settings from the file that flags or environment name, if any, this process's environment, and flags.
    ///
    /// # Errors
    /// Says which source and which option is wrong.
    pub fn load(flags: &ConfigFlags) -> Result<Self, ConfigError> {
        Self::load_from(flags, |name| std::env::var_os(name))
    }

    /// The same with another environment.
    ///
    /// # Errors
    /// Says which source and which option is wrong.
    pub fn load_from(flags: &ConfigFlags, environment: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let named_by_environment = || environment("STONECHAT_CONFIG").map(PathBuf::from);
        if let Some(path) = flags.config.clone().or_else(named_by_environment) {
            config.take_file(&path)?;
        }
        for option in &OPTIONS {
            if let Some(value) = environment(&variable(option.key)) {
                config.take(option, Origin::Environment, unicode(option.key, value)?)?;
            }
            if let Some(value) = flags.value(option.key) {
                config.take(option, Origin::Flag, Given::Text(value.to_owned()))?;
            }
        }
        Ok(config)
    }

    fn take_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        for (key, value) in read_file(path)? {
            let Some(option) = OPTIONS.iter().find(|option| option.key == key) else {
                return Err(unknown(path, key));
            };
            self.take(option, Origin::File(path.to_owned()), Given::from_toml(value))?;
        }
        Ok(())
    }

    fn take(&mut self, option: &OptionRow, origin: Origin, given: Given) -> Result<(), ConfigError> {
        let key = option.key;
        (option.set)(self, given).map_err(|why| ConfigError::Wrong { origin, key, why })
    }
}

pub(super) fn variable(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.to_ascii_uppercase())
}

fn unicode(key: &'static str, value: OsString) -> Result<Given, ConfigError> {
    value.into_string().map(Given::Text).map_err(|_| ConfigError::Wrong {
        origin: Origin::Environment,
        key,
        why: "must be UTF-8".to_owned(),
    })
}

fn read_file(path: &Path) -> Result<BTreeMap<String, toml::Value>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    Ok(table.into_iter().collect())
}

fn unknown(path: &Path, key: String) -> ConfigError {
    let known: Vec<&str> = OPTIONS.iter().map(|option| option.key).collect();
    ConfigError::UnknownKey {
        path: path.to_owned(),
        key,
        known: known.join(", "),
    }
}
