//! The driver's session as an object. Its type is so deep that to prove it `Send` and `Sync` again for every method of the
//! store cost the compiler some ten seconds; an object is both by its declaration.

use futures_util::future::BoxFuture;
use scylla::client::session::Session;
use scylla::errors::{ExecutionError, PrepareError, UseKeyspaceError};
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::Statement;
use scylla::statement::batch::Batch;
use scylla::statement::prepared::PreparedStatement;

use super::client::Values;

/// What the store asks of the driver.
pub(super) trait Driver: Send + Sync {
    fn use_keyspace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), UseKeyspaceError>>;

    fn query(&self, statement: Statement) -> BoxFuture<'_, Result<QueryResult, ExecutionError>>;

    fn prepare(&self, statement: Statement) -> BoxFuture<'_, Result<PreparedStatement, PrepareError>>;

    fn execute<'a>(
        &'a self,
        statement: &'a PreparedStatement,
        values: Values,
    ) -> BoxFuture<'a, Result<QueryResult, ExecutionError>>;

    fn page<'a>(
        &'a self,
        statement: &'a PreparedStatement,
        values: &'a Values,
        from: PagingState,
    ) -> BoxFuture<'a, Result<(QueryResult, PagingStateResponse), ExecutionError>>;

    fn batch<'a>(&'a self, batch: &'a Batch, values: Vec<Values>)
    -> BoxFuture<'a, Result<QueryResult, ExecutionError>>;
}

impl Driver for Session {
    fn use_keyspace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), UseKeyspaceError>> {
        Box::pin(self.use_keyspace(name, true))
    }

    fn query(&self, statement: Statement) -> BoxFuture<'_, Result<QueryResult, ExecutionError>> {
        Box::pin(self.query_unpaged(statement, ()))
    }

    fn prepare(&self, statement: Statement) -> BoxFuture<'_, Result<PreparedStatement, PrepareError>> {
        Box::pin(self.prepare(statement))
    }

    fn execute<'a>(
        &'a self,
        statement: &'a PreparedStatement,
        values: Values,
    ) -> BoxFuture<'a, Result<QueryResult, ExecutionError>> {
        Box::pin(self.execute_unpaged(statement, values))
    }

    fn page<'a>(
        &'a self,
        statement: &'a PreparedStatement,
        values: &'a Values,
        from: PagingState,
    ) -> BoxFuture<'a, Result<(QueryResult, PagingStateResponse), ExecutionError>> {
        Box::pin(self.execute_single_page(statement, values, from))
    }

    fn batch<'a>(
        &'a self,
        batch: &'a Batch,
        values: Vec<Values>,
    ) -> BoxFuture<'a, Result<QueryResult, ExecutionError>> {
        Box::pin(self.batch(batch, values))
    }
}
