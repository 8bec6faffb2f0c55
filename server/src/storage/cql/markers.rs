//! `Markers` on CQL servers.

use async_trait::async_trait;
use tracing::debug;

use super::CqlStore;
use crate::domain::{ConversationId, DeviceId, MarkerSet, Seq, UserId};
use crate::storage::{ChangeStamp, FanoutRecord, InboxHead, InboxRow, MarkerError, MarkerRaise, Markers};

type Result<T> = std::result::Result<T, MarkerError>;

#[async_trait]
impl Markers for CqlStore {
    async fn raise(&self, raises: Vec<MarkerRaise>) -> Result<()> {
        Ok(self.inner.raise_all(raises).await?)
    }

    async fn get(&self, user: &UserId, conversation: ConversationId) -> Result<MarkerSet> {
        let sets = self.inner.markers_of(user, &[conversation]).await?;
        Ok(sets.into_iter().next().unwrap_or_default())
    }

    async fn get_many(&self, user: &UserId, conversations: &[ConversationId]) -> Result<Vec<MarkerSet>> {
        Ok(self.inner.markers_of(user, conversations).await?)
    }

    async fn of_users(&self, conversation: ConversationId, users: &[UserId]) -> Result<Vec<MarkerSet>> {
        Ok(self.inner.markers_in(conversation, users).await?)
    }

    async fn device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Seq>> {
        Ok(self.inner.positions_of(user, device, conversations).await?)
    }

    async fn set_device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        positions: &[(ConversationId, Seq)],
    ) -> Result<()> {
        Ok(self.inner.set_positions(user, device, positions).await?)
    }

    async fn forget_device(&self, user: &UserId, device: &DeviceId) -> Result<()> {
        Ok(self.inner.forget(user, device).await?)
    }

    async fn synced(&self, user: &UserId, device: &DeviceId) -> Result<ChangeStamp> {
        Ok(self.inner.synced_of(user, device).await?)
    }

    async fn raise_synced(&self, user: &UserId, device: &DeviceId, change: ChangeStamp) {
        // A hint: the next hello begins earlier.
        if let Err(error) = self.inner.raise_synced_of(user, device, change).await {
            debug!(%error, "a synced stamp was not stored");
        }
    }

    async fn raise_inbox(
        &self,
        users: &[UserId],
        conversation: ConversationId,
        head: InboxHead,
        touch: bool,
    ) -> Result<()> {
        Ok(self.inner.raise_rows(users, conversation, head, touch).await?)
    }

    async fn record_fanout(&self, conversation: ConversationId, record: FanoutRecord) -> Result<()> {
        Ok(self.inner.record(conversation, record).await?)
    }

    async fn inbox_changes(&self, user: &UserId, after: ChangeStamp, limit: usize) -> Result<Vec<InboxRow>> {
        let mut rows = self.inner.inbox_of(user).await?;
        rows.retain(|row| row.change > after);
        rows.truncate(limit);
        Ok(rows)
    }

    async fn inbox_newest(&self, user: &UserId, limit: usize) -> Result<Vec<InboxRow>> {
        let mut rows = self.inner.inbox_of(user).await?;
        rows.reverse();
        rows.truncate(limit);
        Ok(rows)
    }

    async fn inbox_row(&self, user: &UserId, conversation: ConversationId) -> Result<Option<InboxRow>> {
        Ok(self.inner.inbox_row_of(user, conversation).await?)
    }

    fn store_id(&self) -> [u8; 16] {
        self.inner.store_id
    }

    fn newest_change(&self) -> ChangeStamp {
        self.inner.stamps.newest()
    }

    fn may_have_given(&self, change: ChangeStamp) -> bool {
        self.inner.stamps.may_be(change)
    }

    fn settled(&self, newest: ChangeStamp) -> ChangeStamp {
        self.inner.stamps.settled(newest)
    }
}
