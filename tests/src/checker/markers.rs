//! C10, C11: markers never go down and never say more than happened.

use std::collections::BTreeMap;

use super::facts::{Facts, Highest};
use super::history::{Conversation, MarkerValues, Moment, Register, Seq, SessionRef, User, What};
use super::verdict::{Check, Verdict};

pub(super) fn check(facts: &Facts<'_>, verdict: &mut Verdict) {
    let seen = observations(facts);
    reads_never_go_down(&seen, verdict);
    pushes_never_go_down(&seen, verdict);
    nothing_impossible(facts, &seen, verdict);
}

type Subject<'a> = (&'a User, &'a Conversation, Register);

/// One observation of somebody's markers.
struct Observation<'a> {
    at: Moment,
    subject: Subject<'a>,
    values: MarkerValues,
    source: Source,
}

enum Source {
    /// Asked for at this moment.
    Read(Moment),
    /// Came unasked on this stream.
    Push(SessionRef),
}

fn observations<'a>(facts: &Facts<'a>) -> Vec<Observation<'a>> {
    let mut seen = Vec::new();
    for event in &facts.events {
        let (subject, values, source) = match &event.what {
            What::MarkersRead {
                subject,
                conversation,
                register,
                invoked,
                values,
            } => ((subject, conversation, *register), values, Source::Read(*invoked)),
            What::MarkersPushed {
                session,
                subject,
                conversation,
                register,
                values,
            } => ((subject, conversation, *register), values, Source::Push(*session)),
            _ => continue,
        };
        seen.push(Observation {
            at: event.at,
            subject,
            values: *values,
            source,
        });
    }
    seen
}

/// C10: a read sees at least what anybody had seen before it began.
fn reads_never_go_down(seen: &[Observation<'_>], verdict: &mut Verdict) {
    let mut known: BTreeMap<Subject<'_>, (Highest, Highest)> = BTreeMap::new();
    for observation in seen {
        let (delivered, read) = known.entry(observation.subject).or_default();
        if let Source::Read(invoked) = observation.source {
            let before = MarkerValues {
                delivered: delivered.before(invoked),
                read: read.before(invoked),
            };
            not_below(observation, before, verdict);
        }
        delivered.add(observation.at, observation.values.delivered);
        read.add(observation.at, observation.values.read);
    }
}

/// C10: on one stream pushed values come in order.
fn pushes_never_go_down(seen: &[Observation<'_>], verdict: &mut Verdict) {
    let mut last: BTreeMap<(SessionRef, Subject<'_>), MarkerValues> = BTreeMap::new();
    for observation in seen {
        let Source::Push(session) = observation.source else {
            continue;
        };
        let known = last.entry((session, observation.subject)).or_default();
        not_below(observation, *known, verdict);
        known.delivered = known.delivered.max(observation.values.delivered);
        known.read = known.read.max(observation.values.read);
    }
}

fn not_below(observation: &Observation<'_>, before: MarkerValues, verdict: &mut Verdict) {
    let values = observation.values;
    let holds = values.delivered >= before.delivered && values.read >= before.read;
    verdict.expect(Check::C10, holds, || {
        format!("markers of {:?} are {values:?} after {before:?}", observation.subject)
    });
}

/// C11: read <= delivered <= head, and delivered only up to what the user was sent, sent themself or claimed to have.
fn nothing_impossible(facts: &Facts<'_>, seen: &[Observation<'_>], verdict: &mut Verdict) {
    let sent = sent_by_time(facts);
    for observation in seen {
        let (user, conversation, _) = observation.subject;
        let Some(log) = facts.logs.get(conversation) else {
            continue;
        };
        let values = observation.values;
        let got = sent.get(&(user, conversation)).map(|got| got.by(observation.at));
        let holds = values.read <= values.delivered
            && values.delivered <= log.head
            && values.delivered <= got.unwrap_or_default();
        verdict.expect(Check::C11, holds, || {
            format!(
                "markers of {user} in {conversation} are {values:?}; the head is {}, they got {got:?}",
                log.head
            )
        });
    }
}

type SentByTime<'a> = BTreeMap<(&'a User, &'a Conversation), Highest>;

fn sent_by_time<'a>(facts: &Facts<'a>) -> SentByTime<'a> {
    let mut sent = SentByTime::new();
    for event in &facts.events {
        let mut add = |user: &'a User, conversation: &'a Conversation, seq: Seq| {
            sent.entry((user, conversation)).or_default().add(event.at, seq);
        };
        match &event.what {
            What::Delivered { session, entry } => {
                if let Some(session) = facts.sessions.get(session) {
                    add(session.user, &entry.key.conversation, entry.seq);
                }
            }
            What::PageRead { user, entries } => {
                for entry in entries {
                    add(user, &entry.key.conversation, entry.seq);
                }
            }
            What::MarkInvoked {
                user,
                conversation,
                seq,
                ..
            } => add(user, conversation, *seq),
            What::SendInvoked { key, .. } => {
                let log = facts.logs.get(&key.conversation);
                for seq in log.and_then(|log| log.places.get(key)).into_iter().flatten() {
                    add(&key.user, &key.conversation, *seq);
                }
            }
            _ => {}
        }
    }
    sent
}
