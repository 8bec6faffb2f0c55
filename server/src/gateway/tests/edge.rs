//! A node whose work is full: what is still let in, and what others are told.

use std::sync::Arc;
use std::time::Duration;

use stonechat_proto::v1::server_frame::Body as Reply;
use stonechat_proto::v1::session_service_client::SessionServiceClient;
use stonechat_proto::v1::user_service_client::UserServiceClient;
use stonechat_proto::{refusal_of_status, v1};
use tokio::io::AsyncWriteExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::harness::{TestNode, grounds, node_with};
use crate::api::UserRates;
use crate::auth::{AuthOptions, Authenticator, Secret};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::domain::UserId;
use crate::gateway::limits::ADMISSION_WITHIN;
use crate::node::Grounds;
use crate::storage::memory::directory::MemoryDirectory;

fn assert_comes_back(refusal: &v1::Refusal) {
    assert_eq!(refusal.reason(), v1::RefusalReason::RateLimited, "{refusal:?}");
    assert_eq!(refusal.effect(), v1::Effect::NotDone);
    assert!(refusal.retry_after_ms > 0);
}

/// I9, I8: while all seats are taken, calls and hellos wait for their turn, then hear when to come back; health answers,
/// and sessions that are open go on.
#[tokio::test(start_paused = true)]
async fn i9_a_full_node_says_when_to_come_back() {
    let config = Config {
        requests_at_once_max: 1,
        ..Config::default()
    };
    let node = node_with(grounds(Arc::new(EmbeddedBus::new())), config).await;
    let room = node.direct("alice", "bob").await;
    let mut open = node.live("alice", "phone").await;
    let edge = &node.handle.gateway().on.edge;
    let long = stonechat_host::monotonic() + Duration::from_secs(3_600);
    let seat = edge.admit(long).await.expect("a seat");

    let started = stonechat_host::monotonic();
    let mut client = UserServiceClient::new(node.channel().await);
    let call = || node.request("alice", "phone", v1::GetUsersRequest::default());
    let status = client.get_users(call()).await.expect_err("no seat");
    assert_eq!(
        (status.code(), started.elapsed()),
        (Code::ResourceExhausted, ADMISSION_WITHIN)
    );
    assert_comes_back(&refusal_of_status(&status).expect("typed"));

    let mut stream = node.stream().await;
    let hello = stream
        .ask(v1::client_frame::Body::Hello(node.hello("bob", "phone")))
        .await;
    match stream.next().await {
        (answered, Reply::Refusal(refusal)) if answered == hello => assert_comes_back(&refusal),
        other => panic!("not refused: {other:?}"),
    }
    match stream.next().await.1 {
        Reply::Closed(closed) => assert!(closed.reconnect && closed.retry_after_ms > 0, "{closed:?}"),
        other => panic!("not closed: {other:?}"),
    }

    let mut health = HealthClient::new(node.channel().await);
    health
        .check(HealthCheckRequest::default())
        .await
        .expect("health is no question of load");
    open.ack(&room, 1).await;
    open.ask(v1::client_frame::Body::Ping(v1::Ping::default())).await;
    open.until(|body| matches!(body, Reply::Pong(_))).await;

    // The seat comes free while somebody waits.
    let waiting = client.get_users(call());
    tokio::pin!(waiting);
    assert!(
        tokio::time::timeout(ADMISSION_WITHIN / 2, waiting.as_mut())
            .await
            .is_err()
    );
    drop(seat);
    let code = waiting.await.map_or_else(|status| status.code(), |_| Code::Ok);
    assert_ne!(code, Code::ResourceExhausted);
}

/// I9: who opens calls and sends no request keeps nobody from working.
#[tokio::test(start_paused = true)]
async fn i9_a_call_without_a_body_takes_no_seat() {
    let config = Config {
        requests_at_once_max: 1,
        ..Config::default()
    };
    let node = node_with(grounds(Arc::new(EmbeddedBus::new())), config).await;
    let head = format!(
        "POST /stonechat.v1.UserService/GetUsers HTTP/1.1\r\nhost: node\r\ncontent-type: application/grpc-web+proto\r\n\
         authorization: Bearer {}\r\ncontent-length: 5\r\n\r\n",
        node.token("mallory", Duration::from_secs(3_600))
    );
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut pipe = node.pipe().await;
        pipe.write_all(head.as_bytes()).await.expect("written");
        held.push(pipe);
    }
    // Long enough for all of them to be where they wait.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = stonechat_host::monotonic();
    let mut client = UserServiceClient::new(node.channel().await);
    let answer = client
        .get_users(node.request("alice", "phone", v1::GetUsersRequest::default()))
        .await;
    let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
    assert_eq!(code, Code::InvalidArgument, "it names nobody");
    assert!(started.elapsed() < ADMISSION_WITHIN);
}

/// Grounds on this directory.
fn grounds_with(directory: &Arc<MemoryDirectory>) -> Grounds {
    let mut grounds = grounds(Arc::new(EmbeddedBus::new()));
    let options = AuthOptions {
        issuer: "test".into(),
        audience: "test".into(),
        require_known_users: false,
    };
    let secret = Secret::from_bytes([7; 32]);
    let authenticator = Authenticator::with_secret(secret, options, directory.clone(), stonechat_host::Host::system());
    grounds.backends.directory = directory.clone();
    grounds.authenticator = Arc::new(authenticator);
    grounds
}

/// What a stream hears first, its token in the hello or in the metadata.
async fn first_of(node: &TestNode, user: &str, in_hello: bool) -> Reply {
    let hello = node.hello(user, "phone");
    let request = if in_hello {
        tonic::Request::new(v1::ListenRequest { hello: Some(hello) })
    } else {
        let token = String::new();
        let hello = Some(v1::Hello { token, ..hello });
        node.request(user, "phone", v1::ListenRequest { hello })
    };
    let mut client = SessionServiceClient::new(node.channel().await);
    let mut frames = client.listen(request).await.expect("a stream").into_inner();
    let first = frames.message().await.expect("no status").expect("a frame");
    first.frame.and_then(|frame| frame.body).expect("a body")
}

/// I9: a hello above its user's rate is refused before the directory is asked, wherever its token comes from.
#[tokio::test(start_paused = true)]
async fn i9_a_hello_above_the_rate_asks_the_directory_nothing() {
    let config = Config {
        user_requests_per_second: 1,
        ..Config::default()
    };
    let directory = Arc::new(MemoryDirectory::new());
    let node = node_with(grounds_with(&directory), config).await;
    let asked = directory.asked_who();
    for in_hello in [true, false] {
        let first = first_of(&node, "alice", in_hello).await;
        assert!(matches!(first, Reply::Welcome(_)), "{first:?}");
    }
    assert!(directory.asked_who() > asked, "who passes is looked at");
    let (edge, alice) = (&node.handle.gateway().on.edge, UserId::parse("alice").expect("a user"));
    let has_room = || edge.take(&alice).is_some_and(|standing| standing.retry_after.is_none());
    while has_room() {}
    let asked = directory.asked_who();
    for in_hello in [true, false] {
        match first_of(&node, "alice", in_hello).await {
            Reply::Refusal(refusal) => assert_comes_back(&refusal),
            other => panic!("not refused: {other:?}"),
        }
    }
    assert_eq!(directory.asked_who(), asked);
}
