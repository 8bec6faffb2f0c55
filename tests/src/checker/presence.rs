//! C15: never offline while a stream lives, never online long after the last sign of life.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Bounds;
use super::facts::{Facts, Session};
use super::history::{Moment, User, What};
use super::verdict::{Check, Verdict};

pub(super) fn check(facts: &Facts<'_>, bounds: &Bounds, verdict: &mut Verdict) {
    let people = People::of(facts, bounds);
    for event in &facts.events {
        let (subject, invoked, online) = match &event.what {
            What::PresenceRead {
                subject,
                invoked,
                online,
            } => (subject, *invoked, *online),
            What::PresencePushed { subject, online } => (subject, minus(event.at, bounds.presence_slack), *online),
            _ => continue,
        };
        if online {
            let until = people.alive_until(subject, event.at);
            verdict.expect(Check::C15, invoked <= plus(until, bounds.presence_slack), || {
                format!(
                    "{subject} showed as online at {}, but could be alive until {until} only",
                    event.at
                )
            });
        } else {
            let lives = people.surely_alive(subject, invoked, event.at);
            verdict.expect(Check::C15, !lives, || {
                format!("{subject} showed as offline at {} while a stream was live", event.at)
            });
        }
    }
}

struct People<'f, 'a> {
    sessions: BTreeMap<&'a User, Vec<&'f Session<'a>>>,
    /// When a user asked to look offline, or stopped asking.
    hiding: BTreeMap<&'a User, Vec<(Moment, bool)>>,
    bounds: Bounds,
}

impl<'f, 'a> People<'f, 'a> {
    fn of(facts: &'f Facts<'a>, bounds: &Bounds) -> Self {
        let mut people = Self {
            sessions: BTreeMap::new(),
            hiding: BTreeMap::new(),
            bounds: *bounds,
        };
        for session in facts.sessions.values() {
            people.sessions.entry(session.user).or_default().push(session);
        }
        for event in &facts.events {
            if let What::LooksOffline { user, offline } = &event.what {
                people.hiding.entry(user).or_default().push((event.at, *offline));
            }
        }
        people
    }

    fn of_user(&self, user: &User) -> &[&'f Session<'a>] {
        self.sessions.get(user).map_or(&[], Vec::as_slice)
    }

    /// Until when the user may honestly show as online, from what happened by `at`.
    fn alive_until(&self, user: &User, at: Moment) -> Moment {
        let until = |session: &&Session<'_>| {
            let last_sign = last_sign(session, at)?;
            match session.closed {
                Some((closed, true)) if closed <= at => Some(closed),
                _ => Some(plus(last_sign, self.bounds.presence_ttl)),
            }
        };
        self.of_user(user).iter().filter_map(until).max().unwrap_or_default()
    }

    /// Whether the user must show as online during all of `from..=to`.
    fn surely_alive(&self, user: &User, from: Moment, to: Moment) -> bool {
        let lives = |session: &&Session<'_>| {
            let opened = plus(session.opened, self.bounds.presence_slack) <= from;
            let open = session.closed.is_none_or(|(closed, _)| closed > to);
            let heard = last_sign(session, from).is_some_and(|sign| plus(sign, self.bounds.presence_ttl) >= to);
            opened && open && heard
        };
        !self.hides(user, from, to) && self.of_user(user).iter().any(lives)
    }

    /// Whether the user asked to look offline at some time from a little before `from` until `to`.
    fn hides(&self, user: &User, from: Moment, to: Moment) -> bool {
        let begin = minus(from, self.bounds.presence_slack);
        let changes = self.hiding.get(user).map_or(&[][..], Vec::as_slice);
        let at_begin = changes
            .iter()
            .rfind(|(at, _)| *at <= begin)
            .is_some_and(|(_, hides)| *hides);
        at_begin || changes.iter().any(|(at, hides)| *hides && *at > begin && *at <= to)
    }
}

fn last_sign(session: &Session<'_>, at: Moment) -> Option<Moment> {
    let count = session.signs.partition_point(|sign| *sign <= at);
    session.signs.get(count.checked_sub(1)?).copied()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn plus(at: Moment, duration: Duration) -> Moment {
    Moment(at.0.saturating_add(micros(duration)))
}

pub(super) fn minus(at: Moment, duration: Duration) -> Moment {
    Moment(at.0.saturating_sub(micros(duration)))
}
