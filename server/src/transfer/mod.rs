//! Import and export: conversations as JSON Lines, in and out of a data folder (`docs/import-format.md`); migration from one
//! store to another.

mod export;
mod import;
mod lane;
mod migrate;
mod record;
mod requests;
#[cfg(test)]
mod tests;

pub use export::{ExportError, export};
pub use import::{ImportError, Progress, Report, import};
pub use migrate::{MigrateError, Migrated, Refused, Verify, Watch, migrate};
