//! One state of the model, and every step that can follow it.

use std::sync::Arc;

use futures_util::FutureExt;

use super::super::bed::{caller, id, text, user};
use super::table::{Instant, Rules, Table};
use crate::bus::embedded::EmbeddedBus;
use crate::conversation::sequencer::{Append, Verdict, doubted, payload_of, plan};
use crate::conversation::state::{State, append_refusal};
use crate::conversation::{AppendRequest, Backends, Limits};
use crate::domain::{
    Body, Change, ConversationId, CorrelationId, Effect, Entry, Epoch, Kind, Member, Ordinal, Refusal, Role, Roster,
    Seq, UnixMillis,
};
use crate::storage::memory::MemoryStore;
use crate::storage::memory::directory::MemoryDirectory;
use crate::storage::{AppendBatch, AppendError, Head, PendingAppend};

pub(super) const HERE: ConversationId = ConversationId([1; 16]);

/// What may happen at most in one history: the scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) nodes: usize,
    /// Who sends what, in order; `true` for a removal of bob.
    pub(super) letters: &'static [(&'static str, &'static str, bool)],
    pub(super) tries: u8,
    pub(super) unknowns: u8,
    pub(super) crashes: u8,
}

/// What becomes of an append.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Told,
    /// Done, and nobody knows.
    Untold,
    /// Not done, and nobody knows.
    Lost,
    /// Some later time, if the conditions hold then; nobody knows.
    Late,
    /// Done, then tried again by the driver, which hears that somebody was faster.
    DoneTwice,
    /// Not done, and said so.
    Refused,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A device sends a letter to a node, for the first time or again.
    Send(usize, usize),
    Plan(usize),
    Append(usize, Fate),
    Reload(usize),
    /// The node takes the head from the answer that told it of the conflict, and keeps its members.
    TakeHint(usize),
    GiveUp(usize),
    Crash(usize),
    /// What hung in the air arrives.
    Land(usize),
}

/// A request at a node.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) letter: usize,
    pub(super) unsure: bool,
    /// Its id had its place when it came.
    pub(super) was_stored: bool,
}

#[derive(Clone)]
pub(super) enum Said {
    Index(usize),
    Answer(Result<Seq, Refusal>),
}

/// A batch on its way to the log.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) batch: AppendBatch,
    pub(super) after: State,
    pub(super) said: Vec<Said>,
}

#[derive(Clone)]
pub(super) enum Phase {
    Ready,
    Flying(Box<Flight>),
    /// It lost, or does not know, or has just started; what it would have said.
    Behind(Vec<Said>),
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) state: State,
    pub(super) waiting: Vec<Waiting>,
    pub(super) phase: Phase,
}

/// A message, as its device sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Letter {
    pub(super) tries: u8,
    pub(super) denied: u8,
    pub(super) acked: Option<Seq>,
    /// The newest seq acknowledged to anybody before it was first sent.
    pub(super) above: Seq,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) scope: Scope,
    pub(super) table: Table,
    pub(super) air: Vec<AppendBatch>,
    pub(super) nodes: Vec<Node>,
    pub(super) letters: Vec<Letter>,
    pub(super) unknowns: u8,
    pub(super) crashes: u8,
}

/// What the planner stands on at one instant.
fn backends(table: &Table, others: &Backends) -> Backends {
    Backends {
        log: Arc::new(Instant(table.clone())),
        ..others.clone()
    }
}

/// Stores that no step touches.
pub(super) fn untouched() -> Backends {
    let store = Arc::new(MemoryStore::new(&stonechat_host::Host::system()));
    Backends {
        log: Arc::clone(&store) as Arc<_>,
        markers: store,
        directory: Arc::new(MemoryDirectory::default()),
        bus: Arc::new(EmbeddedBus::default()),
    }
}

/// The conversation's first entry, as it lies in the log before anything happens.
fn first() -> AppendBatch {
    let member = |name: &str, role| Member { user: user(name), role };
    let entry = Entry {
        conversation: HERE,
        seq: Seq(1),
        time: UnixMillis(0),
        ordinal: Ordinal::ZERO,
        sender: caller("alice").sender(),
        client_msg_id: id("create"),
        correlation: CorrelationId::default(),
        origin_time: None,
        body: Body::Created {
            kind: Kind::Group,
            name: "group".to_owned(),
            members: vec![member("alice", Role::Owner), member("bob", Role::Member)],
        },
    };
    let payload = [0; 32];
    AppendBatch {
        conversation: HERE,
        expected: Head::default(),
        head: Head {
            seq: Seq(1),
            ordinal: Ordinal::ZERO,
            epoch: Epoch::ZERO.next(),
            time: UnixMillis(0),
            floor: Seq(1),
        },
        entries: vec![PendingAppend { entry, payload }],
    }
}

/// The conversation as the log says.
fn loaded(table: &Table) -> State {
    let mut state = State {
        id: HERE,
        kind: Kind::Group,
        name: "group".to_owned(),
        created: UnixMillis(0),
        head: table.head,
        roster: Arc::new(Roster::default()),
        pins: Arc::default(),
        blocked: false,
    };
    table.entries.values().for_each(|stored| state.apply(&stored.entry));
    state
}

impl World {
    pub(super) fn start(scope: Scope, rules: Rules) -> Self {
        let mut table = Table::new(rules);
        table.append(&first()).unwrap();
        let node = Node {
            state: loaded(&table),
            waiting: Vec::new(),
            phase: Phase::Ready,
        };
        Self {
            scope,
            table,
            air: Vec::new(),
            nodes: vec![node; scope.nodes],
            letters: vec![Letter::default(); scope.letters.len()],
            unknowns: 0,
            crashes: 0,
        }
    }

    fn request(&self, letter: usize) -> AppendRequest {
        let (sender, msg_id, removes) = self.scope.letters[letter];
        let before = self.scope.letters[..letter].iter().rev();
        let previous = before.clone().find(|(by, ..)| *by == sender);
        AppendRequest {
            conversation: HERE,
            client_msg_id: id(msg_id),
            previous: previous.map(|(_, msg_id, _)| id(msg_id)),
            known_head: Seq::ZERO,
            change: if removes {
                Change::RemoveMember(user("bob"))
            } else {
                text(msg_id)
            },
            origin_time: None,
        }
    }

    fn place_of(&self, letter: usize) -> Option<Seq> {
        let (sender, msg_id, _) = self.scope.letters[letter];
        self.table.place_of(&caller(sender).sender(), &id(msg_id))
    }

    /// Every step that can come next.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = (0..self.air.len()).map(Step::Land).collect();
        let may_be_unknown = self.unknowns < self.scope.unknowns;
        for (number, node) in self.nodes.iter().enumerate() {
            match &node.phase {
                Phase::Ready if node.waiting.is_empty() => {}
                Phase::Ready => steps.push(Step::Plan(number)),
                Phase::Flying(_) => {
                    steps.push(Step::Append(number, Fate::Told));
                    let troubles = [Fate::Untold, Fate::Lost, Fate::Late, Fate::DoneTwice, Fate::Refused];
                    let troubles = troubles.into_iter().filter(|_| may_be_unknown);
                    steps.extend(troubles.map(|fate| Step::Append(number, fate)));
                }
                Phase::Behind(_) => {
                    steps.extend([Step::Reload(number), Step::TakeHint(number)]);
                    if !node.waiting.is_empty() {
                        steps.push(Step::GiveUp(number));
                    }
                }
            }
            let is_busy = !node.waiting.is_empty();
            if is_busy && self.crashes < self.scope.crashes {
                steps.push(Step::Crash(number));
            }
        }
        for letter in 0..self.letters.len() {
            let nodes = 0..self.nodes.len();
            steps.extend(
                nodes
                    .filter(|_| self.may_send(letter))
                    .map(|node| Step::Send(letter, node)),
            );
        }
        steps
    }

    /// A device sends in order, pipelined; it sends again when it lost its patience or was refused.
    fn may_send(&self, letter: usize) -> bool {
        let of = &self.letters[letter];
        let sender = self.scope.letters[letter].0;
        let before = self.scope.letters[..letter].iter().rposition(|(by, ..)| *by == sender);
        let in_order = before.is_none_or(|before| self.letters[before].tries > 0);
        of.acked.is_none() && of.tries < self.scope.tries && in_order
    }

    /// Takes a step; says what promise it broke.
    pub(super) fn take(&mut self, step: Step, others: &Backends) -> Result<(), String> {
        match step {
            Step::Send(letter, node) => self.send(letter, node),
            Step::Plan(node) => self.plan(node, others)?,
            Step::Append(node, fate) => self.append(node, fate)?,
            Step::Reload(node) => {
                self.nodes[node].state = loaded(&self.table);
                self.nodes[node].phase = Phase::Ready;
            }
            Step::TakeHint(node) => {
                let state = &mut self.nodes[node].state;
                let epoch = state.head.epoch;
                state.head = Head {
                    epoch,
                    ..self.table.head
                };
                self.nodes[node].phase = Phase::Ready;
            }
            Step::GiveUp(node) => self.give_up(node)?,
            Step::Crash(node) => {
                self.crashes += 1;
                self.nodes[node].waiting.clear();
                self.nodes[node].phase = Phase::Behind(Vec::new());
            }
            Step::Land(index) => {
                let batch = self.air.remove(index);
                self.write(&batch).map(drop)?;
            }
        }
        self.check()
    }

    fn send(&mut self, letter: usize, node: usize) {
        if self.letters[letter].tries == 0 {
            let acked = self.letters.iter().filter_map(|letter| letter.acked);
            self.letters[letter].above = acked.max().unwrap_or_default();
        }
        self.letters[letter].tries += 1;
        let was_stored = self.place_of(letter).is_some();
        self.nodes[node].waiting.push(Waiting {
            letter,
            unsure: false,
            was_stored,
        });
    }

    fn asked(&self, waiting: &Waiting) -> Append {
        let request = self.request(waiting.letter);
        let (payload, bytes) = payload_of(&request);
        Append {
            caller: caller(self.scope.letters[waiting.letter].0),
            payload,
            bytes,
            request,
            unsure: waiting.unsure,
            // Nobody listens: what the planner says is taken from its plan.
            reply: tokio::sync::oneshot::channel().0,
            room: None,
        }
    }

    fn plan(&mut self, number: usize, others: &Backends) -> Result<(), String> {
        let node = &self.nodes[number];
        let asked: Vec<Append> = node.waiting.iter().map(|waiting| self.asked(waiting)).collect();
        let now = backends(&self.table, others);
        let limits = Limits::default();
        let planned = plan(&now, &node.state, &limits, UnixMillis(0), asked.iter());
        let plan = planned.now_or_never().ok_or("an instant answers at once")?;
        let is_behind = plan.is_behind(node.state.head.seq);
        let batch = plan.batch();
        let said = plan.verdicts.into_iter().map(|verdict| match verdict {
            Verdict::Planned { index, .. } => Said::Index(index),
            Verdict::Settled(answer) => Said::Answer(answer.map(|appended| appended.seq)),
        });
        let said: Vec<Said> = said.collect();
        match batch {
            _ if is_behind => self.lost(number, said, &AppendError::Conflict),
            None => return self.answer(number, said, None, None),
            Some(batch) => {
                let after = plan.after;
                let flight = Flight { batch, after, said };
                self.nodes[number].phase = Phase::Flying(Box::new(flight));
            }
        }
        Ok(())
    }

    /// The append at the log, at one instant.
    fn append(&mut self, number: usize, fate: Fate) -> Result<(), String> {
        let Phase::Flying(flight) = std::mem::replace(&mut self.nodes[number].phase, Phase::Ready) else {
            return Err("nothing flies".to_owned());
        };
        let unknown = AppendError::Unknown(String::new());
        let answer = match fate {
            Fate::Told => self.write(&flight.batch)?,
            Fate::Lost => Err(unknown),
            Fate::Untold => self.write(&flight.batch)?.and(Err(unknown)),
            Fate::DoneTwice => self.write(&flight.batch)?.and(Err(AppendError::Conflict)),
            Fate::Refused => Err(AppendError::NotDone(String::new())),
            Fate::Late => {
                self.air.push(flight.batch.clone());
                Err(unknown)
            }
        };
        self.unknowns += u8::from(!matches!(fate, Fate::Told));
        match answer {
            Ok(()) => {
                self.nodes[number].state = flight.after;
                self.answer(number, flight.said, Some(&flight.batch), None)
            }
            Err(error @ AppendError::NotDone(_)) => {
                self.answer(number, flight.said, None, Some(&append_refusal(&error)))
            }
            Err(error) => {
                self.lost(number, flight.said, &error);
                Ok(())
            }
        }
    }

    /// What was written must not have been written before (I3).
    fn write(&mut self, batch: &AppendBatch) -> Result<Result<(), AppendError>, String> {
        let before = self.table.entries.clone();
        let answer = self.table.append(batch);
        let seqs = batch.entries.iter().map(|pending| pending.entry.seq);
        let over = answer.is_ok() && seqs.clone().any(|seq| before.contains_key(&seq));
        if over {
            return Err(format!("I3: {:?} were written over", seqs.collect::<Vec<_>>()));
        }
        Ok(answer)
    }

    fn lost(&mut self, number: usize, said: Vec<Said>, error: &AppendError) {
        let node = &mut self.nodes[number];
        let is_unknown = matches!(error, AppendError::Unknown(_));
        let tried = node.waiting.iter_mut().take(said.len());
        tried.for_each(|waiting| waiting.unsure |= is_unknown);
        node.phase = Phase::Behind(said);
    }

    /// As the actor does after too many tries, or when it cannot read what happened.
    fn give_up(&mut self, number: usize) -> Result<(), String> {
        let node = &mut self.nodes[number];
        let Phase::Behind(said) = std::mem::replace(&mut node.phase, Phase::Ready) else {
            return Ok(());
        };
        let head = node.state.head.seq;
        for (waiting, said) in node.waiting.iter_mut().zip(&said) {
            waiting.unsure |= matches!(said, Said::Answer(Ok(found)) if *found > head);
        }
        let refusal = append_refusal(&AppendError::Conflict);
        let said = said.into_iter().map(|said| match said {
            Said::Answer(Ok(found)) if found > head => Said::Index(0),
            said => said,
        });
        self.answer(number, said.collect(), None, Some(&refusal))?;
        self.nodes[number].phase = Phase::Behind(Vec::new());
        Ok(())
    }

    fn answer(
        &mut self,
        number: usize,
        said: Vec<Said>,
        batch: Option<&AppendBatch>,
        refusal: Option<&Refusal>,
    ) -> Result<(), String> {
        let node = &mut self.nodes[number];
        node.phase = Phase::Ready;
        let answered: Vec<Waiting> = node.waiting.drain(..said.len()).collect();
        for (waiting, said) in answered.into_iter().zip(said) {
            let answer = match (said, batch, refusal) {
                (Said::Answer(answer), ..) => answer,
                (Said::Index(index), Some(batch), _) => Ok(batch.entries[index].entry.seq),
                (Said::Index(_), None, Some(refusal)) => Err(refusal.clone()),
                (Said::Index(_), None, None) => return Err("a planned request without a batch".to_owned()),
            };
            let answer = if waiting.unsure {
                answer.map_err(doubted)
            } else {
                answer
            };
            self.hear(&waiting, answer)?;
        }
        Ok(())
    }

    fn hear(&mut self, waiting: &Waiting, answer: Result<Seq, Refusal>) -> Result<(), String> {
        let letter = &mut self.letters[waiting.letter];
        match answer {
            Ok(seq) if letter.acked.is_some_and(|acked| acked != seq) => Err(format!(
                "I2: letter {} was acknowledged at {:?} and {seq}",
                waiting.letter, letter.acked
            )),
            Ok(seq) => {
                letter.acked = Some(seq);
                Ok(())
            }
            Err(refusal) if refusal.effect == Effect::Unknown => Ok(()),
            Err(refusal) if waiting.was_stored => Err(format!(
                "C9: letter {} is stored and was refused as not done: {refusal}",
                waiting.letter
            )),
            Err(_) => {
                letter.denied += 1;
                Ok(())
            }
        }
    }
}
