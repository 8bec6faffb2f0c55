//! Receipts in any order, many times over, at any node: they converge, and nobody ever sees one go down (F10, I6).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stonechat_server::conversation::AppendRequest;
use stonechat_server::domain::Seq;
use tokio::task::JoinSet;

use super::dice::Dice;
use super::lane::say;
use super::setup::{Faults, PerMille, Setup};
use super::weather::Counts;
use super::world::{World, id};

/// Tasks that move markers at the same time.
const HANDS: u64 = 16;
/// How often an update comes a second time, some updates later.
const DOUBLED: PerMille = PerMille(200);
/// How often somebody looks.
const LOOKS: PerMille = PerMille(250);
/// Longest pause between two updates of one hand: simulated time passes while calls are under way.
const PAUSE_MAX: Duration = Duration::from_millis(2);

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct ReceiptsSetup {
    /// Everything follows from it.
    pub seed: u64,
    /// Updates, those that come twice not counted twice.
    pub updates: u64,
    /// Messages of each conversation.
    pub messages: u64,
    /// What goes wrong.
    pub faults: Faults,
}

/// What came of it.
#[derive(Debug)]
pub struct ReceiptsOutcome {
    /// Markers that went down, and what did not converge.
    pub wrong: Vec<String>,
    /// How often what happened.
    pub counts: Counts,
}

/// Markers of one user in one conversation: delivered, read by whoever asks for themself, read as the others see it.
type Marks = [u64; 3];

#[derive(Default)]
struct Ledger {
    /// The highest asked for.
    asked: BTreeMap<(usize, usize), Marks>,
    /// The highest seen by anybody.
    seen: BTreeMap<(usize, usize), Marks>,
    wrong: Vec<String>,
    counts: Counts,
}

fn raise(marks: &mut Marks, by: Marks) {
    for (mark, by) in marks.iter_mut().zip(by) {
        *mark = by.max(*mark);
    }
}

/// Moves markers about and looks at them all the while.
///
/// # Panics
/// The simulation itself fails.
#[must_use]
pub fn shuffle_receipts(setup: ReceiptsSetup) -> ReceiptsOutcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(shuffle(setup))
}

async fn shuffle(setup: ReceiptsSetup) -> ReceiptsOutcome {
    let people = Setup {
        people: 6,
        guests: 0,
        ..Setup::new(setup.seed, setup.faults)
    };
    let world = Arc::new(World::build(people, |log| log).await);
    for room in 0..world.rooms.len() {
        fill(&world, room, setup.messages).await;
    }
    world.weather.set(setup.faults);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut hands = JoinSet::new();
    for hand in 0..HANDS {
        let mover = Mover {
            world: Arc::clone(&world),
            ledger: Arc::clone(&ledger),
            dice: Dice::new(setup.seed, 100 + hand),
            newest: setup.messages + 1,
        };
        hands.spawn(mover.run(setup.updates / HANDS));
    }
    while hands.join_next().await.is_some() {}
    world.heal().await;
    let last = Mover {
        world: Arc::clone(&world),
        ledger: Arc::clone(&ledger),
        dice: Dice::new(setup.seed, 99),
        newest: setup.messages + 1,
    };
    last.check_converged().await;
    let ledger = std::mem::take(&mut *ledger.lock().unwrap_or_else(PoisonError::into_inner));
    let mut counts = ledger.counts;
    counts.merge(&world.weather.counts());
    ReceiptsOutcome {
        wrong: ledger.wrong,
        counts,
    }
}

async fn fill(world: &World, room: usize, messages: u64) {
    let node = world.any_node().unwrap_or_else(|| panic!("no node runs"));
    for number in 0..messages {
        let request = AppendRequest {
            conversation: world.rooms[room].id,
            client_msg_id: id(&format!("m{number}")),
            previous: None,
            known_head: Seq::ZERO,
            change: say(format!("{number}")),
            origin_time: None,
        };
        let sent = node.rules.append(&world.people[0].caller(), request).await;
        sent.unwrap_or_else(|refusal| panic!("{refusal}"));
    }
}

/// One update: an ack of a delivery, a read, or a read that the others do not see.
#[derive(Clone, Copy)]
struct Update {
    person: usize,
    room: usize,
    seq: u64,
    kind: u64,
}

impl Update {
    fn marks(self) -> Marks {
        match self.kind {
            0 => [self.seq, 0, 0],
            1 => [self.seq, self.seq, self.seq],
            _ => [self.seq, self.seq, 0],
        }
    }
}

struct Mover {
    world: Arc<World>,
    ledger: Arc<Mutex<Ledger>>,
    dice: Dice,
    newest: u64,
}

impl Mover {
    async fn run(self, updates: u64) {
        let mut later: Vec<Update> = Vec::new();
        for _ in 0..updates {
            let update = self.draw();
            self.apply(update).await;
            if self.dice.chance(DOUBLED) {
                later.push(update);
            }
            if later.len() > 8 {
                let again = later.swap_remove(self.dice.index(later.len()));
                self.count("updates again");
                self.apply(again).await;
            }
            if self.dice.chance(LOOKS) {
                self.look(update.person, update.room).await;
            }
            tokio::time::sleep(self.dice.millis(PAUSE_MAX)).await;
        }
    }

    fn draw(&self) -> Update {
        Update {
            person: self.dice.index(self.world.people.len()),
            room: self.dice.index(self.world.rooms.len()),
            seq: 1 + self.dice.below(self.newest),
            kind: self.dice.below(3),
        }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, name: &'static str) {
        self.ledger().counts.add(name, 1);
    }

    /// Until it is done: raising again is harmless.
    async fn apply(&self, update: Update) {
        let person = (update.person, update.room);
        raise(self.ledger().asked.entry(person).or_default(), update.marks());
        self.count("updates");
        loop {
            let Some(node) = self.world.any_node() else { continue };
            let (of, room) = (&self.world.people[update.person], self.world.rooms[update.room].id);
            let done = match update.kind {
                0 => {
                    let stored = node.rules.acknowledge(&of.caller(), &[(room, Seq(update.seq))]).await;
                    stored.into_iter().collect()
                }
                kind => {
                    let marked = node
                        .rules
                        .mark_read(&of.caller(), room, Seq(update.seq), kind == 2)
                        .await;
                    marked.map(|_| ())
                }
            };
            match done {
                Ok(()) => return,
                Err(_) => self.count("updates that failed"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What anybody sees now is at least what somebody had seen before.
    async fn look(&self, person: usize, room: usize) -> Option<Marks> {
        let before = self.ledger().seen.get(&(person, room)).copied().unwrap_or_default();
        let now = self.read(person, room).await?;
        let mut ledger = self.ledger();
        ledger.counts.add("looks", 1);
        if now.iter().zip(before).any(|(now, before)| *now < before) {
            ledger
                .wrong
                .push(format!("markers of {person} in {room} are {now:?} after {before:?}"));
        }
        if now[1] > now[0] || now[2] > now[1] {
            ledger.wrong.push(format!("markers of {person} in {room} are {now:?}"));
        }
        raise(ledger.seen.entry((person, room)).or_default(), now);
        Some(now)
    }

    async fn read(&self, person: usize, room: usize) -> Option<Marks> {
        let node = self.world.any_node()?;
        let (of, id) = (&self.world.people[person], self.world.rooms[room].id);
        let others = &self.world.people[(person + 1) % self.world.people.len()];
        let receipts = node.rules.receipts(&others.caller(), id, Seq(1), true).await.ok()?;
        // Read second: what the user sees of themself is never behind what the others see.
        let own = node.rules.summary(&of.user, None, id).await.ok()??.markers;
        // The sender of the entry asked about is not in its receipts.
        let public = receipts.members.iter().find(|member| member.user == of.user);
        Some([own.delivered.0, own.read.0, public.map_or(0, |member| member.read.0)])
    }

    async fn check_converged(&self) {
        let asked = self.ledger().asked.clone();
        for ((person, room), mut wanted) in asked {
            let Some(found) = self.look(person, room).await else {
                self.ledger()
                    .wrong
                    .push(format!("markers of {person} in {room} cannot be read in peace"));
                continue;
            };
            if person == 0 {
                wanted[2] = 0;
            }
            if found != wanted {
                let what = format!("markers of {person} in {room} converged to {found:?}, not to {wanted:?}");
                self.ledger().wrong.push(what);
            }
            self.check_unread(person, room, wanted[1]).await;
        }
    }

    /// Exact: every message after the one read last, and none for who wrote them all.
    async fn check_unread(&self, person: usize, room: usize, read: u64) {
        let (of, id) = (&self.world.people[person], self.world.rooms[room].id);
        let Some(node) = self.world.any_node() else { return };
        let summary = node.rules.summary(&of.user, None, id).await.ok().flatten();
        let unread = summary.map(|summary| summary.markers.unread_count);
        let wanted = if person == 0 { 0 } else { self.newest - read.max(1) };
        if unread != Some(wanted) {
            let what = format!("{person} has {unread:?} unread in {room}, not {wanted}");
            self.ledger().wrong.push(what);
        }
    }
}
