//! Replay of a send: the same bytes again, by the same and by others, now and after a restart.

use prost::Message;
use stonechat_proto::v1;
use stonechat_tests::harness::{Bench, Claims, PATIENCE, append_outcome, header, send_frame, text};

use crate::raw::unary;

const SEND: &str = "/stonechat.v1.MessageService/Send";

async fn replay(bench: &Bench, user: &str, bytes: &[u8]) -> Option<Result<(u64, bool), v1::RefusalReason>> {
    let token = bench.token(&Claims::user(user));
    let answer = unary(bench, SEND, &token, bytes.to_vec()).await.expect("an answer");
    match v1::SendResponse::decode(answer).expect("an answer").outcome? {
        v1::send_response::Outcome::Appended(appended) => Some(Ok((appended.seq, appended.duplicate))),
        v1::send_response::Outcome::Refusal(refusal) => Some(Err(refusal.reason())),
    }
}

/// Captured bytes of a send add nothing: the sender gets the seq of then, for ever; somebody else's name is not in them.
#[tokio::test]
async fn a_send_that_is_replayed_appends_nothing() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.direct("alice", "bob").await;
    bench.users(&["mallory"]).await;
    let send = v1::SendRequest {
        header: Some(header(&room, "pay")),
        content: Some(text("I owe you 10")),
    }
    .encode_to_vec();
    assert_eq!(replay(&bench, "alice", &send).await, Some(Ok((2, false))));
    for _ in 0..20 {
        assert_eq!(replay(&bench, "alice", &send).await, Some(Ok((2, true))));
    }
    assert_eq!(
        replay(&bench, "mallory", &send).await,
        Some(Err(v1::RefusalReason::NotFound))
    );
    // A member who sends the same bytes says it in their own name.
    assert_eq!(replay(&bench, "bob", &send).await, Some(Ok((3, false))));
    // The same device by a stream, and the same bytes after a kill.
    let mut laptop = bench.open("alice", "laptop").await;
    let answer = laptop.request(send_frame(&room, "pay", "I owe you 10"), PATIENCE).await;
    assert!(
        matches!(append_outcome(&answer), Some(Ok(appended)) if appended.seq == 2),
        "{answer:?}"
    );
    bench.server.kill_and_restart().await;
    assert_eq!(replay(&bench, "alice", &send).await, Some(Ok((2, true))));
    // Changed on the way, it is not the same send.
    let changed = v1::SendRequest {
        header: Some(header(&room, "pay")),
        content: Some(text("I owe you 99")),
    }
    .encode_to_vec();
    assert_eq!(
        replay(&bench, "alice", &changed).await,
        Some(Err(v1::RefusalReason::ClientMsgIdReused))
    );
    assert_eq!(bench.entries(&room).await.len(), 3);
}
