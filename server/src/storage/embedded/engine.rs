//! The engine (fjall): settings, keyspaces, consistent reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Slice, Snapshot,
};

use super::fault::{Fault, OpenError};
use super::folder::Folder;
use super::keys::{self, Space};
use super::rows::{self, Commit};
use crate::storage::ChangeStamp;

/// Blocks read from tables that stay in memory: the recent history of a laptop's conversations.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// Entries in memory until they go to a table; some 40,000 short messages, half a second of a flush.
const ENTRIES_MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// The same for the small rows, which are overwritten in place of each other.
const ROWS_MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Journal on disk before the keyspace that holds it back is flushed: what a start has to replay, a second or two.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;
/// Threads that flush and compact: one may always flush while the other compacts.
const WORKERS: usize = 2;

/// Room that flushing all memtables takes, active and one sealed of each; below it nothing is written any more, so that
/// what was accepted can still reach its tables.
pub(super) const FREE_BYTES_MIN: u64 = 2 * (ENTRIES_MEMTABLE_BYTES + 2 * ROWS_MEMTABLE_BYTES);

/// The open engine; shared by the writer and all readers.
pub(super) struct Engine {
    database: Database,
    keyspaces: [Keyspace; 3],
    store_id: [u8; 16],
    newest_change: AtomicU64,
    /// Taken after the newest commit, while none is under way. A snapshot taken at another time may hold half a commit: the
    /// engine's own flushes make everything visible that was begun before them (lsm-tree 3.1, `SuperVersions`).
    committed: RwLock<Arc<Snapshot>>,
    // Dropped last: nobody else may open the folder while the engine still closes.
    folder: Folder,
}

/// A consistent view: a commit is in it as a whole or not at all.
pub(super) struct View<'a> {
    engine: &'a Engine,
    snapshot: Arc<Snapshot>,
}

/// A key with its value.
pub(super) type Pair = (Slice, Slice);

impl Engine {
    /// Opens or makes the engine's files. The engine asserts much of what it reads: a panic of it says "damaged".
    pub(super) fn open(folder: Folder) -> Result<Self, OpenError> {
        let path = folder.engine();
        let opened = catch_unwind(AssertUnwindSafe(|| open_keyspaces(&path)));
        let opened =
            opened.map_err(|_| OpenError::damaged(&path, "the engine gave up on its files; its message is above"))?;
        let (database, keyspaces) = opened.map_err(|error| OpenError::of_fault(&path, error.into()))?;
        let committed = RwLock::new(Arc::new(database.snapshot()));
        Ok(Self {
            database,
            keyspaces,
            store_id: [0; 16],
            newest_change: AtomicU64::new(0),
            committed,
            folder,
        })
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Writes the first commit of a new store.
    pub(super) fn make_state(&mut self, store_id: [u8; 16]) -> Result<Commit, Fault> {
        let commit = Commit {
            number: 1,
            durable: 0,
            change_ceiling: 0,
        };
        let mut batch = self.batch(2, true);
        batch.insert(self.keyspace(Space::Index), keys::STORE_ID, store_id);
        batch.insert(self.keyspace(Space::Index), keys::COMMIT, rows::commit(commit));
        batch.commit()?;
        self.load_state()
    }

    /// The commit record and the store's id, once they are written.
    pub(super) fn load_state(&mut self) -> Result<Commit, Fault> {
        let missing = |what: &str| Fault::damaged(format!("the store has no {what}"));
        let id = self.get(Space::Index, keys::STORE_ID)?.ok_or_else(|| missing("id"))?;
        self.store_id = (&*id).try_into().map_err(|_| missing("valid id"))?;
        let commit = self
            .get(Space::Index, keys::COMMIT)?
            .ok_or_else(|| missing("commit record"))?;
        let commit = rows::read_commit(&commit)?;
        self.publish(ChangeStamp(commit.change_ceiling));
        Ok(commit)
    }

    pub(super) fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    pub(super) fn newest_change(&self) -> ChangeStamp {
        ChangeStamp(self.newest_change.load(Ordering::Acquire))
    }

    /// The writer's commit is done, with this as its newest change: from here on reads see it.
    pub(super) fn publish(&self, newest_change: ChangeStamp) {
        let snapshot = Arc::new(self.database.snapshot());
        *self.committed.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.newest_change.store(newest_change.0, Ordering::Release);
    }

    /// The newest value, also of a commit that is durable but not yet answered. For single rows.
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Slice>, Fault> {
        Ok(self.keyspace(space).get(key)?)
    }

    pub(super) fn view(&self) -> View<'_> {
        let committed = self.committed.read().unwrap_or_else(PoisonError::into_inner);
        View {
            engine: self,
            snapshot: Arc::clone(&committed),
        }
    }

    /// An empty batch; it is durable when its commit returns, or only handed to the operating system.
    pub(super) fn batch(&self, items: usize, durable: bool) -> OwnedWriteBatch {
        let mode = if durable {
            PersistMode::SyncData
        } else {
            PersistMode::Buffer
        };
        OwnedWriteBatch::with_capacity(self.database.clone(), items).durability(Some(mode))
    }

    pub(super) fn keyspace(&self, space: Space) -> &Keyspace {
        &self.keyspaces[space as usize]
    }
}

impl View<'_> {
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Slice>, Fault> {
        Ok(self.snapshot.get(self.engine.keyspace(space), key)?)
    }

    /// All rows whose key starts with `prefix`, by key.
    pub(super) fn prefix(
        &self,
        space: Space,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<Pair, Fault>> + use<> {
        let found = self.snapshot.prefix(self.engine.keyspace(space), prefix);
        found.map(|guard| guard.into_inner().map_err(Fault::from))
    }

    /// All rows from one key to another, both inclusive.
    pub(super) fn range(
        &self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<Pair, Fault>> + use<> {
        let found = self.snapshot.range(self.engine.keyspace(space), from..=to);
        found.map(|guard| guard.into_inner().map_err(Fault::from))
    }
}

fn open_keyspaces(path: &Path) -> fjall::Result<(Database, [Keyspace; 3])> {
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(WORKERS)
        // The check of the journal compares bytes as they were written.
        .journal_compression(CompressionType::None)
        .open()?;
    let keyspace = |name: &str, memtable: u64| {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable);
        database.keyspace(name, options)
    };
    let keyspaces = [
        keyspace("entries", ENTRIES_MEMTABLE_BYTES)?,
        keyspace("index", ROWS_MEMTABLE_BYTES)?,
        keyspace("users", ROWS_MEMTABLE_BYTES)?,
    ];
    Ok((database, keyspaces))
}
