//! What prost makes of hostile bytes: deep nesting, unknown fields, text that is none.

use prost::Message;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::harness::{Bench, Claims, PATIENCE, send_frame, text};
use tonic::Code;

use crate::raw::{exchange, unary};

const LIST: &str = "/stonechat.v1.ConversationService/ListConversations";
/// Starts and ends a group of field 9, which neither message here has.
const GROUP: (u8, u8) = (0x4b, 0x4c);

/// Groups within groups.
fn nested(depth: usize) -> Vec<u8> {
    let (start, end) = GROUP;
    [vec![start; depth], vec![end; depth]].concat()
}

/// A hello, and after it a frame with these bytes behind its fields.
fn with_hello(bench: &Bench, more: &[u8]) -> Vec<Vec<u8>> {
    let exchange = |request_id, body, more: &[u8]| {
        let mut frame = v1::ClientFrame {
            request_id,
            body: Some(body),
        }
        .encode_to_vec();
        frame.extend_from_slice(more);
        let mut message = Vec::new();
        prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut message);
        prost::encoding::encode_varint(frame.len() as u64, &mut message);
        message.append(&mut frame);
        message
    };
    vec![
        exchange(1, Asked::Hello(bench.hello("alice", "phone")), &[]),
        exchange(2, Asked::Ping(v1::Ping {}), more),
        exchange(0, Asked::Bye(v1::Bye {}), &[]),
    ]
}

fn reason(frame: Option<v1::ServerFrame>) -> v1::CloseReason {
    match frame.and_then(|frame| frame.body) {
        Some(Seen::Closed(closed)) => closed.reason(),
        other => panic!("no last frame: {other:?}"),
    }
}

/// Up to the decoder's limit of 100 unknown groups are passed over; above it the message is none, at any depth that fits,
/// and the server goes on. (`no-recursion-limit` is banned in `deny.toml`.)
#[tokio::test]
async fn deep_nesting_is_refused_above_the_limit_and_harms_nobody() {
    let bench = Bench::start(&[]).await;
    bench.users(&["alice"]).await;
    let token = bench.token(&Claims::user("alice"));
    for (depth, passes) in [
        (1, true),
        (99, true),
        (100, true),
        (101, false),
        (30_000, false),
        (100_000, false),
    ] {
        let answer = unary(&bench, LIST, &token, nested(depth)).await;
        match answer {
            Ok(_) => assert!(passes, "{depth}"),
            Err(status) => {
                assert!(!passes, "{depth}: {status:?}");
                assert_eq!(status.code(), Code::InvalidArgument, "{depth}");
                let refusal = stonechat_proto::refusal_of_status(&status).expect("details");
                assert_eq!(refusal.reason(), v1::RefusalReason::Invalid, "{depth}");
            }
        }
        // A message lies around the fields of a frame: one level less is left for what lies in it.
        let (last, ended) = exchange(&bench, with_hello(&bench, &nested(depth - 1))).await;
        let expected = if passes {
            v1::CloseReason::Bye
        } else {
            v1::CloseReason::ProtocolError
        };
        assert_eq!(reason(last), expected, "{depth}: {ended:?}");
    }
    let mut alice = bench.open("alice", "phone").await;
    alice.ping(PATIENCE).await;
}

/// In process, where a stack that runs over would be seen: no depth does.
#[test]
fn no_depth_runs_over_the_stack() {
    for depth in [99, 100, 101, 100_000, 1_000_000] {
        let whole = v1::ListConversationsRequest::decode(nested(depth).as_slice());
        assert_eq!(whole.is_ok(), depth <= 100, "{depth}");
        let open = v1::ListConversationsRequest::decode(vec![GROUP.0; depth].as_slice());
        assert!(open.is_err(), "{depth}");
    }
}

/// A newer client's fields are passed over where they are not known; what the server stores without looking into it, a
/// ciphertext, keeps every byte.
#[tokio::test]
async fn unknown_fields_are_passed_over_and_opaque_bytes_kept() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.direct("alice", "bob").await;
    // Field 1000 with 4 bytes, and field 1001, a number.
    let newer = [0xc2, 0x3e, 4, 1, 2, 3, 4, 0xc8, 0x3e, 7];
    let (last, _) = exchange(&bench, with_hello(&bench, &newer)).await;
    assert_eq!(reason(last), v1::CloseReason::Bye);
    let inner = [v1::Ping {}.encode_to_vec(), newer.to_vec()].concat();
    let secret = v1::MessageContent {
        content: Some(v1::message_content::Content::Ciphertext(v1::Ciphertext {
            scheme: "of.the.future".to_owned(),
            data: inner.into(),
        })),
        ..v1::MessageContent::default()
    };
    let mut send = v1::SendRequest {
        header: Some(stonechat_tests::harness::header(&room, "newer")),
        content: Some(secret.clone()),
    }
    .encode_to_vec();
    send.extend_from_slice(&newer);
    let token = bench.token(&Claims::user("alice"));
    let answer = unary(&bench, "/stonechat.v1.MessageService/Send", &token, send).await;
    let answer = v1::SendResponse::decode(answer.expect("an answer")).expect("an answer");
    let Some(v1::send_response::Outcome::Appended(appended)) = answer.outcome else {
        panic!("not stored: {answer:?}");
    };
    let entries = bench.entries(&room).await;
    let stored = entries.iter().find(|entry| entry.seq == appended.seq).expect("stored");
    assert_eq!(stored.body, Some(v1::entry::Body::Message(secret)));
}

/// Bytes that are no UTF-8 where text belongs: `INVALID_ARGUMENT` with details, and a typed end of a stream.
#[tokio::test]
async fn invalid_utf8_is_an_invalid_argument() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.direct("alice", "bob").await;
    let token = bench.token(&Claims::user("alice"));
    let marked = "<here>";
    let send = v1::SendRequest {
        header: Some(stonechat_tests::harness::header(&room, "m")),
        content: Some(text(marked)),
    };
    let frame = v1::ExchangeRequest {
        frame: Some(v1::ClientFrame {
            request_id: 2,
            body: Some(send_frame(&room, "m", marked)),
        }),
    };
    for wrong in [
        &[0xff; 6][..],
        b"\xc0\xaf....",
        b"\xed\xa0\x80...",
        b"\xf5\x80\x80\x80..",
        b".....\xe2",
    ] {
        let status = unary(
            &bench,
            "/stonechat.v1.MessageService/Send",
            &token,
            swapped(send.encode_to_vec(), marked, wrong),
        )
        .await
        .expect_err("no text");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let refusal = stonechat_proto::refusal_of_status(&status).expect("details");
        assert_eq!(refusal.effect(), v1::Effect::NotDone);
        let mut frames = with_hello(&bench, &[]);
        frames[1] = swapped(frame.encode_to_vec(), marked, wrong);
        let (last, _) = exchange(&bench, frames).await;
        assert_eq!(reason(last), v1::CloseReason::ProtocolError);
    }
    assert_eq!(bench.entries(&room).await.len(), 1, "nothing was stored");
}

/// The same length, so that every length around it stays true.
fn swapped(mut message: Vec<u8>, marked: &str, with: &[u8]) -> Vec<u8> {
    assert_eq!(marked.len(), with.len());
    let at = message
        .windows(marked.len())
        .position(|window| window == marked.as_bytes())
        .expect("the mark");
    message[at..at + with.len()].copy_from_slice(with);
    message
}
