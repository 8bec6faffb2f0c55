//! What time it is on a Redis server. All nodes ask the one that has their list, so that they have one clock in common.

use redis::Pipeline;

use super::fleet::Fleet;
use super::names::NODES_PARTITION;
use crate::domain::UnixMillis;

/// The answer of `TIME`: seconds since the Unix epoch, and microseconds.
pub(super) type Time = (i64, i64);

pub(super) fn unix((seconds, micros): Time) -> UnixMillis {
    UnixMillis(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
}

/// The clock that all nodes have in common; `None` when it does not answer.
pub(super) async fn common(fleet: &Fleet) -> Option<UnixMillis> {
    let add = |commands: &mut Pipeline, (): &()| {
        commands.cmd("TIME");
    };
    let answers = fleet.ask_each(&[()], |()| NODES_PARTITION, add).await;
    let answer = answers.into_iter().next().flatten()?;
    redis::from_redis_value(answer).ok().map(unix)
}
