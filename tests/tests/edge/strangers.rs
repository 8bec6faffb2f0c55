//! Pages of other origins, tokens in the wrong place, and services that are not there.

use std::net::Ipv4Addr;

use stonechat_proto::node::v1::forward_service_server;
use stonechat_proto::v1::message_service_client::MessageServiceClient;
use stonechat_tests::harness::{Bench, Claims, header, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wire::connect;

const OURS: &str = "https://chat.example.org";
const SEND: &str = "/stonechat.v1.MessageService/Send";
const GRPC_WEB: &str = "application/grpc-web+proto";

/// An answer over HTTP/1.1: its status, its headers in lower case, its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map(str::trim)
    }

    /// In headers, or in the trailers that end the body.
    fn grpc_status(&self) -> Option<u32> {
        let in_body = || self.body.split("grpc-status:").nth(1);
        let text = self.header("grpc-status").or_else(in_body)?;
        let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    }
}

async fn exchange(bench: &Bench, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = connect(&bench.server.authority(), Ipv4Addr::LOCALHOST)
        .await
        .expect("a connection");
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream
        .write_all(&[request.as_bytes(), body].concat())
        .await
        .expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// A message of gRPC that sends a text.
fn send(room: &str, id: &str) -> Vec<u8> {
    let request = stonechat_proto::v1::SendRequest {
        header: Some(header(room, id)),
        content: Some(text("from a page")),
    };
    let message = prost::Message::encode_to_vec(&request);
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0][..], &length, &message].concat()
}

async fn bench() -> Bench {
    Bench::start(&["--cors-origins", OURS]).await
}

/// A foreign page's call never reaches its handler, whatever token and content type it brings: the log stays as it was.
#[tokio::test]
async fn a_foreign_page_never_reaches_a_handler() {
    let mut bench = bench().await;
    let room = bench.direct("alice", "bob").await;
    let bearer = format!("Bearer {}", bench.token(&Claims::user("alice")));
    let call = |origin, kind, id| {
        let headers = vec![
            ("origin", origin),
            ("content-type", kind),
            ("authorization", &*bearer),
            ("stonechat-device-id", "web"),
        ];
        (headers, send(&room, id))
    };
    let refused = [
        ("https://evil.example.org", GRPC_WEB, 403),
        ("https://chat.example.org.evil.org", GRPC_WEB, 403),
        ("http://chat.example.org", GRPC_WEB, 403),
        ("https://chat.example.org:444", GRPC_WEB, 403),
        ("null", GRPC_WEB, 403),
        (OURS, "text/plain", 415),
        (OURS, "application/x-www-form-urlencoded", 415),
        (OURS, "application/grpc", 415),
        (OURS, "application/json", 415),
    ];
    for (origin, kind, status) in refused {
        let (headers, body) = call(origin, kind, "foreign");
        let answer = exchange(&bench, "POST", SEND, &headers, &body).await;
        assert_eq!(answer.status, status, "{origin} {kind}: {}", answer.head);
        if status == 403 {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
        }
    }
    assert_eq!(bench.entries(&room).await.len(), 1, "only the entry that made the room");
    let (headers, body) = call(OURS, GRPC_WEB, "ours");
    let answer = exchange(&bench, "POST", SEND, &headers, &body).await;
    assert_eq!(
        (answer.status, answer.grpc_status()),
        (200, Some(0)),
        "{} {}",
        answer.head,
        answer.body
    );
    assert_eq!(answer.header("access-control-allow-origin"), Some(OURS));
    assert!(answer.header("ratelimit-remaining").is_some());
    assert_eq!(bench.entries(&room).await.len(), 2);
}

/// What a browser may ask before it calls, and what it is told.
#[tokio::test]
async fn the_preflight_matrix() {
    let bench = bench().await;
    let needed = "authorization,content-type,x-grpc-web,grpc-timeout,stonechat-device-id,stonechat-correlation-id";
    for (origin, method, headers, allowed) in [
        (OURS, "POST", needed, true),
        (OURS, "POST", "authorization", true),
        (OURS, "DELETE", "authorization", false),
        (OURS, "POST", "cookie", false),
        ("https://evil.example.org", "POST", needed, false),
        ("null", "POST", needed, false),
    ] {
        let asked = [
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", headers),
        ];
        let answer = exchange(&bench, "OPTIONS", SEND, &asked, b"").await;
        let list = |name| {
            let list = answer.header(name).unwrap_or_default();
            list.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()
        };
        let methods = list("access-control-allow-methods");
        let granted = list("access-control-allow-headers");
        let may = answer.header("access-control-allow-origin") == Some(origin)
            && methods.contains(&method.to_lowercase())
            && headers.split(',').all(|header| granted.contains(&header.to_owned()));
        assert_eq!(may, allowed, "{origin} {method} {headers}: {}", answer.head);
        assert_ne!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            None,
            "no cookies, ever"
        );
    }
}

/// A token counts in `authorization: Bearer` alone: what a browser adds by itself, or what ends up in logs, does not.
#[tokio::test]
async fn a_token_counts_in_its_header_alone() {
    let mut bench = bench().await;
    let room = bench.direct("alice", "bob").await;
    let token = bench.token(&Claims::user("alice"));
    let query = format!("{SEND}?access_token={token}&token={token}");
    let cookie = format!("authorization=Bearer {token}; token={token}");
    let basic = format!("Basic {token}");
    let places = [
        (SEND, ("cookie", &*cookie)),
        (&*query, ("x-other", "1")),
        (SEND, ("authorization", &*basic)),
        (SEND, ("authorization", &*token)),
        (SEND, ("x-authorization", &*token)),
    ];
    for (path, place) in places {
        let headers = [("content-type", GRPC_WEB), ("origin", OURS), place];
        let answer = exchange(&bench, "POST", path, &headers, &send(&room, "m")).await;
        assert_eq!(answer.grpc_status(), Some(16), "{}: {}", place.0, answer.head);
    }
    assert_eq!(bench.entries(&room).await.len(), 1);
    let log = std::fs::read_to_string(bench.server.log_file()).expect("a log");
    assert!(!log.contains(&token), "no token is ever logged");
}

/// Reflection is not served, nor an endless health, nor what nodes ask each other; neither is anything else that is not in the contract.
#[tokio::test]
async fn what_is_not_in_the_contract_is_not_there() {
    let bench = bench().await;
    // By the generated name: a path of no service would prove nothing.
    let forward = format!("/{}/Forward", forward_service_server::SERVICE_NAME);
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Watch",
        &forward,
        "/grpc.channelz.v1.Channelz/GetServers",
        "/stonechat.v1.MessageService/NoSuchRpc",
    ] {
        let answer = exchange(&bench, "POST", path, &[("content-type", GRPC_WEB)], &[0; 5]).await;
        assert_eq!(
            answer.grpc_status(),
            Some(12),
            "{path}: {} {}",
            answer.head,
            answer.body
        );
    }
}

/// A call with more entries of metadata than any client needs is refused, typed; one with as many as that is served.
#[tokio::test]
async fn metadata_entries_are_bounded() {
    let mut bench = bench().await;
    let room = bench.direct("alice", "bob").await;
    let mut client = MessageServiceClient::new(bench.call_as(&Claims::user("alice"), "phone"));
    let call = |id: &str, entries: usize| {
        let mut request = tonic::Request::new(stonechat_proto::v1::SendRequest {
            header: Some(header(&room, id)),
            content: Some(text("hi")),
        });
        for number in 0..entries {
            let name = format!("x-{number}")
                .parse::<tonic::metadata::AsciiMetadataKey>()
                .expect("a name");
            request.metadata_mut().insert(name, "v".parse().expect("a value"));
        }
        let mut client = client.clone();
        async move { client.send(request).await }
    };
    call("few", 40).await.expect("stored");
    let status = call("many", 64).await.expect_err("too many");
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    assert!(stonechat_proto::refusal_of_status(&status).is_some(), "typed");
    let again = client.send(tonic::Request::new(Default::default())).await;
    assert!(
        again.is_err_and(|status| status.code() == tonic::Code::InvalidArgument),
        "the connection lives"
    );
}
