//! Sending traces to an OpenTelemetry collector.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Instrument, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::traces::{Stage, TraceOptions};
use crate::domain::CorrelationId;

/// What spans of traces are marked with, so that they stay out of the log and other spans out of the traces.
pub(super) const TARGET: &str = "stonechat::trace";
/// Time to hand over the last spans when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// One correlation id in so many is traced; 0: none.
static ONE_IN: AtomicU32 = AtomicU32::new(0);

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Append => "append",
            Self::Publish => "publish",
            Self::Deliver => "deliver",
        }
    }
}

/// The same everywhere for one id, so that a trace is whole or not there.
fn is_sampled(correlation: CorrelationId) -> bool {
    let one_in = u128::from(ONE_IN.load(Ordering::Relaxed));
    let number = u128::from_be_bytes(correlation.0);
    one_in != 0 && number != 0 && number.is_multiple_of(one_in)
}

/// A stage of what has this correlation id; it lasts as long as the span is entered.
#[must_use]
pub fn span(stage: Stage, correlation: CorrelationId) -> Span {
    if !is_sampled(correlation) {
        return Span::none();
    }
    let span = tracing::info_span!(target: TARGET, parent: None, "stage", otel.name = stage.name());
    // Of no collector, or of a span that was not sampled: then there is nothing to set.
    let _unset = span.set_parent(parent(correlation));
    span
}

/// A future as a stage of what has this correlation id.
pub fn within<F: Future>(
    stage: Stage,
    correlation: CorrelationId,
    future: F,
) -> impl Future<Output = F::Output> + use<F> {
    future.instrument(span(stage, correlation))
}

/// A future as a stage of everything that has one of these correlation ids.
pub fn all_within<F: Future>(
    stage: Stage,
    correlations: impl Iterator<Item = CorrelationId>,
    future: F,
) -> impl Future<Output = F::Output> {
    let sampled = correlations.filter(|correlation| is_sampled(*correlation));
    let stages: Vec<Span> = sampled.map(|correlation| span(stage, correlation)).collect();
    async move {
        let output = future.await;
        drop(stages);
        output
    }
}

/// All stages hang below the id itself: none of them knows the span of another, which may be on another node.
fn parent(correlation: CorrelationId) -> Context {
    let mut root = [0; 8];
    root.copy_from_slice(&correlation.0[..8]);
    // Of all zeros it would be no id.
    root[7] |= 1;
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes(correlation.0),
        SpanId::from_bytes(root),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    ))
}

/// Hands over the last spans when it is dropped.
pub(super) struct Collecting(SdkTracerProvider);

impl Drop for Collecting {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH_WITHIN) {
            tracing::warn!(%error, "the last traces were not handed over");
        }
    }
}

/// A layer that sends spans of traces to a collector. It must be made in the runtime that is to carry the connection; the
/// connection is opened when there is something to send.
pub(super) fn layer<S>(options: &TraceOptions) -> Result<(impl Layer<S> + use<S>, Collecting), String>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(&options.endpoint);
    let exporter = exporter.build().map_err(|error| error.to_string())?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder()
        .with_service_name("stonechat")
        .with_attribute(version);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    ONE_IN.store(options.one_in, Ordering::Relaxed);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("stonechat"))
        .with_location(false)
        .with_threads(false);
    Ok((layer, Collecting(provider)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a message is traced depends on its id alone, and never on one that stands for "none".
    #[test]
    fn the_sample_is_the_same_everywhere() {
        let id = |number: u128| CorrelationId(number.to_be_bytes());
        let sampled = |one_in: u32| {
            ONE_IN.store(one_in, Ordering::Relaxed);
            (0..1_000).filter(|number| is_sampled(id(*number))).count()
        };
        assert_eq!([0, 1, 100, 2_000].map(sampled), [0, 999, 9, 0]);
    }
}
