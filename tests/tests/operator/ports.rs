//! Which port serves what.

use stonechat_proto::admin::v1::UpsertUserRequest;
use stonechat_proto::admin::v1::user_admin_service_client::UserAdminServiceClient;
use stonechat_tests::harness::{Acks, Bench, Claims, Hello, PATIENCE, Unary};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::support::{Port, get, value};

async fn bench(port: &Port, flags: &[&str]) -> Bench {
    let mut all = vec!["--operator-listen", &port.authority];
    all.extend(flags);
    Bench::start(&all).await
}

fn channel(authority: &str) -> tonic::transport::Channel {
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).expect("an address");
    endpoint.connect_lazy()
}

#[tokio::test]
async fn health_is_told_and_nothing_else_is_there() {
    let port = Port::free();
    let bench = bench(&port, &[]).await;
    for path in ["/health/live", "/health/ready"] {
        let answer = port.get(path).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"),
            "{answer}"
        );
    }
    let metrics = port.get("/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(port.get("/nothing").await.starts_with("HTTP/1.1 404"));
    for path in ["/metrics", "/health/live", "/health/ready"] {
        let answer = get(&bench.server.authority(), path).await;
        assert!(
            answer.starts_with("HTTP/1.1 404"),
            "{path} on the public port: {answer}"
        );
    }
}

async fn reflected(authority: &str) -> Result<Vec<String>, Status> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel(authority));
    let answers = client.server_reflection_info(tokio_stream::once(request)).await?;
    let answer = answers
        .into_inner()
        .message()
        .await?
        .and_then(|answer| answer.message_response);
    match answer {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("no list: {other:?}"),
    }
}

#[tokio::test]
async fn the_contract_is_described_to_operators_alone() {
    let port = Port::free();
    let bench = bench(&port, &[]).await;
    let services = reflected(&port.authority).await.expect("a list");
    for name in ["stonechat.v1.SessionService", "stonechat.admin.v1.UserAdminService"] {
        assert!(services.iter().any(|service| service == name), "{services:?}");
    }
    let refused = reflected(&bench.server.authority())
        .await
        .expect_err("the public port tells nothing");
    assert_eq!(refused.code(), Code::Unimplemented);
}

async fn upsert(bench: &Bench, authority: &str, claims: &Claims) -> Result<(), Code> {
    let unary = Unary::new(bench.token(claims));
    let mut client = UserAdminServiceClient::with_interceptor(channel(authority), unary);
    let request = Request::new(UpsertUserRequest {
        user_id: "ann".to_owned(),
        display_name: String::new(),
    });
    let answer = client.upsert_user(request).await;
    answer.map(drop).map_err(|status| status.code())
}

/// I11: where the admin rpcs moved to the operator's port, the public one does not know them, and the token still counts.
#[tokio::test]
async fn admin_rpcs_are_on_one_port() {
    let (here, moved) = (Port::free(), Port::free());
    let stays = bench(&here, &[]).await;
    let scoped = Claims::scoped("admin.users");
    assert_eq!(upsert(&stays, &stays.server.authority(), &scoped).await, Ok(()));
    assert_eq!(upsert(&stays, &here.authority, &scoped).await, Err(Code::Unimplemented));
    let gone = bench(&moved, &["--admin-on-operator", "true"]).await;
    assert_eq!(
        upsert(&gone, &gone.server.authority(), &scoped).await,
        Err(Code::Unimplemented)
    );
    assert_eq!(upsert(&gone, &moved.authority, &scoped).await, Ok(()));
    let user = Claims::user("ann");
    assert_eq!(
        upsert(&gone, &moved.authority, &user).await,
        Err(Code::PermissionDenied)
    );
}

/// One message between two, one refusal, one bad token: each is counted where it happened, and what was open is closed.
#[tokio::test]
async fn what_happens_is_counted() {
    let port = Port::free();
    let mut bench = bench(&port, &[]).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    assert!((port.metric("stonechat_sessions").await - 2.0).abs() < f64::EPSILON);
    let stored = port.metric("stonechat_appends_total{outcome=\"stored\"}").await;
    let live = port.metric("stonechat_delivery_seconds_count").await;
    let seq = bench.send(&mut alice, &room, "hello").await;
    bob.until("the message", PATIENCE, |seen| seen.newest(&room) >= seq)
        .await;
    port.until("stonechat_appends_total{outcome=\"stored\"}", stored + 1.0)
        .await;
    // Each of the two, the sender's own device among them.
    port.until("stonechat_delivery_seconds_count", live + 2.0).await;
    port.until("stonechat_fanout_pending", 0.0).await;
    let hello = Hello {
        token: bench.token(&Claims::user("alice").expiring_in(-60)),
        ..bench.hello("alice", "laptop")
    };
    let mut late = bench.open_with("alice", hello, Acks::Each).await;
    late.until("the end", PATIENCE, |seen| seen.ended.is_some()).await;
    let page = port.get("/metrics").await;
    for (name, at_least) in [
        ("stonechat_auth_failures_total{reason=\"time\"}", 1.0),
        ("stonechat_refusals_total{reason=\"unauthenticated\"}", 1.0),
        ("stonechat_hellos_refused_total{reason=\"credentials\"}", 1.0),
        ("stonechat_hello_seconds_count", 2.0),
        ("stonechat_ack_seconds_count", 1.0),
        ("stonechat_append_seconds_count", 1.0),
        ("stonechat_commit_seconds_count", 1.0),
        ("stonechat_fanout_seconds_count", 1.0),
        ("stonechat_bus_subscriptions", 2.0),
        ("stonechat_conversations_loaded", 1.0),
        ("process_open_fds", 5.0),
        ("process_resident_memory_bytes", 1e6),
    ] {
        assert!(value(&page, name) >= at_least, "{name} in\n{page}");
    }
    drop((alice, bob, late));
    for gauge in ["stonechat_sessions", "stonechat_streams", "stonechat_bus_subscriptions"] {
        port.until(gauge, 0.0).await;
    }
    let page = port.get("/metrics").await;
    let ended = |reason: &str| value(&page, &format!("stonechat_sessions_ended_total{{reason=\"{reason}\"}}"));
    // Whether the server hears first that nobody reads or that nobody writes is not said.
    assert!(ended("gone") + ended("bye") >= 2.0, "{page}");
}
