//! The contract suites against real CQL servers, and what only this store promises. `scripts/cassandra` starts a server.

mod audit;
mod buckets;
mod encrypted;
mod fitness;
mod keyspaces;
mod liar;
mod markers;
mod marks;
mod redaction;
mod stale;
mod unknown;

use std::sync::Arc;

use scylla::value::CqlValue;
use stonechat_host::Host;

use keyspaces::{open, options};

use super::client::Fault;
use super::{BUCKET_SEQS, CqlFacts, CqlStore};
use crate::storage::{Markers, MessageLog};

async fn fresh(bucket_seqs: u64) -> Option<CqlStore> {
    Some(open(&options(bucket_seqs).await?).await)
}

/// Two nodes on one keyspace.
async fn two(bucket_seqs: u64) -> Option<(CqlStore, CqlStore)> {
    let options = options(bucket_seqs).await?;
    Some((open(&options).await, open(&options).await))
}

impl CqlStore {
    /// Lets things happen to its next conditional writes of the log.
    fn let_happen(&self, faults: &[Fault]) {
        let mut queue = self.inner.client.faults.lock().expect("no panic");
        queue.extend(faults);
    }

    /// A statement as somebody with a console would send it.
    async fn by_hand(&self, text: &str, values: Vec<CqlValue>) {
        let statement = self.inner.client.prepare(text).await.expect("well-formed");
        self.inner.client.write(&statement, values).await.expect("written");
    }
}

crate::message_log_contract!(log, || async {
    fresh(BUCKET_SEQS)
        .await
        .map(|store| (Arc::new(store) as Arc<dyn MessageLog>, ()))
});
crate::markers_contract!(markers_suite, || async {
    fresh(BUCKET_SEQS)
        .await
        .map(|store| (Arc::new(store) as Arc<dyn Markers>, ()))
});

/// What servers tell before the first start, and after it.
#[tokio::test]
async fn servers_tell_what_there_is() {
    let Some(options) = options(BUCKET_SEQS).await else {
        return;
    };
    let nowhere = super::CqlOptions {
        keyspace: crate::storage::contract::services::unique(),
        ..options.clone()
    };
    let host = Host::system();
    let before = CqlFacts::ask(&nowhere, &host).await.expect("told");
    assert_eq!(
        (before.schema, &before.not_made, &before.not_written),
        (None, &None, &None)
    );
    assert!(
        before.servers >= 1 && !before.datacenter.is_empty() && before.version.contains('.'),
        "{before:?}"
    );
    // One machine, one clock.
    assert!(before.clock.at_least_ms() < 100, "{before:?}");
    let _keeps_the_keyspace = open(&options).await;
    let after = CqlFacts::ask(&options, &host).await.expect("told");
    assert_eq!(
        (after.schema, &after.not_made, &after.not_written),
        (Some(after.schema_known), &None, &None)
    );
}
