//! What users have used of a limit that all nodes share: an instant for each, until when all that was asked of any node is
//! paid for at the steady rate. It lies where the user's other keys lie, and goes by itself when it is past.

use std::time::Duration;

use redis::{Pipeline, Value};

use super::fleet::Fleet;
use super::names::partition_of_user;
use crate::bus::Spent;

/// Adds microseconds (`ARGV[1]`) to the instant, which is at most `ARGV[2]` ahead of now, and says how far ahead it is. By the
/// server's own clock: those of nodes do not come into it.
const SPEND: &str = "local time = redis.call('TIME') \
    local now = time[1] * 1000000 + time[2] \
    local paid = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + ARGV[1] \
    paid = math.min(paid, now + ARGV[2]) \
    redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', math.ceil((paid - now) / 1000) + 1000) \
    return paid - now";

/// Adds, all at once; how far ahead each is then, `None` where Redis does not say.
pub(super) async fn spend(fleet: &Fleet, spent: &[Spent]) -> Vec<Option<Duration>> {
    let partition = |one: &Spent| partition_of_user(&one.user);
    let add = |commands: &mut Pipeline, one: &Spent| {
        let script = commands.cmd("EVAL").arg(SPEND).arg(1);
        let key = script.arg(fleet.names.paid(&one.user).text);
        key.arg(micros(one.used)).arg(micros(one.most));
    };
    let answers = fleet.ask_each(spent, partition, add).await;
    answers.into_iter().map(|answer| ahead(answer?)).collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn ahead(answer: Value) -> Option<Duration> {
    redis::from_redis_value(answer).ok().map(Duration::from_micros)
}
