//! The CQL servers by hand: to look at what a fleet made there, and to do damage to it.

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::value::Row;

use super::fleet::Fleet;

/// A session of the test's own.
pub struct Cql {
    session: Session,
    keyspace: String,
}

impl Cql {
    /// With the servers of a fleet.
    ///
    /// # Panics
    /// They do not answer.
    pub async fn of(fleet: &Fleet) -> Self {
        let points = fleet.cql_points();
        let session = SessionBuilder::new()
            .known_nodes(points.split(','))
            .keyspaces_to_fetch([&fleet.name])
            .build()
            .await;
        Self {
            session: session.expect("CQL servers"),
            keyspace: fleet.name.clone(),
        }
    }

    /// Runs a statement, in which `KS` stands for the keyspace of the fleet; returns its rows.
    ///
    /// # Panics
    /// It is refused.
    pub async fn run(&self, statement: &str) -> Vec<Row> {
        let text = statement.replace("KS", &self.keyspace);
        let answer = self.session.query_unpaged(text.as_str(), ()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{text}: {error}"));
        let Ok(rows) = answer.into_rows_result() else {
            return Vec::new();
        };
        let rows = rows.rows::<Row>().expect("rows");
        rows.map(|row| row.expect("a row")).collect()
    }
}
