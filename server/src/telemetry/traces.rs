//! Traces of single messages: the correlation id that a message carries from its sender's request to each recipient's
//! stream is the id of its trace. They cost nothing in a binary without the feature `otlp`, and next to nothing for a
//! message that is not in the sample.

/// Where traces go, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOptions {
    /// The collector, `http://host:port`, which speaks OTLP over gRPC.
    pub endpoint: String,
    /// One correlation id in so many is traced; 1 for all.
    pub one_in: u32,
}

/// A part of a message's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// At the sender's gateway: from a request to its answer.
    Request,
    /// In the conversation: from the queue to the ack.
    Append,
    /// To the recipients' nodes.
    Publish,
    /// On to a recipient's stream.
    Deliver,
}

#[cfg(not(feature = "otlp"))]
pub use off::{all_within, span, within};

#[cfg(feature = "otlp")]
pub use super::otlp::{all_within, span, within};

/// In a binary without traces.
#[cfg(not(feature = "otlp"))]
mod off {
    use std::future::Future;

    use tracing::Span;

    use super::Stage;
    use crate::domain::CorrelationId;

    /// A future as a stage of what has this correlation id.
    pub fn within<F: Future>(_: Stage, _: CorrelationId, future: F) -> F {
        future
    }

    /// A future as a stage of everything that has one of these correlation ids.
    pub fn all_within<F: Future>(_: Stage, _: impl Iterator<Item = CorrelationId>, future: F) -> F {
        future
    }

    /// A stage of what has this correlation id; it lasts as long as the span is entered.
    #[must_use]
    pub fn span(_: Stage, _: CorrelationId) -> Span {
        Span::none()
    }
}
