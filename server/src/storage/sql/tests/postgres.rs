//! Postgres: the contract, and what goes wrong with servers.

use std::sync::Arc;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use stonechat_host::{Connector, Listener, TcpConnector, TcpListener};
use tokio::task::{JoinHandle, JoinSet};

use super::super::PostgresDirectory;
use super::schema::{Schema, open};
use super::{NOW, text_of, user};
use crate::storage::Directory;
use crate::storage::contract::directory::directory_contract;

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
    let (one, other) = tokio::join!(schema.node(), schema.node());
    one.ensure_user(&user("ann"), NOW).await.unwrap();
    assert_eq!(other.users(&[user("ann")]).await.unwrap().len(), 1);
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
