//! The services: each asked for its version, its schema, its clock, and what this user may do there.

use std::time::Duration;

use stonechat_host::{Host, monotonic};

use super::{Check, Status};
use crate::bus::redis::{RedisFacts, ServerFacts};
use crate::config::Config;
use crate::domain::ClockOffset;
use crate::node::{cql_options, redis_options};
use crate::storage::cql::{CqlFacts, CqlMisfit, CqlProduct};
use crate::storage::sql::PostgresFacts;

/// Time for all that is asked of one service.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How far a clock may be off before somebody should look: NTP keeps it within a few milliseconds.
const CLOCK_OFF_MS: i64 = 100;
/// Oldest Postgres that its makers keep, by `server_version_num`.
const POSTGRES_KEPT: i32 = 140_000;
/// Connections that a Postgres keeps for others than us: its administrator's, a backup, another node that starts.
const POSTGRES_SPARE: i64 = 8;
/// The first Redis with sharded pub/sub.
const REDIS_MAJOR_MIN: u32 = 7;

const REACH: &str = "see that it answers from this machine, with this user and password";

/// Asks every service that the settings name, one after the other.
pub(super) async fn look(config: &Config, host: &Host) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(url) = &config.postgres {
        let asked = timed(async { PostgresFacts::ask(url, host).await.map_err(words) });
        checks.extend(told("postgres", asked.await, |facts| postgres(config, facts)));
    }
    if !config.redis.is_empty() {
        let asked = timed(async {
            let options = redis_options(config, host).await.map_err(words)?;
            RedisFacts::ask(&options, host).await.map_err(words)
        });
        checks.extend(told("redis", asked.await, |facts| redis(config, facts)));
    }
    if !config.cql.is_empty() {
        let asked = timed(async {
            let options = cql_options(config, host).await.map_err(words)?;
            CqlFacts::ask(&options, host).await.map_err(words)
        });
        checks.extend(told("cql", asked.await, |facts| cql(config, facts)));
    }
    checks
}

fn words(error: impl ToString) -> String {
    error.to_string()
}

/// What was told, and how long it took.
async fn timed<T>(asking: impl Future<Output = Result<T, String>>) -> Result<(T, Duration), String> {
    let begun = monotonic();
    // Boxed: what asking takes must not be carried by everything that calls this.
    match tokio::time::timeout(ANSWER_WITHIN, Box::pin(asking)).await {
        Ok(told) => Ok((told?, begun.elapsed())),
        Err(_) => Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

fn told<T>(name: &str, asked: Result<(T, Duration), String>, judge: impl FnOnce(&T) -> Vec<Check>) -> Vec<Check> {
    match asked {
        Err(why) => vec![Check::fail(name, why, REACH)],
        Ok((facts, took)) => judge(&facts)
            .into_iter()
            .map(|check| if check.name == name { check.took(took) } else { check })
            .collect(),
    }
}

fn postgres(config: &Config, facts: &PostgresFacts) -> Vec<Check> {
    let version = format!("version {}", facts.version);
    let answers = if facts.read_only {
        let found = format!("{version}, which takes no writes");
        Check::fail("postgres", found, "name the primary, not a replica")
    } else if facts.version_number < POSTGRES_KEPT {
        let found = format!("{version}, which its makers no longer mend");
        Check::warn("postgres", found, "plan for Postgres 14 or newer")
    } else {
        Check::ok("postgres", version)
    };
    vec![
        answers,
        schema(
            "postgres",
            facts.schema.map(i64::unsigned_abs),
            facts.schema_known.unsigned_abs(),
        ),
        clock("postgres", facts.clock, config),
        postgres_rights(facts),
        postgres_connections(config, facts),
    ]
}

fn postgres_rights(facts: &PostgresFacts) -> Check {
    let name = "rights in postgres";
    if !facts.without_rights.is_empty() {
        let found = format!("this user may not read and write {}", facts.without_rights.join(", "));
        return Check::fail(
            name,
            found,
            "make this user the owner of the tables, or GRANT ALL on them",
        );
    }
    let advice = "GRANT CREATE ON SCHEMA public TO this user, or make it the owner of the database";
    match &facts.not_made {
        None => Check::ok(name, "a table was made, written to and taken back"),
        Some(why) if facts.schema == Some(facts.schema_known) => {
            let found = format!("no table can be made ({why}): enough for now, not for the next release");
            Check::warn(name, found, advice)
        }
        Some(why) => Check::fail(name, format!("no table can be made: {why}"), advice),
    }
}

fn postgres_connections(config: &Config, facts: &PostgresFacts) -> Check {
    let name = "connections of postgres";
    let (ours, theirs) = (i64::from(config.postgres_connections_max), facts.connections_max);
    let nodes = (theirs - POSTGRES_SPARE) / ours.max(1);
    let found = format!(
        "it takes {theirs}, a node up to {ours}: enough for {} nodes",
        nodes.max(0)
    );
    if nodes < 1 {
        return Check::fail(
            name,
            found,
            "lower postgres_connections_max, or raise max_connections there",
        );
    }
    Check::ok(name, found)
}

fn redis(config: &Config, facts: &RedisFacts) -> Vec<Check> {
    let mut checks = Vec::new();
    for (address, told) in &facts.servers {
        match told {
            Ok(server) => checks.extend(redis_server(config, address, server)),
            Err(why) => checks.push(Check::fail("redis", format!("{address}: {why}"), REACH)),
        }
    }
    if facts.servers.iter().any(|(_, told)| told.is_ok()) {
        checks.extend(redis_uses(facts));
    }
    checks
}

fn redis_server(config: &Config, address: &str, server: &ServerFacts) -> [Check; 2] {
    let version = format!("{address} is {}", server.version);
    let number = server
        .version
        .split([' ', '.'])
        .find_map(|part| part.parse::<u32>().ok());
    let answers = if number.is_none_or(|major| major < REDIS_MAJOR_MIN) {
        let found = format!("{version}: sharded pub/sub came with Redis {REDIS_MAJOR_MIN}");
        Check::fail("redis", found, "use Redis 7 or newer, or Valkey")
    } else if server.cluster && !config.redis_cluster {
        let found = format!("{version}, a node of a cluster");
        Check::fail("redis", found, "set redis_cluster = true")
    } else if !server.cluster && config.redis_cluster {
        let found = format!("{version}, of no cluster");
        Check::fail("redis", found, "take redis_cluster away")
    } else {
        Check::ok("redis", version)
    };
    [answers, clock("redis", server.clock, config)]
}

fn redis_uses(facts: &RedisFacts) -> [Check; 3] {
    [
        used(
            "events over redis",
            facts.events_cross,
            "what one node said another one heard (sharded pub/sub)",
            "what one node said another one did not hear: live messages would wait for the log",
            "let this user SSUBSCRIBE and SPUBLISH channels of stonechat:*; a proxy in between must pass both",
            Status::Fail,
        ),
        used(
            "rights in redis",
            facts.writes_cross,
            "what one node wrote another one read",
            "what one node wrote another one did not read: nodes would not find each other, everybody would look offline",
            "let this user read and write keys of stonechat:*, and name a primary",
            Status::Fail,
        ),
        used(
            "scripts in redis",
            facts.scripts_run,
            "they run: nodes share the rates of users",
            "they do not run: each node counts the rates of users for itself",
            "let this user EVAL, or live with a limit for each node",
            Status::Warn,
        ),
    ]
}

fn used(name: &str, works: bool, good: &str, bad: &str, advice: &str, otherwise: Status) -> Check {
    if works {
        return Check::ok(name, good);
    }
    Check::new(name, otherwise, bad, advice)
}

fn cql(config: &Config, facts: &CqlFacts) -> Vec<Check> {
    let product = match facts.product {
        CqlProduct::Cassandra => "Apache Cassandra",
        CqlProduct::Scylla => "ScyllaDB",
    };
    let (servers, copies) = (facts.servers, usize::from(config.cql_replication));
    let found = format!(
        "{product} {}, {servers} servers, data centre {}",
        facts.version, facts.datacenter
    );
    let named = config.cql_datacenter.as_ref();
    let answers = if named.is_some_and(|named| *named != facts.datacenter) {
        Check::warn(
            "cql",
            found,
            "cql_datacenter names another one than that of the server that answered first",
        )
    } else if facts.schema.is_none() && servers < copies {
        let found = format!("{found}: fewer than the {copies} copies that are to be made");
        Check::fail(
            "cql",
            found,
            "start more servers, or lower cql_replication before the first start",
        )
    } else {
        Check::ok("cql", found)
    };
    let mut checks = vec![
        answers,
        schema("cql", facts.schema, facts.schema_known),
        clock("cql", facts.clock, config),
    ];
    checks.extend(fitness(config, facts));
    if facts.schema.is_some() {
        checks.push(cql_rights(facts));
    }
    checks
}

fn fitness(config: &Config, facts: &CqlFacts) -> Vec<Check> {
    let name = "fitness of cql";
    let misfits = facts.misfits.iter();
    let misfits: Vec<Check> = misfits
        .map(|misfit| Check::fail(name, misfit.to_string(), amends(misfit)))
        .collect();
    if !misfits.is_empty() {
        return misfits;
    }
    if facts.homes.len() > 1 {
        let named = config.cql_datacenter.as_deref().unwrap_or_default();
        let found = format!("copies in {}, of which {named} is asked", facts.homes.join(", "));
        let advice =
            "see that cql_datacenter is the same on all nodes: two could append the same seq in two data centres";
        return vec![Check::warn(name, found, advice)];
    }
    vec![Check::ok(name, "servers and keyspace are as the log needs them")]
}

/// What to do about servers or a keyspace that a node refuses.
pub(super) fn amends(misfit: &CqlMisfit) -> String {
    let advice = match misfit {
        CqlMisfit::TooOld(_) => "upgrade every server",
        CqlMisfit::Unnamed(_) => "set cql_datacenter, to the same one on all nodes",
        CqlMisfit::Elsewhere { .. } => "name one that has copies, or ALTER KEYSPACE and repair",
        CqlMisfit::Expiring { table, .. } => {
            return format!(
                "ALTER TABLE {table} WITH default_time_to_live = 0, then stop all nodes and see by `stonechat audit` what \
                 is gone"
            );
        }
    };
    advice.to_owned()
}

fn cql_rights(facts: &CqlFacts) -> Check {
    let name = "rights in cql";
    if let Some(why) = &facts.not_written {
        let advice = "GRANT SELECT and MODIFY on the keyspace to this user; see also what the servers say";
        return Check::fail(name, format!("conditional batches do not work: {why}"), advice);
    }
    match &facts.not_made {
        None => Check::ok(name, "conditional batches hold, and tables may be made"),
        Some(why) => {
            let found = format!("no table can be made ({why}): enough for now, not for the next release");
            Check::warn(name, found, "GRANT CREATE and ALTER on the keyspace to this user")
        }
    }
}

/// What is there, against what this release knows.
fn schema(service: &str, there: Option<u64>, known: u64) -> Check {
    let name = format!("schema of {service}");
    match there {
        None => Check::ok(&name, format!("none yet; the first start makes version {known}")),
        Some(there) if there > known => {
            let found = format!("version {there}; this release knows up to {known}");
            Check::fail(
                &name,
                found,
                "start the newer release that wrote it, or name another database or keyspace",
            )
        }
        Some(there) if there < known => {
            let found = format!("version {there}; the next start brings it to {known}");
            Check::warn(
                &name,
                found,
                "take a backup first; nodes of the release before may go on meanwhile",
            )
        }
        Some(there) => Check::ok(&name, format!("version {there}, the newest")),
    }
}

/// How far this machine's clock is from a service's. Said is the likeliest, judged what is certain.
pub(super) fn clock(service: &str, offset: ClockOffset, config: &Config) -> Check {
    let name = format!("clock of {service}");
    let ClockOffset { ahead_ms, unsure_ms } = offset;
    let side = if ahead_ms < 0 { "behind" } else { "ahead" };
    let found = format!(
        "this machine's is {} ms {side}, give or take {unsure_ms}",
        ahead_ms.abs()
    );
    let advice = "keep both by NTP: a node this far from the others does not serve";
    let limit = i64::try_from(config.clock_offset_max.as_millis()).unwrap_or(i64::MAX);
    let off = offset.at_least_ms();
    if limit > 0 && off > limit {
        Check::fail(&name, found, advice)
    } else if off > CLOCK_OFF_MS {
        Check::warn(&name, found, "keep both by NTP")
    } else {
        Check::ok(&name, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d14_clocks_are_judged_by_what_is_certain() {
        let config = Config::default();
        let judge = |ahead_ms, unsure_ms| clock("x", ClockOffset { ahead_ms, unsure_ms }, &config).status;
        assert_eq!(judge(100, 3), Status::Ok);
        assert_eq!(judge(-150, 3), Status::Warn);
        assert_eq!(judge(150, 80), Status::Ok, "the way there took long");
        assert_eq!(judge(-600, 3), Status::Fail);
        let config = Config {
            clock_offset_max: Duration::ZERO,
            ..config
        };
        let far = ClockOffset {
            ahead_ms: 9_000,
            unsure_ms: 1,
        };
        assert_eq!(clock("x", far, &config).status, Status::Warn, "nobody judges it");
    }

    #[test]
    fn a_schema_of_a_newer_release_fails_and_an_older_one_is_told() {
        assert_eq!(schema("x", None, 3).status, Status::Ok);
        assert_eq!(schema("x", Some(3), 3).status, Status::Ok);
        assert_eq!(schema("x", Some(2), 3).status, Status::Warn);
        assert_eq!(schema("x", Some(4), 3).status, Status::Fail);
    }

    #[test]
    fn d4_d8_d18_cql_that_will_not_do_is_told_with_advice() {
        let mut config = Config::default();
        let mut facts = CqlFacts {
            product: CqlProduct::Cassandra,
            version: "5.0.5".to_owned(),
            datacenter: "east".to_owned(),
            servers: 3,
            homes: vec!["east".to_owned()],
            misfits: Vec::new(),
            schema: Some(1),
            schema_known: 1,
            clock: ClockOffset::default(),
            not_made: None,
            not_written: None,
        };
        let judge = |config: &Config, facts: &CqlFacts| {
            let mut checks = cql(config, facts);
            checks.retain(|check| check.name == "fitness of cql");
            checks
        };
        assert_eq!(judge(&config, &facts)[0].status, Status::Ok);
        facts.homes.push("west".to_owned());
        config.cql_datacenter = Some("east".to_owned());
        let warned = judge(&config, &facts);
        assert!(warned[0].status == Status::Warn && warned[0].advice.contains("same on all nodes"));
        facts.misfits = vec![
            CqlMisfit::TooOld("3.11.17".to_owned()),
            CqlMisfit::Unnamed(facts.homes.clone()),
            CqlMisfit::Expiring {
                table: "log".to_owned(),
                seconds: 60,
            },
        ];
        let failed = judge(&config, &facts);
        let advice: Vec<&str> = failed.iter().map(|check| check.advice.as_str()).collect();
        assert!(failed.iter().all(|check| check.status == Status::Fail), "{failed:#?}");
        assert!(
            advice[0].contains("upgrade") && advice[1].contains("cql_datacenter"),
            "{advice:?}"
        );
        assert!(advice[2].contains("ALTER TABLE log"), "{advice:?}");
    }

    #[test]
    fn a_redis_that_will_not_do_is_told() {
        let clock = ClockOffset::default();
        let judge = |version: &str, cluster, set| {
            let config = Config {
                redis_cluster: set,
                ..Config::default()
            };
            let server = ServerFacts {
                version: version.to_owned(),
                cluster,
                clock,
            };
            redis_server(&config, "a:1", &server)[0].status
        };
        assert_eq!(judge("redis 7.0.15", false, false), Status::Ok);
        assert_eq!(judge("valkey 8.1.0", true, true), Status::Ok);
        assert_eq!(judge("redis 6.2.14", false, false), Status::Fail);
        assert_eq!(judge("redis of no version", false, false), Status::Fail);
        assert_eq!(judge("redis 7.4.1", true, false), Status::Fail);
        assert_eq!(judge("redis 7.4.1", false, true), Status::Fail);
        let mute = RedisFacts {
            servers: Vec::new(),
            events_cross: false,
            writes_cross: false,
            scripts_run: false,
        };
        let statuses = redis_uses(&mute).map(|check| check.status);
        assert_eq!(statuses, [Status::Fail, Status::Fail, Status::Warn]);
    }
}
