//! More than one journal holds: the engine rotates, flushes and opens again.

use super::{data, fresh, open};
use crate::domain::{Body, Seq};
use crate::storage::MessageLog;
use crate::storage::contract::samples::{append, conversation, id, sender, text, wish};

/// Bytes of a journal before the engine starts the next one.
const ROTATES_AT: usize = 64_000_000;

/// Takes some seconds: the engine rotates at 64 MB.
#[tokio::test]
async fn a_store_with_several_journals_opens_whole() {
    let (store, folder) = fresh();
    let here = conversation(1);
    let big = "b".repeat(16 * 1024);
    let per_batch = 60;
    let batches = 3 * ROTATES_AT / 2 / (per_batch * big.len());
    for round in 0..batches {
        let wishes: Vec<_> = (0..per_batch)
            .map(|number| wish(&format!("{round}-{number}"), Body::Message(text(&big))))
            .collect();
        append(&store, here, &wishes).await.expect("appended");
    }
    drop(store);
    let journals = std::fs::read_dir(data(&folder).join("log")).expect("readable");
    let is_journal = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "jnl");
    let journals = journals.filter(|found| found.as_ref().is_ok_and(|found| is_journal(&found.path())));
    assert!(journals.count() > 1, "the test makes too little for several journals");

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
