//! Steps of a schema.

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType};

use crate::storage::DirectoryError;

pub(super) fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    let kind = MigrationType::Simple;
    Migration::new(version, description.into(), kind, sql.into_sql_str(), false)
}

pub(super) fn not_migrated(error: MigrateError) -> DirectoryError {
    DirectoryError::Unavailable(format!("its schema cannot be brought up to date: {error}"))
}
