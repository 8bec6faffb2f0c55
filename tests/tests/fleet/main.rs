//! Several nodes as processes on real CQL, Postgres and Redis servers, and everything that can happen to each: no acknowledged
//! message is lost, doubled or reordered, and everybody has the head in the end (I1–I5, I10).

use std::time::Duration;

mod counted;
mod damage;
mod forgetful;
mod groups;
mod hot;
mod network;
mod nodes;
mod presence;
mod promoted;
mod resharded;
mod rolling;
mod services;
mod tails;
mod watch;

/// Without any live delivery, and with the time in which a dead node is noticed, everybody has the head by then (I5).
const VISIBLE_WITHIN: Duration = Duration::from_secs(15);

/// How long a measurement goes on: by `STONECHAT_FAULT_SECONDS`, or this.
fn span(seconds: u64) -> Duration {
    let given = std::env::var("STONECHAT_FAULT_SECONDS").ok();
    Duration::from_secs(given.and_then(|given| given.parse().ok()).unwrap_or(seconds))
}

/// Rounds of messages, one a second; one that takes longer delays the next, as what a conversation may take in a second is bounded.
fn rounds() -> tokio::time::Interval {
    let mut rounds = tokio::time::interval(Duration::from_secs(1));
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    rounds
}
