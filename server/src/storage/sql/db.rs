//! A database as the directory needs it, and statements whose one text runs on each of them.

use std::future::Future;
use std::ops::DerefMut;

use sqlx::database::HasStatementCache;
use sqlx::encode::Encode;
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::{Arguments, Database, FromRow, IntoArguments, Pool, SqlSafeStr, SqlStr, Transaction, Type};

use super::conversations::ConversationRow;
use super::users::UserRow;
use super::views::{SettingsRow, ViewRow};
use crate::telemetry::meters::{Service, meters};

/// A query with its arguments.
pub(super) type Bound<'q, D> = Query<'q, D, <D as Database>::Arguments>;

/// Takes values of a type as arguments.
pub(super) trait Takes<'t, T>: Database {
    fn put(arguments: &mut Self::Arguments, value: T) -> Result<(), BoxDynError>;
}

impl<'t, D: Database, T: Encode<'t, D> + Type<D>> Takes<'t, T> for D {
    fn put(arguments: &mut Self::Arguments, value: T) -> Result<(), BoxDynError> {
        arguments.add(value)
    }
}

/// Gives rows of a type.
pub(super) trait Gives<R>: Database {
    fn read(row: &Self::Row) -> sqlx::Result<R>;
}

impl<D: Database, R: for<'r> FromRow<'r, D::Row>> Gives<R> for D {
    fn read(row: &Self::Row) -> sqlx::Result<R> {
        R::from_row(row)
    }
}

/// A database the directory runs on: what its statements bind and read, and what it says differently from the others.
pub(super) trait Db:
    Database<Arguments: IntoArguments<Self>>
    + HasStatementCache
    + for<'t> Takes<'t, &'t str>
    + for<'t> Takes<'t, Option<&'t str>>
    + for<'t> Takes<'t, String>
    + for<'t> Takes<'t, Vec<u8>>
    + for<'t> Takes<'t, bool>
    + for<'t> Takes<'t, i16>
    + for<'t> Takes<'t, i64>
    + for<'t> Takes<'t, Option<i64>>
    + Gives<UserRow>
    + Gives<SettingsRow>
    + Gives<ConversationRow>
    + Gives<ViewRow>
    + Gives<(bool,)>
    + Gives<(i64,)>
    + Gives<(Option<i64>,)>
    + Gives<(String,)>
    + Gives<(Vec<u8>,)>
    + Gives<(String, i64, i64)>
    + Gives<(i64, String, String)>
    + Gives<(String, i64, Option<i64>, i16)>
{
    /// Begins a transaction that writes; each of its statements sees what others committed before it.
    const BEGIN_WRITE: &'static str;
    /// Begins a transaction that reads, all of it as of one moment.
    const BEGIN_READ: &'static str;
    /// Keeps other writers from the devices of user `$1` until the transaction ends; `None` where a transaction that
    /// writes keeps them out already.
    const LOCK_USER: Option<&'static str>;

    /// Runs a statement; how many rows it changed.
    fn execute<'e>(
        connection: &'e mut Self::Connection,
        query: Bound<'e, Self>,
    ) -> impl Future<Output = sqlx::Result<u64>> + Send;

    /// Runs a statement; what it gave.
    fn fetch<'e>(
        connection: &'e mut Self::Connection,
        query: Bound<'e, Self>,
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Row>>> + Send;
}

/// Where a statement runs: on a connection of a pool, or on the one of a transaction.
pub(super) trait Source<D: Db>: Send {
    /// The connection while the statement runs.
    type Lent: DerefMut<Target = D::Connection> + Send;

    fn lend(self) -> impl Future<Output = sqlx::Result<Self::Lent>> + Send;
}

impl<D: Db> Source<D> for &Pool<D> {
    type Lent = PoolConnection<D>;

    async fn lend(self) -> sqlx::Result<Self::Lent> {
        self.acquire().await
    }
}

impl<'c, D: Db> Source<D> for &'c mut D::Connection {
    type Lent = &'c mut D::Connection;

    async fn lend(self) -> sqlx::Result<Self::Lent> {
        Ok(self)
    }
}

/// The two calls that sqlx offers for each database, but not for any of them.
macro_rules! runs_queries {
    () => {
        async fn execute<'e>(connection: &'e mut Self::Connection, query: Bound<'e, Self>) -> sqlx::Result<u64> {
            Ok(query.execute(connection).await?.rows_affected())
        }

        async fn fetch<'e>(
            connection: &'e mut Self::Connection,
            query: Bound<'e, Self>,
        ) -> sqlx::Result<Vec<Self::Row>> {
            query.fetch_all(connection).await
        }
    };
}
pub(super) use runs_queries;

/// A row type, read by the names of its columns from any database.
macro_rules! row {
    ($(#[$about:meta])* struct $name:ident { $($column:ident: $kind:ty,)* }) => {
        $(#[$about])*
        pub(super) struct $name {
            $($column: $kind,)*
        }

        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $name
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($kind: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> sqlx::Result<Self> {
                Ok(Self { $($column: row.try_get(stringify!($column))?,)* })
            }
        }
    };
}
pub(super) use row;

/// A statement and what is bound to it.
pub(super) struct Statement<D: Db> {
    text: SqlStr,
    arguments: Result<D::Arguments, BoxDynError>,
    persistent: bool,
}

/// A statement, kept prepared.
pub(super) fn statement<D: Db>(text: impl SqlSafeStr) -> Statement<D> {
    Statement {
        text: text.into_sql_str(),
        arguments: Ok(D::Arguments::default()),
        persistent: true,
    }
}

impl<D: Db> Statement<D> {
    /// Not worth a place in the statement cache.
    pub(super) fn once(mut self) -> Self {
        self.persistent = false;
        self
    }

    pub(super) fn bind<'t, T>(mut self, value: T) -> Self
    where
        D: Takes<'t, T>,
    {
        self.arguments = self.arguments.and_then(|mut arguments| {
            D::put(&mut arguments, value)?;
            Ok(arguments)
        });
        self
    }

    fn query<'q>(self) -> sqlx::Result<Bound<'q, D>> {
        let arguments = self.arguments.map_err(sqlx::Error::Encode)?;
        meters().store_operations.inc(Service::Sql);
        Ok(sqlx::query_with(self.text, arguments).persistent(self.persistent))
    }

    /// How many rows it changed.
    pub(super) async fn execute(self, on: impl Source<D>) -> sqlx::Result<u64> {
        D::execute(&mut *on.lend().await?, self.query()?).await
    }

    pub(super) async fn fetch_all<R>(self, on: impl Source<D>) -> sqlx::Result<Vec<R>>
    where
        D: Gives<R>,
    {
        let rows = D::fetch(&mut *on.lend().await?, self.query()?).await?;
        rows.iter().map(D::read).collect()
    }

    pub(super) async fn fetch_optional<R>(self, on: impl Source<D>) -> sqlx::Result<Option<R>>
    where
        D: Gives<R>,
    {
        let rows = D::fetch(&mut *on.lend().await?, self.query()?).await?;
        rows.first().map(D::read).transpose()
    }

    pub(super) async fn fetch_one<R>(self, on: impl Source<D>) -> sqlx::Result<R>
    where
        D: Gives<R>,
    {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

pub(super) async fn begin_write<D: Db>(writer: &Pool<D>) -> sqlx::Result<Transaction<'static, D>> {
    meters().store_operations.inc(Service::Sql);
    writer.begin_with(D::BEGIN_WRITE).await
}

pub(super) async fn begin_read<D: Db>(readers: &Pool<D>) -> sqlx::Result<Transaction<'static, D>> {
    meters().store_operations.inc(Service::Sql);
    readers.begin_with(D::BEGIN_READ).await
}

/// Locks a user's devices, in a transaction.
pub(super) async fn lock_user<D: Db>(connection: &mut D::Connection, user: &str) -> sqlx::Result<()> {
    if let Some(text) = D::LOCK_USER {
        let _locked: Option<(String,)> = statement::<D>(text).bind(user).fetch_optional(connection).await?;
    }
    Ok(())
}
