//! What the port says to things other than gRPC, and the settings of HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{TestNode, grounds, node_with};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::gateway::limits::{HELLO_WITHIN, REQUEST_WITHIN};

async fn web_node() -> TestNode {
    let config = Config {
        cors_origins: vec!["https://chat.example.org".into()],
        ..Config::default()
    };
    node_with(grounds(Arc::new(EmbeddedBus::new())), config).await
}

/// One HTTP/1.1 exchange; the whole answer as text.
async fn exchange(node: &TestNode, head: &str, body: &[u8]) -> String {
    let mut pipe = node.pipe().await;
    let request = format!(
        "{head}\r\nhost: node\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    pipe.write_all(request.as_bytes()).await.expect("written");
    pipe.write_all(body).await.expect("written");
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// D14: nobody new is sent to a node whose clock is not believed; who is connected goes on.
#[tokio::test(start_paused = true)]
async fn d14_a_node_whose_clock_is_not_believed_is_not_ready() {
    let node = web_node().await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a").await;
    node.handle.gateway().trust_clock(false);
    let health = exchange(&node, "GET /health HTTP/1.1", b"").await;
    assert!(
        health.starts_with("HTTP/1.1 503") && health.contains("clock"),
        "{health}"
    );
    alice.say(&conversation, "m1").await;
    node.handle.gateway().trust_clock(true);
    assert!(exchange(&node, "GET /health HTTP/1.1", b"").await.ends_with("ok\n"));
}

#[tokio::test(start_paused = true)]
async fn pages_are_served_beside_the_rpcs() {
    let node = web_node().await;
    let page = exchange(&node, "GET / HTTP/1.1", b"").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("Stonechat"), "{page}");
    assert!(exchange(&node, "GET /health HTTP/1.1", b"").await.ends_with("ok\n"));
    for path in ["/nothing", "/a/b/c", "/stonechat.v1.SessionService/Submit"] {
        let missing = exchange(&node, &format!("GET {path} HTTP/1.1"), b"").await;
        assert!(missing.starts_with("HTTP/1.1 404"), "{path}: {missing}");
    }
}

/// A call over gRPC-Web from an allowed page, one from a foreign page, and a preflight.
#[tokio::test(start_paused = true)]
async fn browsers_call_from_allowed_origins_alone() {
    let node = web_node().await;
    let head = |origin: &str| {
        format!(
            "POST /stonechat.v1.UserService/GetUsers HTTP/1.1\r\ncontent-type: application/grpc-web+proto\r\norigin: {origin}"
        )
    };
    let allowed = exchange(&node, &head("https://chat.example.org"), &[0; 5]).await;
    assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");
    assert!(
        allowed.contains("access-control-allow-origin: https://chat.example.org"),
        "{allowed}"
    );
    assert!(
        allowed.contains("grpc-status: 16") || allowed.contains("grpc-status:16"),
        "{allowed}"
    );
    let exposed = allowed
        .lines()
        .find(|line| line.starts_with("access-control-expose-headers"));
    for header in [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "stonechat-correlation-id",
    ] {
        assert!(
            exposed.is_some_and(|exposed| exposed.contains(header)),
            "{header} is not exposed"
        );
    }
    let foreign = exchange(&node, &head("https://evil.example.org"), &[0; 5]).await;
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    assert!(!foreign.contains("access-control-allow-origin"), "{foreign}");
    let preflight = "OPTIONS /stonechat.v1.UserService/GetUsers HTTP/1.1\r\norigin: https://chat.example.org\r\n\
                     access-control-request-method: POST\r\naccess-control-request-headers: authorization,x-grpc-web";
    let preflight = exchange(&node, preflight, b"").await;
    assert!(preflight.starts_with("HTTP/1.1 200"), "{preflight}");
    assert!(
        preflight
            .to_lowercase()
            .contains("access-control-allow-headers: authorization"),
        "{preflight}"
    );
}

/// The limits are in the SETTINGS frame that goes over the wire.
#[tokio::test(start_paused = true)]
async fn http2_limits_are_announced() {
    let node = web_node().await;
    let mut pipe = node.pipe().await;
    pipe.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("written");
    let mut head = [0; 9];
    pipe.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3], 4, "SETTINGS comes first");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    pipe.read_exact(&mut settings).await.expect("settings");
    let value = |id: u8| {
        let setting = settings.chunks(6).find(|setting| setting[1] == id)?;
        Some(u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]))
    };
    assert_eq!(value(3), Some(64), "concurrent streams");
    assert_eq!(value(6), Some(8 * 1024), "header list");
}

/// The answer to a call whose body never comes, and the seconds it took.
async fn without_a_body(node: &TestNode, path: &str, more: &str) -> (String, u64) {
    let mut pipe = node.pipe().await;
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-type: application/grpc-web+proto\r\n\
         content-length: 5\r\n{more}\r\n"
    );
    let started = stonechat_host::monotonic();
    pipe.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.expect("an answer");
    (
        String::from_utf8_lossy(&answer).into_owned(),
        started.elapsed().as_secs(),
    )
}

/// A call ends by its own deadline or the server's, and says that it did: DEADLINE_EXCEEDED, with details.
#[tokio::test(start_paused = true)]
async fn a_call_whose_body_never_comes_ends() {
    let node = web_node().await;
    let bearer = format!(
        "authorization: Bearer {}\r\n",
        node.token("alice", Duration::from_secs(3_600))
    );
    let unary = "/stonechat.v1.UserService/GetUsers";
    let in_time = format!("{bearer}grpc-timeout: 1S\r\n");
    let too_long = format!("{bearer}grpc-timeout: 10H\r\n");
    let listen = "/stonechat.v1.SessionService/Listen";
    for (path, more, seconds) in [
        (unary, &in_time, 1),
        (unary, &bearer, REQUEST_WITHIN.as_secs()),
        (unary, &too_long, REQUEST_WITHIN.as_secs()),
        (listen, &bearer, HELLO_WITHIN.as_secs()),
        ("/grpc.health.v1.Health/Check", &String::new(), REQUEST_WITHIN.as_secs()),
    ] {
        let (answer, took) = without_a_body(&node, path, more).await;
        let is_typed = [
            "grpc-status: 4\r\n",
            "grpc-status-details-bin",
            "stonechat-correlation-id",
        ]
        .iter()
        .all(|part| answer.contains(part));
        assert!(is_typed && took == seconds, "{path} after {took} s: {answer}");
    }
}

/// Health answers while the node serves and turns with its drain.
#[tokio::test(start_paused = true)]
async fn health_speaks_grpc() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let node = web_node().await;
    let mut client = HealthClient::new(node.channel().await);
    let answer = client.check(HealthCheckRequest::default()).await.expect("an answer");
    assert_eq!(answer.into_inner().status, 1);
}
