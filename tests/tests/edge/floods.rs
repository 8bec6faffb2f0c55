//! F13: attacks on HTTP/2 against the real server, beside two people who talk.
//!
//! Memory, the end of every attacker and an answer to every message are asserted at any length. `STONECHAT_ATTACK_SECONDS=30`
//! makes each attack last that long, and then the others' p99 is asserted as well; one second is enough to see each rule at work.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use stonechat_tests::harness::{Bench, PATIENCE, count, free_port};
use tokio::task::JoinHandle;

use crate::attacks::{
    ATTACKS, Attack, EXCHANGE, End, FLOODS, HEALTH, STREAMS, UNARY, attacker, flood, id, open, reset, whole,
};
use crate::unhurried;
use crate::victim::{Notes, Victims};
use crate::wire::{ACK, CONTINUATION, PING, PRIORITY, SETTINGS, Seen, WINDOW_UPDATE, Wire, frame};

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
    /// Words of GOAWAY, and how often they came. Those that the server said last may be lost with the connection.
    words: BTreeMap<String, u64>,
}

/// Connections that the edge ended for what came over them, by reason.
async fn floods_counted(operators: &str) -> [u64; FLOODS.len()] {
    let mut counted = [0; FLOODS.len()];
    for (counted, reason) in counted.iter_mut().zip(FLOODS) {
        let counter = format!("stonechat_edge_refusals_total{{reason=\"{reason}\"}}");
        *counted = count(operators, &counter).await;
    }
    counted
}

impl Attempts {
    /// By whom the connections were ended, of which the edge counted so many meanwhile.
    fn assert_ended_by(&self, kind: Attack, end: End, edge: [u64; FLOODS.len()]) {
        let (said, by_edge) = match end {
            End::Http2(words) => (words.to_vec(), None),
            End::Edge(reason) => (Vec::new(), Some(reason)),
            End::Either(words, reason) => (words.to_vec(), Some(reason)),
            End::Answered => (Vec::new(), None),
        };
        assert!(
            self.words.keys().all(|words| said.contains(&&**words)),
            "{kind:?}: {self:?}"
        );
        let said: u64 = self.words.values().sum();
        for (counted, reason) in edge.into_iter().zip(FLOODS) {
            let most = if by_edge == Some(reason) { self.begun - said } else { 0 };
            assert!(counted <= most, "{kind:?}: {counted} by {reason}: {self:?}");
        }
        let by_edge: u64 = edge.iter().sum();
        assert!(
            !matches!(end, End::Edge(_)) || by_edge == self.begun,
            "{kind:?}: {edge:?} {self:?}"
        );
    }
}

/// Attacks again and again for so long, and until one attempt began.
async fn attack(authority: String, attack: Attack, end: End, how_long: Duration) -> Attempts {
    let (mut attempts, started) = (Attempts::default(), stonechat_host::monotonic());
    while attempts.begun == 0 || started.elapsed() < how_long {
        let began = stonechat_host::monotonic();
        attempts.count += 1;
        // A connection that the server closes at once is an attack that failed.
        if let Ok(mut wire) = attacker(&authority).await
            && wire.until(|seen| !seen.settings.is_empty()).await
        {
            attempts.begun += 1;
            if let Some(words) = attempt(wire, attack, end).await {
                *attempts.words.entry(words).or_default() += 1;
            }
        }
        attempts.longest = attempts.longest.max(began.elapsed());
    }
    attempts
}

/// One connection; what the server said at its end, if that came.
async fn attempt(mut wire: Wire, attack: Attack, end: End) -> Option<String> {
    let all_ended = |seen: &Seen| seen.ended.len() >= STREAMS as usize;
    let ends = async {
        let _closed_meanwhile = attack.run(&mut wire).await;
        match end {
            End::Answered => wire.until(all_ended).await,
            End::Http2(_) | End::Edge(_) | End::Either(..) => wire.until(|seen| seen.closed).await,
        }
    };
    let ended = tokio::time::timeout(attack.lasts() + ENDED_WITHIN, ends).await;
    let seen = wire.seen().clone();
    assert!(ended == Ok(true), "{attack:?} ended otherwise, or goes on: {seen:?}");
    assert_eq!(seen.closed, end != End::Answered, "{attack:?}: {seen:?}");
    seen.goaway.map(|(_code, words)| words)
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

/// How an attack ended, for people.
fn ended_how(attempts: &Attempts, end: Option<End>) -> String {
    let said = attempts.words.iter().map(|(words, times)| format!("{times} {words:?}"));
    match end {
        None => String::new(),
        Some(End::Answered) => "answered".to_owned(),
        Some(_) => format!("closed; said {}", said.collect::<Vec<_>>().join(", ")),
    }
}

fn row(table: &mut String, name: &str, end: Option<End>, attempts: &Attempts, notes: &Notes) {
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
        ended_how(attempts, end),
    );
    written.expect("a row");
}

#[tokio::test]
async fn f13_attackers_are_stopped_and_nobody_else_notices() {
    let operators = format!("127.0.0.1:{}", free_port());
    // No rate of the attackers' address: what is to stop them is what they do.
    let flags = ["--operator-listen", &operators, "--address-requests-per-second", "0"];
    let mut bench = Bench::start(&unhurried(&flags)).await;
    let mut victims = Victims::meet(&mut bench).await;
    let how_long = Duration::from_secs(attack_seconds());
    let mut table = format!(
        "\n{:<16} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}\n",
        "attack", "attempts", "ended in", "messages", "p50", "p99", "RSS MiB", "growth"
    );
    let calm = victims.talk(&bench, how_long).await;
    row(&mut table, "none", None, &Attempts::default(), &calm);
    let mut all = calm.clone();
    for (kind, end) in ATTACKS {
        let how_long = how_long.max(kind.lasts());
        let before = floods_counted(&operators).await;
        let attacker = in_a_thread(attack(bench.server.authority(), kind, end, how_long));
        let notes = victims.talk(&bench, how_long).await;
        let attempts = attacker.await.expect("an attack that was stopped");
        let after = floods_counted(&operators).await;
        row(&mut table, &format!("{kind:?}"), Some(end), &attempts, &notes);
        attempts.assert_ended_by(kind, end, std::array::from_fn(|reason| after[reason] - before[reason]));
        assert!(attempts.longest >= kind.lasts(), "given up too early: {table}");
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
    let operators = format!("127.0.0.1:{}", free_port());
    let bench = Bench::start(&["--operator-listen", &operators]).await;
    let floods = [
        ("ping", frame(PING, 0, 0, &[0; 8])),
        ("ping ack", frame(PING, ACK, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("window update", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("reset", reset(1)),
        ("continuation", frame(CONTINUATION, 0, 1, &[])),
        ("unknown", frame(99, 0, 0, &[])),
    ];
    for (name, frame) in floods {
        let [before, _] = floods_counted(&operators).await;
        let mut wire = attacker(&bench.server.authority()).await.expect("a connection");
        // Resets are for streams that were there.
        wire.write(&whole(1, HEALTH)).await.expect("written");
        let answered = tokio::time::timeout(PATIENCE, wire.until(|seen| !seen.ended.is_empty())).await;
        assert_eq!(answered, Ok(true), "{name}");
        let _closed_meanwhile = flood(&mut wire, &frame).await;
        let closed = tokio::time::timeout(PATIENCE, wire.closed()).await;
        assert!(closed.is_ok(), "{name}: {:?}", wire.seen());
        let [after, _] = floods_counted(&operators).await;
        // HTTP/2 may be faster with what is against the protocol.
        let by_edge = after - before == 1 || (name == "continuation" && after == before);
        assert!(by_edge, "{name}: {:?}", wire.seen());
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

/// Headers that are too large are answered as such (RFC 6585, 5), and the connection stays.
#[tokio::test]
async fn f13_headers_that_are_too_large_are_answered() {
    // :status with the value 431 in Huffman's code (RFC 7541, 6.2.1 and appendix B).
    const TOO_LARGE: [u8; 5] = [0x48, 0x83, 0x69, 0x90, 0xff];
    let bench = Bench::start(&[]).await;
    let mut wire = attacker(&bench.server.authority()).await.expect("a connection");
    Attack::Metadata.run(&mut wire).await.expect("it stays");
    let answered = wire.until(|seen| seen.ended.len() >= STREAMS as usize);
    assert_eq!(tokio::time::timeout(PATIENCE, answered).await, Ok(true));
    let seen = wire.seen().clone();
    let first = seen.first_headers.expect("an answer");
    assert!(first.starts_with(&TOO_LARGE), "{first:x?}");
    assert!(!seen.closed);
}

/// What a stranger sends is not waited for: none of the calls comes to its deadline.
#[tokio::test]
async fn f13_a_stranger_is_answered_before_the_request_is_there() {
    let operators = format!("127.0.0.1:{}", free_port());
    let bench = Bench::start(&["--operator-listen", &operators]).await;
    let mut wire = attacker(&bench.server.authority()).await.expect("a connection");
    for number in 0..STREAMS {
        let call = open(id(number), UNARY, &[("authorization", "Bearer x")]);
        wire.write(&call).await.expect("written");
    }
    let answered = wire.until(|seen| seen.ended.len() >= STREAMS as usize);
    assert_eq!(tokio::time::timeout(PATIENCE, answered).await, Ok(true));
    let late = count(&operators, "stonechat_edge_refusals_total{reason=\"deadline\"}").await;
    assert_eq!(late, 0, "{:?}", wire.seen());
}

/// A client that opens more streams than may be before it knows, and takes some back, is served for as long as it asks.
#[tokio::test]
async fn f13_who_did_not_know_how_many_is_served() {
    const AT_FIRST: u32 = 100;
    const TAKEN_BACK: u32 = 16;
    const CALLS: u32 = 2_000;
    let bench = Bench::start(&[]).await;
    let mut wire = attacker(&bench.server.authority()).await.expect("a connection");
    let many: Vec<u8> = (0..AT_FIRST)
        .flat_map(|number| open(id(number), EXCHANGE, &[]))
        .collect();
    wire.write(&many).await.expect("written");
    let refused = wire.until(|seen| seen.resets.len() >= (AT_FIRST - STREAMS) as usize);
    assert_eq!(tokio::time::timeout(PATIENCE, refused).await, Ok(true));
    // Fewer than HTTP/2 takes for an attack when none of them was looked at yet.
    let back: Vec<u8> = (0..TAKEN_BACK).flat_map(|number| reset(id(number))).collect();
    wire.write(&back).await.expect("written");
    for number in AT_FIRST..AT_FIRST + CALLS {
        wire.write(&whole(id(number), HEALTH)).await.expect("it stays");
        let answered = wire.until(|seen| seen.ended.contains(&id(number)));
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        assert_eq!(answered, Ok(true), "call {number}: {:?}", wire.seen().goaway);
    }
}
