//! A directory with a memory for what every hello and every call asks: who a user is, and whether a device is known.
//!
//! It must be the only way by which its process writes to the directory, and its process the only writer: then what it
//! remembers is what is stored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quick_cache::unsync::Cache;

use super::directory::{
    ConversationRecord, ConversationView, DeviceRecord, Directory, DirectoryError, NewConversation, Projection,
    Revocation, Settings, SettingsPatch, UserRecord,
};
use crate::domain::{ConversationId, DeviceId, UnixMillis, UserId};

type Result<T> = std::result::Result<T, DirectoryError>;

/// Users that are remembered, about 300 bytes each: as many as a node has streams, several times over.
const USERS_MAX: usize = 50_000;
/// Devices of one user that are remembered; with more, all are forgotten and asked again.
const DEVICES_PER_USER_MAX: usize = 16;

/// What is known of a user.
#[derive(Clone)]
struct User {
    record: UserRecord,
    devices: BTreeMap<DeviceId, Device>,
}

/// What is known of a device.
#[derive(Clone, Copy, Default)]
struct Device {
    /// When its last hello was written down.
    touched: Option<UnixMillis>,
    /// When it was removed, if that is known.
    removed: Option<Option<UnixMillis>>,
}

struct Memory {
    users: Cache<UserId, User>,
    /// Writes so far: what was read before a write must not be remembered after it.
    writes: u64,
}

/// See the module.
pub struct RememberedDirectory {
    directory: Arc<dyn Directory>,
    memory: Mutex<Memory>,
    /// Hellos of a device within this of the last one are not written down again.
    touch_every: Duration,
}

impl RememberedDirectory {
    /// Remembers what is read from `directory`. The time of a device's last hello is exact to `touch_every`.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, touch_every: Duration) -> Self {
        let users = Cache::new(USERS_MAX);
        Self {
            directory,
            memory: Mutex::new(Memory { users, writes: 0 }),
            touch_every,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // A panic elsewhere leaves the memory whole: every change is a single call.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Something about the user was written, or may have been.
    fn forget(&self, user: &UserId) {
        let mut memory = self.lock();
        memory.writes += 1;
        memory.users.remove(user);
    }

    fn recall(&self, user: &UserId) -> Option<UserRecord> {
        self.lock().users.get(user).map(|known| known.record.clone())
    }

    fn recall_device(&self, user: &UserId, device: &DeviceId) -> Device {
        let memory = self.lock();
        let known = memory.users.peek(user);
        known
            .and_then(|known| known.devices.get(device))
            .copied()
            .unwrap_or_default()
    }

    /// Takes note of what was read when there had been so many writes.
    fn remember(&self, record: &UserRecord, writes: u64) {
        let mut memory = self.lock();
        if memory.writes == writes && memory.users.peek(&record.id).is_none() {
            let devices = BTreeMap::new();
            let user = User {
                record: record.clone(),
                devices,
            };
            memory.users.insert(record.id.clone(), user);
        }
    }

    fn remember_device(&self, user: &UserId, device: &DeviceId, writes: u64, note: impl FnOnce(&mut Device)) {
        let mut memory = self.lock();
        if memory.writes != writes {
            return;
        }
        let Some(mut known) = memory.users.get_mut(user) else {
            return;
        };
        if known.devices.len() >= DEVICES_PER_USER_MAX && !known.devices.contains_key(device) {
            known.devices.clear();
        }
        note(known.devices.entry(device.clone()).or_default());
    }
}

#[async_trait]
impl Directory for RememberedDirectory {
    async fn upsert_user(&self, id: &UserId, display_name: &str, now: UnixMillis) -> Result<UserRecord> {
        let written = self.directory.upsert_user(id, display_name, now).await;
        self.forget(id);
        written
    }

    async fn ensure_user(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        if let Some(record) = self.recall(id) {
            return Ok(record);
        }
        let writes = self.writes();
        let record = self.directory.ensure_user(id, now).await?;
        self.remember(&record, writes);
        Ok(record)
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>> {
        if let [id] = ids
            && let Some(record) = self.recall(id)
        {
            return Ok(vec![record]);
        }
        let writes = self.writes();
        let records = self.directory.users(ids).await?;
        if let ([_], [record]) = (ids, records.as_slice()) {
            self.remember(record, writes);
        }
        Ok(records)
    }

    async fn list_users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<UserRecord>> {
        self.directory.list_users(after, limit).await
    }

    async fn set_deactivated(&self, id: &UserId, deactivated: bool, now: UnixMillis) -> Result<UserRecord> {
        let written = self.directory.set_deactivated(id, deactivated, now).await;
        self.forget(id);
        written
    }

    async fn revoke_tokens(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        let written = self.directory.revoke_tokens(id, now).await;
        self.forget(id);
        written
    }

    async fn revocations(
        &self,
        since: UnixMillis,
        after: Option<&Revocation>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        self.directory.revocations(since, after, limit).await
    }

    async fn touch_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<()> {
        let every = i64::try_from(self.touch_every.as_millis()).unwrap_or(i64::MAX);
        let touched = self.recall_device(user, device).touched;
        if touched.is_some_and(|touched| (0..every).contains(&(now.0 - touched.0))) {
            return Ok(());
        }
        let writes = self.writes();
        self.directory.touch_device(user, device, now).await?;
        self.remember_device(user, device, writes, |device| device.touched = Some(now));
        Ok(())
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>> {
        self.directory.devices(user).await
    }

    async fn remove_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<bool> {
        let removed = self.directory.remove_device(user, device, now).await;
        self.forget(user);
        removed
    }

    async fn device_removed_at(&self, user: &UserId, device: &DeviceId) -> Result<Option<UnixMillis>> {
        if let Some(removed) = self.recall_device(user, device).removed {
            return Ok(removed);
        }
        let writes = self.writes();
        let removed = self.directory.device_removed_at(user, device).await?;
        self.remember_device(user, device, writes, |device| device.removed = Some(removed));
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

    async fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>> {
        self.directory.conversation(id).await
    }

    async fn list_conversations(&self, after: Option<ConversationId>, limit: usize) -> Result<Vec<ConversationId>> {
        self.directory.list_conversations(after, limit).await
    }

    async fn apply(&self, id: ConversationId, projection: Projection) -> Result<()> {
        self.directory.apply(id, projection).await
    }

    async fn views(&self, user: &UserId, ids: &[ConversationId]) -> Result<BTreeMap<ConversationId, ConversationView>> {
        self.directory.views(user, ids).await
    }

    async fn update_settings(&self, user: &UserId, id: ConversationId, patch: SettingsPatch) -> Result<Settings> {
        self.directory.update_settings(user, id, patch).await
    }

    async fn sharing(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        self.directory.sharing(user, others).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract::directory::directory_contract;
    use crate::storage::contract::samples::{device, user};
    use crate::storage::memory::directory::MemoryDirectory;

    fn remembered(touch_every: Duration) -> (Arc<MemoryDirectory>, RememberedDirectory) {
        let directory = Arc::new(MemoryDirectory::new());
        let below: Arc<dyn Directory> = Arc::clone(&directory) as _;
        (directory, RememberedDirectory::new(below, touch_every))
    }

    directory_contract!((Arc::new(remembered(Duration::ZERO).1), ()));

    /// I11: whoever was deactivated is not remembered as active.
    #[tokio::test]
    async fn what_is_written_is_not_remembered_as_it_was() {
        let (_below, directory) = remembered(Duration::ZERO);
        let ada = user("ada");
        directory.ensure_user(&ada, UnixMillis(1)).await.expect("made");
        assert!(!directory.users(std::slice::from_ref(&ada)).await.expect("read")[0].deactivated);
        directory
            .set_deactivated(&ada, true, UnixMillis(2))
            .await
            .expect("written");
        assert!(directory.users(std::slice::from_ref(&ada)).await.expect("read")[0].deactivated);
        assert!(
            directory
                .ensure_user(&ada, UnixMillis(2))
                .await
                .expect("read")
                .deactivated
        );
    }

    /// I11: a read that a write overtook leaves nothing behind.
    #[tokio::test]
    async fn a_read_older_than_a_write_is_not_remembered() {
        let (below, directory) = remembered(Duration::ZERO);
        let ada = user("ada");
        let old = below.ensure_user(&ada, UnixMillis(1)).await.expect("made");
        let writes = directory.writes();
        directory
            .set_deactivated(&ada, true, UnixMillis(2))
            .await
            .expect("written");
        directory.remember(&old, writes);
        assert!(directory.users(&[ada]).await.expect("read")[0].deactivated);
    }

    #[tokio::test]
    async fn hellos_close_to_each_other_are_written_once_and_a_removed_device_anew() {
        let (below, directory) = remembered(Duration::from_secs(60));
        let (ada, phone) = (user("ada"), device("phone"));
        directory.ensure_user(&ada, UnixMillis(0)).await.expect("made");
        for at in [1, 60_000, 60_001] {
            directory
                .touch_device(&ada, &phone, UnixMillis(at))
                .await
                .expect("written");
        }
        assert_eq!(
            below.devices(&ada).await.expect("read")[0].last_seen,
            UnixMillis(60_001)
        );
        directory
            .touch_device(&ada, &phone, UnixMillis(60_002))
            .await
            .expect("written");
        assert_eq!(
            below.devices(&ada).await.expect("read")[0].last_seen,
            UnixMillis(60_001)
        );
        directory
            .remove_device(&ada, &phone, UnixMillis(60_003))
            .await
            .expect("written");
        let removed = directory.device_removed_at(&ada, &phone).await.expect("read");
        assert_eq!(removed, Some(UnixMillis(60_003)));
        directory
            .touch_device(&ada, &phone, UnixMillis(60_004))
            .await
            .expect("written");
        assert_eq!(below.devices(&ada).await.expect("read").len(), 1);
    }
}
