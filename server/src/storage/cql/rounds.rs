//! The rounds of this process's marks, in memory: which are there, who relies on them, and when one may go. Pure: time is given.
//!
//! A round goes when nothing flies in it any more and each conversation that it has a mark of is either fanned out or covered by a
//! mark of a later round.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{ConversationId, Seq};

/// A round of one writer, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Round(pub(super) u64);

impl Round {
    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What a writer says of itself. `oldest` above `newest`: it has no rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriterRow {
    pub(super) oldest: Round,
    pub(super) newest: Round,
    /// Grows with each writing.
    pub(super) version: u64,
}

/// What is known of one conversation.
#[derive(Debug, Default)]
struct Known {
    /// From which seq on each round covers it.
    marks: BTreeMap<Round, Seq>,
    /// Appends under way.
    flying: usize,
    /// When the last of them ended that may have landed.
    landed: Option<Instant>,
    /// Newest seq that was appended here, or may have been.
    newest: Seq,
    /// Everything up to here was fanned out.
    done: Seq,
}

impl Known {
    fn is_open(&self) -> bool {
        self.flying > 0 || self.newest > self.done
    }

    /// Whether all that is open is covered by a later round.
    fn is_covered_after(&self, round: Round) -> bool {
        let mut later = self.marks.range(round.next()..);
        later.any(|(_, from)| *from <= self.done.next())
    }

    fn needs(&self, round: Round) -> bool {
        self.is_open() && !self.is_covered_after(round)
    }

    fn is_idle(&self) -> bool {
        self.marks.is_empty() && self.flying == 0
    }
}

#[derive(Debug)]
struct Open {
    since: Instant,
    /// Appends under way that rely on it.
    flying: usize,
    marked: BTreeSet<ConversationId>,
}

/// See the module. Bounded by what is under way: a conversation leaves with its last mark, a round once it may go.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    version: u64,
    newest: Round,
    present: Option<Round>,
    /// Whether anything entered since the last turn.
    entered: bool,
    /// Whether others were told of rounds.
    told: bool,
    open: BTreeMap<Round, Open>,
    /// Released, and not yet deleted.
    deleting: BTreeSet<Round>,
    known: BTreeMap<ConversationId, Known>,
}

impl Rounds {
    pub(super) fn enter(&mut self, id: ConversationId, now: Instant, fresh_for: Duration) -> Option<Round> {
        let round = self.present.filter(|_| self.is_fresh(now, fresh_for))?;
        self.open.get_mut(&round)?.flying += 1;
        self.known.entry(id).or_default().flying += 1;
        self.entered = true;
        Some(round)
    }

    pub(super) fn leave(&mut self, round: Round, id: ConversationId, may_reach: Seq, now: Instant) {
        if let Some(open) = self.open.get_mut(&round) {
            open.flying = open.flying.saturating_sub(1);
        }
        if let Some(known) = self.known.get_mut(&id) {
            known.flying = known.flying.saturating_sub(1);
            if may_reach > Seq::ZERO {
                known.newest = known.newest.max(may_reach);
                known.landed = Some(now);
            }
        }
    }

    pub(super) fn is_covered(&self, round: Round, id: ConversationId, first: Seq) -> bool {
        let mark = self.known.get(&id).and_then(|known| known.marks.get(&round));
        mark.is_some_and(|from| *from <= first)
    }

    pub(super) fn marked(&mut self, round: Round, id: ConversationId, from: Seq) {
        let mark = self.known.entry(id).or_default().marks.entry(round).or_insert(from);
        *mark = from.min(*mark);
        if let Some(open) = self.open.get_mut(&round) {
            open.marked.insert(id);
        }
    }

    pub(super) fn is_fresh(&self, now: Instant, fresh_for: Duration) -> bool {
        self.present.is_some_and(|round| self.is_younger(round, now, fresh_for))
    }

    /// Whether a round was opened no longer than so ago.
    pub(super) fn is_younger(&self, round: Round, now: Instant, than: Duration) -> bool {
        self.open.get(&round).is_some_and(|open| now < open.since + than)
    }

    pub(super) fn next(&self) -> Round {
        self.newest.next()
    }

    pub(super) fn open(&mut self, round: Round, since: Instant) {
        let open = Open {
            since,
            flying: 0,
            marked: BTreeSet::new(),
        };
        self.open.insert(round, open);
        (self.newest, self.present) = (round, Some(round));
    }

    /// What to say of this writer now, or once it has opened a round.
    pub(super) fn row(&mut self, opens: Option<Round>) -> WriterRow {
        self.version += 1;
        let newest = opens.unwrap_or(self.newest);
        let first = self.open.keys().chain(&self.deleting).min().copied();
        WriterRow {
            oldest: first.or(opens).unwrap_or_else(|| newest.next()),
            newest,
            version: self.version,
        }
    }

    pub(super) fn registered(&mut self, row: WriterRow) {
        self.told = row.oldest <= row.newest;
    }

    /// Whether it is time for the next round. Where nothing entered the present one ends without another.
    pub(super) fn turn(&mut self, now: Instant, round_for: Duration) -> bool {
        if self.present.is_none() || self.is_fresh(now, round_for) {
            return false;
        }
        let entered = std::mem::take(&mut self.entered);
        if !entered {
            self.present = None;
        }
        entered
    }

    /// Nothing enters the present round any more.
    pub(super) fn close(&mut self) {
        self.present = None;
    }

    /// Rounds that may be ready to go, oldest first.
    pub(super) fn past(&mut self) -> Vec<Round> {
        self.known.retain(|_, known| !known.is_idle());
        let past = self.open.iter();
        let past = past.filter(|(round, open)| Some(**round) != self.present && open.flying == 0);
        let mut rounds: Vec<Round> = past
            .map(|(round, _)| *round)
            .chain(self.deleting.iter().copied())
            .collect();
        rounds.sort_unstable();
        rounds
    }

    /// What keeps a round that is more than so many old, and from where on it is open.
    pub(super) fn open_in(&self, round: Round, kept: u64) -> Vec<(ConversationId, Seq)> {
        let Some(open) = self.open.get(&round).filter(|_| round.0 + kept <= self.newest.0) else {
            return Vec::new();
        };
        let known = open.marked.iter().filter_map(|id| Some((*id, self.known.get(id)?)));
        known
            .filter(|(_, known)| known.needs(round))
            .map(|(id, known)| (id, known.done.next()))
            .collect()
    }

    /// Lets a round go when nothing needs it any more; then it is to be deleted.
    pub(super) fn release(&mut self, round: Round) -> bool {
        if self.deleting.remove(&round) {
            return true;
        }
        let Some(open) = self.open.get(&round) else {
            return false;
        };
        let needed = |id: &ConversationId| self.known.get(id).is_some_and(|known| known.needs(round));
        if open.flying > 0 || open.marked.iter().any(needed) {
            return false;
        }
        for id in self.open.remove(&round).map(|open| open.marked).unwrap_or_default() {
            if let Some(known) = self.known.get_mut(&id) {
                known.marks.remove(&round);
            }
        }
        true
    }

    pub(super) fn keep_for_deletion(&mut self, round: Round) {
        self.deleting.insert(round);
    }

    /// While there are rounds, and once more when there are none any more.
    pub(super) fn has_to_show_life(&self) -> bool {
        self.told || !self.open.is_empty() || !self.deleting.is_empty()
    }

    pub(super) fn fanned_out(&mut self, id: ConversationId, up_to: Seq) {
        if let Some(known) = self.known.get_mut(&id) {
            known.done = known.done.max(up_to);
        }
    }

    pub(super) fn done(&self, id: ConversationId) -> Seq {
        self.known.get(&id).map_or(Seq::ZERO, |known| known.done)
    }

    pub(super) fn first_mark(&self, id: ConversationId) -> Option<Seq> {
        self.known.get(&id)?.marks.values().min().copied()
    }

    /// What is open although nothing flies, in a round that is older, with how long ago the last append ended.
    pub(super) fn stuck(&self, now: Instant, after: Duration) -> Vec<(ConversationId, Seq, Duration)> {
        let old = self.open.values().filter(|open| open.since + after <= now);
        let ids: BTreeSet<ConversationId> = old.flat_map(|open| open.marked.iter().copied()).collect();
        let known = ids.iter().filter_map(|id| Some((*id, self.known.get(id)?)));
        let stuck = known.filter(|(_, known)| known.flying == 0 && known.newest > known.done);
        stuck
            .map(|(id, known)| {
                (
                    id,
                    known.done.next(),
                    known.landed.map_or(Duration::ZERO, |at| now - at),
                )
            })
            .collect()
    }

    /// What may have landed did not, and cannot any more.
    pub(super) fn never_landed(&mut self, id: ConversationId) {
        if let Some(known) = self.known.get_mut(&id).filter(|known| known.flying == 0) {
            known.newest = known.done;
        }
    }
}

/// What tests let happen.
#[cfg(test)]
impl Rounds {
    /// As if all of it were so much longer ago.
    pub(super) fn age(&mut self, by: Duration) {
        self.open.values_mut().for_each(|open| open.since -= by);
        let landed = self.known.values_mut().filter_map(|known| known.landed.as_mut());
        landed.for_each(|landed| *landed -= by);
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR: Duration = Duration::from_secs(2);
    const LONG: Duration = Duration::from_secs(10);

    fn id(number: u8) -> ConversationId {
        ConversationId([number; 16])
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// An append of one entry in the present round, with its mark.
    fn append(rounds: &mut Rounds, id: ConversationId, seq: u64, now: Instant) -> Round {
        let round = rounds.enter(id, now, LONG).expect("a fresh round");
        if !rounds.is_covered(round, id, Seq(seq)) {
            rounds.marked(round, id, Seq(seq));
        }
        rounds.leave(round, id, Seq(seq), now);
        round
    }

    fn opened(rounds: &mut Rounds, now: Instant) -> Round {
        let round = rounds.next();
        rounds.open(round, now);
        round
    }

    /// I5: a round stays while an append flies in it, and while what it marks is neither fanned out nor marked later.
    #[test]
    fn i5_a_round_stays_while_it_is_needed() {
        let (mut rounds, start) = (Rounds::default(), stonechat_host::monotonic());
        let first = opened(&mut rounds, start);
        append(&mut rounds, id(1), 1, start);
        let flight = rounds.enter(id(2), start, LONG).expect("fresh");
        rounds.marked(flight, id(2), Seq(1));
        opened(&mut rounds, at(start, 3));
        rounds.fanned_out(id(1), Seq(1));
        assert!(rounds.past().is_empty(), "something flies");
        rounds.leave(flight, id(2), Seq(1), at(start, 3));
        assert_eq!(rounds.past(), [first]);
        assert!(!rounds.release(first), "it landed, and is not fanned out");
        append(&mut rounds, id(2), 2, at(start, 4));
        assert!(!rounds.release(first), "the later mark does not cover the first entry");
        rounds.fanned_out(id(2), Seq(1));
        assert!(rounds.release(first));
        assert_eq!(rounds.first_mark(id(2)), Some(Seq(2)));
    }

    /// I5: nothing relies on a round that others may take for left.
    #[test]
    fn i5_an_old_round_is_not_relied_on() {
        let (mut rounds, start) = (Rounds::default(), stonechat_host::monotonic());
        assert!(rounds.enter(id(1), start, LONG).is_none(), "there is none");
        opened(&mut rounds, start);
        append(&mut rounds, id(1), 1, at(start, 9));
        assert!(rounds.enter(id(1), at(start, 10), LONG).is_none());
        assert!(rounds.turn(at(start, 10), FOR), "somebody uses rounds");
        assert!(!rounds.turn(at(start, 11), FOR), "and now nobody does");
        let (first, long) = (Round(1), Duration::from_secs(300));
        assert!(rounds.is_younger(first, at(start, 299), long));
        assert!(!rounds.is_younger(first, at(start, 300), long), "who slept so long");
        assert!(rounds.enter(id(1), at(start, 9), LONG).is_none(), "it has ended");
    }

    /// I5: what a writer says of itself names every round that may hold marks, and its versions grow.
    #[test]
    fn i5_every_round_with_marks_is_told() {
        let (mut rounds, start) = (Rounds::default(), stonechat_host::monotonic());
        let told = |rounds: &mut Rounds, opens| {
            let row = rounds.row(opens);
            rounds.registered(row);
            (row.oldest.0, row.newest.0, row.version)
        };
        assert!(!rounds.has_to_show_life());
        assert_eq!(told(&mut rounds, Some(Round(1))), (1, 1, 1), "before it is used");
        let first = opened(&mut rounds, start);
        append(&mut rounds, id(1), 1, start);
        assert_eq!(told(&mut rounds, Some(Round(2))), (1, 2, 2));
        let second = opened(&mut rounds, at(start, 2));
        rounds.fanned_out(id(1), Seq(1));
        assert!(rounds.release(first));
        rounds.keep_for_deletion(first);
        assert_eq!(told(&mut rounds, None), (1, 2, 3), "its marks may still be there");
        assert!(rounds.release(first));
        rounds.close();
        assert!(rounds.release(second));
        assert!(rounds.has_to_show_life(), "that there is none any more");
        assert_eq!(told(&mut rounds, None), (3, 2, 4));
        assert!(!rounds.has_to_show_life());
    }
}
