//! The final log of a conversation, read after everything, and who belonged to it when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::history::{BodyHash, Conversation, MessageKey, Seq, User};

/// What an entry changes about the membership.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Membership {
    /// Nothing.
    #[default]
    Unchanged,
    /// These users are members from here on (founders, too).
    Joined(Vec<User>),
    /// This user's membership ends here.
    Left(User),
}

/// One entry of the final log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalEntry {
    /// Its place.
    pub seq: Seq,
    /// Its identity.
    pub key: MessageKey,
    /// Its body; `None` when it was redacted.
    pub body: Option<BodyHash>,
    /// What it changes about the membership.
    pub membership: Membership,
}

/// A conversation's log as it is in the end, read with every right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalLog {
    /// Which.
    pub conversation: Conversation,
    /// All entries, as they lay.
    pub entries: Vec<FinalEntry>,
}

/// One stay of a user: the seqs whose audience they belong to (I7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// The entry that added them.
    pub joined: Seq,
    /// The entry that ended it, the last they may see.
    pub left: Option<Seq>,
}

impl Stay {
    /// Whether the user belongs to the audience of `seq`.
    #[must_use]
    pub fn covers(&self, seq: Seq) -> bool {
        seq >= self.joined && self.left.is_none_or(|left| seq <= left)
    }
}

/// A user's relation to a seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belonging {
    /// In its audience.
    Audience,
    /// A stay of theirs ended before it.
    Removed,
    /// Nothing of theirs reaches up to it.
    Stranger,
}

/// Who belonged when.
#[derive(Debug, Default)]
pub(super) struct Stays(BTreeMap<User, Vec<Stay>>);

impl Stays {
    pub(super) fn of(log: &FinalLog) -> Self {
        let mut stays = Self::default();
        for entry in &log.entries {
            match &entry.membership {
                Membership::Unchanged => {}
                Membership::Joined(users) => users.iter().for_each(|user| stays.join(user, entry.seq)),
                Membership::Left(user) => stays.leave(user, entry.seq),
            }
        }
        stays
    }

    fn join(&mut self, user: &User, seq: Seq) {
        let stays = self.0.entry(user.clone()).or_default();
        if stays.last().is_none_or(|stay| stay.left.is_some()) {
            stays.push(Stay {
                joined: seq,
                left: None,
            });
        }
    }

    fn leave(&mut self, user: &User, seq: Seq) {
        if let Some(stay) = self.0.get_mut(user).and_then(|stays| stays.last_mut()) {
            stay.left.get_or_insert(seq);
        }
    }

    pub(super) fn stays(&self, user: &User) -> &[Stay] {
        self.0.get(user).map_or(&[], Vec::as_slice)
    }

    pub(super) fn belonging(&self, user: &User, seq: Seq) -> Belonging {
        let stays = self.stays(user);
        if stays.iter().any(|stay| stay.covers(seq)) {
            return Belonging::Audience;
        }
        let ended_before = |stay: &Stay| stay.left.is_some_and(|left| left < seq);
        if stays.iter().any(ended_before) {
            Belonging::Removed
        } else {
            Belonging::Stranger
        }
    }

    /// The highest seq up to `seq` that the user may see; 0 for none.
    pub(super) fn newest_visible(&self, user: &User, seq: Seq) -> Seq {
        let visible = |stay: &Stay| (stay.joined <= seq).then(|| stay.left.map_or(seq, |left| left.min(seq)));
        self.stays(user).iter().filter_map(visible).max().unwrap_or_default()
    }

    /// The stay in which the first seq after `seq` that the user may see lies, and that seq.
    pub(super) fn next_visible(&self, user: &User, seq: Seq) -> Option<(Stay, Seq)> {
        let next = Seq(seq.0 + 1);
        let reaches = |stay: &&Stay| stay.left.is_none_or(|left| left >= next);
        let stay = self.stays(user).iter().find(reaches)?;
        Some((*stay, next.max(stay.joined)))
    }
}
