//! A view holds each commit as a whole, whatever the engine does beside it (I5: a half-visible row would be overlooked).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fresh;
use crate::domain::{Ordinal, Seq, UnixMillis, UserId};
use crate::storage::contract::samples::conversation;
use crate::storage::embedded::keys::Space;
use crate::storage::{InboxHead, Markers};

/// Rows of one commit: it takes long enough to meet a flush.
const USERS: usize = 300;
const COMMITS: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn i5_no_flush_shows_half_a_commit() {
    let (store, _folder) = fresh();
    let (store, over) = (Arc::new(store), Arc::new(AtomicBool::new(false)));
    let name = |number: usize| UserId::parse(&format!("user{number}")).expect("an id");
    let users: Vec<UserId> = (0..USERS).map(name).collect();
    let flushing = std::thread::spawn({
        let (store, over) = (Arc::clone(&store), Arc::clone(&over));
        move || {
            while !over.load(Ordering::Acquire) {
                let keyspace = store.engine.keyspace(Space::Users);
                keyspace.rotate_memtable_and_wait().expect("flushed");
            }
        }
    });
    let reading = tokio::spawn({
        let (store, over, users) = (Arc::clone(&store), Arc::clone(&over), users.clone());
        async move {
            let mut reads = 0_u64;
            while !over.load(Ordering::Acquire) {
                for user in users.iter().rev() {
                    store.inbox_newest(user, 2).await.expect("rows and index of one commit");
                }
                reads += 1;
            }
            reads
        }
    });
    for seq in 1..=COMMITS {
        let head = InboxHead {
            seq: Seq(seq),
            ordinal: Ordinal(seq),
            time: UnixMillis(0),
        };
        store
            .raise_inbox(&users, conversation(1), head, false)
            .await
            .expect("raised");
    }
    over.store(true, Ordering::Release);
    flushing.join().expect("no panic");
    assert!(reading.await.expect("no panic") > 0);
}
