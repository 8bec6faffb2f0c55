//! SQLite: pragmas, pools, migrations, patience, and what it says differently.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite};

use super::SqlDirectory;
use super::db::{Bound, Db, runs_queries};
use super::migrations::{migration, not_migrated};
use crate::storage::DirectoryError;

type Result<T> = std::result::Result<T, DirectoryError>;

/// Connections that read: the worker threads of a small machine; more only contend for the page cache.
const READERS_MAX: u32 = 4;

/// How long to wait before a call is given up as unavailable.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a lock that another process holds on the file.
    pub busy: Duration,
    /// For a whole call, waiting for a connection included.
    pub call: Duration,
}

impl Default for Patience {
    /// Below the 5 s in which a stream's first frame must be answered; a lock that lasts longer is not ours to wait for.
    fn default() -> Self {
        Self {
            busy: Duration::from_secs(2),
            call: Duration::from_secs(4),
        }
    }
}

/// Users, devices, conversations in one SQLite file: one writer, a few readers.
pub type SqliteDirectory = SqlDirectory<Sqlite>;

impl Db for Sqlite {
    // Holds the write lock from its start, so that what it read stays true until it commits.
    const BEGIN_WRITE: &'static str = "BEGIN IMMEDIATE";
    const BEGIN_READ: &'static str = "BEGIN";
    const LOCK_USER: Option<&'static str> = None;

    runs_queries!();
}

impl SqliteDirectory {
    /// Opens or creates the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// The file cannot be opened or written, is damaged, or was written by a newer version of this program.
    pub async fn open(path: &Path, patience: Patience) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(patience.busy)
            .disable_statement_logging();
        // The writer first: it creates the file and turns WAL on, which read-only connections cannot.
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let writer = pool(1, patience).before_acquire(|connection, _| {
            // After a failed commit SQLite has rolled back by itself and sqlx counts the transaction as open for ever: such
            // a connection writes nothing any more, so another takes its place.
            let usable = !connection.is_in_transaction();
            Box::pin(async move { Ok(usable) })
        });
        let writer = writer.connect_with(writing).await?;
        migrations().run(&writer).await.map_err(not_migrated)?;
        let readers = pool(READERS_MAX, patience)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self {
            writer,
            readers,
            patience: patience.call,
        })
    }
}

fn pool(connections: u32, patience: Patience) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(patience.call)
        // A connection to a local file does not go stale, and a closed one costs its page and statement caches.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Every step of the schema.
pub(super) fn migrations() -> Migrator {
    Migrator::with_migrations(vec![
        migration(
            1,
            "directory",
            include_str!("../../../migrations/sqlite/0001_directory.sql"),
        ),
        migration(
            2,
            "revocation",
            include_str!("../../../migrations/sqlite/0002_revocation.sql"),
        ),
    ])
}
