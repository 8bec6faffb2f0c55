//! Real services that suites run against, named by the environment; `scripts/services` starts them.

/// Redis, one server.
pub(crate) const REDIS: &str = "STONECHAT_TEST_REDIS";
/// Redis, nodes of a cluster, comma-separated.
pub(crate) const REDIS_CLUSTER: &str = "STONECHAT_TEST_REDIS_CLUSTER";
/// Postgres, a database whose user may create others.
pub(crate) const POSTGRES: &str = "STONECHAT_TEST_POSTGRES";
/// CQL servers, comma-separated.
pub(crate) const CQL: &str = "STONECHAT_TEST_CQL";
/// The file with the authority of their certificates.
pub(crate) const CQL_AUTHORITY: &str = "STONECHAT_TEST_CQL_CA";

/// Where a service is; `None`, and says so, where nobody started it.
///
/// # Panics
/// In CI, where a suite that is skipped is a failure.
pub(crate) fn service(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{variable} is not set: in CI nothing is skipped"
        );
        println!("skipped: {variable} is not set, scripts/services starts what it names");
    }
    address
}

/// A name that nobody has, also one for a keyspace and a database.
pub(crate) fn unique() -> String {
    let random = u128::from_be_bytes(stonechat_host::Host::system().random.bytes16());
    format!("test_{random:032x}")
}

/// A database of its own on the Postgres that the environment names, dropped with this.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// `None` where there is no Postgres.
    pub(crate) fn create() -> Option<Self> {
        let database = Self {
            server: service(POSTGRES)?,
            name: unique(),
        };
        assert!(database.run(&format!("create database {}", database.name)));
        Some(database)
    }

    /// How a node connects to it, as this user.
    pub(crate) fn url_of(&self, user: &str) -> String {
        let (_, rest) = self.server.split_once('@').expect("an address with a user");
        let (authority, _) = rest.split_once('/').expect("an address with a database");
        format!("postgres://{user}@{authority}/{}", self.name)
    }

    /// How a node connects to it.
    pub(crate) fn url(&self) -> String {
        let (_, rest) = self.server.split_once("://").expect("an address");
        let (user, _) = rest.split_once('@').expect("an address with a user");
        self.url_of(user)
    }

    /// A statement at the server; whether it was done.
    pub(crate) fn run(&self, statement: &str) -> bool {
        run(&self.server, statement)
    }

    /// A statement in the database; whether it was done.
    pub(crate) fn run_inside(&self, statement: &str) -> bool {
        run(&self.url(), statement)
    }
}

fn run(url: &str, statement: &str) -> bool {
    let mut psql = std::process::Command::new("psql");
    let status = psql.args([url, "-qc", statement]).status();
    status.expect("psql is installed").success()
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped = self.run(&format!("drop database {} with (force)", self.name));
        assert!(dropped || std::thread::panicking(), "the database was not dropped");
    }
}
