//! Browsers: a session by `Listen`, its client frames by `Submit`.

use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_proto::v1::session_service_client::SessionServiceClient;
use stonechat_tests::harness::{Bench, Claims, PATIENCE, UNHURRIED, send_frame};

use crate::support::appended;

async fn next(frames: &mut tonic::Streaming<v1::ListenResponse>) -> Option<Seen> {
    let answer = tokio::time::timeout(PATIENCE, frames.message())
        .await
        .expect("a frame in time");
    answer
        .expect("a frame")
        .and_then(|answer| answer.frame)
        .and_then(|frame| frame.body)
}

fn frame(request_id: u64, body: v1::client_frame::Body) -> v1::ClientFrame {
    v1::ClientFrame {
        request_id,
        body: Some(body),
    }
}

#[tokio::test]
async fn a_browser_listens_and_submits() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut client = SessionServiceClient::new(bench.call_as(&Claims::user("alice"), "browser"));
    let hello = Some(bench.hello("alice", "browser"));
    let mut frames = client
        .listen(v1::ListenRequest { hello })
        .await
        .expect("a session")
        .into_inner();
    let Some(Seen::Welcome(welcome)) = next(&mut frames).await else {
        panic!("welcome comes first");
    };
    let submit = |frames| v1::SubmitRequest {
        session_id: welcome.session_id.clone(),
        frames,
    };
    let two = vec![
        frame(1, send_frame(&room, "w-1", "one")),
        frame(2, send_frame(&room, "w-2", "two")),
    ];
    let answer = client.submit(submit(two)).await.expect("answers").into_inner();
    assert!(answer.session_gone.is_none());
    let seqs: Vec<u64> = answer
        .frames
        .iter()
        .map(|frame| appended(frame.body.as_ref().expect("a body")).seq)
        .collect();
    assert_eq!(seqs, [2, 3], "in order, in the response");
    let mut delivered = Vec::new();
    while delivered.len() < 3 {
        if let Some(Seen::Delivery(delivery)) = next(&mut frames).await {
            delivered.extend(delivery.entry.map(|entry| entry.seq));
        }
    }
    assert_eq!(delivered, [1, 2, 3], "deliveries come on Listen");
    let ack = v1::client_frame::Body::Ack(v1::Ack {
        conversation_id: room.clone(),
        seq: 3,
    });
    client.submit(submit(vec![frame(0, ack)])).await.expect("an answer");
    let again = v1::client_frame::Body::Hello(bench.hello("alice", "browser"));
    let answer = client.submit(submit(vec![frame(9, again)])).await;
    let refused = answer.map_or(true, |answer| {
        let body = answer.into_inner().frames.pop().and_then(|frame| frame.body);
        matches!(body, Some(Seen::Refusal(_)))
    });
    assert!(refused, "hello is not allowed in Submit");
}

/// A session whose node died is told, and requests that need no session are answered all the same.
#[tokio::test]
async fn submit_to_a_session_that_is_gone_says_so() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut client = SessionServiceClient::new(bench.call_as(&Claims::user("alice"), "browser"));
    let hello = Some(bench.hello("alice", "browser"));
    let mut frames = client
        .listen(v1::ListenRequest { hello })
        .await
        .expect("a session")
        .into_inner();
    let Some(Seen::Welcome(welcome)) = next(&mut frames).await else {
        panic!("welcome comes first");
    };
    bench.server.kill_and_restart().await;
    let mut client = SessionServiceClient::new(bench.call_as(&Claims::user("alice"), "browser"));
    let request = v1::SubmitRequest {
        session_id: welcome.session_id,
        frames: vec![frame(5, send_frame(&room, "w-1", "stored all the same"))],
    };
    let answer = client.submit(request).await.expect("an answer").into_inner();
    assert!(answer.session_gone.is_some());
    let body = answer.frames.first().and_then(|frame| frame.body.as_ref());
    assert_eq!(appended(body.expect("an answer to the send")).seq, 2);
}
