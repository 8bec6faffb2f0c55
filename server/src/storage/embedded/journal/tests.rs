//! The check against journals that the engine itself wrote.

use std::fs;
use std::path::PathBuf;

use stonechat_host::Host;
use tempfile::TempDir;

use super::{Acked, batch_ends, check};
use crate::storage::contract::samples::{append, conversation, message};
use crate::storage::embedded::{EmbeddedStore, OpenError};

/// The commits of [`engine_folder`]: one that makes the store, then one for each append.
const COMMITS: u64 = 6;

/// An engine's folder with one journal as it lies there while the engine runs, reserved room and all.
async fn engine_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = EmbeddedStore::open(folder.path(), &Host::system()).expect("opens");
    for number in 1..COMMITS {
        append(&store, conversation(1), &[message(&number.to_string())])
            .await
            .expect("appended");
    }
    drop(store);
    let engine = folder.path().join("log");
    (folder, engine)
}

/// The journal without the reserved room.
fn used(engine: &std::path::Path) -> Vec<u8> {
    let mut bytes = fs::read(engine.join("0.jnl")).expect("readable");
    let end = *batch_ends(&engine.join("0.jnl")).last().expect("batches");
    assert!(bytes.len() as u64 > end, "the engine reserves room");
    bytes.truncate(usize::try_from(end).expect("small"));
    bytes
}

fn is_damaged<T>(result: Result<T, OpenError>) -> bool {
    matches!(result, Err(OpenError::Damaged { .. }))
}

#[tokio::test]
async fn a_journal_of_the_engine_is_read_to_its_last_commit_and_not_changed() {
    let (_folder, engine) = engine_folder().await;
    let before = fs::metadata(engine.join("0.jnl")).expect("there").len();
    let journals = check(&engine, Acked::UpTo(COMMITS)).expect("whole");
    assert_eq!(journals.newest, Some(COMMITS));
    assert_eq!(fs::metadata(engine.join("0.jnl")).expect("there").len(), before);
}

/// A batch that was cut anywhere while it was written is cut away; all before it stays.
#[tokio::test]
async fn a_torn_tail_is_cut_wherever_it_was_torn() {
    let (_folder, engine) = engine_folder().await;
    let (whole, ends) = (used(&engine), batch_ends(&engine.join("0.jnl")));
    let before_last = ends[ends.len() - 2];
    for length in usize::try_from(before_last).expect("small") + 1..whole.len() {
        // Reserved zeros follow, as after a kill.
        let mut torn = whole[..length].to_vec();
        torn.resize(whole.len() + 100, 0);
        fs::write(engine.join("0.jnl"), torn).expect("written");
        let journals = check(&engine, Acked::UpTo(COMMITS - 1)).expect("only a torn tail");
        assert_eq!(journals.newest, Some(COMMITS - 1));
        assert_eq!(fs::metadata(engine.join("0.jnl")).expect("there").len(), before_last);
        fs::write(engine.join("0.jnl"), &whole[..length]).expect("written");
        assert!(is_damaged(check(&engine, Acked::UpTo(COMMITS))), "it was acknowledged");
        assert!(is_damaged(check(&engine, Acked::Unreadable)));
    }
}

/// Pages of a batch may reach the disk in any order before a loss of power: the end without the beginning.
#[tokio::test]
async fn a_torn_tail_with_its_end_is_cut_too() {
    let (_folder, engine) = engine_folder().await;
    let (mut bytes, ends) = (used(&engine), batch_ends(&engine.join("0.jnl")));
    let start = usize::try_from(ends[ends.len() - 2]).expect("small");
    bytes[start..start + 40].fill(0);
    fs::write(engine.join("0.jnl"), bytes).expect("written");
    let journals = check(&engine, Acked::UpTo(COMMITS - 1)).expect("only a torn tail");
    assert_eq!(journals.newest, Some(COMMITS - 1));
}

/// A batch that is followed by one written after it was durable was acknowledged, whatever ACKED remembers.
#[tokio::test]
async fn damage_before_a_later_batch_is_damage() {
    let (_folder, engine) = engine_folder().await;
    let (whole, ends) = (used(&engine), batch_ends(&engine.join("0.jnl")));
    let before_last = usize::try_from(ends[ends.len() - 2]).expect("small");
    for at in 0..before_last {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(engine.join("0.jnl"), &bytes).expect("written");
        match check(&engine, Acked::UpTo(1)) {
            Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "byte {at}: {error}"),
            // The sequence number of a batch has no checksum: it is harmless as long as it grows.
            Ok(journals) => assert_eq!(journals.newest, Some(COMMITS), "byte {at}"),
        }
        assert_eq!(
            fs::read(engine.join("0.jnl")).expect("readable"),
            bytes,
            "byte {at}: nothing is cut"
        );
    }
}

/// The commit that makes the store was durable before the folder became one: a cut within it is no torn tail.
#[tokio::test]
async fn a_cut_in_the_first_commit_of_a_store_is_damage() {
    let (_folder, engine) = engine_folder().await;
    let (whole, ends) = (used(&engine), batch_ends(&engine.join("0.jnl")));
    for length in 1..usize::try_from(ends[0]).expect("small") {
        let cut = &whole[..length];
        fs::write(engine.join("0.jnl"), cut).expect("written");
        assert!(is_damaged(check(&engine, Acked::UpTo(1))), "cut at {length}");
        assert_eq!(fs::read(engine.join("0.jnl")).expect("readable"), cut, "nothing is cut");
    }
}

/// A journal that has a successor was synced before it: it has no torn tail.
#[tokio::test]
async fn sealed_journals_must_be_whole_and_follow_each_other() {
    let (_folder, engine) = engine_folder().await;
    let (whole, ends) = (used(&engine), batch_ends(&engine.join("0.jnl")));
    let split = usize::try_from(ends[2]).expect("small");
    let write = |first: &[u8], second: &[u8]| {
        fs::write(engine.join("0.jnl"), first).expect("written");
        fs::write(engine.join("1.jnl"), second).expect("written");
    };
    write(&whole[..split], &whole[split..]);
    assert_eq!(
        check(&engine, Acked::UpTo(COMMITS)).expect("whole").newest,
        Some(COMMITS)
    );
    write(&whole[..split - 1], &whole[split..]);
    assert!(is_damaged(check(&engine, Acked::UpTo(1))), "cut at its end");
    write(&whole[..usize::try_from(ends[1]).expect("small")], &whole[split..]);
    assert!(
        is_damaged(check(&engine, Acked::UpTo(1))),
        "a commit is missing between them"
    );
    write(&whole[split..], &whole[..split]);
    assert!(is_damaged(check(&engine, Acked::UpTo(1))), "out of order");
    write(&whole[..split], &whole[split..]);
    fs::rename(engine.join("1.jnl"), engine.join("2.jnl")).expect("renamed");
    assert!(is_damaged(check(&engine, Acked::UpTo(1))), "a journal is missing");
}
