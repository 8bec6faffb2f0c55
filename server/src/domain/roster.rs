//! Who is a member when: the fold of a conversation's membership entries.

use std::collections::BTreeMap;

use super::entry::{Body, Entry};
use super::ids::{Seq, UserId};

/// Kind of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Two users, one conversation per pair.
    Direct,
    /// Up to 500 members with roles.
    Group,
}

/// What a member may do, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May read and send.
    Member,
    /// May also add and remove members, rename, and redact others' messages.
    Admin,
    /// May also change roles.
    Owner,
}

/// A member and their role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// Their role.
    pub role: Role,
}

/// One stay in a conversation: the seqs whose audience the user belongs to (I7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The entry that added them; they may read it.
    pub joined: Seq,
    /// The entry that ended the stay; the last one they may read. `None` while they are a member.
    pub left: Option<Seq>,
}

impl Span {
    /// Whether the user belongs to the audience of `seq`.
    #[must_use]
    pub fn covers(self, seq: Seq) -> bool {
        seq >= self.joined && self.left.is_none_or(|left| seq <= left)
    }
}

/// A user's stays, oldest first, and their role in the present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Role in the present stay, or in the last one.
    pub role: Role,
    /// Never empty; only the last may be open.
    pub spans: Vec<Span>,
}

impl Standing {
    /// Whether they are a member now.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.spans.last().is_some_and(|span| span.left.is_none())
    }

    /// Whether they were a member once the entry at `seq` was in: who left by it was none any more.
    #[must_use]
    pub fn is_member_after(&self, seq: Seq) -> bool {
        let stays = |span: &Span| span.joined <= seq && span.left.is_none_or(|left| left > seq);
        self.spans.iter().any(stays)
    }

    /// Whether they belong to the audience of `seq`.
    #[must_use]
    pub fn may_read(&self, seq: Seq) -> bool {
        self.spans.iter().any(|span| span.covers(seq))
    }

    /// Newest seq they may read when the conversation's head is `head`.
    #[must_use]
    pub fn newest_readable(&self, head: Seq) -> Seq {
        self.spans.last().map_or(Seq::ZERO, |span| span.left.unwrap_or(head))
    }

    /// Oldest seq they may read.
    #[must_use]
    pub fn oldest_readable(&self) -> Seq {
        self.spans.first().map_or(Seq::ZERO, |span| span.joined)
    }
}

/// Everybody who is or was a member, by user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    standings: BTreeMap<UserId, Standing>,
    members_now: usize,
}

impl Roster {
    /// Builds a roster from stored standings.
    #[must_use]
    pub fn from_standings(standings: BTreeMap<UserId, Standing>) -> Self {
        let members_now = standings.values().filter(|standing| standing.is_member()).count();
        Self { standings, members_now }
    }

    /// The standing of a user who is or was a member.
    #[must_use]
    pub fn standing(&self, user: &UserId) -> Option<&Standing> {
        self.standings.get(user)
    }

    /// Their role, when they are a member now.
    #[must_use]
    pub fn role(&self, user: &UserId) -> Option<Role> {
        self.standing(user)
            .filter(|standing| standing.is_member())
            .map(|standing| standing.role)
    }

    /// How many members there are now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members_now
    }

    /// True when everybody left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members_now == 0
    }

    /// The members now, by user.
    pub fn members(&self) -> impl Iterator<Item = (&UserId, Role)> {
        self.standings
            .iter()
            .filter(|(_, standing)| standing.is_member())
            .map(|(user, standing)| (user, standing.role))
    }

    /// Everybody who is or was a member, by user.
    pub fn standings(&self) -> impl Iterator<Item = (&UserId, &Standing)> {
        self.standings.iter()
    }

    /// Who belongs to the audience of `seq` (I7).
    pub fn audience(&self, seq: Seq) -> impl Iterator<Item = &UserId> {
        self.standings
            .iter()
            .filter(move |(_, standing)| standing.may_read(seq))
            .map(|(user, _)| user)
    }

    /// Takes in an entry; those that do not change membership change nothing. Idempotent for an entry already taken in.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.body {
            Body::Created { members, .. } | Body::Members(members) => {
                for member in members {
                    self.set(member, entry.seq);
                }
            }
            Body::Left { user, promoted, .. } => {
                self.end(user, entry.seq);
                if let Some(standing) = promoted.as_ref().and_then(|user| self.standings.get_mut(user)) {
                    standing.role = Role::Owner;
                }
            }
            _ => {}
        }
    }

    /// Who must become owner when `leaver` goes, so that a group with members has one: the first by user id among those
    /// of the highest role. `None` when an owner remains or nobody does.
    #[must_use]
    pub fn heir_of(&self, leaver: &UserId) -> Option<UserId> {
        let mut heir: Option<(&UserId, Role)> = None;
        for (user, role) in self.members().filter(|(user, _)| *user != leaver) {
            if role == Role::Owner {
                return None;
            }
            if heir.is_none_or(|(_, best)| role > best) {
                heir = Some((user, role));
            }
        }
        heir.map(|(user, _)| user.clone())
    }

    fn set(&mut self, member: &Member, seq: Seq) {
        let standing = self.standings.entry(member.user.clone()).or_insert_with(|| Standing {
            role: member.role,
            spans: Vec::new(),
        });
        standing.role = member.role;
        // Behind the end of the last stay: an entry from within it, taken in again, begins none.
        let ended = standing.spans.last().map(|span| span.left.unwrap_or(span.joined));
        let newer = ended.is_none_or(|ended| ended < seq);
        if !standing.is_member() && newer {
            standing.spans.push(Span {
                joined: seq,
                left: None,
            });
            self.members_now += 1;
        }
    }

    fn end(&mut self, user: &UserId, seq: Seq) {
        let open = self
            .standings
            .get_mut(user)
            .and_then(|standing| standing.spans.last_mut());
        if let Some(span) = open
            && span.left.is_none()
            && span.joined < seq
        {
            span.left = Some(seq);
            self.members_now -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientMsgId, ConversationId, CorrelationId, Ordinal, Sender, UnixMillis};

    fn entry(seq: u64, body: Body) -> Entry {
        Entry {
            conversation: ConversationId([1; 16]),
            seq: Seq(seq),
            time: UnixMillis(0),
            ordinal: Ordinal(seq),
            sender: Sender {
                user: None,
                device: None,
            },
            client_msg_id: ClientMsgId::parse("m").unwrap(),
            correlation: CorrelationId::default(),
            origin_time: None,
            body,
        }
    }

    /// I7: a roster of later on takes in what lies before once more, as when a projection is behind its standings.
    #[test]
    fn i7_entries_taken_in_again_change_no_stay() {
        let ada = UserId::parse("ada").unwrap();
        let is = |role| {
            let user = ada.clone();
            Body::Members(vec![Member { user, role }])
        };
        let leaves = || Body::Left {
            user: ada.clone(),
            removed: true,
            promoted: None,
        };
        let bodies = [is(Role::Member), is(Role::Admin), leaves(), is(Role::Member), leaves()];
        let entries: Vec<Entry> = (1..).zip(bodies).map(|(seq, body)| entry(seq, body)).collect();
        let mut roster = Roster::default();
        entries.iter().for_each(|entry| roster.apply(entry));
        let whole = roster.clone();
        for from in 0..entries.len() {
            entries[from..].iter().for_each(|entry| roster.apply(entry));
            assert_eq!(roster.standing(&ada), whole.standing(&ada), "again from {from}");
            assert_eq!(roster.len(), 0);
        }
    }
}
