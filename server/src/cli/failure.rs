//! How a command fails: one clear line, and an exit code that says whether the thing was done.

use std::process::ExitCode;

use stonechat_client::{ClientError, RequestError, StoreError};

use super::output::Output;
use crate::auth::KeyError;
use crate::config::ConfigError;
use crate::domain::ids::IdError;
use crate::domain::{Effect, Refusal};
use crate::node::StartError;

/// Why a command ended early.
#[derive(Debug)]
pub(super) struct Failure {
    outcome: Outcome,
    message: String,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    NotDone,
    Usage,
    Unknown,
}

impl Outcome {
    fn code(self) -> u8 {
        match self {
            Self::NotDone => 1,
            Self::Usage => 2,
            Self::Unknown => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::NotDone => "not_done",
            Self::Usage => "usage",
            Self::Unknown => "unknown",
        }
    }
}

impl Failure {
    /// Certainly not done.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(Outcome::NotDone, message)
    }

    /// The arguments make no sense together.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Outcome::Usage, message)
    }

    /// It may have been done.
    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self::new(Outcome::Unknown, message)
    }

    fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            outcome,
            message: message.into(),
        }
    }

    /// The same with a word in front.
    pub(super) fn context(self, what: &str) -> Self {
        Self::new(self.outcome, format!("{what}: {}", self.message))
    }

    /// Prints it and gives the exit code.
    pub(super) fn report(&self, output: Output) -> ExitCode {
        if output.json() {
            let line = serde_json::json!({ "error": self.message, "outcome": self.outcome.name() });
            eprintln!("{line}");
        } else {
            eprintln!("stonechat: {}", self.message);
        }
        ExitCode::from(self.outcome.code())
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let text = error.to_string();
        if let RequestError::NotSent(_) = &error
            && text.contains("cannot connect")
        {
            return Self::refused(format!(
                "{text}; start a server with `stonechat serve` or `stonechat demo`"
            ));
        }
        if error.certainly_not_done() {
            Self::refused(text)
        } else {
            Self::unknown(text)
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Endpoint(_) => Self::usage(error.to_string()),
            ClientError::Store(StoreError::Unknown(_)) => Self::unknown(error.to_string()),
            _ => Self::refused(error.to_string()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal.effect {
            Effect::NotDone => Self::refused(refusal.message),
            Effect::Unknown => Self::unknown(refusal.message),
        }
    }
}

impl From<IdError> for Failure {
    fn from(error: IdError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let text = format!("not started: {error}");
        match error {
            StartError::Contradiction(_) | StartError::TwoKeySets => Self::usage(text),
            _ => Self::refused(text),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::refused(error.to_string())
    }
}
