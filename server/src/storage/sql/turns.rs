//! Turns by a lock of Postgres that its session keeps: who dies loses it with their connection.

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::postgres::{MIGRATION_TIMEOUT, OPEN_TIMEOUT, as_ours, in_time, options_of};
use crate::storage::DirectoryError;
use crate::storage::turns::{Turn, Turns};

/// Gives turns to all nodes whose directory is in one database.
pub struct PostgresTurns {
    options: PgConnectOptions,
}

impl PostgresTurns {
    /// By the database that `url` names; nothing is connected before a turn is taken.
    ///
    /// # Errors
    /// The URL is not understood.
    pub fn of(url: &str) -> Result<Self, DirectoryError> {
        Ok(Self::with(options_of(url)?))
    }

    pub(super) fn with(options: PgConnectOptions) -> Self {
        Self {
            options: as_ours(options),
        }
    }
}

#[async_trait]
impl Turns for PostgresTurns {
    async fn take(&self, what: &str) -> Result<Turn, DirectoryError> {
        // A connection of its own: those of the pool give a wait for a lock up after seconds.
        let mut connection = in_time(OPEN_TIMEOUT, PgConnection::connect_with(&self.options)).await?;
        let lock = sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))").bind(format!("stonechat: {what}"));
        in_time(MIGRATION_TIMEOUT, lock.execute(&mut connection)).await?;
        Ok(Turn::new(connection))
    }
}
