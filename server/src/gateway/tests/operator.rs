//! The operator's port: what keeps it, and that it is there to the last.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use stonechat_proto::v1::session_service_client::SessionServiceClient;

use super::harness::{channel_over, node_with_operator};
use crate::config::Config;
use crate::gateway::limits::{METADATA_ENTRIES_MAX, REQUEST_WITHIN};

async fn get(port: &mpsc::Sender<DuplexStream>, path: &str) -> String {
    let (mut here, there) = tokio::io::duplex(1024 * 1024);
    port.send(there).await.expect("a port");
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    here.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    here.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn health(port: &mpsc::Sender<DuplexStream>) -> HealthClient<tonic::transport::Channel> {
    let (here, there) = tokio::io::duplex(1024 * 1024);
    port.send(there).await.expect("a port");
    HealthClient::new(channel_over(Box::new(here)).await)
}

/// I9: who asks on the public port until their address is refused takes nothing from probes that come from the same one.
#[tokio::test(start_paused = true)]
async fn i9_probes_have_a_budget_of_their_own() {
    let config = Config {
        address_requests_per_second: 1,
        ..Config::default()
    };
    let (node, port) = node_with_operator(config).await;
    let mut refused = false;
    for _ in 0..20 {
        let mut pipe = node.pipe().await;
        let request = b"GET /health HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
        pipe.write_all(request).await.expect("written");
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.expect("an answer");
        refused = answer.starts_with("HTTP/1.1 429");
    }
    assert!(refused, "the public port has a limit");
    assert!(get(&port, "/health/live").await.starts_with("HTTP/1.1 200"));
}

/// I9: rpcs of operators pass the same gate as all others: metadata and the time for a request are bounded.
#[tokio::test(start_paused = true)]
async fn i9_rpcs_of_operators_pass_the_gate() {
    let config = Config {
        admin_on_operator: true,
        ..Config::default()
    };
    let (node, port) = node_with_operator(config).await;
    let mut request = Request::new(HealthCheckRequest::default());
    for number in 0..METADATA_ENTRIES_MAX {
        let name = format!("x-{number}").parse::<tonic::metadata::AsciiMetadataKey>();
        request
            .metadata_mut()
            .insert(name.expect("a name"), "v".parse().expect("a value"));
    }
    let status = health(&port).await.check(request).await.expect_err("too many entries");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");

    let (mut here, there) = tokio::io::duplex(64 * 1024);
    port.send(there).await.expect("a port");
    let head = format!(
        "POST /stonechat.admin.v1.UserAdminService/ListUsers HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
         content-type: application/grpc\r\nauthorization: Bearer {}\r\ncontent-length: 5\r\n\r\n",
        node.token("alice", Duration::from_hours(1))
    );
    here.write_all(head.as_bytes()).await.expect("written");
    let started = stonechat_host::monotonic();
    let mut answer = String::new();
    here.read_to_string(&mut answer).await.expect("an answer");
    assert_eq!(started.elapsed(), REQUEST_WITHIN, "{answer}");
    assert!(answer.contains("grpc-status: 4"), "{answer}");
}

/// I9: an endless call that needs no token is for operators alone.
#[tokio::test(start_paused = true)]
async fn i9_health_is_watched_by_operators_alone() {
    let (node, port) = node_with_operator(Config::default()).await;
    let watched = HealthClient::new(node.channel().await)
        .watch(HealthCheckRequest::default())
        .await;
    let status = watched.expect_err("not on the public port");
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    let mut client = HealthClient::new(node.channel().await);
    client.check(HealthCheckRequest::default()).await.expect("asked once");
    let watched = health(&port).await.watch(HealthCheckRequest::default()).await;
    let first = watched.expect("on the operator's port").into_inner().message().await;
    assert!(first.expect("an answer").is_some());
}

/// Operators are served to the last: they see that the node goes down, and what keeps it.
#[tokio::test(start_paused = true)]
async fn a_drain_is_seen() {
    let (node, port) = node_with_operator(Config::default()).await;
    assert!(get(&port, "/health/ready").await.starts_with("HTTP/1.1 200"));
    // A stream that has not said hello may go on for 5 s.
    let mut client = SessionServiceClient::new(node.channel().await);
    let (_frames, silent) = mpsc::channel(1);
    let stream = client.exchange(tokio_stream::wrappers::ReceiverStream::new(silent));
    let _stream = stream.await.expect("a stream");
    let mut drain = pin!(node.handle.drain());
    let looks = async {
        let mut ready = get(&port, "/health/ready").await;
        while ready.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
            ready = get(&port, "/health/ready").await;
        }
        assert!(
            ready.starts_with("HTTP/1.1 503") && ready.ends_with("draining\n"),
            "{ready}"
        );
        assert!(get(&port, "/health/live").await.starts_with("HTTP/1.1 200"));
        let metrics = get(&port, "/metrics").await;
        assert!(metrics.lines().any(|line| line == "stonechat_draining 1"), "{metrics}");
    };
    tokio::select! { biased;
        () = &mut drain => panic!("the node ended first"),
        () = looks => {}
    }
    drain.await;
    assert!(port.is_closed(), "its port is closed with it");
}
