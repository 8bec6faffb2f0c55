//! Data folders that a command only reads.

use super::failure::Failure;
use crate::config::Config;

/// A command that reads would otherwise make a store where a name was mistyped, and find nothing in it.
pub(super) fn must_be_there(config: &Config, done: &str) -> Result<(), Failure> {
    let folder = &config.data_folder;
    let in_services = !config.cql.is_empty() && config.postgres.is_some();
    let holds_something = || std::fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_some());
    if in_services || holds_something() {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "nothing {done}: there is no data folder {}, or nothing in it",
        folder.display()
    )))
}
