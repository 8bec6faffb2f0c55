//! The conversation list: what changed for a user since a cursor, at a price that depends on the changes alone.

use super::receipts::require_user;
use super::state::{directory_refusal, marker_refusal};
use super::{Caller, Conversations, ListPage, OwnMarkers, Summary};
use crate::domain::authorization::Action;
use crate::domain::{ConversationId, DeviceId, MarkerSet, Reason, Refusal, Seq, UserId};
use crate::storage::{ChangeStamp, ConversationView, InboxRow, SettingsPatch};

/// A store's id, then the stamp, big-endian.
const CURSOR_BYTES: usize = 24;

impl Conversations {
    /// The caller's rows changed since `cursor` (empty: all), oldest change first. Holds everything acknowledged before
    /// the call.
    ///
    /// # Errors
    /// `ResyncRequired` when the cursor is of another store or damaged.
    pub async fn list(&self, caller: &Caller, cursor: &[u8], limit: usize) -> Result<ListPage, Refusal> {
        let user = require_user(caller)?;
        let after = self.read_cursor(cursor).ok_or_else(|| {
            let message = "the cursor is of another store or damaged; list again from nothing";
            Refusal::not_done(Reason::ResyncRequired, message)
        })?;
        self.core.barrier.wait_for_user(user).await;
        let mut rows = self
            .markers()
            .inbox_changes(user, after, limit + 1)
            .await
            .map_err(marker_refusal)?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let rows = self.with_positions(user, caller.device.as_ref(), rows).await?;
        self.list_page(user, after, &rows, has_more).await
    }

    /// The page of the list that these rows make, read after `after` in the user's changes; with each the position of the
    /// device that asks.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn list_page(
        &self,
        user: &UserId,
        after: ChangeStamp,
        rows: &[(InboxRow, Seq)],
        has_more: bool,
    ) -> Result<ListPage, Refusal> {
        let newest = rows.last().map_or(after, |(row, _)| row.change);
        // Who has everything starts again where nothing can appear any more (I5).
        let newest = if has_more {
            newest
        } else {
            self.markers().settled(newest)
        };
        Ok(ListPage {
            rows: self.summaries(user, rows).await?,
            next_cursor: self.write_cursor(newest),
            has_more,
        })
    }

    /// One row of a user's list; `None` when they have nothing to do with the conversation.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn summary(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        id: ConversationId,
    ) -> Result<Option<Summary>, Refusal> {
        self.core.barrier.wait_for(id).await;
        let row = self.markers().inbox_row(user, id).await.map_err(marker_refusal)?;
        let Some(row) = row else { return Ok(None) };
        let rows = self.with_positions(user, device, vec![row]).await?;
        Ok(self.summaries(user, &rows).await?.pop())
    }

    /// Rows with what the device has of each; 0 without a device.
    async fn with_positions(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        rows: Vec<InboxRow>,
    ) -> Result<Vec<(InboxRow, Seq)>, Refusal> {
        let positions = match device {
            Some(device) if !rows.is_empty() => {
                let ids: Vec<ConversationId> = rows.iter().map(|row| row.conversation).collect();
                let positions = self.markers().device_positions(user, device, &ids).await;
                positions.map_err(marker_refusal)?
            }
            _ => vec![Seq::ZERO; rows.len()],
        };
        Ok(rows.into_iter().zip(positions).collect())
    }

    /// The list rows of these inbox rows, in their order.
    async fn summaries(&self, user: &UserId, rows: &[(InboxRow, Seq)]) -> Result<Vec<Summary>, Refusal> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<ConversationId> = rows.iter().map(|(row, _)| row.conversation).collect();
        let directory = &self.core.backends.directory;
        let views = directory.views(user, &ids).await.map_err(directory_refusal)?;
        let sets = self.markers().get_many(user, &ids).await.map_err(marker_refusal)?;
        Ok(rows
            .iter()
            .zip(sets)
            .filter_map(|((row, device_seq), set)| summary_of(*row, views.get(&row.conversation)?, set, *device_seq))
            .collect())
    }

    /// Changes the caller's settings of a conversation.
    ///
    /// # Errors
    /// Hidden and absent answer alike.
    pub async fn update_settings(
        &self,
        caller: &Caller,
        id: ConversationId,
        patch: SettingsPatch,
    ) -> Result<Summary, Refusal> {
        let user = require_user(caller)?;
        self.fresh_state(id)
            .await?
            .authorize(&caller.actor, Action::Configure)?;
        let directory = &self.core.backends.directory;
        directory
            .update_settings(user, id, patch)
            .await
            .map_err(directory_refusal)?;
        self.own_row_changed(user, id).await?;
        let summary = self.summary(user, caller.device.as_ref(), id).await?;
        summary.ok_or_else(Refusal::no_conversation)
    }

    /// The stamp in `cursor`: zero for an empty one, `None` when it is of another store, damaged or from the future.
    #[must_use]
    pub fn read_cursor(&self, cursor: &[u8]) -> Option<ChangeStamp> {
        if cursor.is_empty() {
            return Some(ChangeStamp::default());
        }
        let (store, stamp) = cursor.split_at_checked(CURSOR_BYTES - 8)?;
        let change = ChangeStamp(u64::from_be_bytes(stamp.try_into().ok()?));
        (store == self.markers().store_id() && self.markers().may_have_given(change)).then_some(change)
    }

    /// The cursor that stands for a stamp.
    #[must_use]
    pub fn write_cursor(&self, change: ChangeStamp) -> Vec<u8> {
        let mut cursor = Vec::with_capacity(CURSOR_BYTES);
        cursor.extend_from_slice(&self.markers().store_id());
        cursor.extend_from_slice(&change.0.to_be_bytes());
        cursor
    }
}

fn summary_of(row: InboxRow, view: &ConversationView, set: MarkerSet, device_seq: Seq) -> Option<Summary> {
    let standing = view.standing.as_ref()?;
    let head = row.head.seq;
    let former_member = !standing.is_member();
    // The name of today is none of theirs (I7), and the directory keeps no other.
    let name = if former_member {
        String::new()
    } else {
        view.name.clone()
    };
    Some(Summary {
        id: row.conversation,
        kind: view.kind,
        name,
        peer: view.peer.clone(),
        head,
        activity: row.head.time,
        markers: OwnMarkers {
            conversation: row.conversation,
            delivered: set.delivered,
            read: set.read.seq,
            unread_from: view.settings.unread_from,
            unread_count: set.unread(row.head.ordinal),
        },
        settings: view.settings,
        former_member,
        first_available: standing.oldest_readable(),
        device_seq,
    })
}
