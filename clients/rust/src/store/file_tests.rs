//! The journal across crashes and damage.

use super::*;
use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::{AppendHeader, SendRequest};

fn operation(id: &str) -> QueuedOperation {
    operation_in("c", id)
}

fn operation_in(conversation: &str, id: &str) -> QueuedOperation {
    let header = AppendHeader {
        conversation_id: conversation.to_owned(),
        client_msg_id: id.to_owned(),
        ..AppendHeader::default()
    };
    QueuedOperation::new(Body::Send(SendRequest {
        header: Some(header),
        content: None,
    }))
    .unwrap()
}

fn records() -> Vec<Record> {
    vec![
        Record::Queued(operation("a")),
        Record::Queued(operation("b")),
        Record::Position {
            conversation_id: "c".to_owned(),
            seq: 7,
        },
        Record::Cursor(vec![1, 2, 255]),
        finished("c".to_owned(), "a".to_owned()),
    ]
}

fn expected() -> Stored {
    let mut stored = Stored::default();
    records().into_iter().for_each(|record| stored.apply(record));
    stored
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let store = FileStore::open(&path).unwrap();
    store.append(&records()).await.unwrap();
    drop(store);
    assert_eq!(FileStore::open(&path).unwrap().load().await.unwrap(), expected());
}

/// I1: ids are unique within a conversation only; the end of one operation must not take another one along.
#[tokio::test]
async fn i1_a_finished_operation_leaves_that_of_another_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let store = FileStore::open(&path).unwrap();
    let records = [
        Record::Queued(operation_in("one", "m")),
        Record::Queued(operation_in("other", "m")),
        finished("other".to_owned(), "m".to_owned()),
    ];
    store.append(&records).await.unwrap();
    assert_eq!(store.load().await.unwrap().outbox, [operation_in("one", "m")]);
    drop(store);
    let again = FileStore::open(&path).unwrap().load().await.unwrap();
    assert_eq!(again.outbox, [operation_in("one", "m")]);
}

/// A journal of an older version, whose ends name no conversation, is read as it was meant.
#[tokio::test]
async fn lines_of_older_versions_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut bytes = encode(&[Record::Queued(operation("a")), Record::Queued(operation("b"))]).unwrap();
    bytes.extend_from_slice(b"{\"finished\":\"a\"}\n");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(
        FileStore::open(&path).unwrap().load().await.unwrap().outbox,
        [operation("b")]
    );
}

/// A crash in the middle of a write leaves every whole line and nothing else, wherever it cuts.
#[tokio::test]
async fn a_torn_tail_costs_only_the_line_it_cut() {
    let whole = encode(&records()).unwrap();
    for cut in 0..=whole.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, &whole[..cut]).unwrap();
        let store = FileStore::open(&path).unwrap();
        let mut wanted = Stored::default();
        let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
        records()
            .into_iter()
            .take(lines)
            .for_each(|record| wanted.apply(record));
        assert_eq!(store.load().await.unwrap(), wanted, "cut at {cut}");
        store.append(&[Record::Cursor(vec![9])]).await.unwrap();
        drop(store);
        assert_eq!(FileStore::open(&path).unwrap().load().await.unwrap().cursor, [9]);
    }
}

#[test]
fn damage_before_the_tail_is_an_error_not_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut bytes = encode(&records()).unwrap();
    bytes[3] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(FileStore::open(&path), Err(StoreError::Unreadable(_))));
}

#[test]
fn two_processes_cannot_share_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let _held = FileStore::open(&path).unwrap();
    assert!(FileStore::open(&path).is_err());
}

#[tokio::test]
async fn compaction_keeps_what_lives_and_shrinks_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let store = FileStore::open(&path).unwrap();
    store.append(&records()).await.unwrap();
    let positions: Vec<Record> = (0..SLACK_LINES as u64 + 10)
        .map(|seq| Record::Position {
            conversation_id: "c".to_owned(),
            seq,
        })
        .collect();
    store.append(&positions).await.unwrap();
    store.append(&[Record::Queued(operation("z"))]).await.unwrap();
    let before = store.load().await.unwrap();
    drop(store);
    assert!(std::fs::metadata(&path).unwrap().len() < 1_000);
    assert_eq!(FileStore::open(&path).unwrap().load().await.unwrap(), before);
}
