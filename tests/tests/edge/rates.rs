//! Rates and counts by address and by user: typed refusals that say when to come back.

use std::net::Ipv4Addr;

use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_proto::v1::user_service_client::UserServiceClient;
use stonechat_proto::{refusal_of_status, v1};
use stonechat_tests::harness::{Acks, Bench, Claims, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Response, Status};

use crate::wire::connect;

/// Calls that pass at once when one a second is the rate.
const BURST: u64 = 10;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

type Answer = Result<Response<v1::GetUsersResponse>, Status>;

fn users() -> v1::GetUsersRequest {
    v1::GetUsersRequest {
        user_ids: vec!["alice".to_owned()],
    }
}

fn number(answer: &Answer, name: &str) -> u64 {
    let metadata = answer.as_ref().map_or_else(Status::metadata, Response::metadata);
    let value = metadata.get(name).and_then(|value| value.to_str().ok());
    let number = value.and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {metadata:?}"))
}

/// A typed refusal that says when to come back, and that nothing was done.
fn assert_rate_limited(refusal: &v1::Refusal) {
    assert_eq!(refusal.reason(), v1::RefusalReason::RateLimited, "{refusal:?}");
    assert_eq!(refusal.effect(), v1::Effect::NotDone);
    assert!(refusal.retry_after_ms > 0 && !refusal.message.is_empty());
}

/// Every call up to the burst passes and tells how many are left; the next one is refused.
fn assert_burst_then_refusal(answers: &[Answer], passes: Code) {
    let code = |answer: &Answer| answer.as_ref().err().map_or(Code::Ok, Status::code);
    let passed = answers.iter().take_while(|answer| code(answer) == passes).count() as u64;
    // Time goes on while the calls are made.
    assert!((BURST - 1..=BURST + 2).contains(&passed), "{passed} passed");
    let left: Vec<u64> = answers
        .iter()
        .map(|answer| number(answer, "ratelimit-remaining"))
        .collect();
    assert!(left[0] < BURST && left[1] < left[0], "{left:?}");
    let refused = &answers[usize::try_from(passed).expect("few")];
    let status = refused.as_ref().expect_err("one too many");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_rate_limited(&refusal_of_status(status).expect("typed"));
    assert_eq!(number(refused, "ratelimit-limit"), BURST);
    assert_eq!(number(refused, "ratelimit-remaining"), 0);
    assert!(number(refused, "ratelimit-reset") >= 1);
}

#[tokio::test]
async fn a_user_has_a_rate_of_their_own() {
    let bench = Bench::start(&["--user-requests-per-second", "1"]).await;
    bench.users(&["alice", "bob"]).await;
    let mut alice = UserServiceClient::new(bench.call_as(&Claims::user("alice"), "phone"));
    let mut answers = Vec::new();
    for _ in 0..=BURST + 5 {
        answers.push(alice.get_users(users()).await);
    }
    assert_burst_then_refusal(&answers, Code::Ok);
    let mut bob = UserServiceClient::new(bench.call_as(&Claims::user("bob"), "phone"));
    assert!(bob.get_users(users()).await.is_ok(), "another user is not held back");
    let mut admin = stonechat_proto::admin::v1::user_admin_service_client::UserAdminServiceClient::new(bench.admin());
    for _ in 0..3 * BURST {
        let request = stonechat_proto::admin::v1::GetUserRequest {
            user_id: "alice".to_owned(),
        };
        admin.get_user(request).await.expect("services are not held back");
    }
    // A hello counts as well, and its refusal is a frame.
    let hello = bench.hello("alice", "tablet");
    let mut session = bench.open_with("alice", hello, Acks::Each).await;
    match session.answer(1, PATIENCE).await {
        Seen::Refusal(refusal) => assert_rate_limited(&refusal),
        other => panic!("not refused: {other:?}"),
    }
    session.end(PATIENCE).await;
    let closed = session.observed().closed.expect("a reason");
    assert!(closed.reconnect && closed.retry_after_ms > 0, "{closed:?}");
}

/// Counted before any token is looked at, for pages as well as for rpcs.
#[tokio::test]
async fn an_address_has_a_rate_of_its_own() {
    let bench = Bench::start(&["--address-requests-per-second", "1"]).await;
    let mut stranger = UserServiceClient::new(bench.server.channel());
    let mut answers = Vec::new();
    for _ in 0..=BURST + 5 {
        answers.push(stranger.get_users(users()).await);
    }
    // The harness's own look at the page counted, too.
    assert_burst_then_refusal(&answers, Code::Unauthenticated);
    let page = |from, more| get(bench.server.authority(), from, more);
    for more in ["", "content-type: application/grpc\r\n"] {
        let refused = page(Ipv4Addr::LOCALHOST, more).await;
        assert!(refused.starts_with("HTTP/1.1 429"), "{more}: {refused}");
        assert!(
            refused.contains("retry-after: ") && refused.contains("ratelimit-remaining: 0"),
            "{refused}"
        );
    }
    assert!(
        page(ELSEWHERE, "").await.starts_with("HTTP/1.1 200"),
        "another address is not held back"
    );
}

async fn get(authority: String, from: Ipv4Addr, more: &str) -> String {
    let mut stream = connect(&authority, from).await.expect("a connection");
    let request = format!("GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Whether a connection is served.
async fn is_served(authority: &str, from: Ipv4Addr) -> Option<tokio::net::TcpStream> {
    let mut stream = connect(authority, from).await.ok()?;
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .ok()?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.ok()?;
    Some(stream)
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let bench = Bench::start(&["--address-connections-max", "3"]).await;
    let authority = bench.server.authority();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(is_served(&authority, ELSEWHERE).await.expect("served"));
    }
    assert!(is_served(&authority, ELSEWHERE).await.is_none(), "one too many");
    assert!(
        is_served(&authority, Ipv4Addr::LOCALHOST).await.is_some(),
        "another address has its own"
    );
    open.pop();
    let again = async { while is_served(&authority, ELSEWHERE).await.is_none() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("a place comes back");
}

#[tokio::test]
async fn an_address_opens_so_many_connections_a_second() {
    let bench = Bench::start(&["--address-connections-per-second", "1"]).await;
    let authority = bench.server.authority();
    let mut served = 0;
    while is_served(&authority, ELSEWHERE).await.is_some() {
        served += 1;
        assert!(served <= 2 * BURST, "no end to it");
    }
    assert!(served >= BURST, "{served}");
    let again = async { while is_served(&authority, ELSEWHERE).await.is_none() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("the rate goes on");
}
