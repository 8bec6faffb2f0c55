//! C12, C16: nothing reaches whom it was not addressed to.

use super::facts::Facts;
use super::history::{Conversation, Seq, User, What};
use super::log::Belonging;
use super::verdict::{Check, Verdict};

pub(super) fn check(facts: &Facts<'_>, verdict: &mut Verdict) {
    for event in &facts.events {
        match &event.what {
            What::Delivered { session, entry } => {
                if let Some(session) = facts.sessions.get(session) {
                    entry_reached(facts, session.user, &entry.key.conversation, entry.seq, verdict);
                }
            }
            What::PageRead { user, entries } => {
                for entry in entries {
                    entry_reached(facts, user, &entry.key.conversation, entry.seq, verdict);
                }
            }
            What::MarkersPushed {
                session,
                conversation,
                values,
                ..
            } => {
                if let Some(session) = facts.sessions.get(session) {
                    notice_reached(facts, session.user, conversation, verdict);
                    receipt_reached(
                        facts,
                        session.user,
                        conversation,
                        values.delivered.max(values.read),
                        verdict,
                    );
                }
            }
            What::Noticed { session, conversation } => {
                if let Some(session) = facts.sessions.get(session) {
                    notice_reached(facts, session.user, conversation, verdict);
                }
            }
            _ => {}
        }
    }
}

/// The audience of a seq is the membership there (I7). The system reads everything.
fn entry_reached(facts: &Facts<'_>, user: &User, conversation: &Conversation, seq: Seq, verdict: &mut Verdict) {
    let Some(log) = facts.logs.get(conversation) else {
        return;
    };
    if user.0.is_empty() {
        return;
    }
    let belonging = log.stays.belonging(user, seq);
    verdict.expect(Check::C12, belonging != Belonging::Removed, || {
        format!("{user} got {conversation}/{seq} after their removal")
    });
    verdict.expect(Check::C16, belonging != Belonging::Stranger, || {
        format!("{user} got {conversation}/{seq}, which was never addressed to them")
    });
}

fn receipt_reached(facts: &Facts<'_>, user: &User, conversation: &Conversation, upto: Seq, verdict: &mut Verdict) {
    let Some(log) = facts.logs.get(conversation) else {
        return;
    };
    // Somebody who came back hears again where the others are, between their own stays too.
    let left = log.stays.stays(user).last().and_then(|stay| stay.left);
    let removed = left.is_some_and(|left| left < upto);
    verdict.expect(Check::C12, !removed, || {
        format!("{user} got a receipt of {conversation}/{upto} after their removal")
    });
}

/// Anything at all about a conversation goes only to those who belong or belonged to it.
fn notice_reached(facts: &Facts<'_>, user: &User, conversation: &Conversation, verdict: &mut Verdict) {
    let Some(log) = facts.logs.get(conversation) else {
        return;
    };
    verdict.expect(Check::C16, !log.stays.stays(user).is_empty(), || {
        format!("{user}, who never was a member, heard of {conversation}")
    });
}
