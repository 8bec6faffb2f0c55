//! What Redis tells of itself to somebody who wants to know whether it will do: a node that starts goes on without it (I10), and
//! would not say.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use stonechat_host::{Host, monotonic};

use super::fleet::{client, connection_info};
use super::time::{Time, unix};
use super::{RedisBus, RedisError, RedisOptions};
use crate::bus::{Bus, Event, NodeRecord, Spent, Topic};
use crate::domain::{ClockOffset, ConversationId, SessionId, UnixMillis, UserId};

/// A server that takes longer for a connection or an answer would be taken for away.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Looks at the clock: the surest counts.
const CLOCK_LOOKS: usize = 3;
/// What is said while trying is forgotten after this, whatever happens to who said it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// Stands for session and user of what is tried.
const TRIED: &str = "stonechat-doctor";
const TRIED_CONVERSATION: ConversationId = ConversationId(*b"stonechat-doctor");

/// What one server tells.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Its product and version, such as `redis 7.4.1`.
    pub version: String,
    /// Whether it is a node of a cluster.
    pub cluster: bool,
    /// This machine's clock against its.
    pub clock: ClockOffset,
}

/// What Redis tells of itself.
#[derive(Debug, Clone)]
pub struct RedisFacts {
    /// The servers of the settings, by their address without a password, with what each tells, or why it does not.
    pub servers: Vec<(String, Result<ServerFacts, String>)>,
    /// Whether an event of one node is heard by another: sharded pub/sub.
    pub events_cross: bool,
    /// Whether what one node writes is read by another.
    pub writes_cross: bool,
    /// Whether scripts run, by which nodes share rates.
    pub scripts_run: bool,
}

impl RedisFacts {
    /// Asks what the options name. What is written goes within seconds.
    ///
    /// # Errors
    /// The options cannot be used. That servers are away is told, not an error.
    pub async fn ask(options: &RedisOptions, host: &Host) -> Result<Self, RedisError> {
        let mut servers = Vec::new();
        for address in &options.addresses {
            let info = connection_info(address).map_err(RedisError::Address)?;
            let shown = info.addr().to_string();
            let client = client(info, options.trust.as_ref()).map_err(RedisError::Address)?;
            servers.push((shown, ask_server(&client, host).await));
        }
        let facts = Self {
            servers,
            events_cross: false,
            writes_cross: false,
            scripts_run: false,
        };
        if facts.servers.iter().all(|(_, told)| told.is_err()) {
            return Ok(facts);
        }
        let options = RedisOptions {
            prefix: format!("{}doctor:", options.prefix),
            ..options.clone()
        };
        let here = RedisBus::open(options.clone(), host.clone()).await?;
        let there = RedisBus::open(options, host.clone()).await?;
        Ok(Self {
            writes_cross: writes_cross(&here, &there, host).await,
            scripts_run: scripts_run(&here).await,
            // Last: a subscription that is refused breaks the link, to begin anew.
            events_cross: events_cross(&here, &there).await,
            ..facts
        })
    }
}

async fn ask_server(client: &Client, host: &Host) -> Result<ServerFacts, String> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    let asking = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let mut clock = look_at_clock(&mut connection, host).await?;
        for _ in 1..CLOCK_LOOKS {
            clock = clock.surer(look_at_clock(&mut connection, host).await?);
        }
        Ok::<_, redis::RedisError>(ServerFacts {
            version: version(&info),
            cluster: field(&info, "redis_mode") == Some("cluster"),
            clock,
        })
    };
    asking.await.map_err(|error| error.to_string())
}

async fn look_at_clock(connection: &mut MultiplexedConnection, host: &Host) -> RedisResult<ClockOffset> {
    let begun = monotonic();
    let theirs: Time = redis::cmd("TIME").query_async(connection).await?;
    let now = UnixMillis(host.clock.unix_ms());
    Ok(ClockOffset::measured(now, begun.elapsed(), unix(theirs)))
}

/// A line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
}

fn version(info: &str) -> String {
    // Valkey says under the old name which Redis it is like.
    let valkey = field(info, "valkey_version").map(|version| format!("valkey {version}"));
    valkey.unwrap_or_else(|| format!("redis {}", field(info, "redis_version").unwrap_or("of no version")))
}

async fn events_cross(here: &RedisBus, there: &RedisBus) -> bool {
    let Ok(session) = SessionId::parse(TRIED) else {
        return false;
    };
    let topic = Topic::Session(session);
    let mut events = there.subscribe(topic.clone()).await;
    here.publish(&topic, Event::OwnRow(TRIED_CONVERSATION)).await;
    let heard = async {
        while let Some(event) = events.next().await {
            if matches!(event, Event::OwnRow(TRIED_CONVERSATION)) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(ANSWER_WITHIN, heard).await.unwrap_or(false)
}

async fn writes_cross(here: &RedisBus, there: &RedisBus, host: &Host) -> bool {
    let node = NodeRecord {
        name: format!("{:032x}", u128::from_be_bytes(host.random.bytes16())),
        address: String::new(),
        core: false,
        hears_groups: true,
        hears_promoted: true,
        clock: None,
    };
    here.announce_node(&node, FORGOTTEN_AFTER).await;
    let read = there.nodes().await.unwrap_or_default();
    here.withdraw_node(&node.name).await;
    read.contains(&node)
}

async fn scripts_run(here: &RedisBus) -> bool {
    let Ok(user) = UserId::parse(TRIED) else { return false };
    let spent = Spent {
        user,
        used: Duration::from_millis(1),
        most: FORGOTTEN_AFTER,
    };
    here.spend(&[spent]).await.iter().all(Option::is_some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let redis = "# Server\r\nredis_version:7.4.1\r\nredis_mode:cluster\r\n";
        assert_eq!(version(redis), "redis 7.4.1");
        assert_eq!(field(redis, "redis_mode"), Some("cluster"));
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n";
        assert_eq!(version(valkey), "valkey 8.0.1");
        assert_eq!(version(""), "redis of no version");
    }
}
