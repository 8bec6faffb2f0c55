//! What CQL servers tell of themselves to somebody who wants to know whether they will do.

use scylla::value::CqlValue;
use stonechat_host::{Host, monotonic};

use super::client::Client;
use super::{CqlError, CqlMisfit, CqlOptions, fitness, probe, schema};
use crate::domain::{ClockOffset, UnixMillis};

/// Looks at the clock: the surest counts.
const CLOCK_LOOKS: usize = 3;

/// Which product a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CqlProduct {
    /// Apache Cassandra, or what says that it is.
    Cassandra,
    /// `ScyllaDB`.
    Scylla,
}

/// What CQL servers tell of themselves.
#[derive(Debug, Clone)]
pub struct CqlFacts {
    /// Which product the server that was asked is.
    pub product: CqlProduct,
    /// Its own version.
    pub version: String,
    /// Its data centre.
    pub datacenter: String,
    /// Servers of the cluster, this one among them.
    pub servers: usize,
    /// Data centres in which the keyspace has copies; none without a keyspace.
    pub homes: Vec<String>,
    /// Why a node would refuse them.
    pub misfits: Vec<CqlMisfit>,
    /// Version of the tables; `None` when there is no keyspace yet, or none of ours in it.
    pub schema: Option<u64>,
    /// The newest one that this release knows.
    pub schema_known: u64,
    /// This machine's clock against that of the server that was asked.
    pub clock: ClockOffset,
    /// Which table may not be read, and why, in their words; `None` when all may, or there is no keyspace yet.
    pub not_read: Option<String>,
    /// Why no table may be made in the keyspace, in their words; `None` when one may, or there is no keyspace yet.
    pub not_made: Option<String>,
    /// Why no conditional batch was done there; `None` when some were, or there is no keyspace yet.
    pub not_written: Option<String>,
}

impl CqlFacts {
    /// Asks the servers that the options name. What is written is a throw-away row, taken away again.
    ///
    /// # Errors
    /// No server answers, or they refuse the user.
    pub async fn ask(options: &CqlOptions, host: &Host) -> Result<Self, CqlError> {
        schema::check_names(options)?;
        let client = Client::connect(options).await?;
        let fitness::Found { misfits, homes } = fitness::look(&client, options).await?;
        let product = if schema::is_scylla(&client).await? {
            CqlProduct::Scylla
        } else {
            CqlProduct::Cassandra
        };
        let (schema, not_read) = match schema::version(&client, options).await {
            Ok(None) => (None, None),
            Ok(version) => (version, schema::cannot_read(&client, options).await?),
            Err(CqlError::Right(why)) => (None, Some(why)),
            Err(error) => return Err(error),
        };
        let (not_made, not_written) = match schema {
            None => (None, None),
            Some(_) => (schema::cannot_define(&client).await, cannot_write(&client, host).await),
        };
        Ok(Self {
            product,
            version: version(&client, product).await?,
            datacenter: first(&client, "SELECT data_center FROM system.local").await?,
            servers: 1 + client.ask("SELECT peer FROM system.peers").await?.len(),
            homes,
            misfits,
            schema,
            schema_known: schema::VERSION,
            clock: clock(&client, host).await?,
            not_read,
            not_made,
            not_written,
        })
    }
}

async fn cannot_write(client: &Client, host: &Host) -> Option<String> {
    let tried = probe::conditional_batches_hold(client, host).await;
    tried.err().map(|error| error.to_string())
}

async fn first(client: &Client, text: &str) -> Result<String, CqlError> {
    let rows = client.ask(text).await?;
    Ok(rows.first().and_then(|row| schema::text_of(row, 0)).unwrap_or_default())
}

/// `ScyllaDB` says in the usual place which Cassandra it is like.
async fn version(client: &Client, product: CqlProduct) -> Result<String, CqlError> {
    match product {
        CqlProduct::Cassandra => first(client, "SELECT release_version FROM system.local").await,
        CqlProduct::Scylla => first(client, "SELECT version FROM system.versions").await,
    }
}

async fn clock(client: &Client, host: &Host) -> Result<ClockOffset, CqlError> {
    let mut surest = look_at_clock(client, host).await?;
    for _ in 1..CLOCK_LOOKS {
        surest = surest.surer(look_at_clock(client, host).await?);
    }
    Ok(surest)
}

async fn look_at_clock(client: &Client, host: &Host) -> Result<ClockOffset, CqlError> {
    let begun = monotonic();
    let rows = client.ask("SELECT toTimestamp(now()) FROM system.local").await?;
    let (now, took) = (UnixMillis(host.clock.unix_ms()), begun.elapsed());
    match rows.first().and_then(|row| row.columns.first().cloned().flatten()) {
        Some(CqlValue::Timestamp(theirs)) => Ok(ClockOffset::measured(now, took, UnixMillis(theirs.0))),
        other => Err(CqlError::Answer(format!("the time was answered with {other:?}"))),
    }
}
