//! The log and the markers on CQL servers: ScyllaDB or Apache Cassandra, one home region.
//!
//! The log table is written by conditional statements alone, through one path (`log_table`); everything else is either a
//! hint that may lag (`hints`), a superset that may be stale (`marks`), or a max-register whose value is a function of
//! its write time (`markers`, `inbox`), so no order of writes can step back.

mod append;
mod audit;
mod buckets;
mod client;
mod driver;
mod error;
mod facts;
mod find;
mod fitness;
mod hints;
mod inbox;
mod known;
mod left;
mod log;
mod log_table;
mod markers;
mod marks;
mod positions;
mod probe;
mod read;
mod redaction;
mod registers;
mod resolve;
mod rounds;
mod rows;
mod schema;
mod silence;
mod stamps;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Host;

pub use error::CqlError;
pub use facts::{CqlFacts, CqlProduct};
pub use fitness::CqlMisfit;

use client::Client;

use super::turns::Turns;
use crate::tls::Trust;

/// Seqs of one bucket, a partition of the log: bounds the partition at a few megabytes of text.
pub const BUCKET_SEQS: u64 = 4096;
/// How often marks of what was fanned out are taken back, and a process with marks shows that it lives.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Where the servers are, and how to keep data there.
#[derive(Clone)]
pub struct CqlOptions {
    /// `host:port` of some of the servers; the others are found.
    pub servers: Vec<String>,
    /// Keyspace of everything; made when it is missing.
    pub keyspace: String,
    /// Home data centre; its servers alone are asked. Without it: that of the first server reached.
    pub datacenter: Option<String>,
    /// Copies of everything, when the keyspace is made.
    pub replication: u8,
    /// User of the servers, when they ask for one.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Who vouches for the servers; `None`: lines to them are plain.
    pub trust: Option<Trust>,
    /// Seqs per bucket, [`BUCKET_SEQS`]. It can not change in the life of a keyspace, and the store refuses if it does.
    pub bucket_seqs: u64,
}

/// `MessageLog` and `Markers` on CQL servers. Cheap to clone; the last handle ends its background task.
#[derive(Clone)]
pub struct CqlStore {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    host: Host,
    bucket_seqs: u64,
    store_id: [u8; 16],
    log: log_table::LogTable,
    hints: hints::Hints,
    marks: marks::Marks,
    left: left::Left,
    registers: registers::Registers,
    inbox: inbox::Inbox,
    known: known::Known,
    stamps: stamps::Stamps,
}

impl CqlStore {
    /// Connects, makes or checks the schema, and proves with a real conditional batch that the servers keep what the log
    /// stands on.
    ///
    /// # Errors
    /// No server answers, they refuse, the keyspace is of another version or shape, or conditional batches do not hold.
    pub async fn open(options: CqlOptions, host: &Host) -> Result<Self, CqlError> {
        Self::open_among(options, host, None).await
    }

    /// The same among nodes that may start at the same moment: of those that `turns` knows one makes the schema, and the others
    /// find it.
    ///
    /// # Errors
    /// The same, and that no turn was to be had.
    pub async fn open_among(options: CqlOptions, host: &Host, turns: Option<&dyn Turns>) -> Result<Self, CqlError> {
        let client = Client::connect(&options).await?;
        // Boxed: it prepares every statement there is, and is held by whoever starts a node.
        Box::pin(Self::over(client, &options, host, turns)).await
    }

    async fn over(
        client: Client,
        options: &CqlOptions,
        host: &Host,
        turns: Option<&dyn Turns>,
    ) -> Result<Self, CqlError> {
        schema::prepare(&client, options, turns).await?;
        probe::conditional_batches_hold(&client, host).await?;
        let store_id = schema::identity(&client, options, host).await?;
        let inner = Inner {
            log: log_table::LogTable::prepare(&client).await?,
            hints: hints::Hints::prepare(&client).await?,
            marks: marks::Marks::prepare(&client, host).await?,
            left: left::Left::prepare(&client).await?,
            registers: registers::Registers::prepare(&client).await?,
            inbox: inbox::Inbox::prepare(&client).await?,
            known: known::Known::default(),
            stamps: stamps::Stamps::new(host),
            bucket_seqs: options.bucket_seqs,
            host: host.clone(),
            store_id,
            client,
        };
        let store = Self { inner: Arc::new(inner) };
        store.sweep_in_background();
        Ok(store)
    }

    /// Requests sent to the servers so far, each page counted: what a catch-up costs is measured by it.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.inner.client.operations()
    }

    /// Register cells found that nobody wrote through this store: their write time is not that of their value. Each
    /// hides every later value for ever, and is logged as an error.
    #[must_use]
    pub fn foreign_writes(&self) -> u64 {
        self.inner.client.foreign_writes()
    }

    fn sweep_in_background(&self) {
        let weak = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.sweep_marks().await;
            }
        });
    }
}
