//! F13: attacks on HTTP/2 against the real server, beside two people who talk.
//!
//! `STONECHAT_ATTACK_SECONDS=30` makes each attack last that long; one second is enough to see each rule at work.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use stonechat_tests::harness::{Bench, PATIENCE};

use crate::attacks::{ATTACKS, Attack, End, STREAMS, attacker, flood};
use crate::unhurried;
use crate::victim::{Notes, Victims};
use crate::wire::{ACK, CONTINUATION, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame};

/// How far the server's memory may grow under attack, in MiB.
const GROWTH_MIB_MAX: u64 = 64;
/// An attack as long as this shows that a call without a body ends at the deadline for requests …
const LONG: Duration = Duration::from_secs(10);
/// … which is below this.
const EVERY_CALL_ENDED: Duration = Duration::from_secs(20);

fn attack_seconds() -> u64 {
    let given = std::env::var("STONECHAT_ATTACK_SECONDS").ok();
    given.map_or(1, |given| {
        given.parse().expect("STONECHAT_ATTACK_SECONDS is a number of seconds")
    })
}

/// What an attacker got.
#[derive(Debug, Default)]
struct Attempts {
    count: u64,
    /// Longest time until the server ended one.
    longest: Duration,
    words: String,
}

/// Attacks again and again for so long.
async fn attack(authority: String, attack: Attack, end: End, how_long: Duration) -> Attempts {
    let (mut attempts, started) = (Attempts::default(), stonechat_host::monotonic());
    while attempts.count == 0 || started.elapsed() < how_long {
        let began = stonechat_host::monotonic();
        let left = how_long.saturating_sub(started.elapsed());
        attempts.count += 1;
        if let Some(words) = attempt(&authority, attack, end, left).await {
            attempts.words = words;
        }
        attempts.longest = attempts.longest.max(began.elapsed());
    }
    attempts
}

/// One connection; what the server said at its end, if it said something.
async fn attempt(authority: &str, attack: Attack, end: End, left: Duration) -> Option<String> {
    // A connection that the server closes at once is an attack that failed.
    let mut wire = attacker(authority).await.ok()?;
    let _closed_meanwhile = attack.run(&mut wire).await;
    let all_ended = |seen: &crate::wire::Seen| seen.ended >= u64::from(STREAMS) || seen.closed;
    let ended = match end {
        End::Closed => tokio::time::timeout(PATIENCE, wire.closed()).await.is_ok(),
        End::Answered => tokio::time::timeout(PATIENCE, wire.until(all_ended)).await.is_ok(),
        End::Held if left < LONG => {
            let _early = tokio::time::timeout(left, wire.until(all_ended)).await;
            true
        }
        End::Held => tokio::time::timeout(EVERY_CALL_ENDED, wire.until(all_ended))
            .await
            .is_ok(),
    };
    let seen = wire.seen().clone();
    assert!(ended, "{attack:?} goes on: {seen:?}");
    seen.goaway.map(|(code, words)| format!("GOAWAY {code} {words}"))
}

fn row(table: &mut String, name: &str, attempts: &Attempts, notes: &Notes) {
    let written = writeln!(
        table,
        "{name:<16} {:>8} {:>9.1?} {:>9} {:>9.1?} {:>9.1?} {:>7} {:>7}  {}",
        attempts.count,
        attempts.longest,
        notes.messages(),
        notes.permille(500),
        notes.permille(990),
        notes.before_mib(),
        notes.growth_mib(),
        attempts.words,
    );
    written.expect("a row");
}

#[tokio::test]
async fn f13_attackers_are_stopped_and_nobody_else_notices() {
    let mut bench = Bench::start(&unhurried(&[])).await;
    let mut victims = Victims::meet(&mut bench).await;
    let how_long = Duration::from_secs(attack_seconds());
    let mut table = format!(
        "\n{:<16} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}\n",
        "attack", "attempts", "ended in", "messages", "p50", "p99", "RSS MiB", "growth"
    );
    let calm = victims.talk(&bench, how_long).await;
    row(&mut table, "none", &Attempts::default(), &calm);
    for (kind, end) in ATTACKS {
        let attacker = tokio::spawn(attack(bench.server.authority(), kind, end, how_long));
        let notes = victims.talk(&bench, how_long).await;
        let attempts = attacker.await.expect("an attack that was stopped");
        row(&mut table, &format!("{kind:?}"), &attempts, &notes);
        assert!(notes.growth_mib() < GROWTH_MIB_MAX, "{kind:?}: {table}");
        victims.assert_nothing_is_missing();
    }
    // Past the capture of the test's output: the figures are the point.
    std::io::stderr().write_all(table.as_bytes()).expect("a table");
    bench.verdict().await.assert_clean(&[]);
}

/// Every frame that asks for work and carries nothing.
#[tokio::test]
async fn f13_every_kind_of_control_flood_is_closed() {
    let bench = Bench::start(&[]).await;
    let floods = [
        ("ping", frame(PING, 0, 0, &[0; 8])),
        ("ping ack", frame(PING, ACK, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("window update", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("reset", frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())),
        ("continuation", frame(CONTINUATION, 0, 1, &[])),
        ("unknown", frame(99, 0, 0, &[])),
    ];
    for (name, frame) in floods {
        let mut wire = attacker(&bench.server.authority()).await.expect("a connection");
        let _closed_meanwhile = flood(&mut wire, &frame).await;
        let closed = tokio::time::timeout(PATIENCE, wire.closed()).await;
        assert!(closed.is_ok(), "{name}: {:?}", wire.seen());
    }
}

/// The same frames at a client's pace are served for as long as they come.
#[tokio::test]
async fn f13_a_keep_alive_is_never_struck() {
    let bench = Bench::start(&[]).await;
    let mut wire = attacker(&bench.server.authority()).await.expect("a connection");
    // More than the burst in all, each answered before the next: 40 a second at most.
    for number in 1..=300_u64 {
        wire.write(&frame(PING, 0, 0, &number.to_be_bytes()))
            .await
            .expect("written");
        let answered = wire.until(|seen| seen.frames[usize::from(PING)] >= number);
        assert!(
            tokio::time::timeout(PATIENCE, answered).await.expect("an answer"),
            "closed after {number}"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
