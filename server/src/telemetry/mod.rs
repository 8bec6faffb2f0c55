//! What operators see: logs and what they must not show, metrics, traces; and the id that joins them.

mod instruments;
mod labels;
mod logs;
pub mod meters;
#[cfg(feature = "otlp")]
mod otlp;
mod process;
pub mod traces;

pub use logs::{LogFormat, Redacted, Running, TelemetryError, check_filter, init, new_correlation_id};
