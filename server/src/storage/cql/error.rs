//! What can go wrong with CQL servers, and what each failure says about the outcome.

use scylla::errors::{
    DbError, ExecutionError, IntoRowsResultError, NewSessionError, PrepareError, RequestAttemptError, RowsError,
};
use scylla::statement::Consistency;

use super::CqlMisfit;
use crate::storage::{AppendError, MarkerError, ReadError};

/// The store cannot be opened, or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum CqlError {
    /// No server was reached.
    #[error("no CQL server answers: {0}")]
    Connect(Box<NewSessionError>),
    /// A request failed.
    #[error("a CQL request failed: {0}")]
    Request(Box<ExecutionError>),
    /// A statement was refused when it was prepared.
    #[error("the CQL server refuses a statement: {0}")]
    Prepare(Box<PrepareError>),
    /// An answer has another shape than asked for.
    #[error("the CQL server answers in another form: {0}")]
    Answer(String),
    /// Other nodes make the schema, or nobody can say whether they do.
    #[error("no turn at making the schema: {0}")]
    Turn(String),
    /// The user may not do what was asked; nothing was done.
    #[error("the CQL servers let this user not do all that is needed: {0}")]
    Right(String),
    /// What is stored contradicts itself.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The servers or the keyspace are not fit for the log.
    #[error("these CQL servers cannot be used: {0}")]
    Unfit(String),
    /// The same, by what they say of themselves.
    #[error("these CQL servers cannot be used: {0}")]
    Misfit(#[from] CqlMisfit),
}

impl CqlError {
    /// Whether a conditional statement that failed with this has certainly had no effect: it was never sent, or refused
    /// before anything was proposed. Everything else leaves the outcome open (D1, D2).
    pub(super) fn is_refusal(&self) -> bool {
        let error = match self {
            Self::Request(error) => error,
            Self::Right(_) => return true,
            _ => return false,
        };
        match &**error {
            ExecutionError::BadQuery(_)
            | ExecutionError::EmptyPlan
            | ExecutionError::PrepareError(_)
            | ExecutionError::ConnectionPoolError(_) => true,
            ExecutionError::LastAttemptError(attempt) => is_refused(attempt),
            _ => false,
        }
    }
}

fn is_refused(attempt: &RequestAttemptError) -> bool {
    match attempt {
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_)
        | RequestAttemptError::UnableToAllocStreamId => true,
        RequestAttemptError::DbError(error, _) => match error {
            DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::IsBootstrapping => true,
            // With a serial level nothing was proposed; with another, what was proposed is already decided.
            DbError::Unavailable { consistency, .. } => {
                matches!(consistency, Consistency::Serial | Consistency::LocalSerial)
            }
            _ => false,
        },
        _ => false,
    }
}

impl From<NewSessionError> for CqlError {
    fn from(error: NewSessionError) -> Self {
        Self::Connect(Box::new(error))
    }
}

/// In the servers' words, which name the right and what it is for.
fn missing_right(attempt: &RequestAttemptError) -> Option<CqlError> {
    match attempt {
        RequestAttemptError::DbError(DbError::Unauthorized, why) => Some(CqlError::Right(why.clone())),
        _ => None,
    }
}

impl From<ExecutionError> for CqlError {
    fn from(error: ExecutionError) -> Self {
        let right = match &error {
            ExecutionError::LastAttemptError(attempt) => missing_right(attempt),
            ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => {
                missing_right(first_attempt)
            }
            _ => None,
        };
        right.unwrap_or_else(|| Self::Request(Box::new(error)))
    }
}

impl From<PrepareError> for CqlError {
    fn from(error: PrepareError) -> Self {
        let right = match &error {
            PrepareError::AllAttemptsFailed { first_attempt } => missing_right(first_attempt),
            _ => None,
        };
        right.unwrap_or_else(|| Self::Prepare(Box::new(error)))
    }
}

impl From<IntoRowsResultError> for CqlError {
    fn from(error: IntoRowsResultError) -> Self {
        Self::Answer(error.to_string())
    }
}

impl From<RowsError> for CqlError {
    fn from(error: RowsError) -> Self {
        Self::Answer(error.to_string())
    }
}

impl From<scylla::errors::DeserializationError> for CqlError {
    fn from(error: scylla::errors::DeserializationError) -> Self {
        Self::Answer(error.to_string())
    }
}

impl From<CqlError> for ReadError {
    fn from(error: CqlError) -> Self {
        match error {
            CqlError::Damaged(why) => Self::Corrupt(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<CqlError> for MarkerError {
    fn from(error: CqlError) -> Self {
        Self(error.to_string())
    }
}

/// For what comes before an append's conditional batch: nothing was appended.
impl From<CqlError> for AppendError {
    fn from(error: CqlError) -> Self {
        match error {
            CqlError::Damaged(why) => Self::Corrupt(why),
            other => Self::NotDone(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a server refuses for want of a right was not done, and is told as that, in its words.
    #[test]
    fn a_missing_right_is_told_as_one_and_has_no_effect() {
        let words = "User ada has no MODIFY permission on <table chat.log> or any of its parents";
        let attempt = || RequestAttemptError::DbError(DbError::Unauthorized, words.to_owned());
        let executed = CqlError::from(ExecutionError::LastAttemptError(attempt()));
        let prepared = CqlError::from(PrepareError::AllAttemptsFailed {
            first_attempt: attempt(),
        });
        for error in [executed, prepared] {
            assert!(matches!(&error, CqlError::Right(why) if why == words), "{error:?}");
            assert!(error.is_refusal() && error.to_string().contains(words));
            assert!(matches!(AppendError::from(error), AppendError::NotDone(_)));
        }
        let other = RequestAttemptError::DbError(DbError::ServerError, words.to_owned());
        let other = CqlError::from(ExecutionError::LastAttemptError(other));
        assert!(!matches!(other, CqlError::Right(_)) && !other.is_refusal());
    }
}
