//! `Directory` on SQLite: one file, one writer, a few readers.

mod conversations;
mod devices;
mod error;
mod open;
mod projection;
mod revocations;
mod sql;
mod users;
mod views;

#[cfg(test)]
mod tests;

pub use open::{Patience, SqliteDirectory};

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::{ConversationId, DeviceId, UnixMillis, UserId};
use crate::storage::{
    ConversationRecord, ConversationView, DeviceRecord, Directory, DirectoryError, NewConversation, Projection,
    Revocation, Settings, SettingsPatch, UserRecord,
};

type Result<T> = std::result::Result<T, DirectoryError>;

#[async_trait]
impl Directory for SqliteDirectory {
    async fn upsert_user(&self, id: &UserId, display_name: &str, now: UnixMillis) -> Result<UserRecord> {
        self.in_time(users::upsert(self.writer(), id, display_name, now)).await
    }

    async fn ensure_user(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        self.in_time(users::ensure(self, id, now)).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>> {
        self.in_time(users::by_id(self.readers(), ids)).await
    }

    async fn list_users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<UserRecord>> {
        self.in_time(users::list(self.readers(), after, limit)).await
    }

    async fn set_deactivated(&self, id: &UserId, deactivated: bool, now: UnixMillis) -> Result<UserRecord> {
        self.in_time(users::set_deactivated(self.writer(), id, deactivated, now))
            .await
    }

    async fn revoke_tokens(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        self.in_time(revocations::revoke(self.writer(), id, now)).await
    }

    async fn revocations(
        &self,
        since: UnixMillis,
        after: Option<&Revocation>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        self.in_time(revocations::list(self.readers(), since, after, limit))
            .await
    }

    async fn touch_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<()> {
        self.in_time(devices::touch(self.writer(), user, device, now)).await
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>> {
        self.in_time(devices::list(self.readers(), user)).await
    }

    async fn remove_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<bool> {
        self.in_time(devices::remove(self.writer(), user, device, now)).await
    }

    async fn device_removed_at(&self, user: &UserId, device: &DeviceId) -> Result<Option<UnixMillis>> {
        self.in_time(devices::removed_at(self.readers(), user, device)).await
    }

    async fn set_block(&self, user: &UserId, target: &UserId, blocked: bool) -> Result<()> {
        self.in_time(users::set_block(self.writer(), user, target, blocked))
            .await
    }

    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>> {
        self.in_time(users::blocks(self.readers(), user)).await
    }

    async fn blocked_among(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.in_time(users::blocked_among(self.readers(), user, others)).await
    }

    async fn create_conversation(&self, new: NewConversation) -> Result<ConversationRecord> {
        self.in_time(conversations::create(self.writer(), new)).await
    }

    async fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>> {
        self.in_time(conversations::read(self.readers(), id)).await
    }

    async fn list_conversations(&self, after: Option<ConversationId>, limit: usize) -> Result<Vec<ConversationId>> {
        self.in_time(conversations::list(self.readers(), after, limit)).await
    }

    async fn apply(&self, id: ConversationId, projection: Projection) -> Result<()> {
        self.in_time(projection::apply(self.writer(), id, projection)).await
    }

    async fn views(&self, user: &UserId, ids: &[ConversationId]) -> Result<BTreeMap<ConversationId, ConversationView>> {
        self.in_time(views::views(self.readers(), user, ids)).await
    }

    async fn update_settings(&self, user: &UserId, id: ConversationId, patch: SettingsPatch) -> Result<Settings> {
        self.in_time(views::update_settings(self.writer(), user, id, patch))
            .await
    }

    async fn sharing(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.in_time(views::sharing(self.readers(), user, others)).await
    }
}
