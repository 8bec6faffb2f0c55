//! Ticks: how far one's own messages got. ✓ stored, ✓✓ on a device of every other member, ✓✓ read by them.

use std::collections::{BTreeMap, BTreeSet};

/// Own messages whose ticks are still to come; the oldest are forgotten above it.
const WATCHED_MAX: usize = 1_000;

/// Markers of the others and own messages that they have not all read.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    others: BTreeMap<String, (u64, u64)>,
    /// What the server says that all of them have received, and read: in a large group it names few of those who moved.
    all: (u64, u64),
    own: BTreeSet<u64>,
    delivered: u64,
    read: u64,
}

/// News of an own message and of all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    Delivered(u64),
    Read(u64),
}

impl Ticks {
    pub(super) fn new(others: impl Iterator<Item = String>) -> Self {
        Self {
            others: others.map(|user| (user, (0, 0))).collect(),
            ..Self::default()
        }
    }

    /// A message of one's own is stored.
    pub(super) fn sent(&mut self, seq: u64) {
        self.own.insert(seq);
        if self.own.len() > WATCHED_MAX {
            self.own.pop_first();
        }
    }

    /// The newest message whose ticks are still to come.
    pub(super) fn newest_open(&self) -> Option<u64> {
        self.own.last().copied()
    }

    pub(super) fn joined(&mut self, user: &str) {
        self.others.entry(user.to_owned()).or_insert((0, 0));
    }

    pub(super) fn left(&mut self, user: &str) {
        self.others.remove(user);
    }

    /// Another member's markers moved.
    pub(super) fn moved(&mut self, user: &str, delivered: u64, read: u64) {
        if let Some(known) = self.others.get_mut(user) {
            known.0 = known.0.max(delivered).max(read);
            known.1 = known.1.max(read);
        }
    }

    /// Every other member has received, and read, up to here.
    pub(super) fn moved_all(&mut self, delivered: u64, read: u64) {
        self.all.0 = self.all.0.max(delivered).max(read);
        self.all.1 = self.all.1.max(read);
    }

    /// What is new since the last call: only the newest message of each kind, for it stands for those before.
    pub(super) fn news(&mut self) -> Vec<Tick> {
        let everybody = |pick: fn(&(u64, u64)) -> u64| self.others.values().map(pick).min().unwrap_or(0);
        let delivered = everybody(|known| known.0).max(self.all.0);
        let read = everybody(|known| known.1).max(self.all.1);
        let newest = |up_to: u64| self.own.range(..=up_to).next_back().copied().unwrap_or(0);
        let (delivered, read) = (newest(delivered), newest(read));
        let mut news = Vec::new();
        if delivered > self.delivered && delivered > read {
            news.push(Tick::Delivered(delivered));
        }
        if read > self.read {
            news.push(Tick::Read(read));
        }
        self.delivered = self.delivered.max(delivered);
        self.read = self.read.max(read);
        self.own.retain(|seq| *seq > self.read);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_needs_every_other_member_and_comes_once() {
        let mut ticks = Ticks::new(["bob", "carol"].map(str::to_owned).into_iter());
        ticks.sent(5);
        ticks.sent(7);
        ticks.moved("bob", 7, 7);
        assert_eq!(ticks.news(), []);
        ticks.moved("carol", 6, 0);
        assert_eq!(ticks.news(), [Tick::Delivered(5)]);
        ticks.moved("carol", 7, 5);
        assert_eq!(ticks.news(), [Tick::Delivered(7), Tick::Read(5)]);
        assert_eq!(ticks.news(), []);
        ticks.left("carol");
        assert_eq!(ticks.news(), [Tick::Read(7)]);
    }

    /// In a large group most of those who moved are not named: then what all have counts.
    #[test]
    fn what_all_have_needs_no_names() {
        let mut ticks = Ticks::new((0..200).map(|user| format!("u{user}")));
        ticks.sent(5);
        ticks.moved("u0", 5, 5);
        ticks.moved_all(4, 0);
        assert_eq!(ticks.news(), []);
        ticks.moved_all(5, 0);
        assert_eq!(ticks.news(), [Tick::Delivered(5)]);
        ticks.moved_all(5, 5);
        assert_eq!(ticks.news(), [Tick::Read(5)]);
    }

    #[test]
    fn who_is_alone_gets_no_ticks() {
        let mut ticks = Ticks::new(std::iter::empty());
        ticks.sent(1);
        assert_eq!(ticks.news(), []);
    }
}
