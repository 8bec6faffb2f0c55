//! Listen and Submit, on two nodes.

use std::sync::Arc;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;
use stonechat_proto::v1::session_service_client::SessionServiceClient;
use tonic::Streaming;

use super::harness::{PATIENCE, TestNode, ack, grounds, node_on, send};
use crate::bus::embedded::EmbeddedBus;
use crate::conversation::tests::lying_log::gated;

struct Browser {
    incoming: Streaming<v1::ListenResponse>,
    session: String,
}

impl Browser {
    async fn open(node: &TestNode, user: &str, device: &str) -> Self {
        let mut client = SessionServiceClient::new(node.channel().await);
        let hello = Some(node.hello(user, device));
        let incoming = client
            .listen(v1::ListenRequest { hello })
            .await
            .expect("a stream")
            .into_inner();
        let mut browser = Self {
            incoming,
            session: String::new(),
        };
        match browser.next().await {
            Some(Reply::Welcome(welcome)) => browser.session = welcome.session_id,
            other => panic!("no welcome: {other:?}"),
        }
        browser
    }

    async fn next(&mut self) -> Option<Reply> {
        let message = tokio::time::timeout(PATIENCE, self.incoming.message()).await;
        let response = message.expect("a frame that did not come").expect("no status")?;
        response.frame.expect("a frame").body
    }

    async fn until(&mut self, wanted: impl Fn(&Reply) -> bool) -> Reply {
        loop {
            let body = self.next().await.expect("the stream ended");
            if wanted(&body) {
                return body;
            }
        }
    }
}

fn frame(request_id: u64, body: Ask) -> v1::ClientFrame {
    v1::ClientFrame {
        request_id,
        body: Some(body),
    }
}

async fn submit(node: &TestNode, user: &str, session: &str, frames: Vec<v1::ClientFrame>) -> v1::SubmitResponse {
    let mut client = SessionServiceClient::new(node.channel().await);
    let request = v1::SubmitRequest {
        session_id: session.into(),
        frames,
    };
    let mut request = node.request(user, "x", request);
    request.metadata_mut().remove("stonechat-device-id");
    client.submit(request).await.expect("an answer").into_inner()
}

/// Submit reaches another node than Listen: requests are answered there, session frames take effect here.
#[tokio::test(start_paused = true)]
async fn listen_and_submit_meet_across_nodes() {
    let grounds = grounds(Arc::new(EmbeddedBus::new()));
    let (here, there) = (node_on(grounds.clone()).await, node_on(grounds).await);
    let conversation = here.direct("alice", "bob").await;
    let mut browser = Browser::open(&here, "alice", "web-1").await;
    browser.until(|body| matches!(body, Reply::CaughtUp(_))).await;
    let frames = vec![
        frame(1, send(&conversation, "m1", "one")),
        frame(0, ack(&conversation, 1)),
        frame(2, send(&conversation, "m2", "two")),
        frame(3, Ask::Ping(v1::Ping {})),
        frame(4, Ask::Hello(v1::Hello::default())),
    ];
    let answer = submit(&there, "alice", &browser.session, frames).await;
    assert_eq!(answer.session_gone, None);
    let ids: Vec<u64> = answer.frames.iter().map(|frame| frame.request_id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    let seqs: Vec<u64> = answer.frames[..2]
        .iter()
        .map(|frame| super::harness::appended(frame.body.clone().expect("a body")))
        .collect();
    assert_eq!(seqs, [2, 3]);
    for seq in [2, 3] {
        let Reply::Delivery(delivery) = browser.until(|body| matches!(body, Reply::Delivery(_))).await else {
            unreachable!("only deliveries are wanted");
        };
        let entry = delivery.entry.expect("an entry");
        assert_eq!((entry.seq, entry.sender_device_id.as_str()), (seq, "web-1"));
    }
    submit(&there, "alice", &browser.session, vec![frame(0, Ask::Bye(v1::Bye {}))]).await;
    let closed = browser.until(|body| matches!(body, Reply::Closed(_))).await;
    assert!(matches!(closed, Reply::Closed(closed) if closed.reason() == v1::CloseReason::Bye));
    let answer = submit(
        &there,
        "alice",
        &browser.session,
        vec![frame(1, send(&conversation, "m3", "three"))],
    )
    .await;
    assert!(answer.session_gone.is_some(), "the session is gone");
    assert_eq!(answer.frames.len(), 1, "the request was still answered");
}

/// A request that takes long does not keep the session's own frames from the session.
#[tokio::test(start_paused = true)]
async fn session_frames_do_not_wait_for_requests() {
    let mut grounds = grounds(Arc::new(EmbeddedBus::new()));
    let (mut gate, log) = gated(Arc::clone(&grounds.backends.log));
    grounds.backends.log = log;
    let node = node_on(grounds).await;
    let conversation = node.direct("alice", "bob").await;
    let mut browser = Browser::open(&node, "alice", "web-1").await;
    browser.until(|body| matches!(body, Reply::CaughtUp(_))).await;
    let before = *gate.came.borrow();
    gate.open.send_replace(false);
    let frames = vec![
        frame(1, send(&conversation, "m1", "one")),
        frame(2, Ask::Bye(v1::Bye {})),
    ];
    let session = browser.session.clone();
    let submitting = submit(&node, "alice", &session, frames);
    let watching = async {
        let closed = browser.until(|body| matches!(body, Reply::Closed(_))).await;
        assert!(matches!(closed, Reply::Closed(closed) if closed.reason() == v1::CloseReason::Bye));
        gate.came.wait_for(|came| *came > before).await.expect("the node lives");
        gate.open.send_replace(true);
    };
    let (answer, ()) = tokio::join!(submitting, watching);
    assert_eq!(answer.session_gone, None);
    assert_eq!(
        super::harness::appended(answer.frames[0].body.clone().expect("a body")),
        2
    );
}

/// I11: a new token by Submit is held to what one on a stream is.
#[tokio::test(start_paused = true)]
async fn i11_a_submitted_token_must_fit_the_session() {
    let node = node_on(grounds(Arc::new(EmbeddedBus::new()))).await;
    let browser = Browser::open(&node, "alice", "web-1").await;
    let hour = std::time::Duration::from_secs(3_600);
    let tokens = [
        (node.token("bob", hour), false),
        (node.device_token("alice", "web-2"), false),
        (node.device_token("alice", "web-1"), true),
        (node.token("alice", hour), true),
    ];
    for (token, good) in tokens {
        let frames = vec![frame(1, Ask::Reauthenticate(v1::Reauthenticate { token }))];
        let answer = submit(&node, "alice", &browser.session, frames).await;
        let body = answer.frames[0].body.clone().expect("a body");
        if good {
            assert!(matches!(body, Reply::Done(_)), "{body:?}");
        } else {
            let reason = super::harness::refusal(body).reason();
            assert_eq!(reason, v1::RefusalReason::Unauthenticated);
        }
    }
}

/// I11: another user's session is as good as none, and unharmed.
#[tokio::test(start_paused = true)]
async fn i11_a_foreign_session_is_not_there() {
    let node = node_on(grounds(Arc::new(EmbeddedBus::new()))).await;
    let mut browser = Browser::open(&node, "alice", "web-1").await;
    let missing = format!("{}.web-1", "0".repeat(32));
    let bye = || vec![frame(1, Ask::Bye(v1::Bye {}))];
    let foreign = submit(&node, "mallory", &browser.session, bye()).await;
    let absent = submit(&node, "mallory", &missing, bye()).await;
    assert!(foreign.session_gone.is_some());
    assert_eq!(foreign, absent);
    let answer = submit(&node, "alice", &browser.session, vec![frame(1, Ask::Ping(v1::Ping {}))]).await;
    assert_eq!(answer.session_gone, None);
    browser.until(|body| matches!(body, Reply::CaughtUp(_))).await;
}

/// A browser that only submits stays; one that does neither is gone after 45 s.
#[tokio::test(start_paused = true)]
async fn submits_keep_a_session_alive() {
    let node = node_on(grounds(Arc::new(EmbeddedBus::new()))).await;
    let mut browser = Browser::open(&node, "alice", "web-1").await;
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        let sync = Ask::Sync(v1::ListConversationsRequest::default());
        let answer = submit(&node, "alice", &browser.session, vec![frame(1, sync)]).await;
        assert_eq!(answer.session_gone, None);
    }
    let closed = browser.until(|body| matches!(body, Reply::Closed(_))).await;
    assert!(matches!(closed, Reply::Closed(closed) if closed.reason() == v1::CloseReason::Idle));
}

/// I8, I9: the answers of one Submit fit one message; what is over that, and what was refused without an id, is told.
#[tokio::test(start_paused = true)]
async fn i9_a_submit_asks_for_two_pages_at_most() {
    let node = node_on(grounds(Arc::new(EmbeddedBus::new()))).await;
    let browser = Browser::open(&node, "alice", "web-1").await;
    let page = |id| frame(id, Ask::Sync(v1::ListConversationsRequest::default()));
    let typing = Ask::Typing(v1::SetTypingRequest {
        conversation_id: "00000000-0000-4000-8000-000000000000".into(),
        stopped: false,
    });
    let frames = vec![page(1), page(2), page(3), frame(0, typing)];
    let answer = submit(&node, "alice", &browser.session, frames).await;
    let bodies: Vec<Reply> = answer.frames.into_iter().filter_map(|frame| frame.body).collect();
    assert!(matches!(bodies[..2], [Reply::Sync(_), Reply::Sync(_)]));
    let reasons = bodies[2..]
        .iter()
        .map(|body| super::harness::refusal(body.clone()).reason());
    let expected = [v1::RefusalReason::RateLimited, v1::RefusalReason::NotFound];
    assert_eq!(reasons.collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_submit_needs_a_token_and_frames() {
    let node = node_on(grounds(Arc::new(EmbeddedBus::new()))).await;
    let mut client = SessionServiceClient::new(node.channel().await);
    let bare = v1::SubmitRequest {
        session_id: format!("{}.web-1", "0".repeat(32)),
        frames: Vec::new(),
    };
    let status = client.submit(bare.clone()).await.expect_err("no token");
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let status = client
        .submit(node.request("alice", "web-1", bare))
        .await
        .expect_err("no frames");
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let refusal = stonechat_proto::refusal_of_status(&status).expect("details");
    assert_eq!(refusal.field, "submit.frames");
}
