//! What the entries of a log say of each other, in their order.

use std::collections::BTreeMap;

use crate::domain::{Body, Entry, Ordinal, Seq};
use crate::storage::{CONTRADICTIONS_MAX, Head};

/// A log, read from its first entry on.
pub(super) struct History {
    /// Where the head is after the newest entry, as it follows from all.
    end: Head,
    /// Ordinals that were asked for.
    ordinals: BTreeMap<Seq, Option<Ordinal>>,
    pub(super) found: Vec<String>,
}

impl History {
    /// Before the first entry. `asked`: seqs whose ordinal somebody will want to know.
    pub(super) fn new(asked: impl Iterator<Item = Seq>) -> Self {
        Self {
            end: Head::default(),
            ordinals: asked.map(|seq| (seq, None)).collect(),
            found: Vec::new(),
        }
    }

    pub(super) fn end(&self) -> Head {
        self.end
    }

    /// The ordinal at a seq that was asked for; 0 before the first entry.
    pub(super) fn ordinal_at(&self, seq: Seq) -> Option<Ordinal> {
        if seq == Seq::ZERO {
            return Some(Ordinal::ZERO);
        }
        self.ordinals.get(&seq).copied().flatten()
    }

    fn tell(&mut self, why: String) {
        if self.found.len() < CONTRADICTIONS_MAX {
            self.found.push(why);
        }
    }

    pub(super) fn take_in(&mut self, entry: &Entry) {
        let (seq, before) = (entry.seq, self.end);
        if seq != before.seq.next() {
            self.tell(format!("entry {seq} follows {} (I3)", before.seq));
        }
        if entry.time < before.time {
            self.tell(format!("the time of entry {seq} is before that of {} (I3)", before.seq));
        }
        if !counts_right(entry, before.ordinal) {
            let why = format!(
                "entry {seq} counts as {} after {} (I6)",
                entry.ordinal.0, before.ordinal.0
            );
            self.tell(why);
        }
        if matches!(entry.body, Body::Created { .. }) != (seq == Seq(1)) {
            self.tell(format!("entry {seq} is in the place of another kind"));
        }
        if target(&entry.body).is_some_and(|target| target >= seq) {
            self.tell(format!("entry {seq} concerns a later one"));
        }
        if let Some(asked) = self.ordinals.get_mut(&seq) {
            *asked = Some(entry.ordinal);
        }
        self.end = before.after(entry);
    }
}

fn target(body: &Body) -> Option<Seq> {
    match body {
        Body::Edited { target, .. }
        | Body::Redacted { target, .. }
        | Body::Reaction { target, .. }
        | Body::Pin { target, .. } => Some(*target),
        _ => None,
    }
}

/// A tombstone counts as what stood there did.
fn counts_right(entry: &Entry, before: Ordinal) -> bool {
    let (same, next) = (entry.ordinal == before, entry.ordinal.0 == before.0 + 1);
    match entry.body {
        Body::Tombstone { .. } => same || next,
        ref body if body.counts_as_unread() => next,
        _ => same,
    }
}
