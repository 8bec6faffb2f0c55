//! Who connects and says nothing, or not enough: gone in time, and in nobody's way.

use std::net::Ipv4Addr;
use std::time::Duration;

use stonechat_tests::harness::{Bench, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::attacks::ATTACKER;
use crate::unhurried;
use crate::wire::{END_HEADERS, HEADERS, PREFACE, SETTINGS, Wire, call, connect, frame};

/// The longest of the idle deadlines is a keep-alive that is not answered: 30 s, then 10 s.
const IDLE: Duration = Duration::from_secs(60);

/// Waits until the server closes; true when it does.
async fn is_closed(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset is a close, too.
    tokio::time::timeout(IDLE, stream.read_to_end(&mut rest)).await.is_ok()
}

/// F13: a silent connection, a part of the preface, a part of a request, and one that was kept alive by HTTP/1.
#[tokio::test]
async fn f13_who_says_too_little_is_cut_off() {
    let bench = Bench::start(&[]).await;
    let said: [&[u8]; 5] = [
        b"",
        &PREFACE[..14],
        b"POST / HTTP/1.1\r\nhost: a\r\nx: ",
        b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ];
    let mut closing = tokio::task::JoinSet::new();
    for said in said {
        let mut stream = connect(&bench.server.authority(), ATTACKER)
            .await
            .expect("a connection");
        stream.write_all(said).await.expect("written");
        closing.spawn(async move { (said, is_closed(stream).await) });
    }
    for (said, closed) in closing.join_all().await {
        assert!(closed, "{:?} is still open", said.escape_ascii().to_string());
    }
}

/// F13: who greets but does not answer the server's pings is not there. A stream without a hello ends before that.
#[tokio::test]
async fn f13_a_peer_that_does_not_answer_is_cut_off() {
    let bench = Bench::start(&[]).await;
    let authority = bench.server.authority();
    let mut silent = Wire::greet(&authority, ATTACKER, &[]).await.expect("a connection");
    let mut no_hello = Wire::greet(&authority, ATTACKER, &[]).await.expect("a connection");
    for (stream, path) in [(1, "Exchange"), (3, "Listen")] {
        let path = format!("/stonechat.v1.SessionService/{path}");
        let open = frame(HEADERS, END_HEADERS, stream, &call(&path, &[]));
        no_hello.write(&open).await.expect("written");
    }
    let ended = tokio::time::timeout(PATIENCE, no_hello.until(|seen| seen.ended.len() >= 2)).await;
    assert_eq!(ended, Ok(true), "{:?}", no_hello.seen());
    assert!(
        tokio::time::timeout(IDLE, silent.closed()).await.is_ok(),
        "{:?}",
        silent.seen()
    );
}

/// How long a peer that greets, answers pings and asks for nothing may take a place: until its first request, and to leave.
const ASKED_WITHIN: Duration = Duration::from_secs(15);

/// F13: who greets, answers every ping and opens no stream does not keep a place; who has a stream open keeps it.
#[tokio::test]
async fn f13_a_peer_that_asks_for_nothing_is_cut_off() {
    let bench = Bench::start(&[]).await;
    let authority = bench.server.authority();
    let mut idle = Wire::greet(&authority, ATTACKER, &[]).await.expect("a connection");
    let mut session = bench.open("alice", "phone").await;
    let gone = tokio::time::timeout(ASKED_WITHIN, idle.answer_pings()).await;
    assert!(gone.is_ok(), "it is still there: {:?}", idle.seen());
    assert!(
        idle.seen().goaway.as_ref().is_some_and(|(code, _)| *code == 0),
        "it was told to leave, not accused: {:?}",
        idle.seen()
    );
    session.ping(PATIENCE).await;
}

/// The limits are in the SETTINGS that go over the wire.
#[tokio::test]
async fn the_limits_are_announced() {
    let bench = Bench::start(&[]).await;
    let mut wire = Wire::greet(&bench.server.authority(), ATTACKER, &[])
        .await
        .expect("a connection");
    let settings = |seen: &crate::wire::Seen| seen.frames[usize::from(SETTINGS)] > 0;
    assert!(wire.until(settings).await);
    let seen = wire.seen().clone();
    let value = |id| {
        seen.settings
            .iter()
            .find(|(found, _)| *found == id)
            .map(|(_, value)| *value)
    };
    assert_eq!(value(3), Some(64), "streams at a time");
    assert_eq!(value(4), Some(128 * 1024), "window of a stream");
    assert_eq!(value(5).unwrap_or(16 * 1024), 16 * 1024, "largest frame");
    assert_eq!(value(6), Some(8 * 1024), "header list");
}

/// Thousands of silent sockets take no place from who comes to talk, and are gone after their deadline.
#[tokio::test]
async fn f13_silent_sockets_are_in_nobodys_way() {
    let count: usize = if std::env::var_os("STONECHAT_ATTACK_SECONDS").is_some() {
        10_000
    } else {
        500
    };
    let flags = ["--connections-max", "15000", "--address-connections-max", "1000"];
    let bench = Bench::start(&unhurried(&flags)).await;
    let authority = bench.server.authority();
    let mut silent = Vec::new();
    for number in 0..count {
        let last = u8::try_from(number / 900).expect("few thousand");
        let from = Ipv4Addr::new(127, 0, 1, last);
        silent.push(connect(&authority, from).await.expect("a connection"));
    }
    let mut took = Vec::new();
    for number in 0..50 {
        let started = stonechat_host::monotonic();
        let mut wire = Wire::greet(&authority, Ipv4Addr::LOCALHOST, &[])
            .await
            .expect("a connection");
        let served = wire.until(|seen| !seen.settings.is_empty());
        assert!(
            tokio::time::timeout(PATIENCE, served).await.expect("an answer"),
            "{number}"
        );
        took.push(started.elapsed());
    }
    took.sort_unstable();
    eprintln!(
        "beside {count} silent sockets: p50 {:.1?}, p99 {:.1?}",
        took[25], took[49]
    );
    for stream in silent {
        assert!(is_closed(stream).await, "a silent socket is still open");
    }
}
