//! Connections that grow old, readers that do not read, and more work than a node can do.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use stonechat_client::{Client, ClientConfig, Event, Events, StaticToken};
use stonechat_proto::v1::message_service_client::MessageServiceClient;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_proto::{refusal_of_status, v1};
use stonechat_tests::harness::{Acks, Bench, Claims, PATIENCE, ServerProcess, header, text};
use tokio::task::JoinSet;
use tonic::Code;

use crate::unhurried;
use crate::wire::{DATA, END_HEADERS, GOAWAY, HEADERS, RST_STREAM, WINDOW_UPDATE, Wire, call, connect, frame, setting};

/// A stream on an old connection is told to move, and then the connection takes nothing new.
#[tokio::test]
async fn an_old_connection_says_why_then_goes_away() {
    let bench = Bench::start(&unhurried(&["--connection-age-seconds", "2"])).await;
    bench.users(&["alice"]).await;
    let hello = bench.hello("alice", "phone");
    let mut session = bench.open_with("alice", hello.clone(), Acks::Each).await;
    assert_eq!(session.end(PATIENCE).await, Some(v1::CloseReason::Draining));
    let closed = session.observed().closed.expect("a reason");
    assert!(closed.reconnect && closed.retry_after_ms > 0, "{closed:?}");
    // The same by hand, to see the frames.
    let mut wire = Wire::greet(&bench.server.authority(), Ipv4Addr::LOCALHOST, &[])
        .await
        .expect("a connection");
    wire.write(&exchange(1, hello)).await.expect("written");
    let over = wire.until(|seen| seen.frames[usize::from(GOAWAY)] > 0 && !seen.ended.is_empty());
    assert_eq!(
        tokio::time::timeout(PATIENCE, over).await,
        Ok(true),
        "{:?}",
        wire.seen()
    );
    assert_eq!(wire.seen().goaway.as_ref().map(|(code, _)| *code), Some(0));
}

/// A stream whose first message is this hello.
fn exchange(stream: u32, hello: v1::Hello) -> Vec<u8> {
    let request = v1::ExchangeRequest {
        frame: Some(v1::ClientFrame {
            request_id: 1,
            body: Some(v1::client_frame::Body::Hello(hello)),
        }),
    };
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let body = [&[0][..], &length, &message].concat();
    let head = call("/stonechat.v1.SessionService/Exchange", &[]);
    [
        frame(HEADERS, END_HEADERS, stream, &head),
        frame(DATA, 0, stream, &body),
    ]
    .concat()
}

async fn client(bench: &Bench, user: &str) -> (Client, Events) {
    let tokens = Arc::new(StaticToken(bench.token(&Claims::user(user))));
    let endpoint = format!("http://{}", bench.server.authority());
    Client::connect(ClientConfig::new(endpoint, tokens, "phone"))
        .await
        .expect("a client")
}

/// Messages go on while every connection moves again and again: each is there once, in order.
#[tokio::test]
async fn sessions_move_without_loss() {
    const MESSAGES: u64 = 100;
    let mut bench = Bench::start(&unhurried(&["--connection-age-seconds", "1"])).await;
    let room = bench.direct("alice", "bob").await;
    let (alice, mut of_alice) = client(&bench, "alice").await;
    let (_bob, mut of_bob) = client(&bench, "bob").await;
    let moves = tokio::spawn(async move {
        let mut moves = 0;
        while let Some(event) = of_alice.next().await {
            moves += u64::from(matches!(event, Event::Disconnected { .. }));
        }
        moves
    });
    let writing = tokio::spawn({
        let room = room.clone();
        async move {
            for number in 1..=MESSAGES {
                let sent = alice.send_text(&room, &number.to_string()).await.expect("queued");
                sent.outcome().await.expect("stored");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            alice.close().await;
        }
    });
    let mut got = Vec::new();
    let reading = async {
        while got.len() < MESSAGES as usize {
            if let Some(Event::Delivered { entry, .. }) = of_bob.next().await {
                got.extend(stonechat_tests::harness::text_of(&entry).parse::<u64>().ok());
            }
        }
    };
    tokio::time::timeout(4 * PATIENCE, reading)
        .await
        .expect("every message in time");
    assert_eq!(got, (1..=MESSAGES).collect::<Vec<_>>());
    writing.await.expect("every message was stored");
    assert!(moves.await.expect("the events of alice") >= 1, "nobody moved");
    let stored = bench.entries(&room).await;
    assert_eq!(stored.len() as u64, 1 + MESSAGES, "nothing twice");
}

/// A reader whose window stays shut: its session ends as a slow consumer, and then the stream is reset, while its
/// connection and the other streams on it go on.
#[tokio::test]
async fn a_stuck_stream_is_reset() {
    const SLOW: Duration = Duration::from_secs(120);
    let bench = Bench::start(&unhurried(&[])).await;
    bench.users(&["alice"]).await;
    let shut = setting(4, 0);
    let mut wire = Wire::greet(&bench.server.authority(), Ipv4Addr::LOCALHOST, &shut)
        .await
        .expect("a connection");
    wire.write(&exchange(1, bench.hello("alice", "phone")))
        .await
        .expect("written");
    // Half closed: the session ends by itself, and has a last frame that nobody reads.
    wire.write(&frame(DATA, 1, 1, &[])).await.expect("written");
    let reset = wire.until(|seen| seen.resets.iter().any(|(stream, _)| *stream == 1));
    assert_eq!(tokio::time::timeout(SLOW, reset).await, Ok(true), "{:?}", wire.seen());
    // The connection goes on: another stream, with a window, gets its answer.
    let window = frame(WINDOW_UPDATE, 0, 3, &65_535_u32.to_be_bytes());
    let second = frame(HEADERS, END_HEADERS, 3, &call("/grpc.health.v1.Health/Check", &[]));
    let body = frame(DATA, 1, 3, &[0; 5]);
    wire.write(&[second, window, body].concat()).await.expect("written");
    let before = wire.seen().resets.len() as u64;
    let answered = wire.until(|seen| seen.ended.contains(&3));
    assert_eq!(
        tokio::time::timeout(PATIENCE, answered).await,
        Ok(true),
        "{:?}",
        wire.seen()
    );
    assert_eq!(wire.seen().frames[usize::from(RST_STREAM)], before, "{:?}", wire.seen());
}

/// Many times what the node lets in at once: everybody is answered or told when to come back, and work goes on.
#[tokio::test]
async fn overload_is_answered() {
    const CONNECTIONS: usize = 80;
    const CALLS: usize = 60;
    let flags = [
        "--requests-at-once-max",
        "1",
        "--user-requests-per-second",
        "0",
        "--address-requests-per-second",
        "0",
    ];
    let mut bench = Bench::start(&unhurried(&flags)).await;
    let room = bench.direct("alice", "bob").await;
    let mut calls = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = MessageServiceClient::new(bench.call_as(&Claims::user("alice"), &format!("d{connection}")));
        for number in 0..CALLS {
            let mut client = client.clone();
            let request = v1::SendRequest {
                header: Some(header(&room, &format!("{connection}-{number}"))),
                content: Some(text("hi")),
            };
            calls.spawn(async move { client.send(request).await });
        }
    }
    let (mut stored, mut refused) = (0_u64, 0_u64);
    while let Some(answer) = calls.join_next().await {
        match answer.expect("a call") {
            Ok(answer) => stored += u64::from(answer.into_inner().outcome.is_some()),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                let refusal = refusal_of_status(&status).expect("typed");
                assert_eq!(refusal.effect(), v1::Effect::NotDone);
                assert!(refusal.retry_after_ms > 0, "{refusal:?}");
                refused += 1;
            }
        }
    }
    eprintln!("{stored} stored, {refused} refused");
    assert!(stored > 0 && refused > 0, "one at a time, for 2 s");
    assert_eq!(
        bench.entries(&room).await.len() as u64,
        1 + stored,
        "what was refused was not done"
    );
}

/// The same for sessions: each is welcomed, or refused with a time to come back.
#[tokio::test]
async fn a_storm_of_hellos_is_answered() {
    const SESSIONS: usize = 400;
    let bench = Bench::start(&unhurried(&["--requests-at-once-max", "1"])).await;
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let user = format!("u{number}");
        let hello = bench.hello(&user, "phone");
        sessions.push(bench.open_with(&user, hello, Acks::Each).await);
    }
    let mut refused = 0;
    for session in &mut sessions {
        let answered = |seen: &stonechat_tests::harness::Observed| seen.welcome.is_some() || seen.closed.is_some();
        session.until("welcome or the end", 3 * PATIENCE, answered).await;
        let seen = session.observed();
        if let Some(closed) = seen.closed {
            assert!(closed.reconnect && closed.retry_after_ms > 0, "{closed:?}");
            let Some(Seen::Refusal(refusal)) = seen.answers.get(&1) else {
                panic!("not refused: {:?}", seen.answers);
            };
            assert_eq!(refusal.reason(), v1::RefusalReason::RateLimited, "{refusal:?}");
            assert_eq!(refusal.effect(), v1::Effect::NotDone);
            assert!(refusal.retry_after_ms > 0);
            refused += 1;
        }
    }
    eprintln!("{} welcomed, {refused} refused", SESSIONS - refused);
    assert!(refused < SESSIONS);
}

fn descriptors(bench: &Bench) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", bench.server.id()));
    files.expect("its files").count()
}

/// As many connections as descriptors leave room for: who talks goes on to talk, the store opens its files, and when
/// the crowd is gone others are served.
#[tokio::test]
async fn a_crowd_takes_no_descriptor_of_the_store() {
    const DESCRIPTORS: u32 = 256;
    let mut server = ServerProcess::prepare(&unhurried(&[])).with_descriptors(DESCRIPTORS);
    server.spawn(None);
    server.ready().await;
    let mut bench = Bench::on(server);
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let authority = bench.server.authority();
    let mut crowd = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        crowd.push(
            connect(&authority, Ipv4Addr::new(127, 0, 0, 7))
                .await
                .expect("the system takes it"),
        );
        if crowd.len() % 16 == 0 {
            bench.send(&mut alice, &room, "still here").await;
        }
    }
    let open = descriptors(&bench);
    eprintln!("{open} of {DESCRIPTORS} descriptors are open");
    assert!(open < DESCRIPTORS as usize * 3 / 4, "{open} are open");
    bench.send(&mut alice, &room, "and after").await;
    drop(crowd);
    // Who comes before the server saw them go is closed at once, as one of the crowd.
    let gone = async {
        while descriptors(&bench) > open / 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the crowd is gone");
    let mut bob = bench.open("bob", "phone").await;
    let newest = bench.entries(&room).await.len() as u64;
    bob.until("everything", PATIENCE, |seen| seen.newest(&room) >= newest)
        .await;
    bench.verdict().await.assert_clean(&[]);
    let log = std::fs::read_to_string(bench.server.log_file()).expect("a log");
    assert!(!log.contains("no connection was accepted"), "descriptors ran out");
}
