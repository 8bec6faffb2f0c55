//! Keyspaces that tests take turns with: making the tables costs a server seconds, emptying them much less.

use std::sync::{Arc, Mutex, Weak};

use stonechat_host::{Connector, Host, TcpConnector};

use crate::storage::contract::services::{CQL, service};
use crate::storage::cql::client::Client;
use crate::storage::cql::driver::Driver;
use crate::storage::cql::{CqlOptions, CqlStore, Inner};

/// A keyspace of this process, and who has it open. Nobody yet: a test took it and is about to open it.
struct Keyspace {
    name: String,
    holders: Vec<Weak<Inner>>,
}

impl Keyspace {
    fn is_free(&self) -> bool {
        let gone = |holder: &Weak<Inner>| holder.strong_count() == 0;
        !self.holders.is_empty() && self.holders.iter().all(gone)
    }
}

static MADE: Mutex<Vec<Keyspace>> = Mutex::new(Vec::new());

/// Options of an empty keyspace that no other test has; `None` where no server is.
pub(super) async fn options(bucket_seqs: u64) -> Option<CqlOptions> {
    let servers = service(CQL)?;
    let servers: Vec<String> = servers.split(',').map(str::to_owned).collect();
    let free = if all_are_there(&servers).await {
        take_free()
    } else {
        None
    };
    let options = CqlOptions {
        // Every server has everything: on three, a quorum is two.
        replication: u8::try_from(servers.len()).expect("a few"),
        servers,
        keyspace: free.clone().unwrap_or_else(make_name),
        datacenter: None,
        user: None,
        password: None,
        trust: None,
        bucket_seqs,
    };
    if free.is_some() {
        empty(&options).await;
    }
    Some(options)
}

/// Opens it, and remembers that somebody has.
pub(super) async fn open(options: &CqlOptions) -> CqlStore {
    let store = CqlStore::open(options.clone(), &Host::system()).await;
    hold(options, store.expect("opens"))
}

/// The same over a driver around the real one.
pub(super) async fn open_over(options: &CqlOptions, wrap: impl FnOnce(Box<dyn Driver>) -> Box<dyn Driver>) -> CqlStore {
    let mut client = Client::connect(options).await.expect("reachable");
    client.driver = wrap(client.driver);
    let store = CqlStore::over(client, options, &Host::system(), None).await;
    hold(options, store.expect("opens"))
}

fn hold(options: &CqlOptions, store: CqlStore) -> CqlStore {
    let mut made = MADE.lock().expect("no panic");
    let keyspace = made.iter_mut().find(|keyspace| keyspace.name == options.keyspace);
    let keyspace = keyspace.expect("made here");
    keyspace.holders.push(Arc::downgrade(&store.inner));
    store
}

/// Emptying a keyspace takes every server: while one is dead each test makes its own.
async fn all_are_there(servers: &[String]) -> bool {
    let lines = futures_util::future::join_all(servers.iter().map(|server| TcpConnector.connect(server))).await;
    lines.iter().all(Result::is_ok)
}

fn take_free() -> Option<String> {
    let mut made = MADE.lock().expect("no panic");
    let free = made.iter_mut().find(|keyspace| keyspace.is_free())?;
    free.holders.clear();
    Some(free.name.clone())
}

fn make_name() -> String {
    let random = u128::from_be_bytes(Host::system().random.bytes16());
    let name = format!("test_{random:032x}");
    let keyspace = Keyspace {
        name: name.clone(),
        holders: Vec::new(),
    };
    MADE.lock().expect("no panic").push(keyspace);
    name
}

/// Rows go, and the identity with them; tables and their version stay.
async fn empty(options: &CqlOptions) {
    let client = Client::connect(options).await.expect("reachable");
    client.use_keyspace(&options.keyspace).await.expect("made before");
    for table in ["log", "hints", "marks", "writers", "markers", "inbox"] {
        let some = client.ask(&format!("SELECT * FROM {table} LIMIT 1")).await;
        if !some.expect("readable").is_empty() {
            // Not by deleting rows: what is deleted now would hide what is written with an earlier write time.
            client.define(&format!("TRUNCATE {table}")).await.expect("emptied");
        }
    }
    for name in ["store-id", "bucket-seqs"] {
        let forget = format!("DELETE FROM meta WHERE name = '{name}' IF EXISTS");
        client.define(&forget).await.expect("forgotten");
    }
}
