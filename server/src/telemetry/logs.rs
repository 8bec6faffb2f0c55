//! Logs: how they are written, what joins their lines, and what they must not show.

use std::fmt;

use stonechat_host::Random;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::domain::CorrelationId;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people at a terminal.
    #[default]
    Human,
    /// One JSON object a line, for collectors.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("log filter {filter:?} is malformed: {why}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody set up logging before.
    #[error("logging is set up already: {0}")]
    Twice(String),
}

/// Checks a filter without using it.
///
/// # Errors
/// It is malformed.
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse_filter(filter).map(drop)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|why| TelemetryError::Filter {
        filter: filter.to_owned(),
        why: why.to_string(),
    })
}

/// Sends this process's logs to standard error, so that standard output stays the command's.
///
/// # Errors
/// The filter is malformed, or logging is set up already.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = parse_filter(filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let done = match format {
        LogFormat::Human => lines.finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    done.map_err(|error| TelemetryError::Twice(error.to_string()))
}

/// A new id that joins all log lines and deliveries of one request.
#[must_use]
pub fn new_correlation_id(random: &dyn Random) -> CorrelationId {
    CorrelationId(random.bytes16())
}

/// A secret: it can be used, but neither printed nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Hides a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use stonechat_host::SeededRandom;

    use super::{Redacted, check_filter, new_correlation_id};

    #[test]
    fn secrets_are_not_printed() {
        let secret = Redacted::new("canary-3141".to_owned());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("canary").count(), 0);
        assert_eq!(secret.expose(), "canary-3141");
    }

    #[test]
    fn correlation_ids_differ_and_repeat_with_the_seed() {
        let random = SeededRandom::new(7);
        let first = new_correlation_id(&random);
        assert_ne!(first, new_correlation_id(&random));
        assert_eq!(first, new_correlation_id(&SeededRandom::new(7)));
    }

    #[test]
    fn malformed_filters_are_refused() {
        assert!(check_filter("info,stonechat_server::gateway=debug").is_ok());
        let refused = check_filter("stonechat_server=loud").unwrap_err().to_string();
        assert!(refused.contains("stonechat_server=loud"), "{refused}");
    }
}
