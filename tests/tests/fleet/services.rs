//! Services that die, forget, stall and lose their answers (I10, T1, T15, F8).

use std::time::Duration;

use stonechat_tests::harness::{
    BURST, Crew, Fleet, Ground, OwnPostgres, PATIENCE, Role, Way, Weather, crewed, crewed_on,
};

use crate::VISIBLE_WITHIN;

/// How long a service stalls.
const STALLED: Duration = Duration::from_secs(10);
/// Longer than a node waits for an answer of a CQL server (8 s).
const TOO_LATE: Duration = Duration::from_secs(10);
/// An answer comes in time, and after two of them the other nodes do not wait for an owner any more (5 s).
const SLOW: Duration = Duration::from_millis(2_500);
/// What a node says of an append whose outcome is unknown, each time it looks into it, and the setting with which it does.
const DOUBTED: &str = "outcome of an append is unknown";
const DOUBTS_ARE_SAID: [&str; 2] = ["--log-filter", "info,stonechat_server::storage::cql::resolve=debug"];
/// Longer than a node waits for an answer: a line is given up after 7 s, a request after 8 s.
const DOUBTED_WITHIN: Duration = Duration::from_secs(12);
/// Between two looks at a condition that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Each round should do.
const ROUNDS_MAX: u32 = 5;
const TWO: [Role; 2] = [Role::Both; 2];

/// Two nodes, and people who have talked through both.
async fn talking() -> Option<(Fleet, Crew)> {
    let (fleet, mut crew) = crewed(&TWO).await?;
    crew.burst(&fleet).await;
    crew.answers().await;
    Some((fleet, crew))
}

/// F8, T15: Redis dies under load, and comes back having forgotten everything.
#[tokio::test]
async fn i10_redis_may_die_and_forget() {
    redis_away(Duration::ZERO).await;
}

/// F8: it is away for five minutes.
#[tokio::test]
#[ignore = "five minutes: a night's figure"]
async fn f8_redis_may_be_away_for_long() {
    redis_away(crate::span(300)).await;
}

async fn redis_away(how_long: Duration) {
    let Some((mut fleet, mut crew)) = crewed(&TWO).await else {
        return;
    };
    let mut reader = crew.reader(&fleet.nodes[1], "phone").await;
    let since = fleet.nodes[1].recorder.now();
    crew.burst(&fleet).await;
    fleet.redis.kill();
    crew.answers().await;
    crew.burst(&fleet).await;
    crew.answers().await;
    crew.keep_sending(&fleet, how_long).await;
    assert_eq!(crew.acked(), crew.sent(), "sends are acknowledged without redis");
    crew.hears_all(&fleet.nodes[1], &mut reader, VISIBLE_WITHIN).await;
    let (waits, lags) = (crew.ack_waits(&fleet, since), crew.reader_lags(&fleet, since));
    println!("F8: without redis for {how_long:?}: acks {waits}; from ack to delivery at the other node {lags}");
    assert_eq!(lags.count() as u64, crew.sent());
    assert!(lags.longest() <= VISIBLE_WITHIN, "{lags}: I5");
    fleet.redis.restart().await;
    crew.burst(&fleet).await;
    crew.answers().await;
    crew.hears_all(&fleet.nodes[1], &mut reader, VISIBLE_WITHIN).await;
    crew.judge(&mut fleet).await;
}

/// I10: a Redis that neither answers nor hangs up holds up no send.
#[tokio::test]
async fn i10_redis_may_stall() {
    let Some((mut fleet, mut crew)) = crewed(&TWO).await else {
        return;
    };
    crew.burst(&fleet).await;
    fleet.to_redis.turn(Weather::Held);
    crew.answers().await;
    crew.burst(&fleet).await;
    crew.answers().await;
    assert_eq!(crew.acked(), crew.sent(), "sends are acknowledged while redis stalls");
    fleet.to_redis.turn(Weather::Clear);
    crew.judge(&mut fleet).await;
}

/// I1: who has a conversation open goes on while Postgres is away.
#[tokio::test]
async fn i1_postgres_may_be_away_for_a_while() {
    let Some((mut fleet, mut crew)) = talking().await else {
        return;
    };
    fleet.to_postgres.turn(Weather::Cut);
    tokio::time::sleep(Duration::from_secs(3)).await;
    fleet.to_postgres.turn(Weather::Clear);
    crew.burst(&fleet).await;
    crew.answers().await;
    let mut reader = crew.reader(&fleet.nodes[0], "phone").await;
    crew.hears_all(&fleet.nodes[0], &mut reader, PATIENCE).await;
    crew.judge(&mut fleet).await;
}

/// I1: Postgres is killed under load, really, and started again after a while. Whoever has a conversation open goes on
/// meanwhile, and nothing is lost.
#[tokio::test]
async fn i1_postgres_may_be_killed() {
    if !Fleet::can_start() {
        return;
    }
    let postgres = OwnPostgres::start().await;
    let ground = Ground {
        postgres: Some(postgres.url.clone()),
        ..Ground::default()
    };
    let Some((mut fleet, mut crew)) = crewed_on(ground, &TWO).await else {
        return;
    };
    crew.burst(&fleet).await;
    crew.answers().await;
    let mut reader = crew.reader(&fleet.nodes[1], "phone").await;
    let since = fleet.nodes[0].recorder.now();
    crew.pour(BURST).await;
    postgres.kill().await;
    crew.answers().await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        crew.pour(BURST).await;
        crew.answers().await;
    }
    assert_eq!(
        crew.acked(),
        crew.sent(),
        "open conversations go on without postgres: {:?}",
        crew.last_words()
    );
    println!("without postgres: acks {}", crew.ack_waits(&fleet, since));
    postgres.revive().await;
    crew.burst(&fleet).await;
    crew.answers().await;
    crew.hears_all(&fleet.nodes[1], &mut reader, PATIENCE).await;
    crew.judge(&mut fleet).await;
}

/// I1: a Postgres that neither answers nor hangs up holds up no open conversation, and what it holds up is done afterwards.
#[tokio::test]
async fn i1_postgres_may_stall() {
    let Some((mut fleet, mut crew)) = talking().await else {
        return;
    };
    let mut reader = crew.reader(&fleet.nodes[1], "phone").await;
    let since = fleet.nodes[0].recorder.now();
    crew.pour(BURST).await;
    fleet.to_postgres.turn(Weather::Held);
    let stalled = stonechat_host::monotonic();
    let mut rounds = crate::rounds();
    while stalled.elapsed() < STALLED {
        rounds.tick().await;
        crew.pour(BURST).await;
        crew.answers().await;
    }
    assert_eq!(
        crew.acked(),
        crew.sent(),
        "open conversations go on while postgres stalls"
    );
    println!(
        "postgres stalled for {STALLED:?}: acks {}",
        crew.ack_waits(&fleet, since)
    );
    fleet.to_postgres.turn(Weather::Clear);
    crew.burst(&fleet).await;
    crew.answers().await;
    crew.hears_all(&fleet.nodes[1], &mut reader, VISIBLE_WITHIN).await;
    crew.judge(&mut fleet).await;
}

/// Appends whose first try had no answer, by what nodes say of each look into one. As a rule the store finds out (D1) and nobody
/// above it hears of the doubt: `stonechat_append_unknowns_total` counts the others alone.
fn doubts(fleet: &Fleet) -> usize {
    let logs = fleet.nodes.iter().map(|node| node.server.log_file());
    let logs = logs.map(|log| std::fs::read_to_string(log).expect("a log"));
    logs.map(|log| log.matches(DOUBTED).count()).sum()
}

/// People send into this weather before the CQL server, again and again, until so many outcomes at least were unknown.
async fn unknown_outcomes(weather: Weather, wanted: usize) {
    let ground = Ground {
        flags: DOUBTS_ARE_SAID.to_vec(),
        ..Ground::default()
    };
    let Some((mut fleet, mut crew)) = crewed_on(ground, &TWO).await else {
        return;
    };
    let mut rounds = 0;
    while doubts(&fleet) < wanted {
        assert!(rounds < ROUNDS_MAX, "{rounds} times {weather:?}, and hardly a doubt");
        rounds += 1;
        crew.burst(&fleet).await;
        crew.answers().await;
        let before = doubts(&fleet);
        // Not before: then not even the announcement of an append comes through, and nothing is in doubt.
        fleet.to_cql.turn_at_append(weather);
        crew.pour(BURST).await;
        let doubted = async {
            while doubts(&fleet) == before {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let _in_time = tokio::time::timeout(DOUBTED_WITHIN, doubted).await;
        fleet.to_cql.turn(Weather::Clear);
        // Whoever connects before finds a store that cannot answer yet.
        fleet.to_cql.mended(PATIENCE).await;
        crew.answers().await;
    }
    let told: u64 = fleet.counts("stonechat_append_unknowns_total").await.iter().sum();
    println!(
        "T1: {rounds} times {weather:?}: looked into unknown outcomes {} times, told so {told} times",
        doubts(&fleet)
    );
    crew.judge(&mut fleet).await;
}

/// T1: conditional writes that arrive and whose answers are lost: outcomes are unknown, for real, again and again.
#[tokio::test]
async fn t1_lost_answers_of_the_log_double_and_lose_nothing() {
    unknown_outcomes(Weather::AnswersLost, 3).await;
}

/// T1: answers that come when nobody waits for them any more.
#[tokio::test]
async fn t1_answers_of_the_log_that_come_too_late_double_and_lose_nothing() {
    unknown_outcomes(Weather::Late(TOO_LATE), 2).await;
}

/// T1: lines to the log that carry one way only, and nobody is told.
#[tokio::test]
async fn t1_half_open_lines_to_the_log_double_and_lose_nothing() {
    unknown_outcomes(Weather::HalfOpen(Way::Answered), 1).await;
    let Some((mut fleet, mut crew)) = talking().await else {
        return;
    };
    fleet.to_cql.turn_at_append(Weather::HalfOpen(Way::Asked));
    crew.pour(BURST).await;
    crew.answers().await;
    fleet.to_cql.turn(Weather::Clear);
    fleet.to_cql.mended(PATIENCE).await;
    crew.judge(&mut fleet).await;
}

/// T1, D12, I8: a log that answers slowly, but in time: owners answer later than the others wait for them, so that two nodes append.
/// Acks are slow, and there are no fewer.
#[tokio::test]
async fn t1_slow_answers_of_the_log_double_and_lose_nothing() {
    let Some((mut fleet, mut crew)) = talking().await else {
        return;
    };
    let since = fleet.nodes[0].recorder.now();
    fleet.to_cql.turn(Weather::Late(SLOW));
    crew.pour(BURST).await;
    crew.answers().await;
    println!(
        "answers of the log {SLOW:?} late: acks {}",
        crew.ack_waits(&fleet, since)
    );
    assert_eq!(
        crew.acked(),
        crew.sent(),
        "a slow log refuses nothing: {:?}",
        crew.last_words()
    );
    fleet.to_cql.turn(Weather::Clear);
    crew.judge(&mut fleet).await;
}

/// I5, I10: a Redis that is asked and does not answer, and one that hears nothing, with nobody told: sends go on, and everything is
/// visible by the log.
#[tokio::test]
async fn i5_i10_half_open_lines_to_redis_hide_nothing() {
    let Some((mut fleet, mut crew)) = crewed(&TWO).await else {
        return;
    };
    let mut reader = crew.reader(&fleet.nodes[1], "phone").await;
    for way in [Way::Answered, Way::Asked] {
        crew.burst(&fleet).await;
        fleet.to_redis.turn(Weather::HalfOpen(way));
        crew.answers().await;
        crew.burst(&fleet).await;
        crew.answers().await;
        assert_eq!(crew.acked(), crew.sent(), "sends are acknowledged in {way:?}");
        crew.hears_all(&fleet.nodes[1], &mut reader, VISIBLE_WITHIN).await;
        fleet.to_redis.turn(Weather::Clear);
    }
    crew.judge(&mut fleet).await;
}

/// I1: a log that cannot be reached for a while costs time.
#[tokio::test]
async fn i1_the_log_may_be_away_for_a_while() {
    let Some((mut fleet, mut crew)) = crewed(&TWO).await else {
        return;
    };
    crew.burst(&fleet).await;
    fleet.to_cql.turn(Weather::Cut);
    tokio::time::sleep(Duration::from_secs(5)).await;
    fleet.to_cql.turn(Weather::Clear);
    crew.answers().await;
    crew.judge(&mut fleet).await;
}
