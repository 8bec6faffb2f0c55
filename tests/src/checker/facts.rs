//! One pass over a history: what every group of checks looks things up in.

use std::collections::BTreeMap;

use super::history::{
    BodyHash, Conversation, Device, Event, History, MessageKey, Moment, OpId, Seq, SessionRef, Sighting, Start, User,
    What,
};
use super::log::{FinalEntry, FinalLog, Stays};

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Acked(Moment, Seq),
    Failed,
    /// Unknown.
    Open,
    /// Nothing was heard of it.
    Unanswered,
}

/// One try of an append.
#[derive(Debug)]
pub(super) struct Op<'a> {
    pub(super) key: &'a MessageKey,
    pub(super) body: BodyHash,
    pub(super) lane: &'a str,
    pub(super) invoked: Moment,
    pub(super) outcome: Outcome,
    /// The stream it left on, and whether it named its predecessor.
    pub(super) line: Option<(SessionRef, bool)>,
    /// Its refusal asked for another try.
    pub(super) held: bool,
}

/// A log with its indexes.
#[derive(Debug)]
pub(super) struct LogFacts<'a> {
    pub(super) log: &'a FinalLog,
    pub(super) by_seq: BTreeMap<Seq, &'a FinalEntry>,
    pub(super) places: BTreeMap<&'a MessageKey, Vec<Seq>>,
    pub(super) stays: Stays,
    pub(super) head: Seq,
    /// When an append to it was last tried or answered.
    pub(super) last_activity: Moment,
}

/// One stream of a device.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) user: &'a User,
    pub(super) start: &'a Start,
    pub(super) opened: Moment,
    pub(super) closed: Option<(Moment, bool)>,
    pub(super) paused: bool,
    /// What the device had acknowledged, or said it has, when the stream opened, or acknowledged on an older one since.
    pub(super) positions: BTreeMap<&'a Conversation, Seq>,
    /// In order of arrival.
    pub(super) deliveries: BTreeMap<&'a Conversation, Vec<&'a Sighting>>,
    /// Signs of life, ascending.
    pub(super) signs: Vec<Moment>,
}

type Owner<'a> = (&'a User, &'a Device);

type Positions<'a> = BTreeMap<Owner<'a>, BTreeMap<&'a Conversation, Seq>>;

/// Streams by whose they are.
#[derive(Default)]
struct Streams<'a> {
    owners: BTreeMap<SessionRef, Owner<'a>>,
    open: BTreeMap<Owner<'a>, Vec<SessionRef>>,
}

/// Everything the checks look up.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// By time; what happened at the same time stays as written.
    pub(super) events: Vec<&'a Event>,
    pub(super) ops: BTreeMap<OpId, Op<'a>>,
    pub(super) logs: BTreeMap<&'a Conversation, LogFacts<'a>>,
    pub(super) sessions: BTreeMap<SessionRef, Session<'a>>,
    pub(super) end: Moment,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(history: &'a History, logs: &'a [FinalLog]) -> Self {
        let mut events: Vec<&Event> = history.events.iter().collect();
        events.sort_by_key(|event| event.at);
        let mut facts = Self {
            end: events.last().map(|event| event.at).unwrap_or_default(),
            ops: BTreeMap::new(),
            logs: logs.iter().map(|log| (&log.conversation, LogFacts::of(log))).collect(),
            sessions: BTreeMap::new(),
            events: Vec::new(),
        };
        let mut positions = Positions::new();
        let mut streams = Streams::default();
        for event in &events {
            facts.take_send(event);
            facts.take_session(event, &mut positions, &mut streams);
        }
        facts.events = events;
        facts
    }

    fn take_send(&mut self, event: &'a Event) {
        let (op, outcome) = match &event.what {
            What::SendInvoked { op, key, lane, body } => return self.invoke(*op, key, lane, *body, event.at),
            What::SendInLine { op, session, named } => {
                return self.change_op(*op, |known| known.line = Some((*session, *named)));
            }
            What::SendHeld { op } => return self.change_op(*op, |known| known.held = true),
            What::SendAcked { op, seq } => (op, Outcome::Acked(event.at, *seq)),
            What::SendFailed { op } => (op, Outcome::Failed),
            What::SendUnknown { op } => (op, Outcome::Open),
            What::MembershipAcked { conversation, .. } => return self.touch(conversation, event.at),
            _ => return,
        };
        if let Some(known) = self.ops.get_mut(op) {
            known.outcome = outcome;
            let conversation = &known.key.conversation;
            self.touch(conversation, event.at);
        }
    }

    fn invoke(&mut self, op: OpId, key: &'a MessageKey, lane: &'a str, body: BodyHash, at: Moment) {
        let started = Op {
            key,
            body,
            lane,
            invoked: at,
            outcome: Outcome::Unanswered,
            line: None,
            held: false,
        };
        self.ops.insert(op, started);
        self.touch(&key.conversation, at);
    }

    fn change_op(&mut self, op: OpId, apply: impl FnOnce(&mut Op<'a>)) {
        if let Some(known) = self.ops.get_mut(&op) {
            apply(known);
        }
    }

    fn touch(&mut self, conversation: &Conversation, at: Moment) {
        if let Some(log) = self.logs.get_mut(conversation) {
            log.last_activity = log.last_activity.max(at);
        }
    }

    fn take_session(&mut self, event: &'a Event, positions: &mut Positions<'a>, streams: &mut Streams<'a>) {
        match &event.what {
            What::SessionOpened {
                session,
                user,
                device,
                start,
            } => {
                streams.owners.insert(*session, (user, device));
                streams.open.entry((user, device)).or_default().push(*session);
                let known = positions.entry((user, device)).or_default();
                restart(known, start);
                self.sessions
                    .insert(*session, Session::new(user, start, event.at, known.clone()));
            }
            What::DeliveryAcked {
                session,
                conversation,
                seq,
            } => {
                self.sign(*session, event.at);
                if let Some(owner) = streams.owners.get(session) {
                    raise(positions.entry(*owner).or_default(), conversation, *seq);
                    // What came by the stream that a newer one replaces need not come by that, too.
                    let open = streams.open.get(owner).into_iter().flatten();
                    for newer in open.skip_while(|open| *open != session).skip(1) {
                        self.change(*newer, |newer| raise(&mut newer.positions, conversation, *seq));
                    }
                }
            }
            What::MarkInvoked {
                user,
                device: Some(device),
                conversation,
                seq,
            } => raise(positions.entry((user, device)).or_default(), conversation, *seq),
            What::Delivered { session, entry } => self.deliver(*session, entry),
            What::Heartbeat { session } => self.sign(*session, event.at),
            What::SessionClosed { session, bye } => {
                if let Some(open) = streams
                    .owners
                    .get(session)
                    .and_then(|owner| streams.open.get_mut(owner))
                {
                    open.retain(|open| open != session);
                }
                self.change(*session, |known| known.closed = Some((event.at, *bye)));
            }
            What::ReaderPaused { session } => self.change(*session, |known| known.paused = true),
            What::ReaderResumed { session } => self.change(*session, |known| known.paused = false),
            _ => {}
        }
    }

    fn deliver(&mut self, session: SessionRef, entry: &'a Sighting) {
        self.change(session, |known| {
            known.deliveries.entry(&entry.key.conversation).or_default().push(entry);
        });
    }

    fn sign(&mut self, session: SessionRef, at: Moment) {
        self.change(session, |known| known.signs.push(at));
    }

    fn change(&mut self, session: SessionRef, apply: impl FnOnce(&mut Session<'a>)) {
        if let Some(known) = self.sessions.get_mut(&session) {
            apply(known);
        }
    }
}

fn restart<'a>(known: &mut BTreeMap<&'a Conversation, Seq>, start: &'a Start) {
    if start.forget {
        known.clear();
    }
    for (conversation, seq) in &start.positions {
        known.insert(conversation, *seq);
    }
}

fn raise<'a>(known: &mut BTreeMap<&'a Conversation, Seq>, conversation: &'a Conversation, seq: Seq) {
    let position = known.entry(conversation).or_default();
    *position = seq.max(*position);
}

impl<'a> Session<'a> {
    fn new(user: &'a User, start: &'a Start, opened: Moment, positions: BTreeMap<&'a Conversation, Seq>) -> Self {
        Self {
            user,
            start,
            opened,
            closed: None,
            paused: false,
            positions,
            deliveries: BTreeMap::new(),
            signs: vec![opened],
        }
    }
}

impl<'a> LogFacts<'a> {
    fn of(log: &'a FinalLog) -> Self {
        let mut places: BTreeMap<&MessageKey, Vec<Seq>> = BTreeMap::new();
        for entry in &log.entries {
            places.entry(&entry.key).or_default().push(entry.seq);
        }
        Self {
            log,
            by_seq: log.entries.iter().map(|entry| (entry.seq, entry)).collect(),
            places,
            stays: Stays::of(log),
            head: log.entries.iter().map(|entry| entry.seq).max().unwrap_or_default(),
            last_activity: Moment::default(),
        }
    }
}

/// Highest value seen up to each moment; built in order of time.
#[derive(Debug, Default)]
pub(super) struct Highest(Vec<(Moment, Seq)>);

impl Highest {
    pub(super) fn add(&mut self, at: Moment, seq: Seq) {
        let highest = self.0.last().map_or(seq, |(_, last)| seq.max(*last));
        self.0.push((at, highest));
    }

    /// The highest seen strictly before `at`; 0 for none.
    pub(super) fn before(&self, at: Moment) -> Seq {
        self.upto(self.0.partition_point(|(seen, _)| *seen < at))
    }

    /// The highest seen at or before `at`; 0 for none.
    pub(super) fn by(&self, at: Moment) -> Seq {
        self.upto(self.0.partition_point(|(seen, _)| *seen <= at))
    }

    fn upto(&self, count: usize) -> Seq {
        let last = count.checked_sub(1).and_then(|index| self.0.get(index));
        last.map_or(Seq(0), |(_, highest)| *highest)
    }
}
