//! The session with the servers: how each kind of request is sent, and how many were.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency, Statement};
use scylla::value::{CqlValue, Row};

use super::driver::Driver;
use super::silence::{SILENT_AFTER, Silence};
use super::{CqlError, CqlOptions};
use crate::telemetry::meters::{Service, meters};
use crate::tls::Trust;

/// The servers' own limits are 2 to 5 s, so that their answer comes first; far below the time within which a change
/// settles (`stamps`), so that one which was given up is tried again before.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// A server that does not answer within this is taken for away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server is asked whether it is there, and how long it has for the answer. Together below [`REQUEST_TIMEOUT`]: a
/// frozen server is no longer there for the driver then. (Its own are 30 s each.) Not less: a slow store must not lose its lines.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A conditional write of the log is looked into after this, if some server that was asked has been silent for as long. The look
/// costs a read; servers that answer, however slowly, have the whole time.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);
/// Between two looks at whether one is.
const SILENCE_LOOK_EVERY: Duration = Duration::from_millis(100);
/// Servers that a request which may be sent twice is sent to beside the first: one is silent at a time, as a rule.
const ASKED_BESIDE: usize = 1;
/// Schema statements: a cluster agrees on them in seconds.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows of one page of an answer: a user's whole inbox in one request, as a rule.
const PAGE_ROWS: i32 = 5_000;
/// How often servers are asked whether they agree on the schema: one node does at once.
const AGREEMENT_INTERVAL: Duration = Duration::from_millis(50);

/// Values of one statement, in its order.
pub(super) type Values = Vec<CqlValue>;

/// Statements of one batch, with their values.
pub(super) type Steps<'a> = Vec<(&'a PreparedStatement, Values)>;

pub(super) struct Client {
    pub(super) driver: Box<dyn Driver>,
    silence: Arc<Silence>,
    operations: AtomicU64,
    foreign_writes: AtomicU64,
    #[cfg(test)]
    pub(super) faults: std::sync::Mutex<std::collections::VecDeque<Fault>>,
}

/// What a test lets happen to the next conditional write of the log.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    Pass,
    /// It is done, and the answer is lost.
    LostAnswer,
    /// It is lost on the way.
    LostRequest,
    /// It is done twice, and the second answer counts.
    Twice,
}

impl Client {
    pub(super) async fn connect(options: &CqlOptions) -> Result<Self, CqlError> {
        let mut balance = DefaultPolicy::builder().token_aware(true);
        if let Some(datacenter) = &options.datacenter {
            // The home region alone: a conditional write elsewhere would not meet the home's quorum (D18).
            balance = balance.prefer_datacenter(datacenter.clone()).permit_dc_failover(false);
        }
        let silence = Arc::new(Silence::before(balance.build()));
        let beside = SimpleSpeculativeExecutionPolicy {
            max_retry_count: ASKED_BESIDE,
            retry_interval: SILENT_AFTER,
        };
        // No retries, and of speculative executions those alone that `may_be_sent_twice` lets: a conditional batch must not be
        // sent twice by the driver, for the second answer would be "not applied" (D2).
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(REQUEST_TIMEOUT))
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .speculative_execution_policy(Some(Arc::new(beside)))
            .load_balancing_policy(Arc::clone(&silence) as _)
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&options.servers)
            .connection_timeout(CONNECT_TIMEOUT)
            .keepalive_interval(KEEPALIVE_INTERVAL)
            .keepalive_timeout(KEEPALIVE_TIMEOUT)
            .schema_agreement_timeout(SCHEMA_TIMEOUT)
            .schema_agreement_interval(AGREEMENT_INTERVAL)
            // Of the others' tables nothing is needed, and there may be many.
            .keyspaces_to_fetch([&options.keyspace])
            .default_execution_profile_handle(profile.into_handle())
            .tls_context(options.trust.as_ref().map(Trust::config))
            .tcp_nodelay(true);
        if let (Some(user), Some(password)) = (&options.user, &options.password) {
            builder = builder.user(user, password);
        }
        Ok(Self {
            driver: Box::new(builder.build().await?),
            silence,
            operations: AtomicU64::new(0),
            foreign_writes: AtomicU64::new(0),
            #[cfg(test)]
            faults: std::sync::Mutex::default(),
        })
    }

    pub(super) async fn use_keyspace(&self, keyspace: &str) -> Result<(), CqlError> {
        let used = self.driver.use_keyspace(keyspace).await;
        used.map_err(|error| CqlError::Answer(error.to_string()))
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    pub(super) fn foreign_writes(&self) -> u64 {
        self.foreign_writes.load(Ordering::Relaxed)
    }

    pub(super) fn count_foreign_write(&self) {
        self.foreign_writes.fetch_add(1, Ordering::Relaxed);
        meters().foreign_writes.inc();
    }

    fn count(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        meters().store_operations.inc(Service::Cql);
    }

    /// A statement of the schema; waits until all servers agree on it.
    pub(super) async fn define(&self, text: &str) -> Result<(), CqlError> {
        let mut statement = Statement::new(text);
        statement.set_request_timeout(Some(SCHEMA_TIMEOUT));
        self.count();
        self.driver.query(statement).await?;
        Ok(())
    }

    /// Rows of a statement without values.
    pub(super) async fn ask(&self, text: &str) -> Result<Vec<Row>, CqlError> {
        self.count();
        let result = self.driver.query(Statement::new(text)).await?.into_rows_result()?;
        let rows = result.rows::<Row>()?.collect::<Result<Vec<_>, _>>()?;
        Ok(rows)
    }

    pub(super) async fn prepare(&self, text: &str) -> Result<PreparedStatement, CqlError> {
        let mut statement = Statement::new(text);
        statement.set_page_size(PAGE_ROWS);
        statement.set_is_idempotent(may_be_sent_twice(text));
        self.count();
        Ok(self.driver.prepare(statement).await?)
    }

    /// The same statement, read as all conditional writes before it left it: it ends those that are under way.
    pub(super) fn serial(statement: &PreparedStatement) -> PreparedStatement {
        let mut serial = statement.clone();
        serial.set_consistency(Consistency::LocalSerial);
        serial
    }

    /// All rows of a statement, page after page.
    pub(super) async fn rows<T>(&self, statement: &PreparedStatement, values: Values) -> Result<Vec<T>, CqlError>
    where
        T: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let (mut all, mut state) = (Vec::new(), PagingState::start());
        loop {
            self.count();
            let (page, more): (QueryResult, PagingStateResponse) = self.driver.page(statement, &values, state).await?;
            let page = page.into_rows_result()?;
            for row in page.rows::<T>()? {
                all.push(row?);
            }
            match more.into_paging_control_flow() {
                ControlFlow::Continue(next) => state = next,
                ControlFlow::Break(()) => return Ok(all),
            }
        }
    }

    /// The first row of a statement.
    pub(super) async fn row<T>(&self, statement: &PreparedStatement, values: Values) -> Result<Option<T>, CqlError>
    where
        T: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// A write without conditions.
    pub(super) async fn write(&self, statement: &PreparedStatement, values: Values) -> Result<(), CqlError> {
        self.count();
        self.driver.execute(statement, values).await?;
        Ok(())
    }

    /// Writes without conditions to one partition, as one.
    pub(super) async fn write_all(&self, steps: Steps<'_>) -> Result<(), CqlError> {
        if steps.is_empty() {
            return Ok(());
        }
        self.batch(BatchType::Unlogged, steps).await?;
        Ok(())
    }

    /// A conditional statement or batch of one partition; whether it was applied. Only that is read of the answer: the
    /// rest differs between servers.
    pub(super) async fn decide(&self, steps: Steps<'_>) -> Result<bool, CqlError> {
        let result = self.batch(BatchType::Logged, steps).await?.into_rows_result()?;
        let first: Row = result
            .first_row()
            .map_err(|error| CqlError::Answer(error.to_string()))?;
        match first.columns.first() {
            Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
            other => Err(CqlError::Answer(format!(
                "a conditional batch was answered with {other:?}"
            ))),
        }
    }

    /// The same for the log, given up early while a server is silent: its outcome is unknown then.
    pub(super) async fn decide_soon(&self, steps: Steps<'_>) -> Result<bool, CqlError> {
        tokio::select! { biased;
            decided = self.decide(steps) => decided,
            () = self.given_up() => Err(ExecutionError::RequestTimeout(GIVEN_UP_AFTER).into()),
        }
    }

    async fn given_up(&self) {
        tokio::time::sleep(GIVEN_UP_AFTER).await;
        while !self.silence.lasts(GIVEN_UP_AFTER) {
            tokio::time::sleep(SILENCE_LOOK_EVERY).await;
        }
    }

    /// A conditional write of the log, with what the test wants to happen to it.
    #[cfg(test)]
    pub(super) async fn decide_faulty(&self, steps: Steps<'_>) -> Result<bool, CqlError> {
        let fault = self.faults.lock().expect("no panic").pop_front();
        let timeout = || {
            let error = ExecutionError::RequestTimeout(REQUEST_TIMEOUT);
            Err(CqlError::from(error))
        };
        match fault.unwrap_or(Fault::Pass) {
            Fault::Pass => self.decide_soon(steps).await,
            Fault::LostRequest => timeout(),
            Fault::LostAnswer => {
                self.decide(steps).await?;
                timeout()
            }
            Fault::Twice => {
                self.decide(steps.clone()).await?;
                self.decide(steps).await
            }
        }
    }

    async fn batch(&self, kind: BatchType, steps: Steps<'_>) -> Result<QueryResult, CqlError> {
        let mut batch = Batch::new(kind);
        let mut values = Vec::with_capacity(steps.len());
        batch.set_is_idempotent(steps.iter().all(|(statement, _)| statement.get_is_idempotent()));
        for (statement, of_statement) in steps {
            batch.append_statement(statement.clone());
            values.push(of_statement);
        }
        self.count();
        Ok(self.driver.batch(&batch, values).await?)
    }
}

/// A read, or a write that names its own time: twice is as good as once. Of conditional writes none is.
fn may_be_sent_twice(statement: &str) -> bool {
    let is_read = statement.starts_with("SELECT ");
    is_read || (statement.contains(" USING TIMESTAMP ") && !statement.contains(" IF "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D2: the driver sends no conditional write twice, nor one that takes the time of its sending.
    #[test]
    fn d2_only_what_does_the_same_again_is_sent_twice() {
        assert!(may_be_sent_twice("SELECT head FROM log WHERE conversation = ?"));
        assert!(may_be_sent_twice(
            "UPDATE hints USING TIMESTAMP ? SET bucket = ? WHERE conversation = ?"
        ));
        assert!(may_be_sent_twice(
            "INSERT INTO marks (writer) VALUES (?) USING TIMESTAMP 1"
        ));
        assert!(!may_be_sent_twice(
            "UPDATE probe SET head = ? WHERE id = ? IF head = null"
        ));
        assert!(!may_be_sent_twice("INSERT INTO probe (id) VALUES (?)"));
        assert!(!may_be_sent_twice("INSERT INTO probe (id) VALUES (?) IF NOT EXISTS"));
    }
}
