//! What log entries change in the directory's projection.

use crate::domain::{Body, Entry, Roster, UserId};
use crate::storage::Projection;

/// Whether the directory must learn of this entry.
pub(super) fn concerns_directory(entry: &Entry) -> bool {
    matches!(
        entry.body,
        Body::Created { .. }
            | Body::Members(_)
            | Body::Left { .. }
            | Body::Renamed(_)
            | Body::Pin { .. }
            | Body::Redacted { .. }
    )
}

/// Adds an entry to a projection; `roster` is the roster after it (or after a later entry: standings only grow).
pub(super) fn project(projection: &mut Projection, entry: &Entry, roster: &Roster) {
    projection.applied = projection.applied.max(entry.seq);
    match &entry.body {
        Body::Created { members, .. } | Body::Members(members) => {
            for member in members {
                take_standing(projection, &member.user, roster);
            }
        }
        Body::Left { user, promoted, .. } => {
            take_standing(projection, user, roster);
            if let Some(heir) = promoted {
                take_standing(projection, heir, roster);
            }
        }
        Body::Renamed(name) => projection.name = Some(name.clone()),
        Body::Pin { target, pinned } => projection.pins.push((*target, *pinned)),
        Body::Redacted { target, .. } => projection.pins.push((*target, false)),
        Body::Message(_) | Body::Edited { .. } | Body::Reaction { .. } | Body::Tombstone { .. } => {}
    }
}

fn take_standing(projection: &mut Projection, user: &UserId, roster: &Roster) {
    if let Some(standing) = roster.standing(user) {
        projection.standings.insert(user.clone(), standing.clone());
    }
}
