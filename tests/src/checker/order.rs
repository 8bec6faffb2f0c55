//! C6, C7, C8: reads after acks, real time and each sender's order.

use std::collections::{BTreeMap, BTreeSet};

use super::Bounds;
use super::facts::{Facts, Highest, Op, Outcome};
use super::history::{Conversation, Device, MessageKey, Moment, OpId, Seq, SessionRef, User, What};
use super::presence::minus;
use super::verdict::{Check, Verdict};

/// Refused messages that a stream of the server remembers the places of.
const PLACES_KEPT_MAX: usize = 256;

pub(super) fn check(facts: &Facts<'_>, bounds: &Bounds, verdict: &mut Verdict) {
    let acked = acked_by_time(facts);
    reads_see_acks(facts, bounds, &acked, verdict);
    let sends = sends(facts);
    real_time(facts, &acked, &sends, verdict);
    let kept = kept_places(facts, verdict);
    sender_order(facts, &sends, &kept, verdict);
}

type Acked<'a> = BTreeMap<&'a Conversation, Highest>;

fn acked_by_time<'a>(facts: &Facts<'a>) -> Acked<'a> {
    let mut acks: Vec<(Moment, &Conversation, Seq)> = Vec::new();
    for op in facts.ops.values() {
        if let Outcome::Acked(at, seq) = op.outcome {
            acks.push((at, &op.key.conversation, seq));
        }
    }
    acks.sort();
    let mut acked = Acked::new();
    for (at, conversation, seq) in acks {
        acked.entry(conversation).or_default().add(at, seq);
    }
    acked
}

/// C6: a read that began after an ack came back sees a head at least there, as far as the reader may see.
fn reads_see_acks(facts: &Facts<'_>, bounds: &Bounds, acked: &Acked<'_>, verdict: &mut Verdict) {
    let lists_since = |invoked: Moment| minus(invoked, bounds.list_lag);
    for event in &facts.events {
        let What::HeadRead {
            user,
            conversation,
            invoked,
            head,
            listed,
        } = &event.what
        else {
            continue;
        };
        let highest = acked
            .get(conversation)
            .map(|acks| acks.before(if *listed { lists_since(*invoked) } else { *invoked }))
            .unwrap_or_default();
        let visible = match facts.logs.get(conversation) {
            Some(log) if !user.0.is_empty() => log.stays.newest_visible(user, highest),
            _ => highest,
        };
        verdict.expect(Check::C6, *head >= visible, || {
            format!("{user} read head {head} of {conversation} after {visible} had been acknowledged")
        });
    }
}

/// One message: its first try that was not refused.
struct Sent<'a> {
    op: OpId,
    invoked: Moment,
    lane: &'a str,
}

/// A refused try is no send: its sender may send others first and try it again later.
fn sends<'a>(facts: &Facts<'a>) -> BTreeMap<&'a MessageKey, Sent<'a>> {
    let mut sends: BTreeMap<&MessageKey, Sent<'_>> = BTreeMap::new();
    for (id, op) in &facts.ops {
        if op.outcome == Outcome::Failed {
            continue;
        }
        let this = sent(*id, op);
        match sends.get_mut(op.key) {
            Some(known) if (known.invoked, known.op) <= (this.invoked, this.op) => {}
            Some(known) => *known = this,
            None => drop(sends.insert(op.key, this)),
        }
    }
    sends
}

fn sent<'a>(op: OpId, of: &Op<'a>) -> Sent<'a> {
    Sent {
        op,
        invoked: of.invoked,
        lane: of.lane,
    }
}

fn place(facts: &Facts<'_>, key: &MessageKey) -> Option<Seq> {
    facts.logs.get(&key.conversation)?.places.get(key)?.first().copied()
}

/// C7: what was acknowledged before a send began lies before it.
fn real_time(facts: &Facts<'_>, acked: &Acked<'_>, sends: &BTreeMap<&MessageKey, Sent<'_>>, verdict: &mut Verdict) {
    for (key, sent) in sends {
        let (Some(seq), Some(acks)) = (place(facts, key), acked.get(&key.conversation)) else {
            continue;
        };
        let before = acks.before(sent.invoked);
        verdict.expect(Check::C7, seq > before, || {
            format!("{key} lies at {seq}, but {before} was acknowledged before it was sent")
        });
    }
}

type Lane<'a> = (&'a Conversation, &'a User, &'a Device, &'a str);

/// When a message was sent, where it lies, and which stream kept its place.
type Placed<'a> = (Moment, OpId, Seq, Option<&'a SessionRef>);

/// C8: what one device sent on one lane to one conversation lies in the order it was sent; but on a stream that kept places, those
/// count.
fn sender_order(facts: &Facts<'_>, sends: &BTreeMap<&MessageKey, Sent<'_>>, kept: &Kept<'_>, verdict: &mut Verdict) {
    let mut lanes: BTreeMap<Lane<'_>, Vec<Placed<'_>>> = BTreeMap::new();
    for (key, sent) in sends {
        if let Some(seq) = place(facts, key) {
            let lane = (&key.conversation, &key.user, &key.device, sent.lane);
            lanes
                .entry(lane)
                .or_default()
                .push((sent.invoked, sent.op, seq, kept.get(key)));
        }
    }
    for (lane, mut sent) in lanes {
        sent.sort_unstable();
        for pair in sent.windows(2) {
            let (earlier, later) = (pair[0].2, pair[1].2);
            if pair[0].3.is_some() && pair[0].3 == pair[1].3 {
                continue;
            }
            verdict.expect(Check::C8, earlier < later, || {
                format!("{lane:?} sent what lies at {earlier} before what lies at {later}")
            });
        }
    }
}

/// The tries of one message.
struct Tries<'a> {
    /// The one stream they all left on without naming a predecessor.
    line: Option<SessionRef>,
    first: (Moment, OpId),
    held: bool,
    /// Some were refused in a way that no second try mends: it has no place to keep.
    given_up: bool,
    key: &'a MessageKey,
}

/// Messages whose places one stream kept, and which.
type Kept<'a> = BTreeMap<&'a MessageKey, SessionRef>;

/// C8: a message keeps its place also when it was refused and sent again much later, as long as it stays on its stream
/// and nobody names predecessors there. Returns what that was found of.
fn kept_places<'a>(facts: &Facts<'a>, verdict: &mut Verdict) -> Kept<'a> {
    let mut kept = Kept::new();
    let named = |op: &&Op<'_>| op.line.is_some_and(|(_, named)| named);
    let own_order: BTreeSet<_> = facts.ops.values().filter(named).filter_map(line_of).collect();
    let mut lines: BTreeMap<(SessionRef, &Conversation), Vec<Tries<'_>>> = BTreeMap::new();
    for tries in tries(facts).into_values() {
        if let Some(session) = tries.line {
            lines.entry((session, &tries.key.conversation)).or_default().push(tries);
        }
    }
    for (line, mut messages) in lines {
        let held = messages.iter().filter(|message| message.held).count();
        if held == 0 || held > PLACES_KEPT_MAX || own_order.contains(&line) {
            continue;
        }
        messages.retain(|message| !message.given_up);
        messages.sort_unstable_by_key(|message| message.first);
        kept.extend(messages.iter().map(|message| (message.key, line.0)));
        let placed = messages
            .iter()
            .filter_map(|message| Some((place(facts, message.key)?, message.key)));
        let placed: Vec<_> = placed.collect();
        for pair in placed.windows(2) {
            let ((earlier, first), (later, second)) = (pair[0], pair[1]);
            verdict.expect(Check::C8, earlier < later, || {
                format!(
                    "{first} came first on {}, but lies at {earlier}, behind {second} at {later}",
                    line.0
                )
            });
        }
    }
    kept
}

fn line_of<'a>(op: &Op<'a>) -> Option<(SessionRef, &'a Conversation)> {
    Some((op.line?.0, &op.key.conversation))
}

fn tries<'a>(facts: &Facts<'a>) -> BTreeMap<&'a MessageKey, Tries<'a>> {
    let mut all: BTreeMap<&MessageKey, Tries<'_>> = BTreeMap::new();
    for (id, op) in &facts.ops {
        let session = op.line.map(|(session, _)| session);
        let this = (op.invoked, *id);
        let tries = all.entry(op.key).or_insert(Tries {
            line: session,
            first: this,
            held: false,
            given_up: false,
            key: op.key,
        });
        tries.line = tries.line.filter(|line| session == Some(*line));
        tries.first = tries.first.min(this);
        tries.held |= op.held;
        tries.given_up |= op.outcome == Outcome::Failed && !op.held;
    }
    all
}
