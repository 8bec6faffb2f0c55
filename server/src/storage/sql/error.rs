//! What a database says, as a `DirectoryError` with what an operator can do about it.

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::postgres::PgDatabaseError;

use crate::storage::DirectoryError;

/// Primary result codes of SQLite (sqlite.org/rescode.html); extended codes carry one in their low byte.
const PRIMARY_CODE_MASK: u32 = 0xff;

/// A call that was not done.
#[derive(Debug)]
pub(super) enum Failed {
    /// For good.
    Refused(DirectoryError),
    /// Through a race that was lost or a connection that broke: another attempt may well be done.
    Again(DirectoryError),
}

impl From<DirectoryError> for Failed {
    fn from(error: DirectoryError) -> Self {
        Self::Refused(error)
    }
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        let again = match &error {
            sqlx::Error::Io(_) => true,
            sqlx::Error::Database(database) => is_passing(database.as_ref()),
            _ => false,
        };
        let error = DirectoryError::from(error);
        if again {
            Self::Again(error)
        } else {
            Self::Refused(error)
        }
    }
}

impl From<Failed> for DirectoryError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(error) | Failed::Again(error) => error,
        }
    }
}

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

/// Another writer was there first, between a look and a write.
pub(super) fn lost_race() -> Failed {
    let text = "another creates it at the same moment; nothing was written";
    Failed::Again(DirectoryError::Unavailable(text.to_owned()))
}

/// Whether a row that was named does not exist.
pub(super) fn is_missing_reference(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|database| database.kind() == ErrorKind::ForeignKeyViolation)
}

/// A stored value that no version of this program writes.
pub(super) fn damaged(what: &'static str) -> Failed {
    DirectoryError::Unavailable(format!("stored {what} is damaged")).into()
}

fn explain(error: &dyn DatabaseError) -> String {
    let advice = match postgres_code(error) {
        Some(code) => postgres_advice(code),
        None => sqlite_advice(error),
    };
    match advice {
        Some(advice) => format!("{advice} ({})", error.message()),
        None => error.message().to_owned(),
    }
}

/// What Postgres says when a transaction met another, or when the server stops under it.
fn is_passing(error: &dyn DatabaseError) -> bool {
    const SERIALIZATION: &str = "40001";
    const DEADLOCK: &str = "40P01";
    const SHUTDOWN: &str = "57P01";
    const CRASH_SHUTDOWN: &str = "57P02";
    let passing = [SERIALIZATION, DEADLOCK, SHUTDOWN, CRASH_SHUTDOWN];
    postgres_code(error).is_some_and(|code| passing.contains(&code))
}

/// SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html); `None` when it is another database that speaks.
fn postgres_code(error: &dyn DatabaseError) -> Option<&str> {
    error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code)
}

fn postgres_advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "28000" | "28P01" => "the user or password is refused",
        "3D000" => "there is no such database",
        "42501" => "the user may not do this",
        "53100" => "the disk is full",
        "53300" => "the server has as many connections as it takes",
        "57014" => "the server took too long",
        "57P03" => "the server is starting or stopping",
        "25006" => "the server is read-only",
        _ => return None,
    })
}

fn sqlite_advice(error: &dyn DatabaseError) -> Option<&'static str> {
    Some(match primary_code(error)? {
        5 | 6 => "the database is locked by another process",
        8 => "the database is read-only",
        10 => "the disk failed",
        11 => "the database file is damaged",
        13 => "the disk is full",
        14 => "the database file cannot be opened",
        26 => "the file is not a database",
        _ => return None,
    })
}

fn primary_code(error: &dyn DatabaseError) -> Option<u32> {
    let code: u32 = error.code()?.parse().ok()?;
    Some(code & PRIMARY_CODE_MASK)
}
