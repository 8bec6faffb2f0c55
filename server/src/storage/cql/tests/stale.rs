//! T1, T2, T8: two nodes over a store that lies as far as quorum reads may (`liar`), while nodes die in the middle of appends.
//! `STONECHAT_SEEDS=100` plays as many seeds, `STONECHAT_SEED=7` that one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::liar::{Liar, Sky};
use super::*;
use crate::domain::{ConversationId, Seq};
use crate::storage::contract::samples::{WIDE, batch, conversation, everything, id, message, sender, seqs};
use crate::storage::cql::CqlOptions;
use crate::storage::{AppendError, StoredEntry};

/// Seqs of a bucket, the least there may be: its edge is met all the time (T5).
const BUCKET: u64 = 64;
/// Seeds in CI: some seconds.
const SEEDS: u64 = 8;
/// What each seed's nodes are asked for, one after the other.
const STEPS: u64 = 50;
/// Messages of one append, as a rule, and of one that fills what is left of a bucket now and then.
const FEW: u64 = 3;
const MANY: u64 = 40;

/// What senders and readers know.
#[derive(Default)]
struct Book {
    /// Where ids are, by an ack or by a find.
    acked: BTreeMap<String, u64>,
    /// Nobody knows of these.
    unsure: BTreeSet<String>,
    /// Denied, and not tried again.
    denied: BTreeSet<String>,
    /// What any reader was shown.
    shown: BTreeMap<u64, String>,
    names: u64,
}

impl Book {
    fn ack(&mut self, name: &str, seq: u64) {
        let before = self.acked.insert(name.to_owned(), seq);
        assert!(
            before.is_none_or(|before| before == seq),
            "I2: {name} is at {seq} and at {before:?}"
        );
        self.unsure.remove(name);
        self.show(name, seq);
    }

    fn show(&mut self, name: &str, seq: u64) {
        let before = self.shown.insert(seq, name.to_owned());
        assert!(
            before.as_deref().is_none_or(|before| before == name),
            "I3: {seq} is {name}, and was {before:?}"
        );
    }

    fn show_all(&mut self, entries: &[Arc<StoredEntry>]) {
        for stored in entries {
            self.show(stored.entry.client_msg_id.as_str(), stored.entry.seq.0);
        }
    }

    fn newest(&self) -> u64 {
        self.acked.values().copied().max().unwrap_or(0)
    }
}

struct Play {
    nodes: [CqlStore; 2],
    sky: Arc<Sky>,
    here: ConversationId,
    book: Book,
}

impl Play {
    fn node(&self) -> CqlStore {
        self.nodes[usize::from(self.sky.below(2) == 0)].clone()
    }

    fn fresh_names(&mut self) -> Vec<String> {
        let many = self.sky.below(3) == 0;
        let names = if many { 0..=MANY } else { 0..=self.sky.below(FEW) };
        let name = |_| {
            self.book.names += 1;
            format!("m{}", self.book.names)
        };
        names.map(name).collect()
    }

    /// As whoever appends does: where the head is, whether the ids are there, and then the batch on that head.
    async fn send(&mut self, names: Vec<String>) {
        let node = self.node();
        let head = node.head(self.here).await.expect("readable").unwrap_or_default();
        let mut wishes = Vec::new();
        for name in names {
            // Nobody ever sent it.
            if !self.book.unsure.contains(&name) {
                wishes.push(name);
                continue;
            }
            let found = node
                .find(self.here, &sender("ada", "phone"), &id(&name), Seq::ZERO)
                .await;
            match found.expect("readable") {
                Some(prior) => self.book.ack(&name, prior.seq.0),
                None => wishes.push(name),
            }
        }
        let room = BUCKET - (head.seq.0 + 1) % BUCKET;
        wishes.truncate(usize::try_from(room).expect("few"));
        if wishes.is_empty() {
            return;
        }
        let messages: Vec<_> = wishes.iter().map(|name| message(name)).collect();
        let sky = Arc::clone(&self.sky);
        let answer = tokio::select! {
            biased;
            answer = node.append(batch(self.here, head, &messages)) => answer,
            () = sky.hung() => Err(AppendError::Unknown("the node died".to_owned())),
        };
        match answer {
            Ok(stored) => {
                let seqs = stored.iter().map(|stored| stored.entry.seq.0);
                wishes.iter().zip(seqs).for_each(|(name, seq)| self.book.ack(name, seq));
            }
            Err(AppendError::Unknown(_)) => self.book.unsure.extend(wishes),
            Err(AppendError::Conflict | AppendError::NotDone(_)) => {
                let denied = wishes.into_iter().filter(|name| !self.book.unsure.contains(name));
                let denied: Vec<String> = denied.collect();
                self.book.denied.extend(denied);
            }
            Err(error) => panic!("the log is whole: {error}"),
        }
    }

    async fn again(&mut self) {
        let names: Vec<String> = self.book.unsure.iter().take(2).cloned().collect();
        self.send(names).await;
    }

    /// Nothing that was acknowledged is missing, and no hole is passed (C4, C6).
    async fn read(&mut self) {
        let entries = self.node().read(self.here, Seq(1), Seq(u64::MAX), WIDE).await;
        let entries = entries.expect("a hole is read again, and is none");
        let wanted: Vec<u64> = (1..=entries.len() as u64).collect();
        assert_eq!(seqs(&entries), wanted);
        assert!(
            entries.len() as u64 >= self.book.newest(),
            "C6: up to {}",
            entries.len()
        );
        self.book.show_all(&entries);
    }

    async fn find_acked(&mut self) {
        let count = self.book.acked.len().max(1) as u64;
        let at = usize::try_from(self.sky.below(count)).expect("few");
        let Some((name, seq)) = self.book.acked.iter().nth(at) else {
            return;
        };
        let known_head = Seq(self.sky.below(*seq));
        let found = self
            .node()
            .find(self.here, &sender("ada", "phone"), &id(name), known_head)
            .await;
        assert_eq!(
            found.expect("readable").map(|prior| prior.seq.0),
            Some(*seq),
            "I2: {name}"
        );
    }

    async fn step(&mut self) {
        match self.sky.below(10) {
            0..=3 => {
                let names = self.fresh_names();
                self.send(names).await;
            }
            4..=6 => self.again().await,
            7 | 8 => self.read().await,
            _ => self.find_acked().await,
        }
    }

    /// The truth in the end.
    async fn judge(&mut self) {
        let all = everything(&self.nodes[0], self.here).await;
        let wanted: Vec<u64> = (1..=all.len() as u64).collect();
        assert_eq!(seqs(&all), wanted, "I3");
        self.book.show_all(&all);
        let names: Vec<&str> = all.iter().map(|stored| stored.entry.client_msg_id.as_str()).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len(), "I2: an id is there twice");
        assert_eq!(self.book.shown.len(), names.len(), "what was shown is there");
        for (name, seq) in &self.book.acked {
            let at = usize::try_from(*seq - 1).expect("few");
            assert_eq!(names.get(at), Some(&name.as_str()), "I1: {name} at {seq}");
        }
        let lies: Vec<_> = self
            .book
            .denied
            .iter()
            .filter(|name| distinct.contains(name.as_str()))
            .collect();
        assert!(lies.is_empty(), "C9: denied and there: {lies:?}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The real store over a driver that lies, on one keyspace for all seeds.
async fn liars(options: &CqlOptions, sky: &Arc<Sky>) -> [CqlStore; 2] {
    let one = keyspaces::open_over(options, |real| Box::new(Liar::around(real, Arc::clone(sky)))).await;
    let other = keyspaces::open_over(options, |real| Box::new(Liar::around(real, Arc::clone(sky)))).await;
    [one, other]
}

/// Plays seeds one after the other; what happened in them, and how many messages were acknowledged.
async fn play(options: &CqlOptions, seeds: std::ops::Range<u64>) -> (BTreeMap<&'static str, u64>, usize) {
    // Between two seeds nobody else has it open, and it would be given to another test.
    let _keeps_the_keyspace = keyspaces::open(options).await;
    let (mut counts, mut acks) = (BTreeMap::<&str, u64>::new(), 0);
    for seed in seeds {
        println!("seed {seed}");
        let sky = Sky::new(seed);
        let mut play = Play {
            nodes: liars(options, &sky).await,
            sky: Arc::clone(&sky),
            here: conversation(u16::try_from(seed).expect("a small seed")),
            book: Book::default(),
        };
        sky.lie(true);
        for _ in 0..STEPS {
            play.step().await;
        }
        sky.lie(false);
        play.judge().await;
        acks += play.book.acked.len();
        for (what, more) in sky.counts() {
            *counts.entry(what).or_default() += more;
        }
    }
    (counts, acks)
}

#[tokio::test]
async fn t8_whatever_quorum_reads_show_nothing_is_lost_doubled_or_passed_over() {
    let Some(options) = options(BUCKET).await else { return };
    let (first, count) = match number("STONECHAT_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("STONECHAT_SEEDS").unwrap_or(SEEDS)),
    };
    let (counts, acks) = Box::pin(play(&options, first..first + count)).await;
    println!("T8: {count} seeds, {acks} acknowledged, 0 lost, doubled or passed over: {counts:?}");
    let wanted = [
        "answers lost",
        "batches done late",
        "batches seen in part",
        "deaths",
        "old heads",
        "rows not seen",
        "rows without their head",
    ];
    for what in wanted.iter().filter(|_| count >= SEEDS) {
        assert!(counts.contains_key(what), "no {what}: {counts:?}");
    }
}

/// Rules of this store that its servers' true answers never need, and what is heard without each.
#[cfg(feature = "sabotage")]
mod sabotage {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Seeds that are tried until the missing rule shows; the first is one that did.
    const SEEDS_MAX: u64 = 60;

    fn is_noticed(rule: &'static str, first: u64, heard: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let Some(options) = runtime.block_on(options(BUCKET)) else {
            return;
        };
        let broken = catch_unwind(AssertUnwindSafe(|| {
            stonechat_host::without(rule, || {
                runtime.block_on(Box::pin(play(&options, first..first + SEEDS_MAX)))
            })
        }));
        let said = broken.expect_err("it is missed");
        let said = said.downcast_ref::<String>().expect("words");
        assert!(said.contains(heard), "{said}");
    }

    #[test]
    fn t8_passing_over_a_hole_is_noticed() {
        is_noticed("a_hole_is_read_again", 3, "is missing below the head");
    }

    #[test]
    fn i2_trusting_a_quorum_read_of_a_full_bucket_is_noticed() {
        is_noticed("a_full_bucket_is_settled", 13, "I2");
    }
}
