//! What reading costs at the real services, counted (R3, P14): a hello costs what is new, not what a user has, and a page of
//! history costs its partition.

use std::time::Duration;

use stonechat_proto::v1;
use stonechat_proto::v1::message_service_client::MessageServiceClient;
use stonechat_proto::v1::server_frame::Body;
use stonechat_tests::harness::{
    Acks, Bench, Claims, Fleet, Hello, Observed, PATIENCE, RawSession, Role, history_after,
};

/// What is asked of the services by one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    cql: u64,
    sql: u64,
    redis: u64,
}

/// Measurements of one thing: what a node does by itself every second or two falls into some of them, and the least counts.
const TRIES: usize = 6;
/// A change counts as seen by everybody after half a minute; a hello of before reads what is younger once more.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// How much older things are at the next look.
const OLDER: Duration = Duration::from_secs(5);
/// Between two looks at a condition that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Statements of a hello when nothing is new: the synced stamp and the inbox.
const CQL_PER_HELLO: u64 = 2;
/// Those that news add: markers and positions, each of all conversations with news at once.
const CQL_OF_NEWS: u64 = 2;
/// Those of a page of the log: its head, for who may read how far, the head once more where the page is read, and up to
/// [`ROWS_PER_REQUEST`] entries.
const CQL_OF_PAGE: u64 = 3;
/// Those of a gateway for the acks of a 1:1 message: the marker of each of two devices; for the tick the head, for who may hear
/// it, and the markers of both, a request each.
const CQL_OF_ACKS: u64 = 2 + 3;
/// Entries that one request reads.
const ROWS_PER_REQUEST: u32 = 64;

async fn spent(fleet: &Fleet) -> Cost {
    let of = async |what: &str| {
        fleet
            .count(0, &format!("stonechat_store_operations_total{{of=\"{what}\"}}"))
            .await
    };
    Cost {
        cql: of("cql").await,
        sql: of("sql").await,
        redis: of("redis").await,
    }
}

/// Waits until nothing is under way.
async fn quiet(fleet: &Fleet) -> Cost {
    let mut before = spent(fleet).await;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let after = spent(fleet).await;
        if after == before {
            return after;
        }
        before = after;
    }
}

/// What something costs, with what is done behind its answer.
async fn cost_of_one<T>(fleet: &Fleet, once: &mut impl AsyncFnMut() -> T) -> Cost {
    let before = quiet(fleet).await;
    let kept = once().await;
    let after = quiet(fleet).await;
    drop(kept);
    Cost {
        cql: after.cql - before.cql,
        sql: after.sql - before.sql,
        redis: after.redis - before.redis,
    }
}

/// What something costs, at the least.
async fn cost<T>(fleet: &Fleet, mut once: impl AsyncFnMut() -> T) -> Cost {
    let mut costs = Vec::new();
    for _ in 0..TRIES {
        costs.push(cost_of_one(fleet, &mut once).await);
    }
    let least = |of: fn(&Cost) -> u64| costs.iter().map(of).min().expect("some tries");
    Cost {
        cql: least(|cost| cost.cql),
        sql: least(|cost| cost.sql),
        redis: least(|cost| cost.redis),
    }
}

async fn opened(bench: &Bench, user: &str, hello: &Hello) -> RawSession {
    let mut session = bench.open_with(user, hello.clone(), Acks::Never).await;
    session
        .until("the end of the backlog", PATIENCE, |seen| seen.caught_up)
        .await;
    session
}

/// A user with so many conversations, all of which their device has; their ids, and the hello with which it comes back.
async fn settled(fleet: &mut Fleet, user: &str, conversations: usize) -> (Vec<String>, Hello) {
    let bench = &mut fleet.nodes[0];
    let mut ids = Vec::new();
    for number in 0..conversations {
        ids.push(bench.direct(user, &format!("{user}-peer{number}")).await);
    }
    let mut first = bench.hello(user, "phone");
    // As if it had them all: three hundred deliveries are not what is measured here.
    first.set_initial_backlog(v1::InitialBacklog::Nothing);
    opened(bench, user, &first).await;
    (ids, bench.hello(user, "phone"))
}

/// The hello of a device that has everything, and what it costs, once what was written is old.
async fn without_news(fleet: &Fleet, user: &str, mut hello: Hello) -> (Hello, Cost) {
    let bench = &fleet.nodes[0];
    let begun = stonechat_host::monotonic();
    loop {
        // Each notes how far the device has everything that is old enough. Few, because presence remembers 64 sessions of a user.
        hello.cursor = opened(bench, user, &hello).await.welcome(PATIENCE).await.cursor;
        let mut come_back = async || opened(bench, user, &hello).await;
        let found = cost_of_one(fleet, &mut come_back).await;
        if found.cql <= CQL_PER_HELLO || begun.elapsed() > SETTLES_WITHIN {
            let found = cost(fleet, come_back).await;
            return (hello, found);
        }
        tokio::time::sleep(OLDER).await;
    }
}

/// A message to each of these conversations from its other member.
async fn news(bench: &Bench, user: &str, conversations: &[String], from: usize) {
    for (number, conversation) in conversations.iter().enumerate() {
        let peer = format!("{user}-peer{}", from + number);
        let mut session = bench.open(&peer, "phone").await;
        bench.send(&mut session, conversation, "news").await;
    }
}

/// R3: with nothing new a hello costs the same few operations for ten conversations and for three hundred; news of one
/// conversation cost the same in both; and of those that have news only head and log are read apart.
#[tokio::test]
async fn r3_a_hello_costs_what_is_new_at_the_real_services() {
    let Some(mut fleet) = Fleet::start(&[Role::Both]).await else {
        return;
    };
    let (few, hello_few) = settled(&mut fleet, "few", 10).await;
    let (many, hello_many) = settled(&mut fleet, "many", 300).await;
    let (hello_few, cost_few) = without_news(&fleet, "few", hello_few).await;
    let (hello_many, cost_many) = without_news(&fleet, "many", hello_many).await;
    println!("a hello without news: {cost_few:?} with 10 conversations, {cost_many:?} with 300");
    assert_eq!(cost_few, cost_many, "it grows with the conversations of a user");
    assert!(cost_few.cql <= CQL_PER_HELLO, "{cost_few:?}");
    let bench = &fleet.nodes[0];
    let mut costs = Vec::new();
    for (user, conversations, hello, range) in [
        ("few", &few, &hello_few, 0..1),
        ("many", &many, &hello_many, 0..1),
        ("many", &many, &hello_many, 1..5),
    ] {
        news(bench, user, &conversations[range.clone()], range.start).await;
        let found = cost(&fleet, async || opened(bench, user, hello).await).await;
        println!("a hello of {user}, {} with news: {found:?}", range.end);
        costs.push(found);
    }
    assert_eq!(
        costs[0], costs[1],
        "news of one conversation cost more where there are many"
    );
    let of_one = CQL_PER_HELLO + CQL_OF_NEWS + CQL_OF_PAGE;
    assert!(costs[0].cql <= of_one, "{:?}", costs[0]);
    assert!(costs[2].cql <= of_one + 4 * CQL_OF_PAGE, "{:?}", costs[2]);
    assert_eq!(
        costs[2].sql, costs[1].sql,
        "the directory is asked for each conversation"
    );
    assert_eq!(costs[2].redis, costs[1].redis, "redis is asked for each conversation");
}

/// Waits until a sender was told that everybody else has an entry.
async fn told_delivered(session: &mut RawSession, seq: u64) {
    let has = |body: &Body| matches!(body, Body::Receipts(moved) if moved.delivered_to_all_seq >= seq);
    let told = |seen: &Observed| seen.events.iter().any(has);
    session.until("the tick", PATIENCE, told).await;
}

/// P14: what a gateway asks of the services for a message between two of its users, their acks and the tick, does not grow with
/// what was said before.
#[tokio::test]
async fn a_message_through_a_gateway_costs_the_same_however_long_the_talk() {
    let Some(mut fleet) = Fleet::start(&[Role::Gateway, Role::Core]).await else {
        return;
    };
    let bench = &mut fleet.nodes[0];
    let room = bench.direct("alice", "bob").await;
    let (mut alice, _bob) = (bench.open("alice", "phone").await, bench.open("bob", "phone").await);
    let mut costs = Vec::new();
    for earlier in [3, 100] {
        for number in 0..earlier {
            let seq = fleet.nodes[0].send(&mut alice, &room, &format!("m{number}")).await;
            told_delivered(&mut alice, seq).await;
        }
        let found = cost(&fleet, async || {
            let seq = fleet.nodes[0].send(&mut alice, &room, "counted").await;
            told_delivered(&mut alice, seq).await;
        });
        costs.push(found.await);
        println!("a message after {earlier} others: {:?}", costs.last());
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0].cql <= CQL_OF_ACKS && costs[0].sql == 0, "{:?}", costs[0]);
}

/// A page of history is read from one partition, whatever is on it.
#[tokio::test]
async fn a_page_of_history_costs_its_partition_at_the_real_services() {
    let Some(mut fleet) = Fleet::start(&[Role::Both]).await else {
        return;
    };
    let room = fleet.nodes[0].direct("alice", "bob").await;
    let bench = &fleet.nodes[0];
    let mut alice = bench.open("alice", "phone").await;
    for number in 0..100 {
        bench.send(&mut alice, &room, &format!("m{number}")).await;
    }
    let mut costs = Vec::new();
    for limit in [1, 10, ROWS_PER_REQUEST, ROWS_PER_REQUEST + 1] {
        let mut client = MessageServiceClient::new(bench.call_as(&Claims::user("bob"), "phone"));
        let found = cost(&fleet, async || {
            let page = client.get_history(history_after(&room, 1, limit)).await;
            let Some(v1::get_history_response::Outcome::Page(page)) = page.expect("an answer").into_inner().outcome
            else {
                panic!("no page");
            };
            assert_eq!(page.entries.len(), limit as usize);
        })
        .await;
        println!("a page of {limit}: {found:?}");
        costs.push(found);
    }
    assert!(costs[0].cql <= CQL_OF_PAGE && costs[0].redis == 0, "{:?}", costs[0]);
    assert!(
        costs[1..3].iter().all(|cost| *cost == costs[0]),
        "a larger page costs more: {costs:?}"
    );
    assert_eq!(costs[3].cql, costs[0].cql + 1, "one more request");
}
