//! Logs: how they are written, what joins their lines, and what they must not show.

use std::fmt;

use stonechat_host::Random;
use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::traces::TraceOptions;
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
    /// Traces were asked of a binary that has none.
    #[error("otlp_endpoint is set, but this binary was built without it: build with `--features otlp`")]
    NoTraces,
    /// The collector's address cannot be used.
    #[error("otlp_endpoint {endpoint:?}: {why}")]
    Collector {
        /// The address.
        endpoint: String,
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

fn parse_filter(filter: &str) -> Result<Targets, TelemetryError> {
    let malformed = |why: String| TelemetryError::Filter {
        filter: filter.to_owned(),
        why,
    };
    // Whatever is no level is taken for the name of a module, and then hides all others.
    if let Some(part) = filter.split(',').find(|part| !is_directive(part)) {
        return Err(malformed(format!("{part:?} is neither a level nor a module")));
    }
    filter.parse::<Targets>().map_err(|why| malformed(why.to_string()))
}

fn is_directive(part: &str) -> bool {
    let module = part.split('=').next().unwrap_or_default().trim();
    !module.is_empty()
        && module
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-'))
}

/// What must live as long as there is something to tell; when it is dropped, the last traces are handed over.
#[derive(Default)]
pub struct Running {
    #[cfg(feature = "otlp")]
    _collecting: Option<super::otlp::Collecting>,
}

/// Sends this process's logs to standard error, so that standard output stays the command's, and traces to a collector.
///
/// # Errors
/// The filter or the collector's address is malformed, this binary has no traces, or logging is set up already.
pub fn init(format: LogFormat, filter: &str, traces: Option<&TraceOptions>) -> Result<Running, TelemetryError> {
    match traces {
        None => init_logs(format, filter).map(|()| Running::default()),
        Some(options) => init_both(format, filter, options),
    }
}

#[cfg(not(feature = "otlp"))]
fn init_both(_: LogFormat, _: &str, _: &TraceOptions) -> Result<Running, TelemetryError> {
    Err(TelemetryError::NoTraces)
}

#[cfg(feature = "otlp")]
fn init_both(format: LogFormat, filter: &str, options: &TraceOptions) -> Result<Running, TelemetryError> {
    use tracing_subscriber::filter::filter_fn;

    use super::otlp::{TARGET, layer};

    let of_traces = || filter_fn(|metadata| metadata.target() == TARGET);
    let of_logs = filter_fn(|metadata| metadata.target() != TARGET);
    let (spans, collecting) = layer(options).map_err(|why| TelemetryError::Collector {
        endpoint: options.endpoint.clone(),
        why,
    })?;
    let lines = lines(format).with_filter(parse_filter(filter)?).with_filter(of_logs);
    let all = tracing_subscriber::registry()
        .with(lines)
        .with(spans.with_filter(of_traces()));
    all.try_init()
        .map_err(|error| TelemetryError::Twice(error.to_string()))?;
    Ok(Running {
        _collecting: Some(collecting),
    })
}

fn init_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let all = tracing_subscriber::registry()
        .with(parse_filter(filter)?)
        .with(lines(format));
    all.try_init().map_err(|error| TelemetryError::Twice(error.to_string()))
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
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
        for filter in ["", "!!!=", "info,,,", "info,=debug", "in fo"] {
            assert!(check_filter(filter).is_err(), "{filter:?}");
        }
        let refused = check_filter("stonechat_server=loud").unwrap_err().to_string();
        assert!(refused.contains("stonechat_server=loud"), "{refused}");
    }
}
