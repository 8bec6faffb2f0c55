//! The conversation core alone, many nodes over one store in memory, on simulated time: thousands of sends a second.
//!
//! Everything of the server is real but what lies below its traits. The log is the one in memory behind a twin that lies
//! as far as the contract of `MessageLog` lets a store lie; the bus loses, delays and doubles; nodes crash, freeze and
//! disagree about the time; people pipeline, lose patience and send again through another node. One thread, one clock,
//! one seed: a run repeats to the last event.

mod attempt;
mod bus;
mod chaos;
mod dice;
mod directory;
mod gate;
mod honesty;
mod lags;
mod lane;
mod leases;
mod log;
mod markers;
mod node;
mod panics;
mod people;
mod reader;
mod receipts;
mod recorder;
mod run;
mod setup;
mod signal;
mod watchers;
mod weather;
mod world;

pub use receipts::{ReceiptsOutcome, ReceiptsSetup, shuffle_receipts};
pub use run::{Outcome, run, run_on};
pub use setup::{Again, Fate, Faults, Given, PerMille, Setup};
pub use watchers::{PresenceOutcome, watch_presence};
pub use weather::Counts;
pub use world::Wrap;

/// Rules of the server that only this simulation can see broken (`stonechat_host::rule_holds`): each has a case in its suite.
pub const RULES: [&str; 7] = [
    "a_lost_append_is_looked_into",
    "acknowledged_by_whoever_took_it_in",
    "doubt_is_told",
    "members_are_read_again",
    "presence_keeps_its_own_time",
    "what_is_late_is_owed",
    "who_cannot_look_does_not_deny",
];
