//! C19: nothing that was asked is passed over in silence (I8).

use std::collections::BTreeMap;

use super::facts::{Facts, Op, Outcome};
use super::history::{Conversation, Device, Moment, OpId, User};
use super::verdict::{Check, Verdict};

type Lane<'a> = (&'a Conversation, &'a User, &'a Device, &'a str);

fn lane<'a>(op: &Op<'a>) -> Lane<'a> {
    (&op.key.conversation, &op.key.user, &op.key.device, op.lane)
}

/// What was asked before something that was answered is answered, too, or its stream is over.
pub(super) fn check(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut newest: BTreeMap<Lane<'_>, (Moment, OpId)> = BTreeMap::new();
    for (id, op) in &facts.ops {
        if matches!(op.outcome, Outcome::Acked(..) | Outcome::Failed) {
            let known = newest.entry(lane(op)).or_default();
            *known = (*known).max((op.invoked, *id));
        }
    }
    for (id, op) in &facts.ops {
        let passed_over = newest.get(&lane(op)).is_some_and(|newest| *newest > (op.invoked, *id));
        verdict.expect(Check::C19, op.outcome != Outcome::Unanswered || !passed_over, || {
            format!("{} was never answered, what was sent behind it was", op.key)
        });
    }
}
