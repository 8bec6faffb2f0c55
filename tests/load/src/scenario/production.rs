//! What a fleet's backends cost: an append against one bare conditional write of the same driver on the same server, a
//! publish for each recipient, CPU by role, and 1:1 messages against the embedded backends. Needs `scripts/services`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use scylla::client::session::Session;
use scylla::statement::SerialConsistency;
use scylla::statement::prepared::PreparedStatement;
use stonechat_host::Host;
use stonechat_server::bus::redis::{RedisBus, RedisOptions};
use stonechat_server::bus::{Bus, Event, NodeRecord, Topic};
use stonechat_server::domain::{ConversationId, UserId};
use stonechat_server::storage::cql::{BUCKET_SEQS, CqlOptions, CqlStore};

use super::direct::{Talk, talk};
use super::{Context, open_all};
use crate::link::Way;
use crate::population::Population;
use crate::process::{Kind, Server};
use crate::services::Services;
use crate::store::{BATCH, append_to};
use crate::traffic::Measured;
use crate::{Failure, Outcome};

/// Senders that wait for the log at a time.
const SENDERS: u64 = 64;
/// Messages a second of the 1:1 runs: well below what one CQL server on the bench's own machine takes, whose processors it
/// shares with everybody else. Near that the wait is the server's queue.
const STEADY_PER_SECOND: u32 = 50;
/// Recipients of a publish.
const RECIPIENTS: usize = 500;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let Some(services) = Services::found()? else {
        eprintln!("production: skipped, no services; eval \"$(scripts/services start)\" starts them");
        return Ok(());
    };
    Box::pin(appends(context, &services)).await?;
    publish(context, &services).await?;
    roles(context, &services).await
}

/// One conditional write, of one column on one row, and nothing else.
struct Bare {
    session: Session,
    set: PreparedStatement,
}

impl Bare {
    async fn prepare(services: &Services) -> Outcome<Self> {
        let session = services.session().await?;
        session.use_keyspace(services.keyspace(), false).await?;
        let table = "CREATE TABLE IF NOT EXISTS bare (id bigint PRIMARY KEY, head bigint)";
        session.query_unpaged(table, ()).await?;
        let mut set = session
            .prepare("UPDATE bare SET head = ? WHERE id = ? IF head = ?")
            .await?;
        set.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        Ok(Self { session, set })
    }

    /// So many writes one after the other, on one row.
    async fn write(&self, row: i64, count: u64) -> Outcome<Histogram<u64>> {
        let mut latency = Histogram::new(3)?;
        let mut head: Option<i64> = None;
        for next in 0..i64::try_from(count)? {
            let begun = stonechat_host::monotonic();
            self.session.execute_unpaged(&self.set, (Some(next), row, head)).await?;
            head = Some(next);
            latency.record(u64::try_from(begun.elapsed().as_micros())?)?;
        }
        Ok(latency)
    }
}

async fn appends(context: &mut Context, services: &Services) -> Outcome<()> {
    let options = CqlOptions {
        trust: None,
        servers: services.cql(),
        keyspace: services.keyspace().to_owned(),
        datacenter: None,
        replication: 1,
        user: None,
        password: None,
        bucket_seqs: BUCKET_SEQS,
    };
    let store = CqlStore::open(options, &Host::system()).await?;
    let bare = Bare::prepare(services).await?;
    let (single, each) = (context.size(2_000, 20), context.size(300, 3));
    let conversation = |number: u64| ConversationId(u128::from(number + 1).to_be_bytes());
    // In turns, so that neither has the warmer server.
    bare.write(0, single / 4).await?;
    append_to(&store, conversation(0), "warm", single / 4, 1).await?;
    let plain = bare.write(1, single).await?;
    let own = append_to(&store, conversation(1), "one", single, 1).await?;
    let begun = stonechat_host::monotonic();
    try_join_all((0..SENDERS).map(|row| bare.write(100 + row as i64, each))).await?;
    let plain_rate = (SENDERS * each) as f64 / begun.elapsed().as_secs_f64();
    let grouped = append_to(&store, conversation(2), "many", SENDERS * each, BATCH).await?;
    let begun = stonechat_host::monotonic();
    let apart = (0..SENDERS).map(|number| append_to(&store, conversation(100 + number), "apart", each, 1));
    try_join_all(apart).await?;
    let apart_rate = (SENDERS * each) as f64 / begun.elapsed().as_secs_f64();
    let ms = |latency: &Histogram<u64>, quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let report = &mut context.report;
    for (what, quantile) in [
        ("append, p50, beside a bare write", 0.5),
        ("append, p99, beside a bare write", 0.99),
    ] {
        let row = report.row("production", what, "ms", ms(&own.latency, quantile));
        row.beside(ms(&plain, quantile)).target("≤ 1.5 ×");
    }
    let rate = (SENDERS * each) as f64 / grouped.seconds;
    let row = report.row(
        "production",
        "entries of 64 senders in one conversation, beside 64 bare writers",
        "1/s",
        rate,
    );
    row.beside(plain_rate).target("≥ 5 ×");
    let row = report.row(
        "production",
        "entries of 64 conversations, beside 64 bare writers",
        "1/s",
        apart_rate,
    );
    row.beside(plain_rate);
    Ok(())
}

/// What a publish costs for each recipient who is online at another node.
async fn publish(context: &mut Context, services: &Services) -> Outcome<()> {
    let open = || async {
        let options = RedisOptions {
            trust: None,
            addresses: vec![services.redis().to_owned()],
            cluster: false,
            prefix: services.keyspace().to_owned(),
        };
        let bus = RedisBus::open(options, Host::system()).await?;
        Ok::<_, Failure>(Arc::new(bus))
    };
    let (here, there) = (open().await?, open().await?);
    let users: Vec<UserId> = (0..RECIPIENTS)
        .map(|number| UserId::parse(&format!("user{number}")))
        .collect::<Result<_, _>>()?;
    let mut subscriptions = Vec::new();
    for user in &users {
        subscriptions.push(there.subscribe(Topic::User(user.clone())).await);
    }
    let rounds = context.size(200, 2);
    let each = recipient(&here, &users, rounds).await?;
    for (bus, name) in [(&here, "here"), (&there, "there")] {
        let node = NodeRecord {
            name: name.to_owned(),
            address: format!("{name}:1"),
            core: true,
            hears_groups: true,
            // What is measured goes to all gateways, however busy it makes the group.
            hears_promoted: false,
            clock: None,
        };
        bus.announce_node(&node, Duration::from_secs(60)).await;
    }
    here.nodes().await;
    let at_once = recipient(&here, &users, rounds).await?;
    let report = &mut context.report;
    report.row(
        "production",
        "publish for each of 500 recipients, told each",
        "µs",
        each.0,
    );
    let row = report.row(
        "production",
        "the same, told once for all gateways, beside each",
        "µs",
        at_once.0,
    );
    row.beside(each.0);
    let row = report.row(
        "production",
        "publishes for an event, once for all gateways, beside each",
        "",
        at_once.1,
    );
    row.beside(each.1);
    Ok(())
}

/// Microseconds for each recipient of an event, and publishes for each event.
async fn recipient(bus: &RedisBus, users: &[UserId], rounds: u64) -> Outcome<(f64, f64)> {
    let event = || Event::OwnRow(ConversationId([7; 16]));
    bus.publish_to_users(users, event()).await;
    let (begun, before) = (stonechat_host::monotonic(), bus.publishes());
    for _ in 0..rounds {
        let offline = bus.publish_to_users(users, event()).await;
        // Who is offline is not known when all gateways are told at once.
        if offline.is_some_and(|offline| !offline.is_empty()) {
            return Err("not all subscribers were found".into());
        }
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6;
    let publishes = (bus.publishes() - before) as f64 / rounds as f64;
    Ok((micros / (rounds as usize * users.len()) as f64, publishes))
}

async fn direct(context: &Context, server: &Server, pace: Talk) -> Outcome<Measured> {
    let people = Population::of(server)?.pairs("direct", context.size(20, 3)).await?;
    let people: Vec<_> = people.into_iter().flatten().collect();
    let devices = open_all(server, &people, Way::Native).await?;
    let (measured, _devices) = talk(context, server, devices, pace).await?;
    Ok(measured)
}

/// 1:1 messages through a gateway and a core, beside one process that does everything on its own disk.
async fn roles(context: &mut Context, services: &Services) -> Outcome<()> {
    let embedded = context
        .server(Kind::Stonechat, &["--conversation-entries-per-second", "100000"])
        .await?;
    let alone = direct(context, &embedded, Talk::Rate(STEADY_PER_SECOND)).await?;
    embedded.kill().await?;
    let core = services.node(&context.binary, "core", None).await?;
    let gateway = services.node(&context.binary, "gateway", Some(&core)).await?;
    // A gateway hears of a core within a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let gateway = gateway.with_beside(core);
    let fleet = direct(context, &gateway, Talk::Rate(STEADY_PER_SECOND)).await?;
    let full = direct(context, &gateway, Talk::Full).await?;
    let messages = fleet.answered.max(1) as f64;
    let core_ms = fleet.cpu_beside.as_secs_f64() * 1_000.0 / messages;
    let report = &mut context.report;
    let row = report.row(
        "production",
        "CPU of the gateway per 1:1 message, beside embedded",
        "ms",
        fleet.cpu_ms_per_message(),
    );
    row.beside(alone.cpu_ms_per_message());
    report.row("production", "CPU of the core per 1:1 message", "ms", core_ms);
    let per_second = full.answered as f64 / full.seconds;
    report.row(
        "production",
        "fleet, durable 1:1 messages at saturation",
        "1/s",
        per_second,
    );
    report.latency("production", "embedded, ack at 50/s", &alone.counted.ack, None);
    report.latency("production", "fleet, ack at 50/s", &fleet.counted.ack, None);
    report.latency("production", "fleet, delivery at 50/s", &fleet.counted.delivery, None);
    Ok(())
}
