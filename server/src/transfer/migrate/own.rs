//! What belongs to one user alone: the order of their list, their settings, what their devices have.

use std::collections::{BTreeMap, BTreeSet};

use super::{Migrated, Result, Route};
use crate::domain::{ConversationId, DeviceId, Seq, UserId};
use crate::storage::{ChangeStamp, InboxRow, Markers, Settings, SettingsPatch};

/// Inbox rows of one page.
const ROWS_PAGE: usize = 500;

/// A user's rows, oldest change first, without those of conversations that were not moved.
pub(super) struct Rows<'a> {
    pub(super) markers: &'a dyn Markers,
    pub(super) user: &'a UserId,
    pub(super) skipped: &'a BTreeSet<ConversationId>,
    pub(super) after: ChangeStamp,
}

impl Rows<'_> {
    /// The next page; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<InboxRow>>> {
        let mut page = self.markers.inbox_changes(self.user, self.after, ROWS_PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        self.after = last.change;
        page.retain(|row| !self.skipped.contains(&row.conversation));
        Ok(Some(page))
    }
}

/// Raised in the order of their changes, so that the list keeps its order.
pub(super) async fn copy(route: Route<'_>, user: &UserId, skipped: &BTreeSet<ConversationId>) -> Result<Migrated> {
    let devices = route.source.directory.devices(user).await?;
    let mut done = Migrated::default();
    let mut rows = Rows {
        markers: &*route.source.markers,
        user,
        skipped,
        after: ChangeStamp::default(),
    };
    while let Some(page) = rows.next().await? {
        for row in &page {
            done.rows += u64::from(raise(route, user, row).await?);
        }
        let ids: Vec<ConversationId> = page.iter().map(|row| row.conversation).collect();
        done.settings += copy_settings(route, user, &ids).await?;
        for device in &devices {
            done.positions += copy_positions(route, user, &device.id, &ids).await?;
        }
    }
    Ok(done)
}

/// True when the row was not there.
async fn raise(route: Route<'_>, user: &UserId, row: &InboxRow) -> Result<bool> {
    let markers = &route.target.markers;
    let there = markers.inbox_row(user, row.conversation).await?;
    if there.is_some_and(|there| there.head.seq >= row.head.seq) {
        return Ok(false);
    }
    // A row without a head is there because it was touched.
    let touch = row.head.seq == Seq::ZERO;
    let users = std::slice::from_ref(user);
    markers.raise_inbox(users, row.conversation, row.head, touch).await?;
    Ok(true)
}

/// A user's settings of these conversations.
pub(super) async fn settings(
    directory: &dyn crate::storage::Directory,
    user: &UserId,
    ids: &[ConversationId],
) -> Result<BTreeMap<ConversationId, Settings>> {
    let views = directory.views(user, ids).await?;
    Ok(views.into_iter().map(|(id, view)| (id, view.settings)).collect())
}

async fn copy_settings(route: Route<'_>, user: &UserId, ids: &[ConversationId]) -> Result<u64> {
    let ours = settings(&*route.source.directory, user, ids).await?;
    let theirs = settings(&*route.target.directory, user, ids).await?;
    let mut written = 0;
    for (id, ours) in ours {
        if theirs.get(&id) == Some(&ours) {
            continue;
        }
        let patch = SettingsPatch {
            muted_until: Some(ours.muted_until),
            archived: Some(ours.archived),
            unread_from: Some(ours.unread_from),
        };
        route.target.directory.update_settings(user, id, patch).await?;
        written += 1;
    }
    Ok(written)
}

/// Set outright: also what a device that lost its data had given up.
async fn copy_positions(route: Route<'_>, user: &UserId, device: &DeviceId, ids: &[ConversationId]) -> Result<u64> {
    let ours = route.source.markers.device_positions(user, device, ids).await?;
    let theirs = route.target.markers.device_positions(user, device, ids).await?;
    let both = ids.iter().zip(ours.into_iter().zip(theirs));
    let lacking: Vec<(ConversationId, Seq)> = both
        .filter(|(_, (ours, theirs))| ours != theirs)
        .map(|(id, (ours, _))| (*id, ours))
        .collect();
    if !lacking.is_empty() {
        route
            .target
            .markers
            .set_device_positions(user, device, &lacking)
            .await?;
    }
    Ok(lacking.len() as u64)
}
