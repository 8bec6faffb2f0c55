//! The directory as one node sees it: it fails now and then, and half of the failed writes happened; or it is out.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use stonechat_server::domain::{ClientMsgId, ConversationId, DeviceId, Sender, UnixMillis, UserId};
use stonechat_server::storage::{
    ConversationRecord, ConversationView, DeviceRecord, Directory, DirectoryError, NewConversation, Projection,
    Revocation, Settings, SettingsPatch, UserRecord,
};

use super::gate::Gate;
use super::weather::{Store, Weather};

type Result<T> = std::result::Result<T, DirectoryError>;

/// The directory of one node.
pub(super) struct NodeDirectory {
    inner: Arc<dyn Directory>,
    gate: Arc<Gate>,
    weather: Weather,
}

fn out<T>() -> Result<T> {
    Err(DirectoryError::Unavailable("the directory is out".to_owned()))
}

impl NodeDirectory {
    pub(super) fn new(inner: Arc<dyn Directory>, gate: Arc<Gate>, weather: Weather) -> Self {
        Self { inner, gate, weather }
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.gate.pass().await;
        if self.fails() { out() } else { read.await }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.gate.pass().await;
        if !self.fails() {
            return write.await;
        }
        // A store that is out does nothing; one that fails now and then may have done it.
        if !self.weather.is_out(Store::Directory) && self.weather.dice.below(2) == 0 {
            write.await?;
        }
        out()
    }

    fn fails(&self) -> bool {
        let faults = self.weather.faults();
        self.weather.is_out(Store::Directory)
            || self
                .weather
                .strikes(faults.side_stores, "calls of the directory that failed")
    }
}

#[async_trait]
impl Directory for NodeDirectory {
    async fn upsert_user(&self, id: &UserId, display_name: &str, now: UnixMillis) -> Result<UserRecord> {
        self.write(self.inner.upsert_user(id, display_name, now)).await
    }

    async fn ensure_user(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        self.write(self.inner.ensure_user(id, now)).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>> {
        self.read(self.inner.users(ids)).await
    }

    async fn list_users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<UserRecord>> {
        self.read(self.inner.list_users(after, limit)).await
    }

    async fn set_deactivated(&self, id: &UserId, deactivated: bool, now: UnixMillis) -> Result<UserRecord> {
        self.write(self.inner.set_deactivated(id, deactivated, now)).await
    }

    async fn revoke_tokens(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        self.write(self.inner.revoke_tokens(id, now)).await
    }

    async fn revocations(
        &self,
        since: UnixMillis,
        after: Option<&Revocation>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        self.read(self.inner.revocations(since, after, limit)).await
    }

    async fn touch_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<()> {
        self.write(self.inner.touch_device(user, device, now)).await
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>> {
        self.read(self.inner.devices(user)).await
    }

    async fn remove_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<bool> {
        self.write(self.inner.remove_device(user, device, now)).await
    }

    async fn device_removed_at(&self, user: &UserId, device: &DeviceId) -> Result<Option<UnixMillis>> {
        self.read(self.inner.device_removed_at(user, device)).await
    }

    async fn set_block(&self, user: &UserId, target: &UserId, blocked: bool) -> Result<()> {
        self.write(self.inner.set_block(user, target, blocked)).await
    }

    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>> {
        self.read(self.inner.blocks(user)).await
    }

    async fn blocked_among(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.read(self.inner.blocked_among(user, others)).await
    }

    async fn create_conversation(&self, new: NewConversation) -> Result<ConversationRecord> {
        self.write(self.inner.create_conversation(new)).await
    }

    async fn requested(&self, creator: &Sender, id: &ClientMsgId) -> Result<Option<ConversationId>> {
        self.read(self.inner.requested(creator, id)).await
    }

    async fn direct(&self, one: &UserId, other: &UserId) -> Result<Option<ConversationId>> {
        self.read(self.inner.direct(one, other)).await
    }

    async fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>> {
        self.read(self.inner.conversation(id)).await
    }

    async fn list_conversations(&self, after: Option<ConversationId>, limit: usize) -> Result<Vec<ConversationId>> {
        self.read(self.inner.list_conversations(after, limit)).await
    }

    async fn apply(&self, id: ConversationId, projection: Projection) -> Result<()> {
        self.write(self.inner.apply(id, projection)).await
    }

    async fn views(&self, user: &UserId, ids: &[ConversationId]) -> Result<BTreeMap<ConversationId, ConversationView>> {
        self.read(self.inner.views(user, ids)).await
    }

    async fn update_settings(&self, user: &UserId, id: ConversationId, patch: SettingsPatch) -> Result<Settings> {
        self.write(self.inner.update_settings(user, id, patch)).await
    }

    async fn sharing(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.read(self.inner.sharing(user, others)).await
    }
}
