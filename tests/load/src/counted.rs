//! What the devices of a run count together.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::Outcome;

/// Longest latency that is told apart from longer ones, microseconds.
const LATENCY_MAX_US: u64 = 120_000_000;
/// What all moments count from: runs after each other must not use a request id twice.
static START: OnceLock<Instant> = OnceLock::new();

/// Everything that was counted of the messages meant to be sent in a span of time.
#[derive(Clone)]
pub(crate) struct Counted {
    /// In microseconds since the bench began, the end not included.
    span_us: Range<u64>,
    pub(crate) ack: Histogram<u64>,
    pub(crate) delivery: Histogram<u64>,
    pub(crate) per_second: Vec<u64>,
    pub(crate) refused: BTreeMap<String, u64>,
}

/// What all devices of a run share.
pub(crate) struct Shared {
    pub(crate) start: Instant,
    pub(crate) counted: Mutex<Counted>,
    pub(crate) sent: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) delivered: AtomicU64,
}

impl Counted {
    pub(crate) fn of(span_us: Range<u64>) -> Outcome<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3);
        let (ack, delivery) = (histogram()?, histogram()?);
        Ok(Self {
            span_us,
            ack,
            delivery,
            per_second: Vec::new(),
            refused: BTreeMap::new(),
        })
    }
}

impl Shared {
    pub(crate) fn new() -> Outcome<Self> {
        let zero = || AtomicU64::new(0);
        let (sent, answered, refused, delivered) = (zero(), zero(), zero(), zero());
        let counted = Mutex::new(Counted::of(0..u64::MAX)?);
        Ok(Self {
            start: *START.get_or_init(stonechat_host::monotonic),
            counted,
            sent,
            answered,
            refused,
            delivered,
        })
    }

    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_ack(&self, meant_us: u64) {
        let now = self.now_us();
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut counted = self.lock();
        if counted.span_us.contains(&meant_us) {
            counted.ack.saturating_record(now.saturating_sub(meant_us).max(1));
        }
    }

    pub(crate) fn note_delivery(&self, meant_us: u64) {
        let now = self.now_us();
        self.delivered.fetch_add(1, Ordering::Relaxed);
        let mut counted = self.lock();
        if counted.span_us.contains(&meant_us) {
            counted.delivery.saturating_record(now.saturating_sub(meant_us).max(1));
        }
        if !counted.span_us.contains(&now) {
            return;
        }
        let second = usize::try_from((now - counted.span_us.start) / 1_000_000).unwrap_or(0);
        if counted.per_second.len() <= second {
            counted.per_second.resize(second + 1, 0);
        }
        counted.per_second[second] += 1;
    }

    pub(crate) fn note_refusal(&self, outcome: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        *self.lock().refused.entry(outcome.to_owned()).or_default() += 1;
    }
}

impl Shared {
    pub(crate) fn sums(&self) -> String {
        let sum = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let (sent, answered, delivered) = (sum(&self.sent), sum(&self.answered), sum(&self.delivered));
        format!(
            "{sent} sent, {answered} answered, {delivered} delivered, refused {:?}",
            self.lock().refused
        )
    }
}
