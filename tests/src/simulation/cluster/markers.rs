//! Markers and inbox as one node sees them: they fail now and then, and half of the failed writes happened; or they are out.

use std::sync::Arc;

use async_trait::async_trait;
use stonechat_server::domain::{ConversationId, DeviceId, MarkerSet, Seq, UserId};
use stonechat_server::storage::{ChangeStamp, InboxHead, InboxRow, MarkerError, MarkerRaise, Markers};

use super::gate::Gate;
use super::weather::{Store, Weather};

type Result<T> = std::result::Result<T, MarkerError>;

/// The markers of one node.
pub(super) struct NodeMarkers {
    inner: Arc<dyn Markers>,
    gate: Arc<Gate>,
    weather: Weather,
}

fn out<T>() -> Result<T> {
    Err(MarkerError("the store is out".to_owned()))
}

impl NodeMarkers {
    pub(super) fn new(inner: Arc<dyn Markers>, gate: Arc<Gate>, weather: Weather) -> Self {
        Self { inner, gate, weather }
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.gate.pass().await;
        if self.fails() { out() } else { read.await }
    }

    async fn write(&self, write: impl Future<Output = Result<()>> + Send) -> Result<()> {
        self.gate.pass().await;
        if !self.fails() {
            return write.await;
        }
        // A store that is out does nothing; one that fails now and then may have done it.
        if !self.weather.is_out(Store::Markers) && self.weather.dice.below(2) == 0 {
            write.await?;
        }
        out()
    }

    fn fails(&self) -> bool {
        let faults = self.weather.faults();
        self.weather.is_out(Store::Markers) || self.weather.strikes(faults.side_stores, "calls of markers that failed")
    }
}

#[async_trait]
impl Markers for NodeMarkers {
    async fn raise(&self, raises: Vec<MarkerRaise>) -> Result<()> {
        self.write(self.inner.raise(raises)).await
    }

    async fn get(&self, user: &UserId, conversation: ConversationId) -> Result<MarkerSet> {
        self.read(self.inner.get(user, conversation)).await
    }

    async fn get_many(&self, user: &UserId, conversations: &[ConversationId]) -> Result<Vec<MarkerSet>> {
        self.read(self.inner.get_many(user, conversations)).await
    }

    async fn of_users(&self, conversation: ConversationId, users: &[UserId]) -> Result<Vec<MarkerSet>> {
        self.read(self.inner.of_users(conversation, users)).await
    }

    async fn device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Seq>> {
        self.read(self.inner.device_positions(user, device, conversations))
            .await
    }

    async fn set_device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        positions: &[(ConversationId, Seq)],
    ) -> Result<()> {
        self.write(self.inner.set_device_positions(user, device, positions))
            .await
    }

    async fn forget_device(&self, user: &UserId, device: &DeviceId) -> Result<()> {
        self.write(self.inner.forget_device(user, device)).await
    }

    async fn synced(&self, user: &UserId, device: &DeviceId) -> Result<ChangeStamp> {
        self.read(self.inner.synced(user, device)).await
    }

    async fn raise_synced(&self, user: &UserId, device: &DeviceId, change: ChangeStamp) {
        self.gate.pass().await;
        self.inner.raise_synced(user, device, change).await;
    }

    async fn raise_inbox(
        &self,
        users: &[UserId],
        conversation: ConversationId,
        head: InboxHead,
        touch: bool,
    ) -> Result<()> {
        self.write(self.inner.raise_inbox(users, conversation, head, touch))
            .await
    }

    async fn inbox_changes(&self, user: &UserId, after: ChangeStamp, limit: usize) -> Result<Vec<InboxRow>> {
        self.read(self.inner.inbox_changes(user, after, limit)).await
    }

    async fn inbox_newest(&self, user: &UserId, limit: usize) -> Result<Vec<InboxRow>> {
        self.read(self.inner.inbox_newest(user, limit)).await
    }

    async fn inbox_row(&self, user: &UserId, conversation: ConversationId) -> Result<Option<InboxRow>> {
        self.read(self.inner.inbox_row(user, conversation)).await
    }

    fn store_id(&self) -> [u8; 16] {
        self.inner.store_id()
    }

    fn newest_change(&self) -> ChangeStamp {
        self.inner.newest_change()
    }
}
