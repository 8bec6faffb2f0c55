//! One run: everybody talks while things go wrong, then in peace; then the verdict.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use stonechat_server::domain::{Change, Seq};
use stonechat_server::storage::{MessageLog, PageLimit, StoredEntry};
use tokio::task::JoinSet;

use super::chaos::rage;
use super::lags;
use super::lane::{Lane, change_member, say};
use super::panics;
use super::people::Room;
use super::reader::follow;
use super::recorder::final_entry;
use super::setup::Setup;
use super::weather::Counts;
use super::world::{GUEST, World, Wrap};
use crate::checker::{BodyHash, Bounds, Check, Device, FinalLog, History, MessageKey, User, Verdict, What, check};

/// Simulated time in which the healthy system must settle everything.
const LIVENESS: Duration = Duration::from_secs(120);
/// Silence at the end: longer than the latest copy of a request takes, and then as long as the promise allows.
const SILENCE: Duration = Duration::from_secs(40);

/// What a run ended with.
pub struct Outcome {
    /// The checker's verdict.
    pub verdict: Verdict,
    /// How often what happened.
    pub counts: Counts,
    /// Everything was settled within the liveness phase.
    pub drained: bool,
    /// Panics of the server's tasks.
    pub panics: u64,
    /// Acks that came while things went wrong.
    pub acks_in_safety: u64,
    /// Simulated time it took.
    pub simulated: Duration,
    /// Letters of one device that lie in another order than they were written in (I4).
    pub disordered: Vec<String>,
    /// Answers that said "certainly not done" of what was stored (C9).
    pub lies: Vec<String>,
    history: History,
    seed: u64,
}

impl Outcome {
    /// Hash of every event with its simulated time: equal for equal seeds (F20).
    #[must_use]
    pub fn hash(&self) -> BodyHash {
        let mut lines = Vec::new();
        let written = self.history.write_lines(&mut lines);
        assert!(written.is_ok(), "a vector takes everything");
        BodyHash::of(&lines)
    }

    /// What is wrong with the run, in words; `None` when nothing is.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        if self.panics > 0 {
            return Some(format!("{} panics of the server", self.panics));
        }
        if !self.drained {
            return Some(format!("not settled within {LIVENESS:?} of peace; {}", self.counts));
        }
        if let Some(first) = self.disordered.first() {
            return Some(format!("out of order: {first}"));
        }
        if let Some(first) = self.lies.first() {
            return Some(format!("C9: {first}"));
        }
        (!self.verdict.is_clean()).then(|| format!("the history is wrong:\n{}", self.verdict))
    }

    /// Fails the test unless the run is clean and each of `needed` had something to look at.
    ///
    /// # Panics
    /// It is not; the message says how to play the run again.
    pub fn assert_clean(&self, needed: &[Check]) {
        if let Some(wrong) = self.wrong() {
            let (seed, thread) = (self.seed, std::thread::current());
            let test = thread.name().unwrap_or_default();
            panic!(
                "seed {seed}: {wrong}\nplay it again:\n    \
                 STONECHAT_SEED={seed} cargo test -p stonechat-tests --test simulation {test} -- --nocapture"
            );
        }
        self.verdict.assert_clean(needed);
    }

    /// How long after the ack of each conversation's newest entry each user had it; shortest first.
    #[must_use]
    pub fn tail_lags(&self) -> Vec<Duration> {
        lags::of_tails(&self.history)
    }
}

/// Plays one run.
///
/// # Panics
/// The simulation itself fails.
#[must_use]
pub fn run(setup: Setup) -> Outcome {
    run_on(setup, |log| log)
}

/// Plays one run on a log that `wrap` puts in front of the right one.
///
/// # Panics
/// The simulation itself fails.
#[must_use]
pub fn run_on(setup: Setup, wrap: Wrap) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let panics = panics::seen();
    let mut outcome = runtime.block_on(play(setup, wrap));
    outcome.panics = panics::seen() - panics;
    outcome
}

async fn play(setup: Setup, wrap: Wrap) -> Outcome {
    let world = Arc::new(World::build(setup, wrap).await);
    world.weather.set(setup.faults);
    let mut lanes = JoinSet::new();
    for (number, person) in world.people.iter().enumerate() {
        for room in 0..world.rooms.len() {
            let script = script(&setup, &world, number);
            lanes.spawn(Lane::new(Arc::clone(&world), Arc::clone(person), room, script).run());
        }
    }
    let mut readers = JoinSet::new();
    for person in &world.people {
        readers.spawn(follow(Arc::clone(&world), Arc::clone(person)));
    }
    let chaos = tokio::spawn(rage(Arc::clone(&world)));
    tokio::time::sleep(setup.safety).await;
    chaos.abort();
    let acks_in_safety = world.weather.counts().of("acks");
    world.heal().await;
    let drained = tokio::time::timeout(LIVENESS, async { while lanes.join_next().await.is_some() {} }).await;
    tokio::time::sleep(SILENCE).await;
    let mut outcome = judge(&world, drained.is_ok()).await;
    outcome.acks_in_safety = acks_in_safety;
    outcome
}

/// What a device says in each conversation: messages, and for the owner changes of guests among them.
fn script(setup: &Setup, world: &World, number: usize) -> VecDeque<Change> {
    let is_guest = number >= setup.people;
    let messages = if is_guest { setup.messages / 2 } else { setup.messages };
    let mut script: VecDeque<Change> = (0..messages)
        .map(|said| say(format!("p{number} says {said}")))
        .collect();
    if number == 0 && setup.guests > 0 {
        let mut member = vec![false; setup.guests];
        let step = (script.len() / setup.changes.max(1)).max(1);
        for change in 0..setup.changes {
            let guest = world.dice.index(setup.guests);
            member[guest] = !member[guest];
            let user = &world.people[setup.people + guest].user;
            let at = (change * (step + 1)).min(script.len());
            script.insert(at, change_member(user, member[guest]));
        }
    }
    script
}

async fn judge(world: &World, drained: bool) -> Outcome {
    world.record(What::Ended);
    let (mut logs, mut disordered) = (Vec::new(), Vec::new());
    for room in &world.rooms {
        let entries = everything(&*world.cluster.truth.log, room).await;
        disordered.extend(times_that_go_back(&entries));
        logs.push(final_log(room, &entries));
    }
    disordered.extend(logs.iter().flat_map(letters_out_of_order));
    let history = world.recorder.take();
    let mut counts = world.weather.counts();
    counts.add("entries", logs.iter().map(|log| log.entries.len() as u64).sum());
    Outcome {
        verdict: check(&history, &logs, &Bounds::default()),
        counts,
        drained,
        panics: 0,
        acks_in_safety: 0,
        disordered,
        lies: world.cluster.truth.honesty.take_lies(),
        simulated: Duration::from_micros(world.recorder.now().0),
        history,
        seed: world.setup.seed,
    }
}

/// A device numbers its letters, and each names the one before it: so they lie, whatever was refused or lost between.
/// Not those of guests: one that is refused is given up, though an earlier try may still come true.
fn letters_out_of_order(log: &FinalLog) -> Vec<String> {
    let mut newest: BTreeMap<(&User, &Device), u64> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in &log.entries {
        let Some(number) = letter_number(&entry.key) else {
            continue;
        };
        let before = newest.insert((&entry.key.user, &entry.key.device), number).unwrap_or(0);
        if number <= before {
            found.push(format!("{} lies behind letter {before}", entry.key));
        }
    }
    found
}

/// Server time never decreases within a conversation, whatever the nodes' clocks do.
fn times_that_go_back(entries: &[Arc<StoredEntry>]) -> Vec<String> {
    let pairs = entries.windows(2);
    let back = pairs.filter(|pair| pair[1].entry.time < pair[0].entry.time);
    back.map(|pair| format!("time goes back at {}/{}", pair[1].entry.conversation, pair[1].entry.seq))
        .collect()
}

fn letter_number(key: &MessageKey) -> Option<u64> {
    if key.user.0.starts_with(GUEST) {
        return None;
    }
    key.id.0.strip_prefix('r')?.split_once('-')?.1.parse().ok()
}

async fn everything(log: &dyn MessageLog, room: &Room) -> Vec<Arc<StoredEntry>> {
    let all = PageLimit {
        entries: usize::MAX,
        bytes: usize::MAX,
    };
    let read = log.read(room.id, Seq(1), Seq(u64::MAX >> 1), all).await;
    read.unwrap_or_else(|error| panic!("the log cannot be read: {error}"))
}

fn final_log(room: &Room, entries: &[Arc<StoredEntry>]) -> FinalLog {
    FinalLog {
        conversation: room.name.clone(),
        entries: entries
            .iter()
            .map(|stored| final_entry(&room.name, &stored.entry))
            .collect(),
    }
}
