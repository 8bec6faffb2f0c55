//! Markers that tell a test of each call, which may fail it; the real ones behind them stay right.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{ConversationId, DeviceId, MarkerSet, Seq, UserId};
use crate::storage::{ChangeStamp, InboxHead, InboxRow, MarkerError, MarkerRaise, Markers};

type Result<T> = std::result::Result<T, MarkerError>;

/// What a test does at each call.
#[async_trait]
pub(crate) trait Hook: Send + Sync {
    /// Something is read.
    fn read(&self, _what: &'static str) {}

    /// Something that its caller waits for is written, unless this fails.
    fn write(&self) -> Result<()> {
        Ok(())
    }

    /// It takes as long as this.
    async fn held(&self) {}
}

/// See the module.
pub(crate) struct HookedMarkers {
    /// The real ones.
    pub(crate) inner: Arc<dyn Markers>,
    /// Called before them.
    pub(crate) hook: Arc<dyn Hook>,
}

#[async_trait]
impl Markers for HookedMarkers {
    async fn raise(&self, raises: Vec<MarkerRaise>) -> Result<()> {
        self.hook.held().await;
        self.hook.write()?;
        self.inner.raise(raises).await
    }

    async fn get(&self, user: &UserId, conversation: ConversationId) -> Result<MarkerSet> {
        self.hook.read("get");
        self.inner.get(user, conversation).await
    }

    async fn get_many(&self, user: &UserId, conversations: &[ConversationId]) -> Result<Vec<MarkerSet>> {
        self.hook.read("get_many");
        self.inner.get_many(user, conversations).await
    }

    async fn of_users(&self, conversation: ConversationId, users: &[UserId]) -> Result<Vec<MarkerSet>> {
        self.hook.read("of_users");
        self.inner.of_users(conversation, users).await
    }

    async fn device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Seq>> {
        self.hook.read("device_positions");
        self.inner.device_positions(user, device, conversations).await
    }

    async fn set_device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        positions: &[(ConversationId, Seq)],
    ) -> Result<()> {
        self.hook.write()?;
        self.inner.set_device_positions(user, device, positions).await
    }

    async fn forget_device(&self, user: &UserId, device: &DeviceId) -> Result<()> {
        self.hook.write()?;
        self.inner.forget_device(user, device).await
    }

    async fn synced(&self, user: &UserId, device: &DeviceId) -> Result<ChangeStamp> {
        self.hook.read("synced");
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
        self.hook.held().await;
        self.hook.write()?;
        self.inner.raise_inbox(users, conversation, head, touch).await
    }

    async fn inbox_changes(&self, user: &UserId, after: ChangeStamp, limit: usize) -> Result<Vec<InboxRow>> {
        self.hook.read("inbox_changes");
        self.inner.inbox_changes(user, after, limit).await
    }

    async fn inbox_newest(&self, user: &UserId, limit: usize) -> Result<Vec<InboxRow>> {
        self.hook.read("inbox_newest");
        self.inner.inbox_newest(user, limit).await
    }

    async fn inbox_row(&self, user: &UserId, conversation: ConversationId) -> Result<Option<InboxRow>> {
        self.hook.read("inbox_row");
        self.inner.inbox_row(user, conversation).await
    }

    fn store_id(&self) -> [u8; 16] {
        self.inner.store_id()
    }

    fn newest_change(&self) -> ChangeStamp {
        self.inner.newest_change()
    }
}
