//! Enumeration: who may not see something learns nothing of whether it exists.

use prost::Message;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_tests::harness::{Bench, Claims, PATIENCE, history_after, member, send_frame};
use tonic::Status;

use crate::raw::{client, unary, unary_on};
use crate::rows::{CALLERS, May, Row, Scene, public};

/// A conversation that never was.
const ABSENT: &str = "6f1d9a52-8a1c-4b7e-9f57-0f2d3c4b5a69";
/// Pairs whose times are printed.
const PAIRS: usize = 200;

/// An answer as the caller sees it, without what differs between any two calls, and with `id` for what was asked of.
fn seen(answer: Result<bytes::Bytes, Status>, id: &str) -> String {
    let text = match answer {
        Ok(message) => format!("ok {:?}", String::from_utf8_lossy(&message)),
        Err(status) => {
            let details = String::from_utf8_lossy(status.details()).into_owned();
            let metadata: Vec<String> = status
                .metadata()
                .clone()
                .into_headers()
                .iter()
                .filter(|(name, _)| !["date", "stonechat-correlation-id"].contains(&name.as_str()))
                .map(|(name, value)| format!("{name}: {value:?}"))
                .collect();
            format!("{:?} {:?} {details:?} {metadata:?}", status.code(), status.message())
        }
    };
    assert!(
        !text.contains("Crew"),
        "the name of a conversation is told to a stranger: {text}"
    );
    text.replace(id, "<id>")
}

fn hidden(room: &str, id: &str) -> Vec<Row> {
    let stranger = CALLERS.iter().position(|(who, ..)| *who == "stranger");
    let stranger = stranger.expect("a caller of the matrix");
    let scene = Scene {
        room: room.to_owned(),
        seq: 2,
        late_seqs: [3; 2],
    };
    let mut rows = public(&scene, id);
    rows.retain(|row| row.may[stranger] == May::Hidden);
    rows
}

/// Every rpc that names a conversation answers a stranger as if it did not exist: status, message and details are equal.
#[tokio::test]
async fn a_strangers_conversation_and_none_are_answered_alike() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.group(&["alice", "bob"]).await;
    let mut alice = bench.open("alice", "phone").await;
    bench.send(&mut alice, &room, "not for mallory").await;
    bench.send(&mut alice, &room, "nor this").await;
    bench.users(&["mallory"]).await;
    let token = bench.token(&Claims::user("mallory"));
    let (theirs, none) = (hidden(&room, "one"), hidden(ABSENT, "other"));
    assert!(theirs.len() >= 14, "{}", theirs.len());
    for (theirs, none) in theirs.into_iter().zip(none) {
        let path = theirs.path;
        let theirs = seen(unary(&bench, path, &token, theirs.request).await, &room);
        let none = seen(unary(&bench, path, &token, none.request).await, ABSENT);
        assert_eq!(theirs, none, "{path}");
    }
}

fn frames(room: &str, id: &str) -> Vec<Asked> {
    let conversation_id = room.to_owned();
    vec![
        send_frame(room, id, "may I?"),
        Asked::History(history_after(room, 0, 10)),
        Asked::MarkRead(v1::MarkReadRequest {
            conversation_id: conversation_id.clone(),
            seq: 1,
            private: false,
        }),
        Asked::Typing(v1::SetTypingRequest {
            conversation_id,
            ..Default::default()
        }),
    ]
}

/// The same by frames of a stream.
#[tokio::test]
async fn frames_about_a_strangers_conversation_and_none_are_answered_alike() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.group(&["alice", "bob"]).await;
    bench.users(&["mallory"]).await;
    let mut mallory = bench.open("mallory", "phone").await;
    for (theirs, none) in frames(&room, "one").into_iter().zip(frames(ABSENT, "other")) {
        let theirs = format!("{:?}", mallory.request(theirs, PATIENCE).await).replace(&room, "<id>");
        let none = format!("{:?}", mallory.request(none, PATIENCE).await).replace(ABSENT, "<id>");
        assert_eq!(theirs, none);
    }
}

/// Users whom one shares nothing with look as if they were offline for ever, like users that never were.
#[tokio::test]
async fn the_presence_of_a_stranger_and_of_nobody_are_answered_alike() {
    let bench = Bench::start(&[]).await;
    bench.users(&["victim", "mallory"]).await;
    let _online = bench.open("victim", "phone").await;
    let token = bench.token(&Claims::user("mallory"));
    let presence = async |user: &str| {
        let request = v1::GetPresenceRequest {
            user_ids: vec![user.to_owned()],
        };
        let path = "/stonechat.v1.PresenceService/GetPresence";
        seen(unary(&bench, path, &token, request.encode_to_vec()).await, user)
    };
    assert_eq!(presence("victim").await, presence("nobody").await);
    let mut mallory = bench.open("mallory", "phone").await;
    let mut watched = async |user: &str| {
        let watch = Asked::WatchPresence(v1::WatchPresence {
            user_ids: vec![user.to_owned()],
            replace: true,
        });
        format!("{:?}", mallory.request(watch, PATIENCE).await).replace(user, "<id>")
    };
    assert_eq!(watched("victim").await, watched("nobody").await);
}

/// A session of another user and one that never was.
#[tokio::test]
async fn submits_to_another_users_session_and_to_none_are_answered_alike() {
    let bench = Bench::start(&[]).await;
    bench.users(&["alice", "mallory"]).await;
    let mut alice = bench.open("alice", "laptop").await;
    let session = alice.welcome(PATIENCE).await.session_id;
    let (random, device) = session.split_at(session.len().min(32));
    let absent = format!("{}{device}", random.chars().rev().collect::<String>());
    assert_ne!(session, absent);
    let token = bench.token(&Claims::user("mallory"));
    let submit = async |session_id: &str| {
        let request = v1::SubmitRequest {
            session_id: session_id.to_owned(),
            frames: vec![v1::ClientFrame {
                request_id: 1,
                body: Some(Asked::Bye(v1::Bye {})),
            }],
        };
        let path = "/stonechat.v1.SessionService/Submit";
        seen(unary(&bench, path, &token, request.encode_to_vec()).await, session_id)
    };
    assert_eq!(submit(&session).await, submit(&absent).await);
    alice.ping(PATIENCE).await;
}

/// Who may not add somebody learns nothing of whether that somebody exists.
#[tokio::test]
async fn adding_users_to_a_strangers_group_tells_nothing_of_the_users() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.group(&["alice", "bob"]).await;
    bench.users(&["mallory"]).await;
    let token = bench.token(&Claims::user("mallory"));
    let add = async |user: &str| {
        let request = v1::SetMembersRequest {
            header: Some(stonechat_tests::harness::header(&room, &bench.fresh_id())),
            members: vec![member(user)],
        };
        let path = "/stonechat.v1.ConversationService/SetMembers";
        seen(unary(&bench, path, &token, request.encode_to_vec()).await, user)
    };
    assert_eq!(add("bob").await, add("nobody").await);
}

/// Printed, not judged: times on a shared machine prove nothing by themselves.
#[tokio::test]
async fn times_of_absent_and_forbidden_are_printed() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.group(&["alice", "bob"]).await;
    bench.users(&["mallory"]).await;
    let token = bench.token(&Claims::user("mallory"));
    let mut client = client(&bench);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..PAIRS {
        for (times, room) in times.iter_mut().zip([room.as_str(), ABSENT]) {
            let request = history_after(room, 0, 10).encode_to_vec();
            let began = stonechat_host::monotonic();
            let path = "/stonechat.v1.MessageService/GetHistory";
            let answer = unary_on(&mut client, path, &token, request).await;
            times.push(began.elapsed());
            assert!(answer.is_ok(), "{answer:?}");
        }
    }
    let [forbidden, absent] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    println!("median of {PAIRS}: forbidden {forbidden:?}, absent {absent:?}");
}
