//! Markers and the inbox index in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MemoryStore;
use crate::domain::{ConversationId, DeviceId, MarkerSet, Seq, UserId};
use crate::storage::rules::raised_head;
use crate::storage::{ChangeStamp, InboxHead, InboxRow, MarkerError, MarkerRaise, Markers};

type Result<T> = std::result::Result<T, MarkerError>;

/// Everything of every user.
#[derive(Default)]
pub(super) struct Registers {
    users: BTreeMap<UserId, OfUser>,
    newest_change: ChangeStamp,
}

#[derive(Default)]
struct OfUser {
    markers: BTreeMap<ConversationId, MarkerSet>,
    positions: BTreeMap<DeviceId, BTreeMap<ConversationId, Seq>>,
    synced: BTreeMap<DeviceId, ChangeStamp>,
    inbox: BTreeMap<ConversationId, InboxRow>,
    changes: BTreeMap<ChangeStamp, ConversationId>,
}

impl OfUser {
    fn marker(&self, conversation: ConversationId) -> MarkerSet {
        self.markers.get(&conversation).copied().unwrap_or_default()
    }

    fn position(&self, device: &DeviceId, conversation: ConversationId) -> Seq {
        let of_device = self.positions.get(device);
        of_device
            .and_then(|of_device| of_device.get(&conversation))
            .copied()
            .unwrap_or_default()
    }

    fn set_position(&mut self, device: &DeviceId, conversation: ConversationId, seq: Seq) {
        self.positions
            .entry(device.clone())
            .or_default()
            .insert(conversation, seq);
    }

    fn raise(&mut self, raise: &MarkerRaise) {
        let markers = self.markers.entry(raise.conversation).or_default();
        *markers = markers.merge(raise.markers);
        if let Some((device, seq)) = &raise.device {
            let raised = self.position(device, raise.conversation).max(*seq);
            self.set_position(device, raise.conversation, raised);
        }
    }

    fn set_row(&mut self, row: InboxRow) {
        if let Some(before) = self.inbox.insert(row.conversation, row) {
            self.changes.remove(&before.change);
        }
        self.changes.insert(row.change, row.conversation);
    }

    fn row_of(&self, conversation: &ConversationId) -> Option<InboxRow> {
        self.inbox.get(conversation).copied()
    }
}

impl MemoryStore {
    fn of_user<T: Default>(&self, user: &UserId, read: impl FnOnce(&OfUser) -> T) -> T {
        self.registers().users.get(user).map_or_else(T::default, read)
    }

    fn change_user(&self, user: &UserId, change: impl FnOnce(&mut OfUser)) {
        change(self.registers().users.entry(user.clone()).or_default());
    }
}

#[async_trait]
impl Markers for MemoryStore {
    async fn raise(&self, raises: Vec<MarkerRaise>) -> Result<()> {
        for raise in &raises {
            self.change_user(&raise.user, |of_user| of_user.raise(raise));
        }
        Ok(())
    }

    async fn get(&self, user: &UserId, conversation: ConversationId) -> Result<MarkerSet> {
        Ok(self.of_user(user, |of_user| of_user.marker(conversation)))
    }

    async fn get_many(&self, user: &UserId, conversations: &[ConversationId]) -> Result<Vec<MarkerSet>> {
        let get = |id: &ConversationId| self.of_user(user, |of_user| of_user.marker(*id));
        Ok(conversations.iter().map(get).collect())
    }

    async fn of_users(&self, conversation: ConversationId, users: &[UserId]) -> Result<Vec<MarkerSet>> {
        let get = |user: &UserId| self.of_user(user, |of_user| of_user.marker(conversation));
        Ok(users.iter().map(get).collect())
    }

    async fn device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Seq>> {
        let get = |id: &ConversationId| self.of_user(user, |of_user| of_user.position(device, *id));
        Ok(conversations.iter().map(get).collect())
    }

    async fn set_device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        positions: &[(ConversationId, Seq)],
    ) -> Result<()> {
        for (conversation, seq) in positions {
            self.change_user(user, |of_user| {
                if *seq < of_user.position(device, *conversation) {
                    of_user.synced.remove(device);
                }
                of_user.set_position(device, *conversation, *seq);
            });
        }
        Ok(())
    }

    async fn forget_device(&self, user: &UserId, device: &DeviceId) -> Result<()> {
        self.change_user(user, |of_user| {
            of_user.positions.remove(device);
            of_user.synced.remove(device);
        });
        Ok(())
    }

    async fn synced(&self, user: &UserId, device: &DeviceId) -> Result<ChangeStamp> {
        Ok(self.of_user(user, |of_user| of_user.synced.get(device).copied().unwrap_or_default()))
    }

    async fn raise_synced(&self, user: &UserId, device: &DeviceId, change: ChangeStamp) {
        self.change_user(user, |of_user| {
            let synced = of_user.synced.entry(device.clone()).or_default();
            *synced = change.max(*synced);
        });
    }

    async fn raise_inbox(
        &self,
        users: &[UserId],
        conversation: ConversationId,
        head: InboxHead,
        touch: bool,
    ) -> Result<()> {
        let mut registers = self.registers();
        let Registers {
            users: all,
            newest_change,
        } = &mut *registers;
        for user in users {
            let of_user = all.entry(user.clone()).or_default();
            let before = of_user.row_of(&conversation).map(|row| row.head);
            if let Some(head) = raised_head(before, head, touch) {
                newest_change.0 += 1;
                of_user.set_row(InboxRow {
                    conversation,
                    head,
                    change: *newest_change,
                });
            }
        }
        Ok(())
    }

    async fn inbox_changes(&self, user: &UserId, after: ChangeStamp, limit: usize) -> Result<Vec<InboxRow>> {
        Ok(self.of_user(user, |of_user| {
            let changed = of_user
                .changes
                .range(ChangeStamp(after.0.saturating_add(1))..)
                .take(limit);
            changed
                .filter_map(|(_, conversation)| of_user.row_of(conversation))
                .collect()
        }))
    }

    async fn inbox_newest(&self, user: &UserId, limit: usize) -> Result<Vec<InboxRow>> {
        Ok(self.of_user(user, |of_user| {
            let newest = of_user.changes.values().rev().take(limit);
            newest.filter_map(|conversation| of_user.row_of(conversation)).collect()
        }))
    }

    async fn inbox_row(&self, user: &UserId, conversation: ConversationId) -> Result<Option<InboxRow>> {
        Ok(self.of_user(user, |of_user| of_user.row_of(&conversation)))
    }

    fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    fn newest_change(&self) -> ChangeStamp {
        self.registers().newest_change
    }
}
