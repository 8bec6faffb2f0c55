//! The contract suites against real CQL servers, and what only this store promises. `scripts/cassandra` starts a server.

mod buckets;
mod markers;
mod pending;
mod redaction;
mod unknown;

use std::sync::{Arc, Mutex, Weak};

use scylla::value::CqlValue;
use stonechat_host::Host;

use super::client::Fault;
use super::{BUCKET_SEQS, CqlOptions, CqlStore, Inner};
use crate::storage::contract::services::{CQL, service};
use crate::storage::{Markers, MessageLog};

/// Options of a keyspace of its own; `None` where no server is.
fn options(bucket_seqs: u64) -> Option<CqlOptions> {
    let servers = service(CQL)?;
    let name = u128::from_be_bytes(Host::system().random.bytes16());
    let servers: Vec<String> = servers.split(',').map(str::to_owned).collect();
    Some(CqlOptions {
        // Every server has everything: on three, a quorum is two.
        replication: u8::try_from(servers.len()).expect("a few"),
        servers,
        keyspace: format!("test_{name:032x}"),
        datacenter: None,
        user: None,
        password: None,
        bucket_seqs,
    })
}

/// Keyspaces of this process, and who has them open.
static MADE: Mutex<Vec<(String, Weak<Inner>)>> = Mutex::new(Vec::new());

async fn open(options: &CqlOptions) -> CqlStore {
    let store = CqlStore::open(options.clone(), &Host::system()).await;
    let store = store.expect("opens");
    let opened = (options.keyspace.clone(), Arc::downgrade(&store.inner));
    MADE.lock().expect("no panic").push(opened);
    drop_finished(&store).await;
    store
}

/// Drops the keyspaces of tests that ended: tables cost a server memory, and a small one has room for some hundred.
async fn drop_finished(store: &CqlStore) {
    let finished: Vec<String> = {
        let mut made = MADE.lock().expect("no panic");
        let open = |made: &[(String, Weak<Inner>)], name: &str| {
            let of_name = |(other, holder): &(String, Weak<Inner>)| other == name && holder.strong_count() > 0;
            made.iter().any(of_name)
        };
        let mut names: Vec<String> = made.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| !open(&made, name));
        made.retain(|(name, _)| !names.contains(name));
        names
    };
    for name in finished {
        let drop = format!("DROP KEYSPACE IF EXISTS {name}");
        store.inner.client.define(&drop).await.expect("dropped");
    }
}

async fn fresh(bucket_seqs: u64) -> Option<CqlStore> {
    Some(open(&options(bucket_seqs)?).await)
}

/// Two nodes on one keyspace.
async fn two(bucket_seqs: u64) -> Option<(CqlStore, CqlStore)> {
    let options = options(bucket_seqs)?;
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
