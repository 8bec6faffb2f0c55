//! What the edge refused, counted by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why the edge refused something, or ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A connection: its address opens too many too fast.
    ConnectionRate,
    /// A connection: its address has too many open.
    AddressConnections,
    /// A connection: it did not say in time what it wants.
    Silent,
    /// A connection: a flood of frames that ask for work and carry nothing.
    FrameFlood,
    /// A connection: it went on asking after a great many refusals.
    Persistent,
    /// A request: its address asks too fast.
    AddressRate,
    /// A request: its user asks too fast.
    UserRate,
    /// A request or a hello: the node has more to do than it can.
    Overloaded,
    /// A request: not answered within its deadline.
    Deadline,
    /// A request: too many metadata entries.
    Metadata,
    /// A request: a page of an origin that is not listed.
    Origin,
    /// A request: its content type is not that of gRPC.
    ContentType,
    /// A stream: no hello in time.
    NoHello,
    /// A stream: its reader did not take what was left to send.
    StuckStream,
}

const REASONS: [(Reason, &str); 14] = [
    (Reason::ConnectionRate, "connection_rate"),
    (Reason::AddressConnections, "address_connections"),
    (Reason::Silent, "silent"),
    (Reason::FrameFlood, "frame_flood"),
    (Reason::Persistent, "persistent"),
    (Reason::AddressRate, "address_rate"),
    (Reason::UserRate, "user_rate"),
    (Reason::Overloaded, "overloaded"),
    (Reason::Deadline, "deadline"),
    (Reason::Metadata, "metadata"),
    (Reason::Origin, "origin"),
    (Reason::ContentType, "content_type"),
    (Reason::NoHello, "no_hello"),
    (Reason::StuckStream, "stuck_stream"),
];

static COUNTS: [AtomicU64; REASONS.len()] = [const { AtomicU64::new(0) }; REASONS.len()];

/// Something was refused.
pub fn refused(reason: Reason) {
    COUNTS[reason as usize].fetch_add(1, Ordering::Relaxed);
}

/// How often this process refused something, by the reason's name. The names stay the same.
#[must_use]
pub fn refusals() -> Vec<(&'static str, u64)> {
    let counts = COUNTS.iter().map(|count| count.load(Ordering::Relaxed));
    REASONS.iter().map(|(_, name)| *name).zip(counts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_counts_under_its_name() {
        for (index, (reason, name)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{name}");
            let before = refusals()[index];
            refused(*reason);
            let after = refusals()[index];
            assert_eq!(after.0, *name);
            assert!(after.1 > before.1, "{name}");
        }
    }
}
