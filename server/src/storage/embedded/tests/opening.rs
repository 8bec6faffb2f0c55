//! Opening: every reason not to, by its type.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use stonechat_host::Host;

use super::{data, fresh, open};
use crate::storage::contract::samples::{append, conversation, everything, message, seqs};
use crate::storage::embedded::{EmbeddedStore, OpenError};
use crate::storage::{Markers, MessageLog};

fn refused(path: &std::path::Path) -> OpenError {
    match EmbeddedStore::open(path, &Host::system()) {
        Ok(_) => panic!("opened what it must refuse"),
        Err(error) => error,
    }
}

#[test]
fn the_folder_is_the_owners_alone_and_in_use_until_the_store_is_dropped() {
    let (store, folder) = fresh();
    let mode = fs::metadata(data(&folder)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(matches!(refused(&data(&folder)), OpenError::InUse(_)));
    drop(store);
    drop(open(&data(&folder)));
}

#[test]
fn another_folder_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("thesis.txt"), "mine").expect("written");
    assert!(matches!(refused(folder.path()), OpenError::NotAStore { .. }));
    assert!(matches!(
        refused(&folder.path().join("thesis.txt")),
        OpenError::NotAStore { .. } | OpenError::Unavailable { .. }
    ));
    assert_eq!(
        fs::read(folder.path().join("thesis.txt")).expect("still there"),
        b"mine"
    );
}

#[test]
fn a_newer_or_unreadable_format_is_refused() {
    let (store, folder) = fresh();
    drop(store);
    let format = data(&folder).join("FORMAT");
    fs::write(&format, "stonechat store 2\n").expect("written");
    assert!(matches!(
        refused(&data(&folder)),
        OpenError::NewerFormat { found: 2, known: 1, .. }
    ));
    fs::write(&format, "stonechat st").expect("written");
    assert!(matches!(refused(&data(&folder)), OpenError::Damaged { .. }));
}

/// A store that lost its FORMAT file is not made anew over its entries.
#[tokio::test]
async fn a_lost_format_file_never_starts_an_empty_store() {
    let (store, folder) = fresh();
    append(&store, conversation(1), &[message("a")])
        .await
        .expect("appended");
    drop(store);
    let format = data(&folder).join("FORMAT");
    let text = fs::read(&format).expect("readable");
    fs::remove_file(&format).expect("removed");
    assert!(matches!(refused(&data(&folder)), OpenError::NotAStore { .. }));
    fs::write(&format, text).expect("written");
    assert_eq!(seqs(&everything(&open(&data(&folder)), conversation(1)).await), [1]);
}

/// Nothing was acknowledged in a folder whose making was interrupted: it starts over.
#[tokio::test]
async fn an_interrupted_making_starts_over() {
    let (store, folder) = fresh();
    drop(store);
    fs::remove_file(data(&folder).join("FORMAT")).expect("removed");
    fs::write(data(&folder).join("CREATING"), "").expect("written");
    fs::remove_file(data(&folder).join("log/version")).expect("removed");
    let store = open(&data(&folder));
    append(&store, conversation(1), &[message("a")])
        .await
        .expect("appended");
    drop(store);
    assert_eq!(seqs(&everything(&open(&data(&folder)), conversation(1)).await), [1]);
}

#[test]
fn what_the_system_refuses_is_typed() {
    let error = |kind| OpenError::of_io("f", &std::io::Error::from(kind));
    for kind in [
        std::io::ErrorKind::PermissionDenied,
        std::io::ErrorKind::ReadOnlyFilesystem,
    ] {
        assert!(matches!(error(kind), OpenError::NotWritable { .. }));
    }
    // Nobody can make a folder in there, root neither.
    assert!(matches!(
        refused(std::path::Path::new("/proc/stonechat")),
        OpenError::NotWritable { .. } | OpenError::Unavailable { .. }
    ));
}

#[test]
fn the_store_id_is_random_and_stays() {
    let (store, folder) = fresh();
    let id = store.store_id();
    drop(store);
    assert_eq!(open(&data(&folder)).store_id(), id);
    assert_ne!(fresh().0.store_id(), id);
}

/// What a full queue holds is written before the folder is free.
#[tokio::test]
async fn dropping_the_store_writes_what_was_queued() {
    let (store, folder) = fresh();
    append(&store, conversation(1), &[message("a"), message("b")])
        .await
        .expect("appended");
    store.fanout_done(conversation(1), crate::domain::Seq(1)).await;
    drop(store);
    let pending = open(&data(&folder)).fanout_pending().await.expect("readable");
    assert_eq!(pending, [(conversation(1), crate::domain::Seq(2))]);
}
