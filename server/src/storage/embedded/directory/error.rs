//! What SQLite says, as a `DirectoryError` with what an operator can do about it.

use sqlx::error::{DatabaseError, ErrorKind};

use crate::storage::DirectoryError;

/// Primary result codes of SQLite (sqlite.org/rescode.html); extended codes carry one in their low byte.
const PRIMARY_CODE_MASK: u32 = 0xff;

impl From<sqlx::Error> for DirectoryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(match &error {
            sqlx::Error::Database(database) => explain(database.as_ref()),
            sqlx::Error::PoolTimedOut => "no free connection in time".to_owned(),
            sqlx::Error::PoolClosed => "it is stopping".to_owned(),
            sqlx::Error::ColumnDecode { index, source } => format!("column {index} is damaged: {source}"),
            _ => error.to_string(),
        })
    }
}

/// Whether a row that was named does not exist.
pub(super) fn is_missing_reference(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|database| database.kind() == ErrorKind::ForeignKeyViolation)
}

/// A stored value that no version of this program writes.
pub(super) fn damaged(what: &'static str) -> DirectoryError {
    DirectoryError::Unavailable(format!("stored {what} is damaged"))
}

fn explain(error: &dyn DatabaseError) -> String {
    let advice = match primary_code(error) {
        Some(5 | 6) => "the database is locked by another process",
        Some(8) => "the database is read-only",
        Some(10) => "the disk failed",
        Some(11) => "the database file is damaged",
        Some(13) => "the disk is full",
        Some(14) => "the database file cannot be opened",
        Some(26) => "the file is not a database",
        _ => return error.message().to_owned(),
    };
    format!("{advice} ({})", error.message())
}

fn primary_code(error: &dyn DatabaseError) -> Option<u32> {
    let code: u32 = error.code()?.parse().ok()?;
    Some(code & PRIMARY_CODE_MASK)
}
