//! Postgres: the contract, and what goes wrong with servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use stonechat_host::{Connector, Host, Listener, ShiftedClock, TcpConnector, TcpListener};
use tokio::task::{JoinHandle, JoinSet};

use super::super::{PostgresDirectory, PostgresFacts, PostgresTurns};
use super::schema::{Schema, open};
use super::{NOW, text_of, user};
use crate::storage::Directory;
use crate::storage::contract::directory::directory_contract;
use crate::storage::contract::services::unique;
use crate::storage::turns::Turns;

/// Far more than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

async fn fresh() -> Option<(Arc<PostgresDirectory>, Schema)> {
    let schema = Schema::create().await?;
    Some((schema.node().await, schema))
}

mod contract {
    use super::{directory_contract, fresh};

    directory_contract!(fresh().await);
}

/// Lists are in the order of bytes, whatever the database's own order is.
#[tokio::test]
async fn every_text_compares_by_bytes() {
    let Some((node, _schema)) = fresh().await else { return };
    let others: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::TEXT, column_name::TEXT FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'
           AND data_type IN ('text', 'character varying') AND collation_name IS DISTINCT FROM 'C'",
    )
    .fetch_all(node.readers())
    .await
    .unwrap();
    assert_eq!(others, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_make_one_schema() {
    let Some(schema) = Schema::create().await else { return };
    let nodes = join_all((0..8).map(|_| schema.node())).await;
    nodes[0].ensure_user(&user("ann"), NOW).await.unwrap();
    for node in &nodes {
        assert_eq!(node.users(&[user("ann")]).await.unwrap().len(), 1);
    }
}

/// One at a time has a turn at one thing; it ends with who has it; and turns at other things are others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_take_turns() {
    let Some(schema) = Schema::create().await else { return };
    let what = unique();
    let at_it = Arc::new(AtomicU32::new(0));
    let mut nodes = JoinSet::new();
    for _ in 0..8 {
        let (turns, at_it, what) = (PostgresTurns::with(schema.options()), Arc::clone(&at_it), what.clone());
        nodes.spawn(async move {
            for _ in 0..5 {
                let turn = turns.take(&what).await.unwrap();
                assert_eq!(at_it.fetch_add(1, Ordering::SeqCst), 0, "two have a turn");
                tokio::task::yield_now().await;
                at_it.fetch_sub(1, Ordering::SeqCst);
                drop(turn);
            }
        });
    }
    while let Some(done) = nodes.join_next().await {
        done.unwrap();
    }
    let turns = PostgresTurns::with(schema.options());
    let held = turns.take(&what).await.unwrap();
    let other = tokio::time::timeout(LONG, turns.take(&format!("{what} too"))).await;
    assert!(other.is_ok_and(|turn| turn.is_ok()), "another thing waits for this one");
    let waiting = tokio::spawn(async move { turns.take(&what).await.map(drop) });
    drop(held);
    let came = tokio::time::timeout(LONG, waiting).await;
    came.expect("its turn came").unwrap().unwrap();
}

/// What a server tells before the first start, and after it; and a user who may not make tables.
#[tokio::test]
async fn a_server_tells_what_there_is() {
    let Some(schema) = Schema::create().await else { return };
    let host = Host::system();
    let before = PostgresFacts::ask_with(schema.options(), &host).await.unwrap();
    assert_eq!((before.schema, before.read_only), (None, false), "{before:?}");
    assert!(
        before.version_number > 90_000 && before.version.contains('.'),
        "{before:?}"
    );
    assert!(before.not_made.is_none() && before.without_rights.is_empty() && before.connections_max > 1);
    // One machine, one clock.
    assert!(before.clock.at_least_ms() < 100, "{before:?}");
    schema.node().await.close().await;
    let after = PostgresFacts::ask_with(schema.options(), &host).await.unwrap();
    assert_eq!(after.schema, Some(after.schema_known));
    let read_only = schema.options().options([("default_transaction_read_only", "on")]);
    let facts = PostgresFacts::ask_with(read_only, &host).await.unwrap();
    assert!(facts.read_only && facts.not_made.is_some_and(|why| why.contains("read-only")));
    let shifted = Arc::new(ShiftedClock::default());
    shifted.shift(-5_000);
    let behind = Host { clock: shifted, ..host };
    let facts = PostgresFacts::ask_with(schema.options(), &behind).await.unwrap();
    assert!(
        (4_500..=5_500).contains(&facts.clock.at_least_ms()) && facts.clock.ahead_ms < 0,
        "{facts:?}"
    );
}

#[tokio::test]
async fn schema_of_a_newer_version_is_refused() {
    let Some((node, schema)) = fresh().await else { return };
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'future', TRUE, '', 0)",
    )
    .execute(node.writer())
    .await
    .unwrap();
    let refused = text_of(open(schema.options()).await);
    assert!(refused.contains("999"), "{refused}");
}

#[tokio::test]
async fn server_that_may_lose_what_it_confirmed_is_refused() {
    let Some(schema) = Schema::create().await else { return };
    let refused = text_of(open(schema.options().options([("synchronous_commit", "off")])).await);
    assert!(refused.contains("synchronous_commit is off"), "{refused}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_without_the_password() {
    for url in [
        "postgres://ann:secret@127.0.0.1:1/none",
        "postgres://ann:secret@[::1/none",
        "postgres://ann:secret@127.0.0.1/none?sslmode=secret",
    ] {
        let refused = text_of(PostgresDirectory::open(url, 2).await);
        assert!(!refused.contains("secret"), "{refused}");
    }
}

/// The server gives the wait up, so that the connection is there for others again.
#[tokio::test]
async fn lock_that_lasts_is_unavailable_and_heals() {
    let Some((node, schema)) = fresh().await else { return };
    node.ensure_user(&user("ann"), NOW).await.unwrap();
    let mut stranger = PgConnection::connect_with(&schema.options()).await.unwrap();
    let mut lock = stranger.begin().await.unwrap();
    sqlx::query("LOCK TABLE users IN EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let refused = text_of(node.revoke_tokens(&user("ann"), NOW).await);
    assert!(refused.contains("took too long"), "{refused}");
    // Reading goes on.
    assert_eq!(node.users(&[user("ann")]).await.unwrap()[0].tokens_revoked, None);
    lock.rollback().await.unwrap();
    node.revoke_tokens(&user("ann"), NOW).await.unwrap();
}

/// A way to the server that can be cut.
struct Way {
    port: u16,
    task: JoinHandle<()>,
}

impl Way {
    async fn open(to: &PgConnectOptions, port: u16) -> Self {
        let listener = TcpListener::bind(&format!("127.0.0.1:{port}")).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = format!("{}:{}", to.get_host(), to.get_port());
        let task = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpConnector.connect(&server).await.unwrap();
                passing.spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        });
        Self { port, task }
    }

    async fn cut(self) {
        self.task.abort();
        let _cancelled = self.task.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_goes_away_is_unavailable_and_comes_back() {
    let Some(schema) = Schema::create().await else { return };
    let server = schema.options();
    let way = Way::open(&server, 0).await;
    let port = way.port;
    let node = open(server.clone().host("127.0.0.1").port(port)).await.unwrap();
    node.ensure_user(&user("ann"), NOW).await.unwrap();
    // Cut and there again: only the connections are gone, which no caller notices.
    way.cut().await;
    let way = Way::open(&server, port).await;
    node.upsert_user(&user("ann"), "Ann", NOW).await.unwrap();
    way.cut().await;
    text_of(node.ensure_user(&user("bob"), NOW).await);
    text_of(node.users(&[user("ann")]).await);
    let _way = Way::open(&server, port).await;
    node.ensure_user(&user("bob"), NOW).await.unwrap();
    assert_eq!(node.users(&[user("ann")]).await.unwrap()[0].display_name, "Ann");
}
