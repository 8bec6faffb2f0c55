//! A directory with a memory for what every hello and every call asks: who a user is, whether a device is known, and what
//! lists show.
//!
//! It must be the only way by which its process writes to the directory, and its process the only writer: then what it
//! remembers is what is stored. A write goes on when whoever asked for it does not wait any more, and is forgotten about
//! only once it ended.

mod memory;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use self::memory::{Memory, Subject};
use super::directory::{
    ConversationRecord, ConversationView, DeviceRecord, Directory, DirectoryError, NewConversation, Projection,
    Revocation, Settings, SettingsPatch, UserRecord,
};
use crate::domain::{ClientMsgId, ConversationId, DeviceId, Sender, UnixMillis, UserId};

type Result<T> = std::result::Result<T, DirectoryError>;

/// See the module.
pub struct RememberedDirectory {
    directory: Arc<dyn Directory>,
    memory: Arc<Mutex<Memory>>,
    /// Hellos of a device within this of the last one are not written down again.
    touch_every: Duration,
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    // A panic elsewhere leaves the memory whole: every change is a single call.
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RememberedDirectory {
    /// Remembers what is read from `directory`. The time of a device's last hello is exact to `touch_every`.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, touch_every: Duration) -> Self {
        Self {
            directory,
            memory: Arc::new(Mutex::new(Memory::new())),
            touch_every,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// Writes, as a task of its own: a write that nobody waits for any more still happens, and must be forgotten about
    /// behind it.
    async fn write<T, Writing>(
        &self,
        subject: Subject,
        write: impl FnOnce(Arc<dyn Directory>) -> Writing + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        Writing: Future<Output = Result<T>> + Send + 'static,
    {
        let (directory, memory) = (Arc::clone(&self.directory), Arc::clone(&self.memory));
        let writing = tokio::spawn(async move {
            let written = write(directory).await;
            let certain = !matches!(written, Err(DirectoryError::Unavailable(_)));
            lock(&memory).wrote(&subject, certain);
            written
        });
        writing
            .await
            .unwrap_or_else(|error| Err(DirectoryError::Unavailable(error.to_string())))
    }
}

#[async_trait]
impl Directory for RememberedDirectory {
    async fn upsert_user(&self, id: &UserId, display_name: &str, now: UnixMillis) -> Result<UserRecord> {
        let (user, name) = (id.clone(), display_name.to_owned());
        self.write(Subject::User(id.clone()), async move |directory| {
            directory.upsert_user(&user, &name, now).await
        })
        .await
    }

    async fn ensure_user(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        let reading = {
            let mut memory = self.lock();
            if let Some(record) = memory.user(id) {
                return Ok(record);
            }
            memory.reading()
        };
        let record = self.directory.ensure_user(id, now).await?;
        self.lock().note_user(&record, reading);
        Ok(record)
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>> {
        let [id] = ids else {
            return self.directory.users(ids).await;
        };
        let reading = {
            let mut memory = self.lock();
            if let Some(record) = memory.user(id) {
                return Ok(vec![record]);
            }
            memory.reading()
        };
        let records = self.directory.users(ids).await?;
        if let [record] = records.as_slice() {
            self.lock().note_user(record, reading);
        }
        Ok(records)
    }

    async fn list_users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<UserRecord>> {
        self.directory.list_users(after, limit).await
    }

    async fn set_deactivated(&self, id: &UserId, deactivated: bool, now: UnixMillis) -> Result<UserRecord> {
        let user = id.clone();
        self.write(Subject::User(id.clone()), async move |directory| {
            directory.set_deactivated(&user, deactivated, now).await
        })
        .await
    }

    async fn revoke_tokens(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        let user = id.clone();
        self.write(Subject::User(id.clone()), async move |directory| {
            directory.revoke_tokens(&user, now).await
        })
        .await
    }

    async fn revocations(
        &self,
        since: UnixMillis,
        after: Option<&Revocation>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let revocations = self.directory.revocations(since, after, limit).await?;
        self.lock().revoked(&revocations);
        Ok(revocations)
    }

    async fn touch_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<()> {
        let every = i64::try_from(self.touch_every.as_millis()).unwrap_or(i64::MAX);
        let reading = {
            let memory = self.lock();
            let touched = memory.device(user, device).touched;
            if touched.is_some_and(|touched| (0..every).contains(&(now.0 - touched.0))) {
                return Ok(());
            }
            memory.reading()
        };
        self.directory.touch_device(user, device, now).await?;
        self.lock()
            .note_device(user, device, reading, |device| device.touched = Some(now));
        Ok(())
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>> {
        self.directory.devices(user).await
    }

    async fn remove_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<bool> {
        let (of_user, removed) = (user.clone(), device.clone());
        self.write(Subject::User(user.clone()), async move |directory| {
            directory.remove_device(&of_user, &removed, now).await
        })
        .await
    }

    async fn device_removed_at(&self, user: &UserId, device: &DeviceId) -> Result<Option<UnixMillis>> {
        let reading = {
            let memory = self.lock();
            if let Some(removed) = memory.device(user, device).removed {
                return Ok(removed);
            }
            memory.reading()
        };
        let removed = self.directory.device_removed_at(user, device).await?;
        self.lock()
            .note_device(user, device, reading, |device| device.removed = Some(removed));
        Ok(removed)
    }

    async fn set_block(&self, user: &UserId, target: &UserId, blocked: bool) -> Result<()> {
        self.directory.set_block(user, target, blocked).await
    }

    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>> {
        self.directory.blocks(user).await
    }

    async fn blocked_among(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.directory.blocked_among(user, others).await
    }

    async fn create_conversation(&self, new: NewConversation) -> Result<ConversationRecord> {
        self.directory.create_conversation(new).await
    }

    async fn requested(&self, creator: &Sender, id: &ClientMsgId) -> Result<Option<ConversationId>> {
        self.directory.requested(creator, id).await
    }

    async fn direct(&self, one: &UserId, other: &UserId) -> Result<Option<ConversationId>> {
        self.directory.direct(one, other).await
    }

    async fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>> {
        self.directory.conversation(id).await
    }

    async fn list_conversations(&self, after: Option<ConversationId>, limit: usize) -> Result<Vec<ConversationId>> {
        self.directory.list_conversations(after, limit).await
    }

    async fn apply(&self, id: ConversationId, projection: Projection) -> Result<()> {
        let Some(subject) = Subject::of_projection(id, &projection) else {
            return self.directory.apply(id, projection).await;
        };
        self.write(subject, async move |directory| directory.apply(id, projection).await)
            .await
    }

    async fn views(&self, user: &UserId, ids: &[ConversationId]) -> Result<BTreeMap<ConversationId, ConversationView>> {
        let (mut views, mut missing) = (BTreeMap::new(), Vec::new());
        let reading = {
            let mut memory = self.lock();
            for id in ids {
                match memory.view(user, *id) {
                    Some(view) => drop(views.insert(*id, view)),
                    None => missing.push(*id),
                }
            }
            memory.reading()
        };
        if !missing.is_empty() {
            let found = self.directory.views(user, &missing).await?;
            self.lock().note_views(user, &found, reading);
            views.extend(found);
        }
        Ok(views)
    }

    async fn update_settings(&self, user: &UserId, id: ConversationId, patch: SettingsPatch) -> Result<Settings> {
        let of_user = user.clone();
        self.write(Subject::View(user.clone(), id), async move |directory| {
            directory.update_settings(&of_user, id, patch).await
        })
        .await
    }

    async fn sharing(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.directory.sharing(user, others).await
    }
}
