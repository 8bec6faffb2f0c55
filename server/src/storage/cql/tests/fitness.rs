//! Servers and keyspaces that will not do are refused at every start, not at the first alone, and the doctor is told the same.

use futures_util::future::BoxFuture;
use scylla::errors::{ExecutionError, PrepareError, UseKeyspaceError};
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::Statement;
use scylla::statement::batch::Batch;
use scylla::statement::prepared::PreparedStatement;
use stonechat_host::Host;

use super::super::client::{Client, Values};
use super::super::driver::Driver;
use super::super::schema::is_scylla;
use super::keyspaces::options;
use crate::storage::contract::services::unique;
use crate::storage::cql::{BUCKET_SEQS, CqlFacts, CqlMisfit, CqlOptions, CqlStore};

/// The real driver, but for words of questions without values: the servers answer another question than was asked.
struct Misheard {
    inner: Box<dyn Driver>,
    said: &'static str,
    heard: String,
}

impl Driver for Misheard {
    fn use_keyspace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), UseKeyspaceError>> {
        self.inner.use_keyspace(name)
    }

    fn query(&self, mut statement: Statement) -> BoxFuture<'_, Result<QueryResult, ExecutionError>> {
        statement.contents = statement.contents.replace(self.said, &self.heard);
        self.inner.query(statement)
    }

    fn prepare(&self, statement: Statement) -> BoxFuture<'_, Result<PreparedStatement, PrepareError>> {
        self.inner.prepare(statement)
    }

    fn execute<'a>(
        &'a self,
        statement: &'a PreparedStatement,
        values: Values,
    ) -> BoxFuture<'a, Result<QueryResult, ExecutionError>> {
        self.inner.execute(statement, values)
    }

    fn page<'a>(
        &'a self,
        statement: &'a PreparedStatement,
        values: &'a Values,
        from: PagingState,
    ) -> BoxFuture<'a, Result<(QueryResult, PagingStateResponse), ExecutionError>> {
        self.inner.page(statement, values, from)
    }

    fn batch<'a>(
        &'a self,
        batch: &'a Batch,
        values: Vec<Values>,
    ) -> BoxFuture<'a, Result<QueryResult, ExecutionError>> {
        self.inner.batch(batch, values)
    }
}

/// A keyspace that no other test has; `None` where no server is.
struct Ground {
    options: CqlOptions,
    by_hand: Client,
}

impl Ground {
    async fn new() -> Option<Self> {
        let options = CqlOptions {
            keyspace: unique(),
            ..options(BUCKET_SEQS).await?
        };
        let by_hand = Client::connect(&options).await.expect("reachable");
        Some(Self { options, by_hand })
    }

    /// A statement in which `KS` stands for the keyspace.
    async fn define(&self, text: &str) {
        let text = text.replace("KS", &self.options.keyspace);
        self.by_hand.define(&text).await.expect("well-formed");
    }

    /// The data centre of the servers.
    async fn datacenter(&self) -> String {
        self.facts().await.datacenter
    }

    async fn facts(&self) -> CqlFacts {
        CqlFacts::ask(&self.options, &Host::system()).await.expect("told")
    }

    fn naming(&self, datacenter: &str) -> CqlOptions {
        CqlOptions {
            datacenter: Some(datacenter.to_owned()),
            ..self.options.clone()
        }
    }

    async fn opens(&self, options: &CqlOptions) {
        let opened = CqlStore::open(options.clone(), &Host::system()).await;
        drop(opened.expect("opens"));
    }

    /// Opens over a driver that is misheard, if at all.
    async fn opened_misheard(&self, options: &CqlOptions, said: &'static str, heard: &str) -> Result<(), String> {
        let mut client = Client::connect(options).await.expect("reachable");
        client.driver = Box::new(Misheard {
            inner: client.driver,
            said,
            heard: heard.replace("KS", &self.options.keyspace),
        });
        let opened = CqlStore::over(client, options, &Host::system(), None).await;
        opened.map(drop).map_err(|error| error.to_string())
    }
}

async fn refusal(options: &CqlOptions) -> String {
    let opened = CqlStore::open(options.clone(), &Host::system()).await;
    opened.err().expect("refused").to_string()
}

/// D4: also when the keyspace is there. The version of the language stands for that of the server: it begins with a 3.
#[tokio::test]
async fn d4_old_servers_are_refused_at_every_start() {
    let Some(ground) = Ground::new().await else { return };
    if is_scylla(&ground.by_hand).await.expect("told") {
        return;
    }
    let mishears = async |options: &CqlOptions| {
        let (said, heard) = ("release_version FROM system.local", "cql_version FROM system.local");
        ground.opened_misheard(options, said, heard).await
    };
    let first = mishears(&ground.options).await.expect_err("refused");
    assert!(first.contains("is too old"), "{first}");
    ground.opens(&ground.options).await;
    let later = mishears(&ground.options).await.expect_err("refused");
    assert!(later.contains("is too old"), "{later}");
    ground.opens(&ground.options).await;
}

/// D8, D16: in a log of which rows go, a conversation would begin again.
#[tokio::test]
async fn d8_tables_whose_rows_expire_are_refused() {
    let Some(ground) = Ground::new().await else { return };
    ground.opens(&ground.options).await;
    assert!(ground.facts().await.misfits.is_empty());
    for table in ["log", "markers"] {
        ground
            .define(&format!("ALTER TABLE KS.{table} WITH default_time_to_live = 864000"))
            .await;
        let why = refusal(&ground.options).await;
        assert!(
            why.contains(&format!("table {table} ")) && why.contains("864000 s"),
            "{why}"
        );
        let expiring = CqlMisfit::Expiring {
            table: table.to_owned(),
            seconds: 864_000,
        };
        assert_eq!(ground.facts().await.misfits, [expiring]);
        ground
            .define(&format!("ALTER TABLE KS.{table} WITH default_time_to_live = 0"))
            .await;
        ground.opens(&ground.options).await;
    }
}

/// D18: with copies in two data centres either could let a node win the same seq; without copies in the one that is named nothing
/// could. The test's servers are in one, so that another place is asked where the copies are.
#[tokio::test]
async fn d18_copies_are_where_the_settings_say() {
    let Some(ground) = Ground::new().await else { return };
    let home = ground.datacenter().await;
    ground.opens(&ground.options).await;
    ground
        .define("CREATE TABLE KS.elsewhere (keyspace_name text PRIMARY KEY, replication frozen<map<text, text>>)")
        .await;
    let copies = async |places: &str| {
        let replication = format!("{{'class': 'NetworkTopologyStrategy', {places}}}");
        let say = format!("INSERT INTO KS.elsewhere (keyspace_name, replication) VALUES ('KS', {replication})");
        ground.define(&say).await;
    };
    let mishears = async |options: &CqlOptions| {
        let said = "replication FROM system_schema.keyspaces";
        ground
            .opened_misheard(options, said, "replication FROM KS.elsewhere")
            .await
    };
    copies(&format!("'{home}': '3', 'west': '3'")).await;
    let why = mishears(&ground.options).await.expect_err("refused");
    assert!(
        why.contains("west") && why.contains("cql_datacenter names none"),
        "{why}"
    );
    mishears(&ground.naming(&home)).await.expect("copies at home");
    copies("'west': '3'").await;
    let why = mishears(&ground.naming(&home)).await.expect_err("refused");
    assert!(
        why.contains(&format!("no copies in the data centre {home}")) && why.contains("in: west"),
        "{why}"
    );
    ground.opens(&ground.naming(&home)).await;
}

/// D18: a data centre that is named, and in which no server is.
#[tokio::test]
async fn d18_a_data_centre_without_servers_is_refused() {
    let Some(ground) = Ground::new().await else { return };
    let nowhere = refusal(&ground.naming("nowhere")).await;
    assert!(
        nowhere.contains("none of them is in the data centre nowhere"),
        "{nowhere}"
    );
}

/// Copies anywhere, as `SimpleStrategy` puts them, are in one data centre where there is one.
#[tokio::test]
async fn d18_copies_anywhere_do_where_there_is_one_data_centre() {
    let Some(ground) = Ground::new().await else { return };
    ground
        .define("CREATE KEYSPACE KS WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        .await;
    ground.opens(&ground.options).await;
    assert_eq!(ground.facts().await.homes, [ground.datacenter().await]);
}
