//! `Directory` on SQL databases: one text of each statement for all of them. What differs stands in `sqlite.rs` and
//! `postgres.rs`.

mod conversations;
mod db;
mod devices;
mod error;
mod facts;
mod migrations;
mod postgres;
mod projection;
mod revocations;
mod sqlite;
mod turns;
mod users;
mod values;
mod views;

#[cfg(test)]
mod tests;

pub use facts::PostgresFacts;
pub use postgres::PostgresDirectory;
pub use sqlite::{Patience, SqliteDirectory};
pub use turns::PostgresTurns;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Database, Pool};

use self::db::Db;
use self::error::Failed;

use crate::domain::{ClientMsgId, ConversationId, DeviceId, Sender, UnixMillis, UserId};
use crate::storage::{
    ConversationRecord, ConversationView, DeviceRecord, Directory, DirectoryError, NewConversation, Projection,
    Revocation, Settings, SettingsPatch, UserRecord,
};

type Result<T> = std::result::Result<T, DirectoryError>;

/// Attempts of a call that loses a race or its connection. A race is lost to one that was done, so that the next attempt
/// finds what that one wrote; the others are for connections that broke while nobody used them.
const ATTEMPTS_MAX: u32 = 4;

/// Users, devices, conversations in a SQL database.
pub struct SqlDirectory<D: Database> {
    writer: Pool<D>,
    readers: Pool<D>,
    /// For a whole call, waiting for a connection and every attempt included.
    patience: Duration,
}

impl<D: Database> SqlDirectory<D> {
    /// Waits for running calls, then closes the connections.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    pub(super) fn writer(&self) -> &Pool<D> {
        &self.writer
    }

    pub(super) fn readers(&self) -> &Pool<D> {
        &self.readers
    }

    /// Makes a call, again where that may help, and gives it up when it takes too long; its transaction is rolled back
    /// unless it was already committing.
    async fn run<T, F>(&self, call: impl Fn() -> F + Send) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Failed>> + Send,
    {
        match tokio::time::timeout(self.patience, attempts(call)).await {
            Ok(result) => result,
            Err(_) => Err(DirectoryError::Unavailable("no answer in time".to_owned())),
        }
    }
}

async fn attempts<T, F>(call: impl Fn() -> F + Send) -> Result<T>
where
    F: Future<Output = std::result::Result<T, Failed>> + Send,
{
    for _ in 1..ATTEMPTS_MAX {
        match call().await {
            Err(Failed::Again(_)) => {}
            other => return Ok(other?),
        }
    }
    Ok(call().await?)
}

#[async_trait]
impl<D: Db> Directory for SqlDirectory<D> {
    async fn upsert_user(&self, id: &UserId, display_name: &str, now: UnixMillis) -> Result<UserRecord> {
        self.run(|| users::upsert(self.writer(), id, display_name, now)).await
    }

    async fn ensure_user(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        self.run(|| users::ensure(self, id, now)).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>> {
        self.run(|| users::by_id(self.readers(), ids)).await
    }

    async fn list_users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<UserRecord>> {
        self.run(|| users::list(self.readers(), after, limit)).await
    }

    async fn set_deactivated(&self, id: &UserId, deactivated: bool, now: UnixMillis) -> Result<UserRecord> {
        self.run(|| users::set_deactivated(self.writer(), id, deactivated, now))
            .await
    }

    async fn revoke_tokens(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        self.run(|| revocations::revoke(self.writer(), id, now)).await
    }

    async fn revocations(
        &self,
        since: UnixMillis,
        after: Option<&Revocation>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        self.run(|| revocations::list(self.readers(), since, after, limit))
            .await
    }

    async fn touch_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<()> {
        self.run(|| devices::touch(self.writer(), user, device, now)).await
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>> {
        self.run(|| devices::list(self.readers(), user)).await
    }

    async fn remove_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<bool> {
        self.run(|| devices::remove(self.writer(), user, device, now)).await
    }

    async fn device_removed_at(&self, user: &UserId, device: &DeviceId) -> Result<Option<UnixMillis>> {
        self.run(|| devices::removed_at(self.readers(), user, device)).await
    }

    async fn set_block(&self, user: &UserId, target: &UserId, blocked: bool) -> Result<()> {
        self.run(|| users::set_block(self.writer(), user, target, blocked))
            .await
    }

    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>> {
        self.run(|| users::blocks(self.readers(), user)).await
    }

    async fn blocked_among(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.run(|| users::blocked_among(self.readers(), user, others)).await
    }

    async fn create_conversation(&self, new: NewConversation) -> Result<ConversationRecord> {
        self.run(|| conversations::create(self.writer(), &new)).await
    }

    async fn requested(&self, creator: &Sender, id: &ClientMsgId) -> Result<Option<ConversationId>> {
        self.run(|| conversations::requested(self.readers(), creator, id)).await
    }

    async fn direct(&self, one: &UserId, other: &UserId) -> Result<Option<ConversationId>> {
        self.run(|| conversations::direct(self.readers(), one, other)).await
    }

    async fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>> {
        self.run(|| conversations::read(self.readers(), id)).await
    }

    async fn list_conversations(&self, after: Option<ConversationId>, limit: usize) -> Result<Vec<ConversationId>> {
        self.run(|| conversations::list(self.readers(), after, limit)).await
    }

    async fn apply(&self, id: ConversationId, projection: Projection) -> Result<()> {
        self.run(|| projection::apply(self.writer(), id, &projection)).await
    }

    async fn views(&self, user: &UserId, ids: &[ConversationId]) -> Result<BTreeMap<ConversationId, ConversationView>> {
        self.run(|| views::views(self.readers(), user, ids)).await
    }

    async fn update_settings(&self, user: &UserId, id: ConversationId, patch: SettingsPatch) -> Result<Settings> {
        self.run(|| views::update_settings(self.writer(), user, id, patch))
            .await
    }

    async fn sharing(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.run(|| views::sharing(self.readers(), user, others)).await
    }
}
