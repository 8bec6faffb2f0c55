//! What a Postgres tells of itself to somebody who wants to know whether it will do: nothing of it is left there.

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use stonechat_host::{Host, monotonic};

use super::postgres::{OPEN_TIMEOUT, as_ours, in_time, migrations, options_of};
use crate::domain::{ClockOffset, UnixMillis};
use crate::storage::DirectoryError;

type Result<T> = std::result::Result<T, DirectoryError>;

/// Looks at the clock: the surest counts.
const CLOCK_LOOKS: usize = 3;

/// What a table's owner can do with it, as its user must.
const WITHOUT_RIGHTS: &str = "SELECT tablename::TEXT FROM pg_tables \
    WHERE schemaname = current_schema() AND NOT ( \
        has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'SELECT') \
        AND has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'INSERT') \
        AND has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'UPDATE') \
        AND has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'DELETE')) \
    ORDER BY tablename";

/// What a Postgres tells of itself.
#[derive(Debug, Clone)]
pub struct PostgresFacts {
    /// Its version, as it says it.
    pub version: String,
    /// The same as a number: 170004 is 17.4.
    pub version_number: i32,
    /// The newest step of the schema that was made there; `None` before the first.
    pub schema: Option<i64>,
    /// The newest one that this release knows.
    pub schema_known: i64,
    /// This machine's clock against its.
    pub clock: ClockOffset,
    /// It takes no writes: a replica, or set so.
    pub read_only: bool,
    /// Connections that it takes in all.
    pub connections_max: i64,
    /// Why no table can be made there, in its words; `None` when one was made, written and taken back.
    pub not_made: Option<String>,
    /// Tables of its schema that this user may not read and write.
    pub without_rights: Vec<String>,
}

impl PostgresFacts {
    /// Asks the Postgres that `url` names.
    ///
    /// # Errors
    /// The URL is not understood, or it cannot be reached, or refuses the user.
    pub async fn ask(url: &str, host: &Host) -> Result<Self> {
        Self::ask_with(options_of(url)?, host).await
    }

    pub(super) async fn ask_with(options: PgConnectOptions, host: &Host) -> Result<Self> {
        let options = as_ours(options);
        let asking = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let facts = facts(&mut connection, host).await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(facts)
        };
        in_time(OPEN_TIMEOUT, asking).await
    }
}

async fn facts(connection: &mut PgConnection, host: &Host) -> sqlx::Result<PostgresFacts> {
    let (version, version_number, connections_max, replica, read_only): (String, i32, i64, bool, bool) =
        sqlx::query_as(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::INT4, \
             current_setting('max_connections')::INT8, pg_is_in_recovery(), \
             current_setting('default_transaction_read_only')::BOOL",
        )
        .fetch_one(&mut *connection)
        .await?;
    Ok(PostgresFacts {
        version,
        version_number,
        connections_max,
        read_only: replica || read_only,
        schema: schema(connection).await?,
        schema_known: migrations().iter().map(|step| step.version).max().unwrap_or(0),
        clock: clock(connection, host).await?,
        without_rights: sqlx::query_scalar(WITHOUT_RIGHTS).fetch_all(&mut *connection).await?,
        not_made: not_made(connection).await?,
    })
}

async fn schema(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(None);
    }
    // Who may not read it has other troubles, which are told apart.
    let newest = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success");
    Ok(newest.fetch_one(&mut *connection).await.unwrap_or(None))
}

async fn clock(connection: &mut PgConnection, host: &Host) -> sqlx::Result<ClockOffset> {
    let mut surest = look_at_clock(connection, host).await?;
    for _ in 1..CLOCK_LOOKS {
        surest = surest.surer(look_at_clock(connection, host).await?);
    }
    Ok(surest)
}

async fn look_at_clock(connection: &mut PgConnection, host: &Host) -> sqlx::Result<ClockOffset> {
    let begun = monotonic();
    let theirs: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::INT8")
        .fetch_one(&mut *connection)
        .await?;
    let now = UnixMillis(host.clock.unix_ms());
    Ok(ClockOffset::measured(now, begun.elapsed(), UnixMillis(theirs)))
}

/// Makes a table and writes to it, and takes both back.
async fn not_made(connection: &mut PgConnection) -> sqlx::Result<Option<String>> {
    let mut transaction = connection.begin().await?;
    let tried = async {
        sqlx::query("CREATE TABLE stonechat_doctor (tried BIGINT)")
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO stonechat_doctor VALUES (1)")
            .execute(&mut *transaction)
            .await
    };
    let tried = tried.await;
    transaction.rollback().await?;
    match tried {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(error)) => Ok(Some(error.message().to_owned())),
        Err(error) => Err(error),
    }
}
