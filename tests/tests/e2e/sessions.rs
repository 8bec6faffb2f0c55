//! The life of a stream: hello, resume, replaced, expired, drained, and every way to break the protocol.

use std::time::Duration;

use stonechat_proto::admin::v1 as admin;
use stonechat_proto::v1;
use stonechat_proto::v1::CloseReason;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Acks, Bench, Claims, Exit, Hello, PATIENCE, RawSession, UNHURRIED};

use crate::support::{judge, reaches};

async fn open(bench: &Bench, hello: Hello) -> RawSession {
    let mut session = bench.open_with("alice", hello, Acks::Each).await;
    session.welcome(PATIENCE).await;
    session
}

#[tokio::test]
async fn welcome_says_who_where_and_within_which_limits() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = open(&bench, bench.hello("alice", "phone")).await;
    let welcome = alice.welcome(PATIENCE).await;
    assert_eq!((welcome.user_id.as_str(), welcome.protocol), ("alice", 1));
    assert_eq!(welcome.durability(), v1::Durability::LocalFsync);
    assert!(welcome.continuous && !welcome.resumed && !welcome.session_id.is_empty());
    assert_eq!(welcome.conversations.len(), 1);
    assert_eq!(welcome.conversations[0].conversation_id, room);
    let limits = welcome.limits.expect("limits");
    assert_eq!(
        (limits.window, limits.max_frame_bytes, limits.max_text_bytes),
        (256, 65_536, 16_384)
    );
    assert_eq!((limits.heartbeat_ms, limits.silence_ms), (30_000, 45_000));
}

/// `resume_session_kills_old_…`: the newer stream wins, the older one is told and does not come back by itself.
#[tokio::test]
async fn a_second_stream_of_the_same_name_replaces_the_first() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut first = bench.open("alice", "phone").await;
    let mut second = bench.open("alice", "phone").await;
    assert_eq!(first.end(PATIENCE).await, Some(CloseReason::Replaced));
    assert!(first.observed().closed.is_some_and(|closed| !closed.reconnect));
    let seq = bench.send(&mut second, &room, "from the second").await;
    reaches(&mut second, &room, seq).await;
    judge(&bench.verdict().await, &[]);
}

/// P17: named streams of one device live side by side.
#[tokio::test]
async fn streams_of_other_names_live_beside_it() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut app = open(&bench, bench.hello("alice", "phone")).await;
    let mut hello = bench.hello("alice", "phone");
    hello.stream_name = "push".to_owned();
    let mut extension = open(&bench, hello).await;
    let mut bob = bench.open("bob", "phone").await;
    let seq = bench.send(&mut bob, &room, "to both").await;
    reaches(&mut app, &room, seq).await;
    reaches(&mut extension, &room, seq).await;
    app.ping(PATIENCE).await;
    reaches(&mut bob, &room, seq).await;
    judge(&bench.verdict().await, &[]);
}

/// P4: each of these ends the stream with a protocol error.
#[tokio::test]
async fn breaking_the_protocol_ends_the_stream_with_its_reason() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let ack = |seq| {
        Asked::Ack(v1::Ack {
            conversation_id: room.clone(),
            seq,
        })
    };
    let unknown = Asked::Ack(v1::Ack {
        conversation_id: "6f1d9a52-8a1c-4b7e-9f57-0f2d3c4b5a69".to_owned(),
        seq: 1,
    });
    let hello = bench.hello("alice", "phone");
    let cases = [
        ("a second hello", 500, Asked::Hello(hello.clone())),
        ("a second hello without an id", 0, Asked::Hello(hello.clone())),
        ("an ack of what was never sent", 0, ack(1_000)),
        ("an ack of what was never sent, with an id", 500, ack(1_000)),
        ("an ack in a conversation never seen", 0, unknown),
    ];
    for (what, request_id, frame) in cases {
        let mut alice = bench.open("alice", "phone").await;
        alice
            .raw(Some(v1::ClientFrame {
                request_id,
                body: Some(frame),
            }))
            .await;
        alice
            .until(&format!("the end after {what}"), PATIENCE, |seen| seen.ended.is_some())
            .await;
        assert_eq!(alice.end(PATIENCE).await, Some(CloseReason::ProtocolError), "{what}");
        let closed = alice.observed().closed.expect("a last frame");
        assert!(!closed.message.is_empty(), "{what}: says how");
    }
}

#[tokio::test]
async fn a_stream_must_begin_with_a_hello_that_can_be_understood() {
    let bench = Bench::start(&UNHURRIED).await;
    bench.users(&["alice"]).await;
    let good = bench.hello("alice", "phone");
    let cases = [
        (
            "no device",
            Hello {
                device_id: String::new(),
                ..good.clone()
            },
        ),
        (
            "a device with a blank",
            Hello {
                device_id: "my phone".to_owned(),
                ..good.clone()
            },
        ),
        (
            "a protocol of the future",
            Hello {
                protocol_min: 7,
                protocol_max: 9,
                ..good.clone()
            },
        ),
        (
            "a stream name in capitals",
            Hello {
                stream_name: "PUSH".to_owned(),
                ..good.clone()
            },
        ),
        (
            "a window too wide",
            Hello {
                window: 257,
                ..good.clone()
            },
        ),
    ];
    for (what, hello) in cases {
        let mut session = bench.open_with("alice", hello, Acks::Never).await;
        assert_eq!(session.end(PATIENCE).await, Some(CloseReason::ProtocolError), "{what}");
    }
}

#[tokio::test]
async fn tokens_that_are_no_good_end_the_stream() {
    let bench = Bench::start(&UNHURRIED).await;
    bench.users(&["alice"]).await;
    let hello = |token: String| Hello {
        token,
        ..bench.hello("alice", "phone")
    };
    let mut bound = Claims::user("alice");
    bound.dev = Some("another-device".to_owned());
    let mut audience = Claims::user("alice");
    audience.aud = Some("somebody-else".to_owned());
    let mut forged = bench.token(&Claims::user("alice"));
    forged.truncate(forged.len() - 4);
    forged.push_str("AAAA");
    let cases = [
        ("none", String::new()),
        ("no token at all", "hello".to_owned()),
        ("expired", bench.token(&Claims::user("alice").expiring_in(-60))),
        ("for others", bench.token(&audience)),
        ("of another device", bench.token(&bound)),
        ("forged", forged),
    ];
    for (what, token) in cases {
        let mut session = bench.open_with("alice", hello(token), Acks::Never).await;
        let reason = session.end(PATIENCE).await;
        assert!(
            matches!(reason, Some(CloseReason::Credentials | CloseReason::Expired)),
            "{what}: {reason:?}"
        );
        assert!(session.observed().welcome.is_none(), "{what}");
    }
}

/// Tokens expire while streams live: a new one in time keeps the stream, otherwise it ends.
#[tokio::test]
async fn a_stream_ends_at_expiry_unless_a_new_token_comes_in_time() {
    let bench = Bench::start(&UNHURRIED).await;
    bench.users(&["alice", "bob"]).await;
    let short = |user: &str| bench.token(&Claims::user(user).expiring_in(4));
    let hello = |user: &str| Hello {
        token: short(user),
        ..bench.hello(user, "phone")
    };
    let mut ends = bench.open_with("alice", hello("alice"), Acks::Each).await;
    let mut stays = bench.open_with("bob", hello("bob"), Acks::Each).await;
    stays.welcome(PATIENCE).await;
    let token = bench.token(&Claims::user("bob"));
    let answer = stays
        .request(Asked::Reauthenticate(v1::Reauthenticate { token }), PATIENCE)
        .await;
    assert!(matches!(answer, Seen::Done(_)), "{answer:?}");
    assert_eq!(ends.end(PATIENCE).await, Some(CloseReason::Expired));
    stays.ping(PATIENCE).await;
    // Somebody else's token is no re-authentication.
    let token = bench.token(&Claims::user("alice"));
    let answer = stays
        .request(Asked::Reauthenticate(v1::Reauthenticate { token }), PATIENCE)
        .await;
    assert!(matches!(answer, Seen::Refusal(_)), "{answer:?}");
}

#[tokio::test]
async fn without_a_hello_the_stream_ends_as_idle() {
    let bench = Bench::start(&UNHURRIED).await;
    let mut client = v1::session_service_client::SessionServiceClient::new(bench.server.channel());
    let (_keep, queue) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(queue);
    let mut frames = client.exchange(requests).await.expect("a stream").into_inner();
    let last = tokio::time::timeout(Duration::from_secs(15), frames.message())
        .await
        .expect("an end within 5 s");
    let body = last
        .expect("a frame")
        .and_then(|answer| answer.frame)
        .and_then(|frame| frame.body);
    assert!(
        matches!(&body, Some(Seen::Closed(closed)) if closed.reason() == CloseReason::Idle),
        "{body:?}"
    );
}

#[tokio::test]
async fn bye_is_answered_and_offline_at_once() {
    let mut bench = Bench::start(&UNHURRIED).await;
    bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let watch = Asked::WatchPresence(v1::WatchPresence {
        user_ids: vec!["alice".to_owned()],
        replace: true,
    });
    let answer = bob.request(watch, PATIENCE).await;
    let online = |presence: &v1::Presence| presence.user_id == "alice" && presence.status() == v1::Status::Online;
    assert!(
        matches!(&answer, Seen::Watching(list) if list.presences.iter().any(online)),
        "{answer:?}"
    );
    alice.bye(PATIENCE).await;
    assert_eq!(
        alice.observed().closed.map(|closed| closed.reason()),
        Some(CloseReason::Bye)
    );
    let offline = |event: &Seen| matches!(event, Seen::Presence(presence) if presence.status() == v1::Status::Offline);
    bob.until("alice offline", Duration::from_secs(5), |seen| {
        seen.events.iter().any(offline)
    })
    .await;
    bench.verdict().await.assert_clean(&[Check::C15]);
}

/// P5: SIGTERM drains: every stream is told why and when to come back, and the process ends well.
#[tokio::test]
async fn a_drain_tells_every_stream_and_loses_nothing() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let requests = crate::support::pipeline(&alice, &room, "before", 50).await;
    // The rest is under way; a drain before all of them would leave nothing to judge.
    alice.answer(requests[0], PATIENCE).await;
    bench.server.signal("TERM").await;
    for session in [&mut alice, &mut bob] {
        assert_eq!(session.end(PATIENCE).await, Some(CloseReason::Draining));
        let closed = session.observed().closed.expect("a last frame");
        assert!(closed.reconnect && closed.retry_after_ms > 0, "{closed:?}");
    }
    assert_eq!(bench.server.wait().await, Exit::Code(0));
    let answered = requests
        .iter()
        .filter(|request| alice.observed().answers.contains_key(*request))
        .count();
    println!("{answered} of 50 sends were answered before the end");
    bench.server.restart(None).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let head = crate::support::head(&bench, &room).await;
    reaches(&mut bob, &room, head).await;
    if head > 1 {
        reaches(&mut alice, &room, head).await;
    }
    judge(&bench.verdict().await, &[]);
}

/// P13: a resume token is good once, and says so.
#[tokio::test]
async fn a_resume_token_is_good_once() {
    let bench = Bench::start(&UNHURRIED).await;
    bench.users(&["alice"]).await;
    let mut first = open(&bench, bench.hello("alice", "phone")).await;
    let token = first.welcome(PATIENCE).await.resume_token;
    assert!(!token.is_empty());
    first.cut();
    let resuming = Hello {
        resume_token: token.clone(),
        ..bench.hello("alice", "phone")
    };
    let mut second = open(&bench, resuming.clone()).await;
    let welcome = second.welcome(PATIENCE).await;
    assert!(welcome.resumed);
    assert_ne!(welcome.resume_token, token);
    second.cut();
    let mut third = open(&bench, resuming).await;
    assert!(!third.welcome(PATIENCE).await.resumed, "single use");
    let garbage = Hello {
        resume_token: vec![7; 99].into(),
        ..bench.hello("alice", "phone")
    };
    let mut fourth = open(&bench, garbage).await;
    assert!(!fourth.welcome(PATIENCE).await.resumed);
}

/// I11, and revocation within 5 s: deactivated users and removed devices lose their streams.
#[tokio::test]
async fn deactivation_and_removal_of_a_device_end_streams() {
    let bench = Bench::start(&UNHURRIED).await;
    bench.users(&["alice", "bob"]).await;
    let mut phone = bench.open("alice", "phone").await;
    let mut tablet = bench.open("alice", "tablet").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut devices =
        v1::device_service_client::DeviceServiceClient::new(bench.call_as(&Claims::user("alice"), "phone"));
    let request = v1::RemoveDeviceRequest {
        device_id: "tablet".to_owned(),
    };
    devices.remove_device(request).await.expect("removed");
    assert_eq!(tablet.end(Duration::from_secs(5)).await, Some(CloseReason::Credentials));
    phone.ping(PATIENCE).await;
    let mut users = admin::user_admin_service_client::UserAdminServiceClient::new(bench.admin());
    let request = admin::SetUserDeactivatedRequest {
        user_id: "alice".to_owned(),
        deactivated: true,
    };
    users.set_user_deactivated(request).await.expect("deactivated");
    assert_eq!(phone.end(Duration::from_secs(5)).await, Some(CloseReason::Credentials));
    bob.ping(PATIENCE).await;
    let mut again = bench
        .open_with("alice", bench.hello("alice", "phone"), Acks::Never)
        .await;
    assert_eq!(again.end(PATIENCE).await, Some(CloseReason::Credentials));
}

/// A device that lost its data, or was restored from a backup, says where it is; up and down.
#[tokio::test]
async fn a_device_may_say_where_it_is() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut newest = 0;
    for number in 0..9 {
        newest = bench.send(&mut bob, &room, &format!("m{number}")).await;
    }
    let mut alice = bench.open("alice", "phone").await;
    reaches(&mut alice, &room, newest).await;
    alice.ping(PATIENCE).await;
    alice.cut();
    let position = |seq| {
        vec![v1::ConversationPosition {
            conversation_id: room.clone(),
            seq,
        }]
    };
    let hellos = [
        (
            Hello {
                positions: position(4),
                ..bench.hello("alice", "phone")
            },
            5,
        ),
        (
            Hello {
                positions: position(newest - 1),
                ..bench.hello("alice", "phone")
            },
            newest,
        ),
        (
            Hello {
                forget_device_positions: true,
                ..bench.hello("alice", "phone")
            },
            1,
        ),
    ];
    for (hello, first) in hellos {
        let mut alice = bench.open_with("alice", hello, Acks::Each).await;
        alice
            .until("the end of the backlog", PATIENCE, |seen| seen.caught_up)
            .await;
        assert_eq!(alice.observed().seqs(&room), (first..=newest).collect::<Vec<u64>>());
        alice.ping(PATIENCE).await;
        alice.cut();
    }
    reaches(&mut bob, &room, newest).await;
    judge(&bench.verdict().await, &[]);
}
