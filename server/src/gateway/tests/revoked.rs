//! Revocation: it ends streams within 5 s on every node, whatever the bus does, and never one with a newer token.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use stonechat_host::{Clock, SystemClock};
use stonechat_proto::admin::v1 as admin;
use stonechat_proto::v1;
use stonechat_proto::v1::CloseReason as Reason;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{Peer, TestNode, grounds, node_on, refusal};
use super::lossy::LossyBus;
use crate::domain::UserId;

/// Revocation takes no longer (contract).
const WITHIN: Duration = Duration::from_secs(5);

/// A request of an integrator.
fn as_integrator<T>(node: &TestNode, message: T) -> tonic::Request<T> {
    let user = UserId::parse("integrator").expect("an id");
    let scopes = BTreeSet::from(["admin.users".to_owned()]);
    let issued = node
        .grounds
        .authenticator
        .issue(&user, None, &scopes, Duration::from_secs(3_600));
    let bearer = format!("Bearer {}", issued.expect("a token").token.expose());
    let mut request = tonic::Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", bearer.parse().expect("metadata"));
    request
}

async fn users(node: &TestNode) -> admin::user_admin_service_client::UserAdminServiceClient<tonic::transport::Channel> {
    admin::user_admin_service_client::UserAdminServiceClient::new(node.channel().await)
}

/// Revokes, and waits until the clock is past it.
async fn revoke(node: &TestNode, user: &str, device: &str) {
    let request = admin::RevokeTokensRequest {
        user_id: user.into(),
        device_id: device.into(),
    };
    let answer = users(node).await.revoke_tokens(as_integrator(node, request)).await;
    match answer.expect("an answer").into_inner().outcome {
        Some(admin::revoke_tokens_response::Outcome::Revoked(revoked)) => past(revoked.revoked_ms).await,
        other => panic!("not revoked: {other:?}"),
    }
}

async fn set_deactivated(node: &TestNode, user: &str, deactivated: bool) {
    let request = admin::SetUserDeactivatedRequest {
        user_id: user.into(),
        deactivated,
    };
    let answer = users(node)
        .await
        .set_user_deactivated(as_integrator(node, request))
        .await;
    let outcome = answer.expect("an answer").into_inner().outcome;
    assert!(
        matches!(outcome, Some(admin::set_user_deactivated_response::Outcome::User(_))),
        "{outcome:?}"
    );
    past(SystemClock.unix_ms()).await;
}

/// The wall clock goes on by itself, also where the other one is paused.
async fn past(unix_ms: i64) {
    while SystemClock.unix_ms() <= unix_ms {
        tokio::task::yield_now().await;
    }
}

async fn lives(peer: &mut Peer) {
    let ping = peer.ask(Ask::Ping(v1::Ping {})).await;
    assert!(matches!(peer.answer(ping).await, Reply::Pong(_)));
}

/// A user's last frame, and that it came in time.
async fn ends(peer: &mut Peer) {
    let asked = stonechat_host::monotonic();
    let closed = peer.closed().await;
    assert_eq!((closed.reason(), closed.reconnect), (Reason::Credentials, false));
    assert!(asked.elapsed() <= WITHIN, "it took {:?}", asked.elapsed());
}

async fn refused(node: &TestNode, hello: v1::Hello) {
    let mut peer = node.stream().await;
    let id = peer.ask(Ask::Hello(hello)).await;
    let reason = refusal(peer.answer(id).await).reason();
    assert_eq!(reason, v1::RefusalReason::Unauthenticated);
    assert_eq!(peer.closed().await.reason(), Reason::Credentials);
}

/// Revocation, I10: with the bus and without it, on every node.
#[tokio::test(start_paused = true)]
async fn revocation_ends_streams_on_every_node_with_and_without_the_bus() {
    for losing in [false, true] {
        let bus = Arc::new(LossyBus::default());
        let grounds = grounds(Arc::clone(&bus) as _);
        let (one, other) = (node_on(grounds.clone()).await, node_on(grounds).await);
        one.direct("alice", "bob").await;
        let phone = one.hello("alice", "phone");
        let (mut here, _) = one.open(phone.clone()).await;
        let mut there = other.live("alice", "tablet").await;
        let mut bob = other.live("bob", "phone").await;
        bus.hook.0.store(losing, Ordering::Relaxed);

        revoke(&other, "alice", "phone").await;
        ends(&mut here).await;
        refused(&one, phone).await;
        lives(&mut there).await;
        // Signed in again: the same device, a token of later.
        let mut again = one.live("alice", "phone").await;

        revoke(&one, "alice", "").await;
        let (mut first, mut second) = (again, there);
        tokio::join!(ends(&mut first), ends(&mut second));
        again = one.live("alice", "phone").await;
        let before = one.hello("alice", "phone");

        set_deactivated(&one, "alice", true).await;
        ends(&mut again).await;
        refused(&other, one.hello("alice", "phone")).await;
        set_deactivated(&other, "alice", false).await;
        refused(&other, before).await;
        // Long after all of it was told, nobody else lost anything.
        let mut back = other.live("alice", "phone").await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(30)).await;
            lives(&mut back).await;
            lives(&mut bob).await;
        }
    }
}

/// A stream that got a newer token in time is not ended by what was revoked before.
#[tokio::test(start_paused = true)]
async fn a_new_token_saves_the_stream_from_an_older_revocation() {
    let bus = Arc::new(LossyBus::default());
    bus.hook.0.store(true, Ordering::Relaxed);
    let node = node_on(grounds(bus)).await;
    node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "phone").await;
    revoke(&node, "alice", "").await;
    let token = node.token("alice", Duration::from_secs(3_600));
    let id = alice.ask(Ask::Reauthenticate(v1::Reauthenticate { token })).await;
    assert!(matches!(alice.answer(id).await, Reply::Done(_)));
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        lives(&mut alice).await;
    }
}

/// An issuer whose clock is ahead gives tokens that look newer than the revocation: the directory has the last word.
#[tokio::test(start_paused = true)]
async fn a_token_from_ahead_does_not_outlive_its_user() {
    let node = node_on(grounds(Arc::new(LossyBus::default()))).await;
    node.direct("alice", "bob").await;
    let now = SystemClock.unix_ms() / 1_000;
    let claims = json!({ "iss": "test", "aud": "test", "sub": "alice", "iat": now + 4, "exp": now + 3_600 });
    let key = EncodingKey::from_secret(&[7; 32]);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token");
    let hello = v1::Hello {
        token,
        ..node.hello("alice", "phone")
    };
    let (mut ahead, _) = node.open(hello).await;
    set_deactivated(&node, "alice", true).await;
    ends(&mut ahead).await;
}

/// A browser's Submit names its device by the session: a removed one is refused also with a token for any device.
#[tokio::test(start_paused = true)]
async fn a_removed_browser_submits_nothing() {
    let node = node_on(grounds(Arc::new(LossyBus::default()))).await;
    node.direct("alice", "bob").await;
    let mut client = v1::session_service_client::SessionServiceClient::new(node.channel().await);
    let hello = Some(node.hello("alice", "browser"));
    let mut frames = client
        .listen(v1::ListenRequest { hello })
        .await
        .expect("a stream")
        .into_inner();
    let first = frames.message().await.expect("a frame").and_then(|answer| answer.frame);
    let Some(Reply::Welcome(welcome)) = first.and_then(|frame| frame.body) else {
        panic!("welcome comes first");
    };
    let bearer = format!("Bearer {}", node.token("alice", Duration::from_secs(3_600)));
    let submit = || {
        let mut request = tonic::Request::new(v1::SubmitRequest {
            session_id: welcome.session_id.clone(),
            frames: vec![v1::ClientFrame {
                request_id: 1,
                body: Some(Ask::Ping(v1::Ping {})),
            }],
        });
        request
            .metadata_mut()
            .insert("authorization", bearer.parse().expect("metadata"));
        request
    };
    let answer = client.submit(submit()).await.expect("an answer").into_inner();
    assert!(matches!(answer.frames[0].body, Some(Reply::Pong(_))), "{answer:?}");
    revoke(&node, "alice", "browser").await;
    let status = client.submit(submit()).await.expect_err("a removed device");
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
}
