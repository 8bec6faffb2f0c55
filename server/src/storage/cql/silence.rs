//! Servers that were asked and answer nothing: frozen, or cut off with nobody told. The driver finds out after seconds; until then
//! nothing new is asked of one while another answers, and what waits for one alone is given up early.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scylla::cluster::{ClusterState, NodeRef};
use scylla::errors::RequestAttemptError;
use scylla::policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo};
use scylla::routing::Shard;
use stonechat_host::monotonic;
use tokio::time::Instant;

/// Who answered nothing for so long since it was asked is passed by: far above what an answer takes, and below what a sender notices.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(500);
/// Silence of longer ago says nothing: whatever was asked has been given up, and its answer would not be heard.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// A server, by the id it gives itself.
type Server = u128;

/// Since when each server has owed an answer. Bounded by the servers there are.
#[derive(Debug, Default)]
struct Asked(BTreeMap<Server, Instant>);

impl Asked {
    fn ask(&mut self, server: Server, now: Instant) {
        self.0.retain(|_, since| now < *since + FORGOTTEN_AFTER);
        self.0.entry(server).or_insert(now);
    }

    /// It lives, whatever else it owes.
    fn answered(&mut self, server: Server) {
        self.0.remove(&server);
    }

    /// For how long a server has said nothing although it was asked.
    fn silence(&self, server: Server, now: Instant) -> Duration {
        let since = self.0.get(&server);
        let silence = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(*since));
        if silence < FORGOTTEN_AFTER {
            silence
        } else {
            Duration::ZERO
        }
    }

    fn longest(&self, now: Instant) -> Duration {
        let silences = self.0.keys().map(|server| self.silence(*server, now));
        silences.max().unwrap_or_default()
    }
}

/// A policy of the driver that passes by silent servers, before one that knows the others' places.
pub(super) struct Silence {
    asked: Mutex<Asked>,
    inner: Arc<dyn LoadBalancingPolicy>,
}

impl fmt::Debug for Silence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Silence").finish_non_exhaustive()
    }
}

impl Silence {
    pub(super) fn before(inner: Arc<dyn LoadBalancingPolicy>) -> Self {
        Self {
            asked: Mutex::default(),
            inner,
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_silent(&self, node: NodeRef<'_>) -> bool {
        self.asked().silence(id_of(node), monotonic()) >= SILENT_AFTER
    }

    fn ask(&self, node: NodeRef<'_>) {
        self.asked().ask(id_of(node), monotonic());
    }

    /// Whether some server that was asked has said nothing for so long.
    pub(super) fn lasts(&self, at_least: Duration) -> bool {
        self.asked().longest(monotonic()) >= at_least
    }
}

fn id_of(node: NodeRef<'_>) -> Server {
    node.host_id.as_u128()
}

impl LoadBalancingPolicy for Silence {
    fn pick<'a>(&'a self, request: &'a RoutingInfo, cluster: &'a ClusterState) -> Option<(NodeRef<'a>, Option<Shard>)> {
        let first = self.inner.pick(request, cluster)?;
        let others = || self.inner.fallback(request, cluster);
        let target = if self.is_silent(first.0) {
            // All are: then it is the store that is slow, and whoever is first is as good as any.
            others().find(|(node, _)| !self.is_silent(node)).unwrap_or(first)
        } else {
            first
        };
        self.ask(target.0);
        Some(target)
    }

    fn fallback<'a>(&'a self, request: &'a RoutingInfo, cluster: &'a ClusterState) -> FallbackPlan<'a> {
        let (silent, others): (Vec<_>, Vec<_>) = self
            .inner
            .fallback(request, cluster)
            .partition(|(node, _)| self.is_silent(node));
        let plan = others.into_iter().chain(silent);
        Box::new(plan.inspect(|(node, _)| self.ask(node)))
    }

    fn on_request_success(&self, request: &RoutingInfo, latency: Duration, node: NodeRef<'_>) {
        self.asked().answered(id_of(node));
        self.inner.on_request_success(request, latency, node);
    }

    fn on_request_failure(
        &self,
        request: &RoutingInfo,
        latency: Duration,
        node: NodeRef<'_>,
        error: &RequestAttemptError,
    ) {
        // An error is an answer; and a line that broke the driver knows of, and asks nothing on it.
        self.asked().answered(id_of(node));
        self.inner.on_request_failure(request, latency, node, error);
    }

    fn name(&self) -> String {
        "Silence".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    /// Silence is counted from the first question without any answer since, and forgotten by and by: who thawed is asked again.
    #[test]
    fn who_was_asked_and_says_nothing_is_silent_for_a_while() {
        let (mut asked, start) = (Asked::default(), monotonic());
        assert_eq!(asked.silence(1, start), Duration::ZERO, "it was not asked");
        asked.ask(1, start);
        asked.ask(1, after(start, 400));
        asked.ask(2, after(start, 400));
        assert_eq!(asked.silence(1, after(start, 600)), Duration::from_millis(600));
        assert_eq!(asked.longest(after(start, 600)), Duration::from_millis(600));
        asked.answered(1);
        assert_eq!(asked.silence(1, after(start, 600)), Duration::ZERO);
        assert_eq!(asked.longest(after(start, 600)), Duration::from_millis(200));
        let later = after(start, 400) + FORGOTTEN_AFTER;
        assert_eq!(asked.silence(2, later), Duration::ZERO, "forgotten");
        asked.ask(2, later);
        assert_eq!(asked.silence(2, later + SILENT_AFTER), SILENT_AFTER);
    }
}
