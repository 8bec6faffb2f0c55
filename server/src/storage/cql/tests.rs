//! The contract suites against real CQL servers, and what only this store promises. `scripts/cassandra` starts a server.

use std::sync::Arc;

use stonechat_host::Host;

use super::{BUCKET_SEQS, CqlOptions, CqlStore};
use crate::storage::contract::services::{CQL, service};
use crate::storage::{Markers, MessageLog};

/// Options of a keyspace of its own; `None` where no server is.
fn options(bucket_seqs: u64) -> Option<CqlOptions> {
    let servers = service(CQL)?;
    let name = u128::from_be_bytes(Host::system().random.bytes16());
    Some(CqlOptions {
        servers: servers.split(',').map(str::to_owned).collect(),
        keyspace: format!("test_{name:032x}"),
        datacenter: None,
        replication: 1,
        user: None,
        password: None,
        bucket_seqs,
    })
}

async fn fresh(bucket_seqs: u64) -> Option<CqlStore> {
    let store = CqlStore::open(options(bucket_seqs)?, &Host::system()).await;
    Some(store.expect("opens"))
}

crate::message_log_contract!(log, || async {
    fresh(BUCKET_SEQS)
        .await
        .map(|store| (Arc::new(store) as Arc<dyn MessageLog>, ()))
});
crate::markers_contract!(markers, || async {
    fresh(BUCKET_SEQS)
        .await
        .map(|store| (Arc::new(store) as Arc<dyn Markers>, ()))
});
