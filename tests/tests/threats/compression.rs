//! Compression bomb, reflection, tokens in queries: what clients cannot make the server do.

use stonechat_proto::v1;
use stonechat_tests::harness::{Bench, Claims, PATIENCE};
use tonic::Code;

use crate::raw::{post, unary};

/// 10 MB of zeros as gzip -9 makes it of them, cut to its head: what decompresses would begin with it.
const GZIP: [u8; 18] = [
    0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0x02, 0x03, 0xed, 0xc1, 0x31, 0x01, 0, 0, 0, 0xc2,
];
/// A gRPC message that says it is compressed.
const COMPRESSED: u8 = 1;

fn message(flag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short");
    [&[flag][..], &length.to_be_bytes(), body].concat()
}

/// The status of a gRPC-Web answer, wherever it stands.
fn status_of(answer: &str) -> i32 {
    let at = answer
        .find("grpc-status:")
        .unwrap_or_else(|| panic!("no status: {answer}"));
    let text = answer[at + "grpc-status:".len()..].trim_start();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Every rpc that takes messages: none takes them compressed, whatever the encoding, named or not.
#[tokio::test]
async fn no_compressed_message_is_taken() {
    let bench = Bench::start(&[]).await;
    bench.users(&["alice"]).await;
    let user = bench.token(&Claims::user("alice"));
    let service = bench.token(&Claims::scoped("admin.users"));
    let rpcs = [
        ("/stonechat.v1.MessageService/Send", &user),
        ("/stonechat.v1.ConversationService/ListConversations", &user),
        ("/stonechat.v1.SessionService/Submit", &user),
        ("/stonechat.v1.SessionService/Listen", &user),
        ("/stonechat.admin.v1.UserAdminService/ListUsers", &service),
    ];
    for (path, token) in rpcs {
        for (encoding, expected) in [
            ("grpc-encoding: gzip\r\n", Code::Unimplemented),
            ("grpc-encoding: deflate\r\n", Code::Unimplemented),
            ("grpc-encoding: zstd\r\n", Code::Unimplemented),
            ("grpc-encoding: snappy\r\n", Code::Unimplemented),
            ("grpc-encoding: identity\r\n", Code::InvalidArgument),
            ("", Code::InvalidArgument),
        ] {
            let headers = format!("authorization: Bearer {token}\r\n{encoding}");
            let answer = post(&bench, path, &headers, &message(COMPRESSED, &GZIP)).await;
            assert_eq!(status_of(&answer), expected as i32, "{path} {encoding}: {answer}");
        }
    }
    bench.open("alice", "phone").await.ping(PATIENCE).await;
}

/// A body that HTTP says is compressed is no message either: nothing on the way opens it.
#[tokio::test]
async fn no_compressed_body_is_opened() {
    let bench = Bench::start(&[]).await;
    bench.users(&["alice"]).await;
    let token = bench.token(&Claims::user("alice"));
    let headers = format!("authorization: Bearer {token}\r\ncontent-encoding: gzip\r\n");
    let path = "/stonechat.v1.ConversationService/ListConversations";
    let answer = post(&bench, path, &headers, &GZIP).await;
    assert_ne!(status_of(&answer), 0, "{answer}");
}

/// Nobody is told the contract by the port; what is not in it is not there.
#[tokio::test]
async fn reflection_and_unknown_rpcs_are_not_there() {
    let bench = Bench::start(&[]).await;
    bench.users(&["alice"]).await;
    let token = bench.token(&Claims::user("alice"));
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/stonechat.node.v1.ForwardService/Forward",
        "/stonechat.v1.MessageService/Drop",
        "/stonechat.v1.messageservice/send",
        "/stonechat.v1.MessageService/Send/",
        "//stonechat.v1.MessageService/Send",
    ] {
        let status = unary(&bench, path, &token, Vec::new())
            .await
            .expect_err("nothing is there");
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
}

/// A token counts in the metadata and in a hello. In a query it would end in logs: there it opens nothing.
#[tokio::test]
async fn a_token_in_a_query_or_a_cookie_opens_nothing() {
    let bench = Bench::start(&["--log-filter", "trace,hyper=info,h2=info,hyper_util=info"]).await;
    bench.users(&["alice"]).await;
    let token = bench.token(&Claims::user("alice"));
    let path = "/stonechat.v1.ConversationService/ListConversations";
    let empty = message(0, &[]);
    let cases = [
        (format!("{path}?access_token={token}"), String::new()),
        (format!("{path}?authorization=Bearer%20{token}"), String::new()),
        (
            path.to_owned(),
            format!("cookie: authorization=Bearer {token}; token={token}\r\n"),
        ),
        (path.to_owned(), format!("authorization: Basic {token}\r\n")),
        (path.to_owned(), format!("proxy-authorization: Bearer {token}\r\n")),
    ];
    for (path, headers) in &cases {
        let answer = post(&bench, path, headers, &empty).await;
        assert_eq!(status_of(&answer), Code::Unauthenticated as i32, "{answer}");
    }
    let good = format!("authorization: bearer {token}\r\n");
    assert_eq!(status_of(&post(&bench, path, &good, &empty).await), 0);
    let signature = token.rsplit('.').next().expect("a signature");
    let log = std::fs::read_to_string(bench.server.log_file()).expect("the log");
    assert!(log.lines().count() > 10);
    assert!(!log.contains(signature), "a token is in the log");
}

/// The reasons are typed: no status of these is one that clients would take for a fault of the server.
#[tokio::test]
async fn what_is_refused_before_a_handler_has_details() {
    let bench = Bench::start(&[]).await;
    let path = "/stonechat.v1.ConversationService/ListConversations";
    let status = unary(&bench, path, "nonsense", Vec::new()).await.expect_err("no token");
    let refusal = stonechat_proto::refusal_of_status(&status).expect("details");
    assert_eq!(refusal.reason(), v1::RefusalReason::Unauthenticated);
    assert_eq!(refusal.effect(), v1::Effect::NotDone);
}
