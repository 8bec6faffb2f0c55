//! A schema of its own for each test on the Postgres that the environment names.

use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use stonechat_host::{Random, SystemRandom};

use super::super::PostgresDirectory;
use crate::storage::DirectoryError;
use crate::storage::contract::services::{POSTGRES, service};

/// Enough for calls at once, and few enough that tests side by side stay below what the server takes.
const CONNECTIONS_MAX: u32 = 4;

/// A schema, dropped with this.
pub(super) struct Schema {
    name: String,
    server: PgConnectOptions,
}

impl Schema {
    /// `None` where there is no Postgres.
    pub(super) async fn create() -> Option<Self> {
        let server: PgConnectOptions = service(POSTGRES)?.parse().unwrap();
        let name = format!("test_{:032x}", u128::from_le_bytes(SystemRandom.bytes16()));
        run(&server, format!("CREATE SCHEMA {name}")).await;
        Some(Self { name, server })
    }

    /// How a node connects to it.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.server.clone().options([("search_path", &self.name)])
    }

    /// One node.
    pub(super) async fn node(&self) -> Arc<PostgresDirectory> {
        Arc::new(open(self.options()).await.unwrap())
    }
}

pub(super) async fn open(options: PgConnectOptions) -> Result<PostgresDirectory, DirectoryError> {
    PostgresDirectory::open_with(options, CONNECTIONS_MAX).await
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (server, text) = (self.server.clone(), format!("DROP SCHEMA {} CASCADE", self.name));
        // A drop cannot await, and its thread may belong to a runtime already.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(run(&server, text));
        });
        let dropped = dropping.join();
        assert!(
            dropped.is_ok() || std::thread::panicking(),
            "the schema was not dropped"
        );
    }
}

async fn run(server: &PgConnectOptions, text: String) {
    let mut connection = PgConnection::connect_with(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
