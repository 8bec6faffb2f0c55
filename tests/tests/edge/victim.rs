//! Two people who talk while others attack: how long a message takes, and what the server's memory does.

use std::time::Duration;

use stonechat_tests::harness::{Bench, PATIENCE, RawSession};

/// Between two messages.
const EVERY: Duration = Duration::from_millis(5);
const MIB: u64 = 1024 * 1024;

/// Alice writes, bob reads.
pub(crate) struct Victims {
    room: String,
    alice: RawSession,
    bob: RawSession,
    sent: u64,
}

/// What they noticed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    /// From the send to bob's stream, in order of size.
    took: Vec<Duration>,
    /// Resident memory of the server before and at most, in bytes.
    before: u64,
    most: u64,
}

impl Notes {
    pub(crate) fn messages(&self) -> usize {
        self.took.len()
    }

    /// The latency that so many of a thousand messages do not exceed.
    pub(crate) fn permille(&self, permille: usize) -> Duration {
        let at = (self.took.len() * permille / 1_000).min(self.took.len().saturating_sub(1));
        self.took.get(at).copied().unwrap_or_default()
    }

    /// The message that took longest.
    pub(crate) fn longest(&self) -> Duration {
        self.took.last().copied().unwrap_or_default()
    }

    /// Adds what was noticed later: memory is then compared with what it was at the very beginning.
    pub(crate) fn also(&mut self, later: &Self) {
        self.most = self.most.max(later.most);
    }

    pub(crate) fn before_mib(&self) -> u64 {
        self.before / MIB
    }

    pub(crate) fn growth_mib(&self) -> u64 {
        self.most.saturating_sub(self.before).div_ceil(MIB)
    }
}

impl Victims {
    pub(crate) async fn meet(bench: &mut Bench) -> Self {
        let room = bench.direct("alice", "bob").await;
        let alice = bench.open("alice", "phone").await;
        let bob = bench.open("bob", "phone").await;
        Self {
            room,
            alice,
            bob,
            sent: 0,
        }
    }

    /// Talks for so long, at least one message.
    pub(crate) async fn talk(&mut self, bench: &Bench, how_long: Duration) -> Notes {
        let before = resident(bench);
        let mut notes = Notes {
            before,
            most: before,
            ..Notes::default()
        };
        let started = stonechat_host::monotonic();
        while notes.took.is_empty() || started.elapsed() < how_long {
            let sent = stonechat_host::monotonic();
            self.sent += 1;
            let seq = bench
                .send(&mut self.alice, &self.room, &format!("message {}", self.sent))
                .await;
            let room = self.room.clone();
            let reached = self
                .bob
                .until("the message", PATIENCE, |seen| seen.newest(&room) >= seq);
            reached.await;
            notes.took.push(sent.elapsed());
            notes.most = notes.most.max(resident(bench));
            tokio::time::sleep(EVERY).await;
        }
        notes.took.sort_unstable();
        notes
    }

    /// Bob has every message, once and in order.
    pub(crate) fn assert_nothing_is_missing(&self) {
        let texts = self.bob.observed().texts(&self.room);
        let expected: Vec<String> = (1..=self.sent).map(|number| format!("message {number}")).collect();
        assert_eq!(texts, expected);
    }
}

/// Memory of the server that is in RAM, in bytes (proc_pid_status(5)).
pub(crate) fn resident(bench: &Bench) -> u64 {
    let path = format!("/proc/{}/status", bench.server.id());
    let status = std::fs::read_to_string(path).expect("the server's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a size") * 1024
}
