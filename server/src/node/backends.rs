//! Picks the backends that the settings name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Host;

use super::StartError;
use super::listeners::contradiction;
use crate::bus::Bus;
use crate::bus::embedded::EmbeddedBus;
use crate::bus::redis::{DEFAULT_PREFIX, RedisBus, RedisOptions};
use crate::config::Config;
use crate::conversation::Backends;
use crate::storage::cql::{BUCKET_SEQS, CqlOptions, CqlStore};
use crate::storage::embedded::EmbeddedStore;
use crate::storage::embedded::directory::{Patience, SqliteDirectory};
use crate::storage::remembered::RememberedDirectory;
use crate::storage::sql::{PostgresDirectory, PostgresTurns};
use crate::storage::turns::Turns;
use crate::storage::{Directory, Markers, MessageLog};
use crate::tls::{TlsError, TlsPair, Trust};

/// File of the directory in the data folder.
const DIRECTORY_FILE: &str = "directory.sqlite";
/// A device's last hello is written down at most this often: each time is a write to disk.
const LAST_SEEN_EXACT_TO: Duration = Duration::from_secs(60);

/// Opens the log, markers, directory and bus that the settings name. What lies in the data folder no other process may use
/// meanwhile.
///
/// # Errors
/// See [`StartError`].
pub async fn open_backends(config: &Config, host: &Host) -> Result<Backends, StartError> {
    check(config)?;
    check_trust(config)?;
    // The secret of tokens lies there, also when nothing else does.
    let folder = &config.data_folder;
    make_private(folder).map_err(|source| StartError::Folder {
        path: folder.clone(),
        source,
    })?;
    let (log, markers) = open_log(config, host).await?;
    Ok(Backends {
        log,
        markers,
        directory: open_directory(config).await?,
        bus: open_bus(config, host).await?,
    })
}

/// Makes a folder into which nobody else looks, where there is none: what people wrote lies there.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// What several nodes share must all be shared, or they would contradict each other.
fn check(config: &Config) -> Result<(), StartError> {
    match (config.cql.is_empty(), &config.postgres) {
        (true, Some(_)) => {
            contradiction("postgres needs cql: a directory in one place and its log in another would part")
        }
        (false, None) => {
            contradiction("cql needs postgres: a log in one place and its directory in another would part")
        }
        (true, None) if config.node_listen.is_some() => {
            contradiction("node_listen needs cql and postgres: nodes share their stores")
        }
        _ if config.node_listen.is_some() && config.redis.is_empty() => {
            contradiction("node_listen needs redis: nodes find each other there")
        }
        _ if config.node_listen.is_none() && !config.roles.core => {
            contradiction("the role gateway alone needs node_listen: somebody else must own conversations")
        }
        _ => Ok(()),
    }
}

/// Who asks for encrypted lines to stores gets them.
///
/// # Errors
/// Settings that ask for it would do nothing.
pub fn check_trust(config: &Config) -> Result<(), StartError> {
    let open = |address: &String| !address.starts_with("rediss://");
    if config.cql_ca.is_some() && config.cql.is_empty() {
        return contradiction("cql_ca needs cql: there is no line to encrypt");
    }
    if !config.cql_names.is_empty() && config.cql_ca.is_none() {
        return contradiction("cql_names needs cql_ca: without it lines are plain and no server shows its name");
    }
    if config.redis_ca.is_some() && (config.redis.is_empty() || config.redis.iter().any(open)) {
        return contradiction("redis_ca needs addresses that begin with rediss://: other lines are plain");
    }
    let pairs = [
        ("redis", &config.redis_ca, &config.redis_certificate, &config.redis_key),
        ("cql", &config.cql_ca, &config.cql_certificate, &config.cql_key),
    ];
    for (service, authorities, certificate, key) in pairs {
        if certificate.is_some() != key.is_some() {
            return contradiction(&format!("{service}_certificate and {service}_key belong together"));
        }
        if certificate.is_some() && authorities.is_none() {
            let why = format!("{service}_certificate needs {service}_ca: it is shown to a server that is known alone");
            return contradiction(&why);
        }
    }
    Ok(())
}

/// What this node shows to stores that ask who it is.
pub(crate) fn shown_pairs(config: &Config) -> Vec<TlsPair> {
    let pairs = [shown_to_redis(config), shown_to_cql(config)];
    pairs.into_iter().flatten().collect()
}

fn shown_to_redis(config: &Config) -> Option<TlsPair> {
    shown(config.redis_certificate.as_ref(), config.redis_key.as_ref())
}

fn shown_to_cql(config: &Config) -> Option<TlsPair> {
    shown(config.cql_certificate.as_ref(), config.cql_key.as_ref())
}

fn shown(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<TlsPair> {
    Some(TlsPair {
        certificate: certificate?.clone(),
        key: key?.clone(),
    })
}

async fn open_log(config: &Config, host: &Host) -> Result<(Arc<dyn MessageLog>, Arc<dyn Markers>), StartError> {
    if config.cql.is_empty() {
        let (folder, of_store) = (config.data_folder.clone(), host.clone());
        let opening = tokio::task::spawn_blocking(move || EmbeddedStore::open(&folder, &of_store));
        let store = opening.await.map_err(|error| StartError::Thread(error.to_string()))?;
        let store = Arc::new(store?);
        return Ok((Arc::clone(&store) as _, store));
    }
    let turns = config.postgres.as_deref().map(PostgresTurns::of);
    let turns = turns.transpose().map_err(StartError::Postgres)?;
    let turns = turns.as_ref().map(|turns| turns as &dyn Turns);
    let options = cql_options(config, host).await?;
    let store = Arc::new(Box::pin(CqlStore::open_among(options, host, turns)).await?);
    Ok((Arc::clone(&store) as _, store))
}

/// Where the settings say that the CQL servers are, and how to keep data there.
///
/// # Errors
/// The file of their authorities cannot be used, or what is shown to them.
pub async fn cql_options(config: &Config, host: &Host) -> Result<CqlOptions, TlsError> {
    Ok(CqlOptions {
        servers: config.cql.clone(),
        keyspace: config.cql_keyspace.clone(),
        datacenter: config.cql_datacenter.clone(),
        replication: config.cql_replication,
        user: config.cql_user.clone(),
        password: config.cql_password.clone(),
        trust: trust(config.cql_ca.as_deref(), &config.cql_names, shown_to_cql(config), host).await?,
        bucket_seqs: BUCKET_SEQS,
    })
}

/// Where the settings say that Redis is.
///
/// # Errors
/// The file of its authorities cannot be used, or what is shown to it.
pub async fn redis_options(config: &Config, host: &Host) -> Result<RedisOptions, TlsError> {
    Ok(RedisOptions {
        trust: trust(config.redis_ca.as_deref(), &[], shown_to_redis(config), host).await?,
        addresses: config.redis.clone(),
        cluster: config.redis_cluster,
        prefix: DEFAULT_PREFIX.to_owned(),
    })
}

async fn trust(
    authorities: Option<&Path>,
    names: &[String],
    pair: Option<TlsPair>,
    host: &Host,
) -> Result<Option<Trust>, TlsError> {
    match authorities {
        Some(authorities) => Ok(Some(Trust::read(authorities, names, pair.as_ref(), host).await?)),
        None => Ok(None),
    }
}

async fn open_directory(config: &Config) -> Result<Arc<dyn Directory>, StartError> {
    if let Some(url) = &config.postgres {
        // Boxed, as below: what opening takes must not be carried by everything that starts a node.
        let opened = Box::pin(PostgresDirectory::open(url, config.postgres_connections_max)).await;
        // Not remembered: other nodes write it, too.
        return Ok(Arc::new(opened.map_err(StartError::Postgres)?));
    }
    let path = config.data_folder.join(DIRECTORY_FILE);
    let directory = Box::pin(SqliteDirectory::open(&path, Patience::default())).await;
    let directory = Arc::new(directory.map_err(|source| StartError::Directory { path, source })?);
    Ok(Arc::new(RememberedDirectory::new(directory, LAST_SEEN_EXACT_TO)))
}

async fn open_bus(config: &Config, host: &Host) -> Result<Arc<dyn Bus>, StartError> {
    if config.redis.is_empty() {
        return Ok(Arc::new(EmbeddedBus::new()));
    }
    let options = redis_options(config, host).await?;
    Ok(Arc::new(Box::pin(RedisBus::open(options, host.clone())).await?))
}

#[cfg(test)]
mod tests;
