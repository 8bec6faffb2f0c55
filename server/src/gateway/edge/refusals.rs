//! What the edge refused, counted by reason.

pub use crate::telemetry::meters::Turned as Reason;
use crate::telemetry::meters::meters;

/// Something was refused.
pub fn refused(reason: Reason) {
    meters().edge_refusals.inc(reason);
}
