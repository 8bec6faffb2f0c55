//! What a change becomes: checked against the one authorisation rule, turned into an entry's body.

use stonechat_host::rule_holds;

use super::membership::{plan_remove, plan_set};
use super::state::State;
use crate::domain::authorization::{Action, Actor, Denial, Facts, authorize};
use crate::domain::limits::PINS_MAX;
use crate::domain::{Body, Change, MessageContent, Reason, Refusal, Seq, UserId};

/// The message a change speaks of.
pub(super) struct Target {
    pub(super) sender: Option<UserId>,
    /// False for entries of another kind and for what was redacted.
    pub(super) is_message: bool,
}

impl State {
    /// Applies the authorisation rule to this conversation.
    pub(super) fn authorize(&self, actor: &Actor, action: Action<'_>) -> Result<(), Refusal> {
        self.authorize_when(self.blocked, actor, action)
    }

    /// The same, by whoever knows better whether there is a block between the two of a 1:1.
    pub(super) fn authorize_when(&self, blocked: bool, actor: &Actor, action: Action<'_>) -> Result<(), Refusal> {
        let facts = Facts {
            kind: self.kind,
            standing: actor.user().and_then(|user| self.roster.standing(user)),
            blocked,
            role_of: &|user| self.roster.role(user),
        };
        let decided = authorize(actor, action, facts);
        let denied = decided.or_else(|denial| {
            if rule_holds("deny_by_default") {
                Err(denial)
            } else {
                Ok(())
            }
        });
        denied.map_err(|denial| match denial {
            Denial::Hidden => Refusal::no_conversation(),
            Denial::Forbidden => Refusal::forbidden("your role in this conversation does not allow it; not done"),
            Denial::Blocked => Refusal::not_done(Reason::Blocked, "there is a block between the two; not done"),
        })
    }

    /// Refuses whoever may not know that the conversation exists.
    pub(super) fn check_visible(&self, actor: &Actor) -> Result<(), Refusal> {
        self.authorize(actor, Action::See)
    }

    /// Whether the actor was a member and is none any more.
    pub(super) fn is_former(&self, actor: &Actor) -> bool {
        let standing = actor.user().and_then(|user| self.roster.standing(user));
        standing.is_some_and(|standing| !standing.is_member()) && rule_holds("clipped_to_stays")
    }

    /// Newest seq the actor may read.
    pub(super) fn readable_head(&self, actor: &Actor) -> Seq {
        match actor.user().and_then(|user| self.roster.standing(user)) {
            Some(standing) => standing.newest_readable(self.head.seq),
            None => self.head.seq,
        }
    }

    /// Refuses a seq that does not exist yet or is not the actor's to read.
    pub(super) fn check_readable(&self, actor: &Actor, seq: Seq) -> Result<(), Refusal> {
        let head = self.readable_head(actor);
        if seq > head {
            let message = format!("seq {seq} is above the head {head}; not done");
            return Err(Refusal::not_done(Reason::BeyondHead { head }, message));
        }
        if seq == Seq::ZERO {
            return Err(Refusal::invalid("seq", "seqs start at 1; not done"));
        }
        self.authorize(actor, Action::Read(seq))
            .map_err(|_| Refusal::not_done(Reason::NotFound, format!("no such message: seq {seq}; not done")))
    }

    /// The body of the entry that the change becomes.
    pub(super) fn body_of(&self, actor: &Actor, change: &Change, target: Option<&Target>) -> Result<Body, Refusal> {
        if target.is_some_and(|target| !target.is_message) {
            let message = "the target is not a message, or was redacted; not done";
            return Err(Refusal::not_done(Reason::NotFound, message));
        }
        let author = target.and_then(|target| target.sender.as_ref());
        self.authorize(actor, self.action(change, author)?)?;
        match change.clone() {
            Change::Message(content) => self.content(actor, content).map(Body::Message),
            Change::Edit { target, content } => Ok(Body::Edited {
                target,
                content: self.content(actor, content)?,
            }),
            Change::Redact { target, reason } => Ok(Body::Redacted { target, reason }),
            Change::React {
                target,
                reaction,
                remove,
            } => Ok(Body::Reaction {
                target,
                reaction,
                removed: remove,
            }),
            Change::Pin { target, unpin } => self.pin(target, !unpin),
            Change::SetMembers(members) => plan_set(&self.roster, &members),
            Change::RemoveMember(user) => Ok(plan_remove(&self.roster, &user, actor.user())),
            Change::Rename(name) => Ok(Body::Renamed(name)),
        }
    }

    fn pin(&self, target: Seq, pinned: bool) -> Result<Body, Refusal> {
        let is_one_more = pinned && !self.pins.contains(&target);
        if is_one_more && self.pins.len() >= PINS_MAX {
            let message = format!("a conversation has at most {PINS_MAX} pinned messages; nothing was changed");
            return Err(Refusal::not_done(Reason::LimitReached, message));
        }
        Ok(Body::Pin { target, pinned })
    }

    fn action<'a>(&self, change: &'a Change, author: Option<&'a UserId>) -> Result<Action<'a>, Refusal> {
        Ok(match change {
            Change::Message(_) | Change::React { .. } | Change::Pin { .. } => Action::Write,
            Change::Edit { .. } => Action::Edit(author),
            Change::Redact { .. } => Action::Redact(author),
            Change::SetMembers(members) => Action::SetMembers(members),
            Change::RemoveMember(user) => {
                let role = self.roster.role(user);
                let role =
                    role.ok_or_else(|| Refusal::not_done(Reason::NotFound, format!("{user} is not a member")))?;
                Action::Remove(user, role)
            }
            Change::Rename(_) => Action::Rename,
        })
    }

    fn content(&self, actor: &Actor, content: MessageContent) -> Result<MessageContent, Refusal> {
        if let Some(reply_to) = content.reply_to {
            self.check_readable(actor, reply_to)?;
        }
        Ok(content)
    }
}
