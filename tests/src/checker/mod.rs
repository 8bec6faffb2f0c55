//! The history checker: what clients saw and the final logs in, a verdict on C1 to C16 and C19 out.
//!
//! Every message is unique and has a seq, so each check is one pass over sorted events: n log n in the history.

mod answers;
mod audience;
mod durability;
mod facts;
mod history;
mod log;
mod markers;
mod order;
mod presence;
mod readers;
mod verdict;

pub use history::{
    Backlog, BodyHash, Conversation, Device, Event, History, MarkerValues, MessageId, MessageKey, Moment, OpId,
    Register, Seq, SessionRef, Sighting, Start, User, What,
};
pub use log::{FinalEntry, FinalLog, Membership, Stay};
pub use verdict::{Check, Verdict, Violation};

use std::time::Duration;

/// Times the promises are measured by.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// After this long without an append every online device has everything (I5, C14).
    pub silence: Duration,
    /// A user without any sign of life for this long must show as offline (C15).
    pub presence_ttl: Duration,
    /// How stale an observation of presence may be (C15).
    pub presence_slack: Duration,
    /// How far a row of a list may lag behind acks (C6): none on one node, which waits for its own fan-out; on several the row
    /// is a hint, and what it misses comes as a delivery.
    pub list_lag: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(15),
            presence_ttl: Duration::from_secs(60),
            presence_slack: Duration::from_secs(30),
            list_lag: Duration::ZERO,
        }
    }
}

/// Runs every check.
#[must_use]
pub fn check(history: &History, logs: &[FinalLog], bounds: &Bounds) -> Verdict {
    let facts = facts::Facts::gather(history, logs);
    let mut verdict = Verdict::default();
    durability::check(&facts, &mut verdict);
    answers::check(&facts, &mut verdict);
    order::check(&facts, bounds, &mut verdict);
    readers::check(&facts, bounds, &mut verdict);
    audience::check(&facts, &mut verdict);
    markers::check(&facts, &mut verdict);
    presence::check(&facts, bounds, &mut verdict);
    verdict
}
