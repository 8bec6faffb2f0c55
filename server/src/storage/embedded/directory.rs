//! The directory beside the embedded log: the SQL one on a SQLite file.

pub use crate::storage::sql::{Patience, SqliteDirectory};
