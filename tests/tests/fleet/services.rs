//! Services that die, forget, stall and lose their answers (I10, T1, T15, F8).

use std::time::Duration;

use stonechat_tests::harness::{BURST, Fleet, Ground, OwnPostgres, PATIENCE, Role, Weather, crewed, crewed_on};

/// Without any live delivery everybody has the head by then (I5).
const VISIBLE_WITHIN: Duration = Duration::from_secs(15);
const TWO: [Role; 2] = [Role::Both; 2];

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
    let Some((mut fleet, mut crew)) = crewed(&TWO).await else {
        return;
    };
    crew.burst(&fleet).await;
    crew.answers().await;
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

/// T1: conditional writes that arrive and whose answers are lost: outcomes are unknown, for real, again and again.
#[tokio::test]
async fn t1_lost_answers_of_the_log_double_and_lose_nothing() {
    let Some((mut fleet, mut crew)) = crewed(&TWO).await else {
        return;
    };
    for _ in 0..4 {
        crew.burst(&fleet).await;
        fleet.to_cql.turn(Weather::AnswersLost);
        tokio::time::sleep(Duration::from_millis(500)).await;
        fleet.to_cql.turn(Weather::Clear);
        crew.answers().await;
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
