//! The one authorisation rule (I11): deny by default, on (actor, action, conversation, seq).

use super::ids::{Seq, UserId};
use super::roster::{Kind, Member, Role, Standing};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A user, by their own token or by an integrator on their behalf.
    User(UserId),
    /// The system: an integrator's token with the scope of the rpc, which is checked at the edge.
    System,
}

impl Actor {
    /// The user, when it is one.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::User(user) => Some(user),
            Self::System => None,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action<'a> {
    /// Know that the conversation exists and read one's own part of it.
    See,
    /// Read the entry at this seq, or its receipts.
    Read(Seq),
    /// Move own markers.
    Mark,
    /// Tell others that one types.
    Type,
    /// Change own settings (mute, archive).
    Configure,
    /// Send, react or pin.
    Write,
    /// Edit a message of this sender.
    Edit(Option<&'a UserId>),
    /// Redact a message of this sender.
    Redact(Option<&'a UserId>),
    /// Add members or set roles.
    SetMembers(&'a [Member]),
    /// Remove this user, who has this role.
    Remove(&'a UserId, Role),
    /// Rename.
    Rename,
}

/// What is known of the conversation.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// 1:1 or group.
    pub kind: Kind,
    /// The actor's standing; `None` when they never were a member.
    pub standing: Option<&'a Standing>,
    /// For a 1:1: one of the two has blocked the other.
    pub blocked: bool,
    /// Whether the given user is a member now and with which role, for changes of members.
    pub role_of: &'a dyn Fn(&UserId) -> Option<Role>,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// Answer as if it did not exist.
    Hidden,
    /// They may see it but not do this.
    Forbidden,
    /// One of the two has blocked the other.
    Blocked,
}

/// Decides. Everything that is not allowed here is denied.
///
/// # Errors
/// The denial to answer with.
pub fn authorize(actor: &Actor, action: Action<'_>, facts: Facts<'_>) -> Result<(), Denial> {
    let Actor::User(user) = actor else {
        return authorize_system(action, facts.kind);
    };
    let standing = facts.standing.ok_or(Denial::Hidden)?;
    match action {
        Action::See | Action::Configure | Action::Mark => return Ok(()),
        Action::Read(seq) => return allow_if(standing.may_read(seq), Denial::Hidden),
        _ => {}
    }
    // Everything else changes something for the others: former members may not.
    if !standing.is_member() {
        return Err(Denial::Forbidden);
    }
    if facts.blocked {
        return Err(Denial::Blocked);
    }
    let role = standing.role;
    let allowed = match action {
        Action::Write | Action::Type => true,
        Action::Edit(sender) => sender == Some(user),
        Action::Redact(sender) => sender == Some(user) || (facts.kind == Kind::Group && role >= Role::Admin),
        Action::Rename => facts.kind == Kind::Group && role >= Role::Admin,
        Action::SetMembers(members) => facts.kind == Kind::Group && may_set(role, members, facts.role_of),
        Action::Remove(target, target_role) => facts.kind == Kind::Group && may_remove(user, role, target, target_role),
        Action::See | Action::Configure | Action::Mark | Action::Read(_) => false,
    };
    allow_if(allowed, Denial::Forbidden)
}

fn allow_if(allowed: bool, denial: Denial) -> Result<(), Denial> {
    if allowed { Ok(()) } else { Err(denial) }
}

/// The system may do anything that makes sense: a 1:1 has a fixed pair and no name, and nobody speaks as another.
fn authorize_system(action: Action<'_>, kind: Kind) -> Result<(), Denial> {
    let allowed = match action {
        Action::SetMembers(_) | Action::Remove(..) | Action::Rename => kind == Kind::Group,
        Action::Edit(sender) => sender.is_none(),
        Action::See | Action::Read(_) | Action::Write | Action::Redact(_) => true,
        Action::Mark | Action::Type | Action::Configure => false,
    };
    allow_if(allowed, Denial::Forbidden)
}

/// Owners set any role; admins only add new plain members.
fn may_set(role: Role, members: &[Member], role_of: &dyn Fn(&UserId) -> Option<Role>) -> bool {
    match role {
        Role::Owner => true,
        Role::Admin => members
            .iter()
            .all(|member| member.role == Role::Member && role_of(&member.user).is_none()),
        Role::Member => false,
    }
}

/// Everybody may leave; owners remove anybody, admins only plain members.
fn may_remove(user: &UserId, role: Role, target: &UserId, target_role: Role) -> bool {
    user == target || role == Role::Owner || (role == Role::Admin && target_role == Role::Member)
}
