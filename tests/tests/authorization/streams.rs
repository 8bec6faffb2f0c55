//! Who may open a session and submit to one: {Exchange, Listen, Submit} by every kind of token, in the hello and in the
//! metadata.

use futures_util::{StreamExt, stream};
use stonechat_proto::admin::v1 as admin;
use stonechat_proto::admin::v1::user_admin_service_client::UserAdminServiceClient;
use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_proto::v1::session_service_client::SessionServiceClient;
use stonechat_proto::v1::{CloseReason, RefusalReason};
use stonechat_tests::harness::{Bench, Claims, PATIENCE, UNHURRIED};
use tonic::{Request, Status};

use crate::call::{Outcome, of_status};
use crate::frames::{Target, rows};
use crate::{EVERY_SCOPE, of_removed_device, scene};

/// The device of every session here.
pub(crate) const DEVICE: &str = "gone";

/// Where a token is put.
#[derive(Debug, Clone, Copy)]
enum Place {
    Hello,
    Metadata,
}

/// A token, and what comes of it.
struct Case {
    who: &'static str,
    token: Option<String>,
    /// What a hello with it gets.
    hello: Outcome,
    /// What a Submit to a session of the device gets.
    submit: Outcome,
}

const UNKNOWN: Outcome = Outcome::Refused(RefusalReason::Unauthenticated);
const FORBIDDEN: Outcome = Outcome::Refused(RefusalReason::Forbidden);

fn worthless(who: &'static str, token: Option<String>) -> Case {
    Case {
        who,
        token,
        hello: UNKNOWN,
        submit: UNKNOWN,
    }
}

async fn revoke(bench: &Bench, user: &str) {
    let request = admin::RevokeTokensRequest {
        user_id: user.to_owned(),
        device_id: String::new(),
    };
    let mut users = UserAdminServiceClient::new(bench.admin());
    users.revoke_tokens(request).await.expect("revoked");
}

/// Tokens for sessions of alice on [`DEVICE`].
async fn cases(bench: &Bench) -> Vec<Case> {
    bench.users(&["alice", "erin"]).await;
    let token = |claims: &Claims| Some(bench.token(claims));
    let bound = Claims {
        dev: Some("elsewhere".to_owned()),
        ..Claims::user("alice")
    };
    let service = Claims {
        scope: Some(EVERY_SCOPE.to_owned()),
        ..Claims::user("alice")
    };
    let revoked = token(&Claims::user("erin"));
    revoke(bench, "erin").await;
    let removed = of_removed_device(bench).await;
    vec![
        worthless("nobody", None),
        worthless("an expired user", token(&Claims::user("alice").expiring_in(-30))),
        worthless("a user whose tokens were revoked", revoked),
        worthless("a removed device", Some(removed)),
        Case {
            hello: FORBIDDEN,
            submit: FORBIDDEN,
            ..worthless("a service", token(&service))
        },
        Case {
            submit: Outcome::Refused(RefusalReason::Invalid),
            ..worthless("a token of another device", token(&bound))
        },
        Case {
            hello: Outcome::Allowed,
            submit: Outcome::Allowed,
            ..worthless("the user, once more", token(&fresh("alice")))
        },
    ]
}

/// A token of after the removal of the device, by the clock of whole seconds.
fn fresh(user: &str) -> Claims {
    let mut claims = Claims::user(user);
    claims.iat = claims.iat.map(|issued| issued + 2);
    claims
}

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// What the first frames of a stream say, up to a welcome or the end.
async fn opening<T>(
    frames: Result<tonic::Response<tonic::Streaming<T>>, Status>,
    body: impl Fn(T) -> Option<Seen>,
) -> Outcome {
    let mut frames = match frames {
        Ok(frames) => frames.into_inner(),
        Err(status) => return of_status(&status),
    };
    let mut refused = None;
    loop {
        let frame = tokio::time::timeout(PATIENCE, frames.message())
            .await
            .expect("a frame in time");
        match frame.map(|frame| frame.and_then(&body)) {
            Ok(Some(Seen::Welcome(_))) => return Outcome::Allowed,
            Ok(Some(Seen::Refusal(refusal))) => refused = Some(refusal.reason()),
            Ok(Some(Seen::Closed(closed))) => {
                assert_eq!(closed.reason(), CloseReason::Credentials, "{closed:?}");
                assert!(!closed.reconnect, "nothing but another token helps: {closed:?}");
                return Outcome::Refused(refused.expect("a refusal before the end"));
            }
            Ok(other) => panic!("neither welcome nor refusal: {other:?}"),
            Err(status) => return of_status(&status),
        }
    }
}

/// The hello, and the token of the metadata.
fn hello(bench: &Bench, token: Option<&str>, place: Place) -> (v1::Hello, Option<String>) {
    let token = token.unwrap_or_default().to_owned();
    let hello = |token| v1::Hello {
        token,
        ..bench.hello("alice", DEVICE)
    };
    match place {
        Place::Hello => (hello(token), None),
        Place::Metadata => (hello(String::new()), Some(token).filter(|token| !token.is_empty())),
    }
}

async fn exchange(bench: &Bench, token: Option<&str>, place: Place) -> Outcome {
    let (hello, metadata) = hello(bench, token, place);
    let frame = v1::ClientFrame {
        request_id: 1,
        body: Some(v1::client_frame::Body::Hello(hello)),
    };
    let first = v1::ExchangeRequest { frame: Some(frame) };
    let frames = stream::iter([first]).chain(stream::pending());
    let mut client = SessionServiceClient::new(bench.server.channel());
    let frames = client.exchange(with_token(frames, metadata.as_deref())).await;
    opening(frames, |answer| answer.frame?.body).await
}

async fn listen(bench: &Bench, token: Option<&str>, place: Place) -> Outcome {
    let (hello, metadata) = hello(bench, token, place);
    let request = v1::ListenRequest { hello: Some(hello) };
    let mut client = SessionServiceClient::new(bench.server.channel());
    let frames = client.listen(with_token(request, metadata.as_deref())).await;
    opening(frames, |answer| answer.frame?.body).await
}

async fn submit(bench: &Bench, token: Option<&str>, session: &str, body: v1::client_frame::Body) -> Outcome {
    let request = v1::SubmitRequest {
        session_id: session.to_owned(),
        frames: vec![v1::ClientFrame {
            request_id: 1,
            body: Some(body),
        }],
    };
    let mut client = SessionServiceClient::new(bench.server.channel());
    match client.submit(with_token(request, token)).await {
        Ok(answer) => match answer.into_inner().session_gone {
            Some(gone) => Outcome::Refused(gone.reason()),
            None => Outcome::Allowed,
        },
        Err(status) => of_status(&status),
    }
}

/// A live session of a browser, and its id.
async fn listening(bench: &Bench, user: &str) -> (tonic::Streaming<v1::ListenResponse>, String) {
    let hello = v1::Hello {
        token: bench.token(&fresh(user)),
        ..bench.hello(user, DEVICE)
    };
    let request = v1::ListenRequest { hello: Some(hello) };
    let mut client = SessionServiceClient::new(bench.server.channel());
    let mut frames = client.listen(request).await.expect("a session").into_inner();
    let first = frames.message().await.expect("a frame").expect("a frame");
    match first.frame.and_then(|frame| frame.body) {
        Some(Seen::Welcome(welcome)) => (frames, welcome.session_id),
        other => panic!("not welcome: {other:?}"),
    }
}

fn judge(wrong: &mut Vec<String>, what: String, got: Outcome, wanted: Outcome) {
    if got != wanted {
        wrong.push(format!("{what}: {got:?}, expected {wanted:?}"));
    }
}

#[tokio::test]
async fn exchange_listen_and_submit_by_every_kind_of_token() {
    let bench = Bench::start(&UNHURRIED).await;
    let cases = cases(&bench).await;
    let mut wrong = Vec::new();
    for case in &cases {
        let token = case.token.as_deref();
        for place in [Place::Hello, Place::Metadata] {
            let what = |rpc: &str| format!("{rpc} by {}, token in {place:?}", case.who);
            judge(
                &mut wrong,
                what("Exchange"),
                exchange(&bench, token, place).await,
                case.hello,
            );
            judge(
                &mut wrong,
                what("Listen"),
                listen(&bench, token, place).await,
                case.hello,
            );
        }
        let (_frames, session) = listening(&bench, "alice").await;
        let ping = v1::client_frame::Body::Ping(v1::Ping {});
        let got = submit(&bench, token, &session, ping).await;
        judge(&mut wrong, format!("Submit by {}", case.who), got, case.submit);
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A session is its user's alone: for others there is none of this id, and what they submit reaches nobody.
#[tokio::test]
async fn a_session_of_another_user_cannot_be_submitted_to() {
    let bench = Bench::start(&UNHURRIED).await;
    bench.users(&["alice", "mallory"]).await;
    let (mut frames, session) = listening(&bench, "alice").await;
    let mallory = bench.token(&Claims::user("mallory"));
    let bye = || v1::client_frame::Body::Bye(v1::Bye {});
    let got = submit(&bench, Some(&mallory), &session, bye()).await;
    assert_eq!(got, Outcome::Refused(RefusalReason::NotFound));
    let alice = bench.token(&fresh("alice"));
    let ping = v1::client_frame::Body::Ping(v1::Ping {});
    assert_eq!(submit(&bench, Some(&alice), &session, ping).await, Outcome::Allowed);
    assert_eq!(submit(&bench, Some(&alice), &session, bye()).await, Outcome::Allowed);
    loop {
        let frame = frames
            .message()
            .await
            .expect("a frame")
            .expect("a last frame before the end");
        if let Some(Seen::Closed(closed)) = frame.frame.and_then(|frame| frame.body) {
            assert_eq!(closed.reason(), CloseReason::Bye);
            return;
        }
    }
}

/// The token of a removed device carries no frame, of whatever kind.
#[tokio::test]
async fn no_frame_of_a_removed_device_is_handled() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let scene = scene(&mut bench).await;
    let token = of_removed_device(&bench).await;
    let (_frames, session) = listening(&bench, "alice").await;
    let before = bench.entries(&scene.room).await.len();
    let mut wrong = Vec::new();
    for row in rows(&Target::new(&bench, &scene, "alice")) {
        let got = submit(&bench, Some(&token), &session, row.frame).await;
        judge(&mut wrong, row.name.to_owned(), got, UNKNOWN);
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(bench.entries(&scene.room).await.len(), before, "nothing was done");
}
