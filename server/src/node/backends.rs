//! Picks the backends that the settings name.

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Host;

use super::StartError;
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::conversation::Backends;
use crate::storage::embedded::EmbeddedStore;
use crate::storage::embedded::directory::{Patience, SqliteDirectory};
use crate::storage::remembered::RememberedDirectory;

/// File of the directory in the data folder.
const DIRECTORY_FILE: &str = "directory.sqlite";
/// A device's last hello is written down at most this often: each time is a write to disk.
const LAST_SEEN_EXACT_TO: Duration = Duration::from_secs(60);

/// Opens the log, markers and directory of the data folder, which no other process may use meanwhile.
///
/// # Errors
/// See [`StartError`].
pub async fn open_backends(config: &Config, host: &Host) -> Result<Backends, StartError> {
    let (folder, of_store) = (config.data_folder.clone(), host.clone());
    let opening = tokio::task::spawn_blocking(move || EmbeddedStore::open(&folder, &of_store));
    let store = Arc::new(opening.await.map_err(|error| StartError::Thread(error.to_string()))??);
    let path = config.data_folder.join(DIRECTORY_FILE);
    let directory = SqliteDirectory::open(&path, Patience::default()).await;
    let directory = Arc::new(directory.map_err(|source| StartError::Directory { path, source })?);
    Ok(Backends {
        log: Arc::clone(&store) as _,
        markers: store,
        directory: Arc::new(RememberedDirectory::new(directory, LAST_SEEN_EXACT_TO)),
        bus: Arc::new(EmbeddedBus::new()),
    })
}
