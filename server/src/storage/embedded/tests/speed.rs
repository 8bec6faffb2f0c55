//! Prints how many appends a second the store takes; asserts nothing about time. Run it alone, `--ignored --nocapture`.

use std::sync::Arc;

use super::fresh;
use crate::domain::Seq;
use crate::storage::MessageLog;
use crate::storage::contract::samples::{append, conversation, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures, proves nothing"]
async fn appends_per_second() {
    for waiters in [1_u16, 8, 64, 256] {
        let (store, _folder) = fresh();
        let store = Arc::new(store);
        let rounds = 20_000 / u32::from(waiters).max(10);
        let started = stonechat_host::monotonic();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..waiters {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                for round in 0..rounds {
                    append(&*store, conversation(number), &[message(&round.to_string())])
                        .await
                        .expect("appended");
                }
            });
        }
        while let Some(finished) = tasks.join_next().await {
            finished.expect("no panic");
        }
        let total = rounds * u32::from(waiters);
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{waiters} waiters: {total} appends, {:.0} a second",
            f64::from(total) / seconds
        );
        let head = store.head(conversation(0)).await.expect("readable").expect("a head");
        assert_eq!(head.seq, Seq(rounds.into()));
    }
}
