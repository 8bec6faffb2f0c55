//! Every metric of a node: its name, unit and help. Recording is one call where the thing happens, on a handle that is
//! there from the start.
//!
//! They are of the process, as what a scrape shows is: nodes that share a process add up.

use std::sync::LazyLock;

use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use super::instruments::{Counter, CounterBy, Gauge, GaugeBy, Held, Histogram, Label, SpanGauge};
pub use super::labels::{
    AuthFailure, Delivery, Ended, Handshake, Outcome, Port, Published, Refused, Reload, Resync, Service, Shed, Turned,
};
use super::process::Process;

/// Bounds of times, in nanoseconds: 0.1 ms, a disk's fsync, to 10 s, where clients have given up.
const TIMES: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Bounds of batches and groups: up to the largest group of the store.
const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

macro_rules! meters {
    ($($field:ident: $kind:ty = $name:literal, $help:literal, $make:expr;)*) => {
        /// The handles. A name ends in its unit; Prometheus sees counters with `_total` behind it.
        #[derive(Debug)]
        pub struct Meters {
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Meters {
            fn register(registry: &mut Registry) -> Self {
                $(
                    let $field: $kind = $make;
                    registry.register($name, $help, $field.clone());
                )*
                Self { $($field),* }
            }
        }
    };
}

meters! {
    // Connections.
    connections: Gauge = "stonechat_connections",
        "Open connections, those of the operator's port among them", Gauge::default();
    connections_limit: Gauge = "stonechat_connections_limit",
        "Connections that may be open at a time (setting connections_max)", Gauge::default();
    connections_accepted: Counter = "stonechat_connections_accepted",
        "Connections accepted, those of the operator's port among them", Counter::default();
    accept_errors: Counter = "stonechat_accept_errors",
        "Failed accepts, descriptors used up among them", Counter::default();
    tls_handshakes_failed: CounterBy<Handshake> = "stonechat_tls_handshakes_failed",
        "TLS handshakes that did not succeed", CounterBy::default();
    tls_reloads: CounterBy<Reload> = "stonechat_tls_reloads",
        "Certificate files read again because they had changed", CounterBy::default();
    tls_certificate_expires: GaugeBy<Port> = "stonechat_tls_certificate_expiry_timestamp_seconds",
        "When a port's certificate in use expires, seconds since the Unix epoch; 0 without TLS", GaugeBy::default();

    // Streams and sessions.
    streams: Gauge = "stonechat_streams",
        "Open session streams, those that have not said hello among them", Gauge::default();
    sessions: Gauge = "stonechat_sessions",
        "Streams with an authenticated session", Gauge::default();
    hello_seconds: Histogram = "stonechat_hello_seconds",
        "From a good hello to its welcome", Histogram::of_times(TIMES);
    hellos_refused: CounterBy<Ended> = "stonechat_hellos_refused",
        "Streams that ended without a session", CounterBy::default();
    sessions_ended: CounterBy<Ended> = "stonechat_sessions_ended",
        "Sessions that ended", CounterBy::default();
    stream_queue_frames: Gauge = "stonechat_stream_queue_frames",
        "Frames in the outgoing queues of all streams: what their readers have not taken", Gauge::default();
    stream_queue_bytes: Gauge = "stonechat_stream_queue_bytes",
        "Bytes in the outgoing queues of all streams", Gauge::default();
    stream_queues_full: Counter = "stonechat_stream_queues_full",
        "Times the outgoing queue of a stream was found full: its reader is slow", Counter::default();
    resyncs: CounterBy<Resync> = "stonechat_resyncs",
        "Clients told to read everything again", CounterBy::default();
    presence_watches: Gauge = "stonechat_presence_watches",
        "Users watched, summed over the streams that watch them", Gauge::default();
    draining: Gauge = "stonechat_draining",
        "1 while the node goes down, else 0", Gauge::default();

    // Requests.
    refusals: CounterBy<Refused> = "stonechat_refusals",
        "Requests refused, frames and unary calls", CounterBy::default();
    admission_waiting: Gauge = "stonechat_admission_waiting",
        "Unary calls and hellos that wait for one of the seats (setting requests_at_once_max)", Gauge::default();
    edge_refusals: CounterBy<Turned> = "stonechat_edge_refusals",
        "Connections, requests and streams that the edge refused or ended", CounterBy::default();
    jwks_fetched: Gauge = "stonechat_jwks_fetched_timestamp_seconds",
        "When the identity provider's keys were fetched last, seconds since the Unix epoch; 0 without jwks_url", Gauge::default();
    jwks_fetches: CounterBy<Reload> = "stonechat_jwks_fetches",
        "Fetches of the identity provider's keys (jwks_url)", CounterBy::default();
    auth_failures: CounterBy<AuthFailure> = "stonechat_auth_failures",
        "Tokens that were not accepted", CounterBy::default();
    shed: CounterBy<Shed> = "stonechat_shed",
        "What gave way under load", CounterBy::default();

    // Conversations.
    conversations_loaded: Gauge = "stonechat_conversations_loaded",
        "Conversations in memory", Gauge::default();
    appends_waiting: Gauge = "stonechat_appends_waiting",
        "Appends in the queues of their conversations, or being written", Gauge::default();
    appends: CounterBy<Outcome> = "stonechat_appends",
        "Appends answered", CounterBy::default();
    ack_seconds: Histogram = "stonechat_ack_seconds",
        "From an append's arrival in its conversation's queue to its answer", Histogram::of_times(TIMES);
    append_seconds: Histogram = "stonechat_append_seconds",
        "One append of a batch to the log, the wait for the store's writer and the disk included", Histogram::of_times(TIMES);
    append_batch_entries: Histogram = "stonechat_append_batch_entries",
        "Entries of one append", Histogram::of_sizes(SIZES);
    append_conflicts: Counter = "stonechat_append_conflicts",
        "Appends that lost the compare-and-set on the head: somebody else had appended", Counter::default();
    append_unknowns: Counter = "stonechat_append_unknowns",
        "Appends of which the store could not say whether they happened", Counter::default();
    history_seconds: Histogram = "stonechat_history_seconds",
        "One page of history read", Histogram::of_times(TIMES);

    // Fan-out and delivery.
    fanout_pending: Gauge = "stonechat_fanout_pending",
        "Batches acknowledged whose fan-out is not done", Gauge::default();
    fanout_seconds: Histogram = "stonechat_fanout_seconds",
        "From the ack of a batch to the end of its fan-out, inbox rows included", Histogram::of_times(TIMES);
    fanout_retries: Counter = "stonechat_fanout_retries",
        "Steps of fan-out that failed and were tried again", Counter::default();
    fanout_incomplete: Counter = "stonechat_fanout_incomplete",
        "Times that fan-out was late, to be made up for when the stores answer again", Counter::default();
    delivery_seconds: Histogram = "stonechat_delivery_seconds",
        "From the ack of an entry to a recipient's stream, deliveries of live events", Histogram::of_times(TIMES);
    deliveries: CounterBy<Delivery> = "stonechat_deliveries",
        "Entries handed to streams", CounterBy::default();
    bus_subscriptions: Gauge = "stonechat_bus_subscriptions",
        "Subscriptions of the bus", Gauge::default();
    bus_publishes: CounterBy<Published> = "stonechat_bus_publishes",
        "Events published over Redis: one for each topic, or one for all gateways or those of a conversation", CounterBy::default();
    bus_conversations: Gauge = "stonechat_bus_conversations",
        "Busy large groups with a channel of their own that this node hears", Gauge::default();
    bus_events_lost: Counter = "stonechat_bus_events_lost",
        "Events dropped because a subscriber was full; it reads the log instead", Counter::default();

    // Other nodes.
    nodes: Gauge = "stonechat_nodes",
        "Nodes that own conversations, this one among them, as this one sees them", Gauge::default();
    node_lines: Gauge = "stonechat_node_lines",
        "Lines to other nodes that own conversations, those that are down among them", Gauge::default();
    node_lines_up: Gauge = "stonechat_node_lines_up",
        "Lines to other nodes that are up", Gauge::default();
    node_line_appends: Gauge = "stonechat_node_line_appends",
        "Appends on their way to other nodes: queued or not answered yet", Gauge::default();
    forwards: Counter = "stonechat_forwards",
        "Appends handed to the node that owns the conversation", Counter::default();
    forwards_failed: Counter = "stonechat_forwards_failed",
        "Appends that their owner did not answer, or would not do: done here instead", Counter::default();
    forwards_taken: Counter = "stonechat_forwards_taken",
        "Appends taken from other nodes", Counter::default();
    views_differ: Counter = "stonechat_views_differ",
        "Appends from nodes that know other nodes than this one does", Counter::default();
    clock_offset: SpanGauge = "stonechat_clock_offset_seconds",
        "This node's clock ahead of the middle of the other nodes', negative when behind; 0 as long as nobody compared", SpanGauge::default();
    clock_distrusted: Gauge = "stonechat_clock_distrusted",
        "1 while this node's clock is too far from the other nodes': it is not ready and owns no conversations", Gauge::default();
    fanout_taken_over: Counter = "stonechat_fanout_taken_over",
        "Conversations whose fan-out was taken over from a node that did not finish it", Counter::default();

    // The store.
    commit_seconds: Histogram = "stonechat_commit_seconds",
        "One durable commit of the embedded store, write and fsync", Histogram::of_times(TIMES);
    commit_jobs: Histogram = "stonechat_commit_jobs",
        "Jobs that shared one commit of the embedded store", Histogram::of_sizes(SIZES);
    store_reads: Counter = "stonechat_store_reads",
        "Questions put to log and markers of the embedded store, and its reads of many rows once more", Counter::default();
    store_operations: CounterBy<Service> = "stonechat_store_operations",
        "Statements of CQL and SQL, those that begin a transaction among them, and commands of Redis", CounterBy::default();
    foreign_writes: Counter = "stonechat_foreign_writes",
        "Registers of markers and inboxes on CQL found that nobody wrote through this release: each hides what is written later", Counter::default();
    store_queue: Gauge = "stonechat_store_queue_jobs",
        "Jobs that waited for the embedded store's writer when it took its last group", Gauge::default();
}

struct All {
    meters: Meters,
    registry: Registry,
}

static ALL: LazyLock<All> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let meters = Meters::register(&mut registry);
    let version = ("version", env!("CARGO_PKG_VERSION"));
    registry.register(
        "stonechat_build",
        "The version that runs, and whether it is a debug build",
        Info::new([
            version,
            ("debug", if cfg!(debug_assertions) { "true" } else { "false" }),
        ]),
    );
    registry.register_collector(Box::new(Process));
    All { meters, registry }
});

/// The metrics of this process.
#[must_use]
pub fn meters() -> &'static Meters {
    &ALL.meters
}

/// All of them as Prometheus reads them: text format 0.0.4.
#[must_use]
pub fn render() -> String {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &ALL.registry) {
        // Only a sink that fails could make it fail, and a text does not.
        tracing::error!(%error, "metrics were not rendered");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(text: &str) -> Vec<&str> {
        text.lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect()
    }

    /// What monitors are built on: one name each, lower-case, of this server or the usual ones of a process, with help.
    #[test]
    fn names_are_unique_and_plain() {
        let text = render();
        let names = names(&text);
        let unique: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(unique.len(), names.len());
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(
                plain && (name.starts_with("stonechat_") || name.starts_with("process_")),
                "{name}"
            );
            let help = format!("# HELP {name} ");
            assert!(
                text.lines()
                    .any(|line| line.len() > help.len() && line.starts_with(&help)),
                "{name}"
            );
        }
    }

    /// A counter that never rose is there with 0: an alert on its increase sees the first one.
    #[test]
    fn labels_are_there_from_the_start() {
        let text = render();
        for line in [
            "stonechat_shed_total{what=\"disk\"} ",
            "stonechat_appends_total{outcome=\"unknown\"} ",
        ] {
            assert!(
                text.lines().any(|found| found.starts_with(line)),
                "{line} is not in\n{text}"
            );
        }
    }
}
