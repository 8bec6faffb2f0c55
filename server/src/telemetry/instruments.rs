//! Counters, gauges and histograms that cost one atomic operation or few, and how Prometheus reads them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter as Count;
use prometheus_client::metrics::gauge::Gauge as Level;
use stonechat_host::monotonic;
use tokio::time::Instant;

/// Something that happens.
#[derive(Debug, Clone, Default)]
pub struct Counter(Count);

impl Counter {
    /// It happened.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// It happened so often.
    pub fn add(&self, times: usize) {
        self.0.inc_by(times as u64);
    }

    /// How often it happened so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// How much of something there is now.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Level);

impl Gauge {
    /// One more, until the guard is dropped.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.0.inc();
        Held(self.clone())
    }

    /// It is so much.
    pub fn set(&self, value: impl TryInto<i64>) {
        self.0.set(value.try_into().unwrap_or(i64::MAX));
    }

    /// So much more of it, or less.
    pub fn change(&self, by: isize) {
        self.0.inc_by(i64::try_from(by).unwrap_or(0));
    }

    /// How much there is.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// A span of time as it is now, shown in seconds; it may be negative.
#[derive(Debug, Clone, Default)]
pub struct SpanGauge(Level<f64, AtomicU64>);

impl SpanGauge {
    /// It is so many milliseconds.
    #[allow(clippy::cast_precision_loss, reason = "shown to people; exact below 2^53")]
    pub fn set_ms(&self, millis: i64) {
        self.0.set(millis as f64 / 1e3);
    }
}

/// Counts in a [`Gauge`] as long as it lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.dec();
    }
}

/// How values of one kind are distributed. Whole numbers inside, so that recording takes two additions: nanoseconds for
/// times, pieces for sizes.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// Upper bounds, ascending.
    bounds: &'static [u64],
    /// One more than bounds: the last is for what is above them.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
    /// Pieces in one unit of what is shown.
    scale: f64,
}

impl Histogram {
    /// Of times, shown in seconds.
    pub(super) fn of_times(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1e9)
    }

    /// Of sizes, shown as they are.
    pub(super) fn of_sizes(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1.0)
    }

    fn new(bounds: &'static [u64], scale: f64) -> Self {
        Self(Arc::new(Buckets {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            scale,
        }))
    }

    fn record(&self, value: u64) {
        let at = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.counts[at].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// It was so large.
    pub fn size(&self, value: usize) {
        self.record(value as u64);
    }

    /// It took so long.
    pub fn took(&self, time: Duration) {
        self.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// It took from then until now.
    pub fn since(&self, then: Instant) {
        self.took(monotonic().saturating_duration_since(then));
    }

    /// Values recorded so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown to people; exact below 2^53")]
fn shown(value: u64, scale: f64) -> f64 {
    value as f64 / scale
}

/// A label whose values are known beforehand, so that each has its counter from the start.
pub trait Label: Copy + fmt::Debug + Send + Sync + 'static {
    /// The label's name.
    const KEY: &'static str;
    /// Its values, by index.
    const VALUES: &'static [&'static str];

    /// Which of the values it is.
    fn index(self) -> usize;
}

/// One counter per value of a label.
#[derive(Debug, Clone)]
pub struct CounterBy<L> {
    counters: Arc<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for CounterBy<L> {
    fn default() -> Self {
        Self {
            counters: L::VALUES.iter().map(|_| Counter::default()).collect(),
            label: PhantomData,
        }
    }
}

impl<L: Label> CounterBy<L> {
    /// It happened.
    pub fn inc(&self, label: L) {
        self.of(label).inc();
    }

    /// The counter of that value.
    #[must_use]
    pub fn of(&self, label: L) -> &Counter {
        &self.counters[label.index()]
    }
}

/// One gauge per value of a label.
#[derive(Debug, Clone)]
pub struct GaugeBy<L> {
    gauges: Arc<[Gauge]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for GaugeBy<L> {
    fn default() -> Self {
        Self {
            gauges: L::VALUES.iter().map(|_| Gauge::default()).collect(),
            label: PhantomData,
        }
    }
}

impl<L: Label> GaugeBy<L> {
    /// The gauge of that value.
    #[must_use]
    pub fn of(&self, label: L) -> &Gauge {
        &self.gauges[label.index()]
    }
}

impl EncodeMetric for Counter {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl EncodeMetric for Gauge {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl EncodeMetric for SpanGauge {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Buckets {
            bounds,
            counts,
            sum,
            scale,
        } = &*self.0;
        let bounds = bounds.iter().map(|bound| shown(*bound, *scale)).chain([f64::INFINITY]);
        let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // Of the buckets as they were read, so that the total is that of the last of them while others record.
        let total = buckets.iter().map(|(_, count)| count).sum();
        let sum = shown(sum.load(Ordering::Relaxed), *scale);
        encoder.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl<L: Label> EncodeMetric for GaugeBy<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (value, gauge) in L::VALUES.iter().zip(&*self.gauges) {
            let label = [(L::KEY, *value)];
            gauge.encode(encoder.encode_family(&label)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl<L: Label> EncodeMetric for CounterBy<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (value, counter) in L::VALUES.iter().zip(&*self.counters) {
            let label = [(L::KEY, *value)];
            counter.encode(encoder.encode_family(&label)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn text(name: &str, metric: impl EncodeMetric + fmt::Debug + Send + Sync + 'static) -> String {
        let mut registry = Registry::default();
        registry.register(name, "help", metric);
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        text
    }

    /// A value at a bound is in its bucket, one above is in the next; the buckets add up, as Prometheus reads them.
    #[test]
    fn a_histogram_is_cumulative() {
        let histogram = Histogram::of_times(&[1_000_000, 1_000_000_000]);
        for nanos in [1, 1_000_000, 1_000_001, 2_500_000_000] {
            histogram.took(Duration::from_nanos(nanos));
        }
        let text = text("waited_seconds", histogram);
        for line in [
            "# TYPE waited_seconds histogram",
            "waited_seconds_bucket{le=\"0.001\"} 2",
            "waited_seconds_bucket{le=\"1\"} 3",
            "waited_seconds_bucket{le=\"+Inf\"} 4",
            "waited_seconds_count 4",
            "waited_seconds_sum 2.502000002",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_span_is_shown_in_seconds() {
        let gauge = SpanGauge::default();
        gauge.set_ms(-1_250);
        let text = text("apart_seconds", gauge);
        assert!(text.lines().any(|line| line == "apart_seconds -1.25"), "{text}");
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let gauge = Gauge::default();
        let (one, other) = (gauge.hold(), gauge.hold());
        assert_eq!(gauge.get(), 2);
        drop(one);
        assert_eq!(gauge.get(), 1);
        drop(other);
        assert_eq!(gauge.get(), 0);
    }
}
