//! C1, C2, C9: what was acknowledged is there once, what was refused is not.

use std::collections::BTreeMap;

use super::facts::{Facts, LogFacts, Op, Outcome};
use super::history::{BodyHash, MessageKey, Seq, User, What};
use super::log::{FinalEntry, Membership};
use super::verdict::{Check, Verdict};

pub(super) fn check(facts: &Facts<'_>, verdict: &mut Verdict) {
    acked_is_there(facts, verdict);
    membership_is_there(facts, verdict);
    one_place_each(facts, verdict);
    acks_agree(facts, verdict);
    refused_is_absent(facts, verdict);
}

/// C1: at the acknowledged seq, with the same identity and body (or a tombstone).
fn acked_is_there(facts: &Facts<'_>, verdict: &mut Verdict) {
    for op in facts.ops.values() {
        let Outcome::Acked(_, seq) = op.outcome else { continue };
        let found = entry_at(facts, op.key, seq);
        let holds = found.is_some_and(|entry| entry.key == *op.key && entry.body.is_none_or(|body| body == op.body));
        verdict.expect(Check::C1, holds, || {
            format!("{} was acknowledged at {seq}; the log has {found:?} there", op.key)
        });
    }
}

fn entry_at<'a>(facts: &Facts<'a>, key: &MessageKey, seq: Seq) -> Option<&'a FinalEntry> {
    facts.logs.get(&key.conversation)?.by_seq.get(&seq).copied()
}

fn membership_is_there(facts: &Facts<'_>, verdict: &mut Verdict) {
    for event in &facts.events {
        let What::MembershipAcked {
            conversation,
            user,
            joined,
            seq,
        } = &event.what
        else {
            continue;
        };
        let entry = facts.logs.get(conversation).and_then(|log| log.by_seq.get(seq));
        let holds = entry.is_some_and(|entry| says(&entry.membership, user, *joined));
        verdict.expect(Check::C1, holds, || {
            format!("{user} joined={joined} was acknowledged at {conversation}/{seq}; the log has {entry:?} there")
        });
    }
}

fn says(membership: &Membership, user: &User, joined: bool) -> bool {
    match membership {
        Membership::Unchanged => false,
        Membership::Joined(users) => joined && users.contains(user),
        Membership::Left(who) => !joined && who == user,
    }
}

/// C2: one identity lies at one seq.
fn one_place_each(facts: &Facts<'_>, verdict: &mut Verdict) {
    let places = facts.logs.values().flat_map(|log| &log.places);
    for (key, seqs) in places {
        verdict.expect(Check::C2, seqs.len() == 1, || format!("{key} lies at {seqs:?}"));
    }
}

/// C2: all acks of one identity name one seq.
fn acks_agree(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut first: BTreeMap<&MessageKey, Seq> = BTreeMap::new();
    for op in facts.ops.values() {
        let Outcome::Acked(_, seq) = op.outcome else { continue };
        let told = *first.entry(op.key).or_insert(seq);
        verdict.expect(Check::C2, told == seq, || {
            format!("{} was acknowledged at {told} and at {seq}", op.key)
        });
    }
}

/// C9: an entry all of whose tries were refused as not done must not be there.
fn refused_is_absent(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut tries: BTreeMap<&MessageKey, Vec<&Op<'_>>> = BTreeMap::new();
    for op in facts.ops.values() {
        tries.entry(op.key).or_default().push(op);
    }
    for (key, tries) in tries {
        if let Some(log) = facts.logs.get(&key.conversation) {
            refused_is_absent_from(log, key, &tries, verdict);
        }
    }
}

fn refused_is_absent_from(log: &LogFacts<'_>, key: &MessageKey, tries: &[&Op<'_>], verdict: &mut Verdict) {
    for refused in tries.iter().filter(|op| op.outcome == Outcome::Failed) {
        let rescued = |body: Option<BodyHash>| {
            let same = |op: &&&Op<'_>| body.is_none_or(|body| body == op.body);
            tries.iter().filter(same).any(|op| op.outcome != Outcome::Failed)
        };
        let seqs = log.places.get(key).map_or(&[][..], Vec::as_slice);
        let aborted = |seq: &&Seq| {
            let body = log.by_seq.get(*seq).and_then(|entry| entry.body);
            body.is_none_or(|body| body == refused.body) && !rescued(body)
        };
        let found = seqs.iter().find(aborted);
        verdict.expect(Check::C9, found.is_none(), || {
            format!("{key} was refused as not done, yet it lies at {found:?}")
        });
    }
}
