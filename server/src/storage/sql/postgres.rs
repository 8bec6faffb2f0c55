//! Postgres: sessions, pool, migrations, and what it says differently. Several nodes use one database at a time.

use std::future::Future;
use std::io;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Postgres};

use super::SqlDirectory;
use super::db::{Bound, Db, runs_queries};
use super::migrations::{migration, not_migrated};
use crate::storage::DirectoryError;

type Result<T> = std::result::Result<T, DirectoryError>;

/// For a whole call: below the 5 s in which a stream's first frame must be answered.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// For a connection: leaves a call that got one late the time to use it.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// For one statement, locks included, kept by the server: below a call's, so that its connection is free again when the
/// call is given up.
const STATEMENT_TIMEOUT_MS: &str = "3000";

/// For a transaction whose node went silent, kept by the server: its locks must not outlast the calls that wait for them
/// by much, and no call of ours pauses that long inside one.
const IDLE_TRANSACTION_TIMEOUT_MS: &str = "5000";

/// For the first connection of a node that starts.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// For the schema: a new index of a large table, and other nodes that are at it already.
pub(super) const MIGRATION_TIMEOUT: Duration = Duration::from_mins(10);

/// For a connection to show that it is alive: one round trip.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that was used within this time is taken to be alive: a busy node saves a round trip per call.
const ALIVE_FOR: Duration = Duration::from_secs(1);

/// Connections kept when nothing is asked: the first calls after a quiet time need not wait for TLS and a login.
const CONNECTIONS_MIN: u32 = 2;

/// Users, devices, conversations in a Postgres database.
pub type PostgresDirectory = SqlDirectory<Postgres>;

impl Db for Postgres {
    const BEGIN_WRITE: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    const BEGIN_READ: &'static str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    // Against itself only: rows that refer to the user are written meanwhile.
    const LOCK_USER: Option<&'static str> = Some("SELECT user_id FROM users WHERE user_id = $1 FOR NO KEY UPDATE");

    runs_queries!();
}

impl PostgresDirectory {
    /// Connects to the database that `url` names, with at most `connections_max` connections, and brings its schema up to
    /// date. Nodes that start together take turns.
    ///
    /// # Errors
    /// The URL is not understood, the server does not answer or refuses the user, what it confirms may be lost, or the
    /// schema was written by a newer version of this program.
    pub async fn open(url: &str, connections_max: u32) -> Result<Self> {
        Self::open_with(options_of(url)?, connections_max).await
    }

    pub(super) async fn open_with(options: PgConnectOptions, connections_max: u32) -> Result<Self> {
        let options = as_ours(options);
        prepare(&options).await?;
        let pool = in_time(OPEN_TIMEOUT, connect(options, connections_max)).await?;
        Ok(Self {
            writer: pool.clone(),
            readers: pool,
            patience: CALL_TIMEOUT,
        })
    }
}

/// Where a URL leads. What the parser says of a bad one may quote it, and so the password.
pub(super) fn options_of(url: &str) -> Result<PgConnectOptions> {
    let options: std::result::Result<PgConnectOptions, _> = url.parse();
    options.map_err(|_| DirectoryError::Unavailable("its URL is not understood".to_owned()))
}

/// Connections by which the server knows us, whose statements are not logged.
pub(super) fn as_ours(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("stonechat").disable_statement_logging()
}

pub(super) async fn in_time<T, E>(limit: Duration, call: impl Future<Output = std::result::Result<T, E>>) -> Result<T>
where
    DirectoryError: From<E>,
{
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(DirectoryError::Unavailable("no answer in time".to_owned())),
    }
}

/// Checks the server and brings the schema up to date, on a connection that has no timeouts yet.
async fn prepare(options: &PgConnectOptions) -> Result<()> {
    let mut connection = in_time(OPEN_TIMEOUT, PgConnection::connect_with(options)).await?;
    in_time(OPEN_TIMEOUT, refuse_unfit(&mut connection)).await?;
    in_time(MIGRATION_TIMEOUT, migrate(&mut connection)).await?;
    in_time(OPEN_TIMEOUT, connection.close()).await
}

async fn migrate(connection: &mut PgConnection) -> Result<()> {
    migrations().run(connection).await.map_err(not_migrated)
}

/// A write that returned must not be lost with the server's memory, and every text must be storable.
async fn refuse_unfit(connection: &mut PgConnection) -> Result<()> {
    let needed = [("fsync", "on"), ("server_encoding", "UTF8")];
    for (name, value) in needed {
        let is = setting(connection, name).await?;
        if is.as_deref().is_some_and(|is| is != value) {
            return Err(unfit(name, is));
        }
    }
    let commit = setting(connection, "synchronous_commit").await?;
    if commit.as_deref() == Some("off") {
        return Err(unfit("synchronous_commit", commit));
    }
    Ok(())
}

/// A setting of the server; `None` where a server that speaks the same protocol does not have it.
async fn setting(connection: &mut PgConnection, name: &str) -> Result<Option<String>> {
    let query = sqlx::query_scalar("SELECT current_setting($1, TRUE)").bind(name);
    Ok(query.fetch_one(connection).await?)
}

fn unfit(name: &str, value: Option<String>) -> DirectoryError {
    let value = value.unwrap_or_default();
    DirectoryError::Unavailable(format!(
        "the server's {name} is {value}: what is written there may be lost or refused"
    ))
}

async fn connect(options: PgConnectOptions, connections_max: u32) -> sqlx::Result<PgPool> {
    let options = options.options([
        ("statement_timeout", STATEMENT_TIMEOUT_MS),
        ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_TIMEOUT_MS),
        // Single statements too: the database's default may be another.
        ("default_transaction_isolation", "read committed"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .min_connections(CONNECTIONS_MIN.min(connections_max))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > ALIVE_FOR {
                    alive(connection).await?;
                }
                Ok(true)
            })
        })
        // A connection whose server vanished would wait for its last answer until TCP gives up, and count meanwhile.
        .after_release(|connection, _| Box::pin(async move { alive(connection).await.map(|()| true) }));
    pool.connect_with(options).await
}

async fn alive(connection: &mut PgConnection) -> sqlx::Result<()> {
    match tokio::time::timeout(ALIVE_TIMEOUT, connection.ping()).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())),
    }
}

/// Every step of the schema.
pub(super) fn migrations() -> Migrator {
    let first = include_str!("../../../migrations/postgres/0001_directory.sql");
    Migrator::with_migrations(vec![migration(1, "directory", first)])
}
