//! Rules of membership changes: limits, roles, heirs.

use std::collections::BTreeSet;

use super::state::directory_refusal;
use crate::domain::limits::{GROUP_MEMBERS_MAX, MEMBERS_PER_CHANGE_MAX};
use crate::domain::{Body, Member, Reason, Refusal, Role, Roster, UserId};
use crate::storage::Directory;

/// The entry that makes `members` what they should be.
pub(super) fn plan_set(roster: &Roster, members: &[Member]) -> Result<Body, Refusal> {
    if members.is_empty() || members.len() > MEMBERS_PER_CHANGE_MAX {
        let message = format!("1 to {MEMBERS_PER_CHANGE_MAX} members at a time; nothing was changed");
        return Err(Refusal::invalid("members", message));
    }
    refuse_repeated(members)?;
    let added = members
        .iter()
        .filter(|member| roster.role(&member.user).is_none())
        .count();
    if roster.len() + added > GROUP_MEMBERS_MAX {
        return Err(group_full());
    }
    if members
        .iter()
        .all(|member| roster.role(&member.user) == Some(member.role))
    {
        let message = "they are members with these roles already; nothing was changed";
        return Err(Refusal::not_done(Reason::AlreadyExists, message));
    }
    if !has_owner_after(roster, members) {
        return Err(Refusal::forbidden("a group needs an owner; nothing was changed"));
    }
    Ok(Body::Members(members.to_vec()))
}

fn has_owner_after(roster: &Roster, members: &[Member]) -> bool {
    let demoted: BTreeSet<&UserId> = members.iter().map(|member| &member.user).collect();
    members.iter().any(|member| member.role == Role::Owner)
        || roster
            .members()
            .any(|(user, role)| role == Role::Owner && !demoted.contains(user))
}

/// The entry that ends a membership; names the heir when the last owner goes.
pub(super) fn plan_remove(roster: &Roster, user: &UserId, by: Option<&UserId>) -> Body {
    Body::Left {
        user: user.clone(),
        removed: by != Some(user),
        promoted: roster.heir_of(user),
    }
}

/// Members of a new conversation: no repetition, at most 500 with the owner.
pub(super) fn check_first(members: &[Member]) -> Result<(), Refusal> {
    refuse_repeated(members)?;
    if members.len() > GROUP_MEMBERS_MAX {
        return Err(group_full());
    }
    Ok(())
}

fn refuse_repeated(members: &[Member]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    match members.iter().find(|member| !seen.insert(&member.user)) {
        Some(member) => {
            let message = format!("{} is listed twice; nothing was changed", member.user);
            Err(Refusal::invalid("members", message))
        }
        None => Ok(()),
    }
}

fn group_full() -> Refusal {
    let message = format!("a group has at most {GROUP_MEMBERS_MAX} members; nothing was changed");
    Refusal::not_done(Reason::LimitReached, message)
}

/// Users who are about to join must exist, and have no block with who adds them.
pub(super) async fn check_joining(
    directory: &dyn Directory,
    by: Option<&UserId>,
    joining: &[UserId],
) -> Result<(), Refusal> {
    if joining.is_empty() {
        return Ok(());
    }
    let known = directory.users(joining).await.map_err(directory_refusal)?;
    if let Some(missing) = joining
        .iter()
        .find(|user| !known.iter().any(|record| record.id == **user))
    {
        return Err(Refusal::not_done(Reason::NotFound, format!("no such user: {missing}")));
    }
    let Some(by) = by else { return Ok(()) };
    let others: Vec<UserId> = joining.iter().filter(|user| *user != by).cloned().collect();
    let blocked = directory.blocked_among(by, &others).await.map_err(directory_refusal)?;
    match blocked.first() {
        Some(user) => Err(Refusal::not_done(
            Reason::Blocked,
            format!("there is a block between you and {user}"),
        )),
        None => Ok(()),
    }
}
