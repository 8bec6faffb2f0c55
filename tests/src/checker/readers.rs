//! C3, C4, C5, C13, C14: what readers saw agrees, has no holes, never jumps back and reaches the end.

use std::collections::BTreeMap;

use super::Bounds;
use super::facts::{Facts, LogFacts, Session};
use super::history::{Backlog, BodyHash, Conversation, Seq, Sighting, What};
use super::log::{Belonging, Stay};
use super::verdict::{Check, Verdict};

pub(super) fn check(facts: &Facts<'_>, bounds: &Bounds, verdict: &mut Verdict) {
    readers_agree(facts, verdict);
    logs_are_whole(facts, verdict);
    for session in facts.sessions.values() {
        for (conversation, log) in &facts.logs {
            let reached = follow(session, conversation, log, verdict);
            if is_quiet(facts, session, log, bounds) {
                reached_the_end(session, conversation, log, reached, verdict);
            }
        }
    }
}

/// C3: every reader saw at each seq what the final log has there. A body may have been redacted since.
fn readers_agree(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut bodies: BTreeMap<(&Conversation, Seq), BodyHash> = BTreeMap::new();
    for sighting in sightings(facts) {
        let conversation = &sighting.key.conversation;
        let Some(log) = facts.logs.get(conversation) else {
            continue;
        };
        let entry = log.by_seq.get(&sighting.seq);
        let same_entry = entry.is_some_and(|entry| entry.key == sighting.key && not_restored(entry.body, sighting));
        let seen = sighting
            .body
            .map(|body| *bodies.entry((conversation, sighting.seq)).or_insert(body));
        verdict.expect(Check::C3, same_entry && seen == sighting.body, || {
            format!("a reader saw {sighting:?}; the log has {entry:?} there, another reader saw body {seen:?}")
        });
    }
}

fn sightings<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a Sighting> {
    facts.events.iter().flat_map(|event| match &event.what {
        What::Delivered { entry, .. } => std::slice::from_ref(entry),
        What::PageRead { entries, .. } => entries.as_slice(),
        _ => &[],
    })
}

/// A redaction is for ever; until then the body is the one in the log.
fn not_restored(final_body: Option<BodyHash>, sighting: &Sighting) -> bool {
    match (final_body, sighting.body) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(there), Some(seen)) => there == seen,
    }
}

/// C4 for the log itself: 1, 2, 3 …
fn logs_are_whole(facts: &Facts<'_>, verdict: &mut Verdict) {
    for log in facts.logs.values() {
        let mut expected = Seq(0);
        for entry in &log.log.entries {
            expected = Seq(expected.0 + 1);
            let holds = entry.seq == expected;
            verdict.expect(Check::C4, holds, || {
                format!(
                    "the log of {} has {} where {expected} belongs",
                    log.log.conversation, entry.seq
                )
            });
            expected = entry.seq;
        }
    }
}

/// Where a stream is in a conversation; `None` while anything may come first.
type Reached = Option<Seq>;

/// C4, C5, C13 along one stream's deliveries of one conversation.
fn follow(session: &Session<'_>, conversation: &Conversation, log: &LogFacts<'_>, verdict: &mut Verdict) -> Reached {
    let position = session.positions.get(conversation).copied();
    let mut reached = match (position, session.start.backlog) {
        (None, Backlog::Nothing) => None,
        (known, _) => Some(known.unwrap_or_default()),
    };
    let mut delivered = Seq(0);
    let deliveries = session.deliveries.get(conversation).map_or(&[][..], Vec::as_slice);
    for seq in deliveries.iter().map(|sighting| sighting.seq) {
        let forward = seq > delivered;
        verdict.expect(Check::C5, forward, || {
            format!(
                "{} got {conversation}/{seq} after {delivered} on one stream",
                session.user
            )
        });
        if !forward || log.stays.belonging(session.user, seq) != Belonging::Audience {
            continue;
        }
        if let Some(before) = reached {
            no_hole(session, log, before, seq, verdict);
        }
        delivered = seq;
        // The first delivery may lie below the position, when an ack was lost; from there on, too, no hole is allowed.
        reached = Some(seq);
    }
    reached
}

fn no_hole(session: &Session<'_>, log: &LogFacts<'_>, before: Seq, seq: Seq, verdict: &mut Verdict) {
    let Some((stay, next)) = log.stays.next_visible(session.user, before) else {
        return;
    };
    verdict.expect(hole_kind(&stay, next), seq <= next, || {
        format!(
            "{} got {}/{seq} after {before}, without {next}",
            session.user, log.log.conversation
        )
    });
}

/// Missing the begin of a stay that somebody was added to is C13, every other hole is C4.
fn hole_kind(stay: &Stay, next: Seq) -> Check {
    if next == stay.joined && stay.joined > Seq(1) {
        Check::C13
    } else {
        Check::C4
    }
}

/// Whether the stream has had time to reach the head: it lives, reads, and nothing was appended for long.
fn is_quiet(facts: &Facts<'_>, session: &Session<'_>, log: &LogFacts<'_>, bounds: &Bounds) -> bool {
    let since = session.opened.max(log.last_activity);
    let quiet = u128::from(facts.end.0.saturating_sub(since.0));
    session.closed.is_none() && !session.paused && quiet >= bounds.silence.as_micros()
}

/// C14, or C13 when everything of a stay is missing.
fn reached_the_end(
    session: &Session<'_>,
    conversation: &Conversation,
    log: &LogFacts<'_>,
    reached: Reached,
    verdict: &mut Verdict,
) {
    let Some(reached) = reached else { return };
    if log.stays.stays(session.user).is_empty() {
        return;
    }
    let newest = log.stays.newest_visible(session.user, log.head);
    let missing = log.stays.next_visible(session.user, reached);
    let kind = match missing {
        Some((stay, next)) if next <= newest && hole_kind(&stay, next) == Check::C13 => Check::C13,
        _ => Check::C14,
    };
    verdict.expect(kind, reached >= newest, || {
        format!(
            "{} is at {conversation}/{reached} in silence, the head is {newest}",
            session.user
        )
    });
}
