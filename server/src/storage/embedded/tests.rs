//! The contract suites against the embedded store, and what only a store on disk promises.

mod damage;
mod opening;
mod persistence;
mod rotation;
mod speed;
mod views;

use std::path::Path;
use std::sync::Arc;

use stonechat_host::Host;
use tempfile::TempDir;

use super::EmbeddedStore;
use crate::storage::{Markers, MessageLog};

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, &Host::system()).expect("opens")
}

fn fresh() -> (EmbeddedStore, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (open(&folder.path().join("data")), folder)
}

fn data(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("data")
}

crate::message_log_contract!(log, || async {
    let (store, folder) = fresh();
    (Arc::new(store) as Arc<dyn MessageLog>, folder)
});
crate::markers_contract!(markers, || async {
    let (store, folder) = fresh();
    (Arc::new(store) as Arc<dyn Markers>, folder)
});
