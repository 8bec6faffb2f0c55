//! Markers that are out for a while: the real ones behind them stay right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::domain::{ConversationId, DeviceId, MarkerSet, Seq, UserId};
use crate::storage::{ChangeStamp, InboxHead, InboxRow, MarkerError, MarkerRaise, Markers};

type Result<T> = std::result::Result<T, MarkerError>;

pub(super) struct FailingMarkers {
    pub(super) inner: Arc<dyn Markers>,
    /// Nothing is written while it is set.
    pub(super) out: Arc<AtomicBool>,
}

impl FailingMarkers {
    fn writable(&self) -> Result<()> {
        if self.out.load(Ordering::Relaxed) {
            return Err(MarkerError("the store is out".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Markers for FailingMarkers {
    async fn raise(&self, raises: Vec<MarkerRaise>) -> Result<()> {
        self.writable()?;
        self.inner.raise(raises).await
    }

    async fn get(&self, user: &UserId, conversation: ConversationId) -> Result<MarkerSet> {
        self.inner.get(user, conversation).await
    }

    async fn get_many(&self, user: &UserId, conversations: &[ConversationId]) -> Result<Vec<MarkerSet>> {
        self.inner.get_many(user, conversations).await
    }

    async fn of_users(&self, conversation: ConversationId, users: &[UserId]) -> Result<Vec<MarkerSet>> {
        self.inner.of_users(conversation, users).await
    }

    async fn device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Seq>> {
        self.inner.device_positions(user, device, conversations).await
    }

    async fn set_device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        positions: &[(ConversationId, Seq)],
    ) -> Result<()> {
        self.writable()?;
        self.inner.set_device_positions(user, device, positions).await
    }

    async fn forget_device(&self, user: &UserId, device: &DeviceId) -> Result<()> {
        self.writable()?;
        self.inner.forget_device(user, device).await
    }

    async fn synced(&self, user: &UserId, device: &DeviceId) -> Result<ChangeStamp> {
        self.inner.synced(user, device).await
    }

    async fn raise_synced(&self, user: &UserId, device: &DeviceId, change: ChangeStamp) {
        self.inner.raise_synced(user, device, change).await;
    }

    async fn raise_inbox(
        &self,
        users: &[UserId],
        conversation: ConversationId,
        head: InboxHead,
        touch: bool,
    ) -> Result<()> {
        self.writable()?;
        self.inner.raise_inbox(users, conversation, head, touch).await
    }

    async fn inbox_changes(&self, user: &UserId, after: ChangeStamp, limit: usize) -> Result<Vec<InboxRow>> {
        self.inner.inbox_changes(user, after, limit).await
    }

    async fn inbox_newest(&self, user: &UserId, limit: usize) -> Result<Vec<InboxRow>> {
        self.inner.inbox_newest(user, limit).await
    }

    async fn inbox_row(&self, user: &UserId, conversation: ConversationId) -> Result<Option<InboxRow>> {
        self.inner.inbox_row(user, conversation).await
    }

    fn store_id(&self) -> [u8; 16] {
        self.inner.store_id()
    }

    fn newest_change(&self) -> ChangeStamp {
        self.inner.newest_change()
    }
}
