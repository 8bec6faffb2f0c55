//! F13: attacks on HTTP/2 against the real server, beside two people who talk.
//!
//! Memory, the end of every attacker and an answer to every message are asserted at any length. `STONECHAT_ATTACK_SECONDS=30`
//! makes each attack last that long, and then the others' p99 is asserted as well; one second is enough to see each rule at work.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use stonechat_tests::harness::{Bench, PATIENCE};
use tokio::task::JoinHandle;

use crate::attacks::{ATTACKS, Attack, End, STREAMS, attacker, flood};
use crate::unhurried;
use crate::victim::{Notes, Victims};
use crate::wire::{ACK, CONTINUATION, PING, PRIORITY, RST_STREAM, SETTINGS, Seen, WINDOW_UPDATE, Wire, frame};

/// How far the server's memory may grow under one attack, and under all of them together, in MiB.
const GROWTH_MIB_MAX: u64 = 64;
/// An attacker's connection is closed, or all its calls are answered, this long after the attempt could end at the earliest.
/// The limits themselves are of some seconds; the rest is for a machine that does much else.
const ENDED_WITHIN: Duration = Duration::from_secs(20);
/// A message between the two others takes at most as long as a call may take at all.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// From this length on an attack says something about the latency of others.
const TELLING: Duration = Duration::from_secs(30);
/// The p99 of the others is at most twice that of a calm time, and this: attackers, victims and server share the processors
/// here, and an attacker that floods keeps one of them busy by itself.
const P99_FLOOR: Duration = Duration::from_millis(25);

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
    /// Those that were not closed before they could begin.
    begun: u64,
    /// Longest time until the server ended one.
    longest: Duration,
    words: String,
}

/// Attacks again and again for so long, and until one attempt began.
async fn attack(authority: String, attack: Attack, end: End, how_long: Duration) -> Attempts {
    let (mut attempts, started) = (Attempts::default(), stonechat_host::monotonic());
    while attempts.begun == 0 || started.elapsed() < how_long {
        let began = stonechat_host::monotonic();
        attempts.count += 1;
        // A connection that the server closes at once is an attack that failed.
        if let Ok(wire) = attacker(&authority).await {
            attempts.begun += 1;
            let words = attempt(wire, attack, end).await;
            attempts.words = words.unwrap_or(attempts.words);
        }
        attempts.longest = attempts.longest.max(began.elapsed());
    }
    attempts
}

/// One connection; what the server said at its end, if it said something.
async fn attempt(mut wire: Wire, attack: Attack, end: End) -> Option<String> {
    let all_ended = |seen: &Seen| seen.ended >= u64::from(STREAMS) || seen.closed;
    let ends = async {
        let _closed_meanwhile = attack.run(&mut wire).await;
        match end {
            End::Closed => wire.closed().await,
            End::Answered => drop(wire.until(all_ended).await),
        }
    };
    let ended = tokio::time::timeout(attack.lasts() + ENDED_WITHIN, ends).await.is_ok();
    let seen = wire.seen().clone();
    assert!(ended, "{attack:?} goes on: {seen:?}");
    seen.goaway.map(|(code, words)| format!("GOAWAY {code} {words}"))
}

/// On a thread and a runtime of its own: what others notice is to be the server's doing, not that of who shares a thread.
fn in_a_thread<T: Send + 'static>(attack: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(attack)
    })
}

/// What nobody may notice of an attack. Latency is judged where there was time to measure it.
fn assert_unnoticed(kind: Attack, notes: &Notes, calm: &Notes, how_long: Duration, table: &str) {
    assert!(notes.growth_mib() <= GROWTH_MIB_MAX, "{kind:?}: {table}");
    assert!(notes.longest() <= ANSWERED_WITHIN, "{kind:?}: {table}");
    let p99_max = 2 * calm.permille(990) + P99_FLOOR;
    assert!(
        how_long < TELLING || notes.permille(990) <= p99_max,
        "{kind:?}: {table}"
    );
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
    let mut all = calm.clone();
    for (kind, end) in ATTACKS {
        let how_long = how_long.max(kind.lasts());
        let attacker = in_a_thread(attack(bench.server.authority(), kind, end, how_long));
        let notes = victims.talk(&bench, how_long).await;
        let attempts = attacker.await.expect("an attack that was stopped");
        row(&mut table, &format!("{kind:?}"), &attempts, &notes);
        assert_unnoticed(kind, &notes, &calm, how_long, &table);
        victims.assert_nothing_is_missing();
        all.also(&notes);
    }
    writeln!(table, "grown in all: {} MiB", all.growth_mib()).expect("a line");
    assert!(all.growth_mib() <= GROWTH_MIB_MAX, "{table}");
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
