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
    let mut checks = vec![answers, clock("cql", facts.clock, config)];
    // Whoever may not read it cannot tell.
    if facts.schema.is_some() || facts.not_read.is_none() {
        checks.push(schema("cql", facts.schema, facts.schema_known));
    }
    checks.extend(fitness(config, facts));
    if facts.schema.is_some() || facts.not_read.is_some() {
        checks.push(cql_rights(config, facts));
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

/// Rights that a node needs of CQL servers, by the names that they have there: the last two for making tables alone.
const CQL_RIGHTS: [&str; 4] = ["SELECT", "MODIFY", "CREATE", "ALTER"];

fn cql_rights(config: &Config, facts: &CqlFacts) -> Check {
    let name = "rights in cql";
    if let Some(why) = &facts.not_read {
        return Check::fail(name, format!("not everything may be read: {why}"), grant(config, why));
    }
    if let Some(why) = &facts.not_written {
        return Check::fail(
            name,
            format!("conditional batches do not work: {why}"),
            grant(config, why),
        );
    }
    match &facts.not_made {
        None => Check::ok(
            name,
            "all tables are read, conditional batches hold, and tables may be made",
        ),
        Some(why) => {
            let found = format!("no table can be made ({why}): enough for now, not for the next release");
            Check::warn(name, found, grant(config, why))
        }
    }
}

/// What to give the user, by what the servers say that they lack.
fn grant(config: &Config, why: &str) -> String {
    let lacks = |right: &&&str| why.contains(&format!("no {right} permission"));
    let Some(right) = CQL_RIGHTS.iter().find(lacks) else {
        return "see what the servers say; this user needs SELECT and MODIFY on the keyspace, CREATE and ALTER to make tables"
            .to_owned();
    };
    let user = config.cql_user.as_deref().unwrap_or("this user");
    format!("GRANT {right} ON KEYSPACE {} TO {user}", config.cql_keyspace)
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
#[path = "tests/judged.rs"]
mod tests;
