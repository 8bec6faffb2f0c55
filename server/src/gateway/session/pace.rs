//! How fast a stream may ask: frames above it wait unread, none is dropped.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds of the sustained rate that may come at once: a client that was offline empties its outbox.
const BURST_SECONDS: f64 = 10.0;

/// A bucket of frames that fills at a steady rate.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    /// Full.
    pub(super) fn new(frames_per_second: u32) -> Self {
        let per_second = f64::from(frames_per_second.max(1));
        Self {
            per_second,
            left: per_second * BURST_SECONDS,
            at: stonechat_host::monotonic(),
        }
    }

    /// A frame was read.
    pub(super) fn take(&mut self, now: Instant) {
        let refilled = self.left + now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = refilled.min(self.per_second * BURST_SECONDS) - 1.0;
        self.at = now;
    }

    /// When the next frame may be read; `None` for now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let missing = (1.0 - self.left) / self.per_second;
        let at = self.at + Duration::from_secs_f64(missing.max(0.0));
        (at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I9: after its burst a stream is held to its rate, whatever it sends.
    #[tokio::test(start_paused = true)]
    async fn a_busy_stream_is_held_to_its_rate() {
        let mut pace = Pace::new(100);
        let started = stonechat_host::monotonic();
        let mut frames = 0;
        while started.elapsed() < Duration::from_secs(10) {
            let now = stonechat_host::monotonic();
            match pace.next(now) {
                Some(at) => tokio::time::sleep_until(at).await,
                None => {
                    pace.take(now);
                    frames += 1;
                }
            }
        }
        assert!((1_900..=2_001).contains(&frames), "{frames}");
    }
}
