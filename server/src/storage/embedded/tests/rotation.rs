//! More than one journal holds: the engine rotates, flushes and opens again.

use tempfile::TempDir;

use super::{data, fresh, open};
use crate::domain::{Body, Seq};
use crate::storage::MessageLog;
use crate::storage::contract::samples::{append, conversation, id, sender, text, wish};

/// Bytes of a journal before the engine starts the next one.
const ROTATES_AT: usize = 64_000_000;

fn journals(folder: &TempDir) -> usize {
    let files = std::fs::read_dir(data(folder).join("log")).expect("readable");
    let is_journal = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "jnl");
    files
        .filter(|found| found.as_ref().is_ok_and(|found| is_journal(&found.path())))
        .count()
}

/// Takes some seconds: the engine rotates at 64 MB.
#[tokio::test]
async fn a_store_with_several_journals_opens_whole() {
    let (store, folder) = fresh();
    let here = conversation(1);
    let big = "b".repeat(16 * 1024);
    let per_batch = 60;
    // The first journal goes once its entries are in tables, which may be before the store is closed: seen while it is there.
    let batches_max = 4 * ROTATES_AT / (per_batch * big.len());
    let mut batches = 0;
    while journals(&folder) == 1 && batches < batches_max {
        let wishes: Vec<_> = (0..per_batch)
            .map(|number| wish(&format!("{batches}-{number}"), Body::Message(text(&big))))
            .collect();
        append(&store, here, &wishes).await.expect("appended");
        batches += 1;
    }
    assert!(batches < batches_max, "the engine never rotated");
    drop(store);
    eprintln!("{} journals are left", journals(&folder));

    let store = open(&data(&folder));
    let total = (batches * per_batch) as u64;
    assert_eq!(
        store.head(here).await.expect("readable").map(|head| head.seq),
        Some(Seq(total))
    );
    for (round, number) in [(0, 0), (batches / 2, 7), (batches - 1, per_batch - 1)] {
        let seq = Seq((round * per_batch + number + 1) as u64);
        let name = id(&format!("{round}-{number}"));
        let found = store
            .find(here, &sender("ada", "phone"), &name, Seq::ZERO)
            .await
            .expect("readable");
        assert_eq!(found.map(|prior| prior.seq), Some(seq));
    }
    append(&store, here, &[wish("after", Body::Message(text("on")))])
        .await
        .expect("goes on");
    drop(store);
    drop(open(&data(&folder)));
}
