//! Migration: moves everything from one store to another as it is: same ids, same seqs, same duplicates (I2), same markers.
//! Stands on the storage traits alone, so that it goes between any two backends, in either direction.
//!
//! Run again it goes on where it stopped: a conversation at the target's head, everything else by comparing. A
//! conversation of which the target holds another history is refused and passed over, never mixed.

mod conversation;
mod log;
mod own;
mod people;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeSet;

use futures_util::StreamExt;

use crate::conversation::Backends;
use crate::domain::{ConversationId, UnixMillis};
use crate::storage::walk::{conversations, count_conversations, users};
use crate::storage::{AppendError, DirectoryError, MarkerError, ReadError};

/// Rows read at a time.
const PAGE: usize = 500;
/// Conversations, or users, at a time: they share the commits of the target, and 16 batches of 64 KiB are little memory.
const AT_ONCE: usize = 16;

/// What to compare when everything was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Nothing.
    None,
    /// Heads, members, markers, and of each log its beginning, its end and one place in each 4,096 entries.
    #[default]
    Sample,
    /// The same with every entry.
    All,
}

/// What a migration did: what was written now, what an earlier run had written, and what was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Users.
    pub users: u64,
    /// Devices, removals of devices included.
    pub devices: u64,
    /// Blocks.
    pub blocks: u64,
    /// Conversations that were looked at and not refused.
    pub conversations: u64,
    /// Entries appended now.
    pub entries: u64,
    /// Entries that the target had from before.
    pub known: u64,
    /// Marker sets raised.
    pub markers: u64,
    /// Inbox rows raised.
    pub rows: u64,
    /// Users' settings of conversations written.
    pub settings: u64,
    /// Positions of devices set.
    pub positions: u64,
    /// Entries compared after the copy.
    pub compared: u64,
    /// What was not moved, and why.
    pub refused: Vec<Refused>,
    /// What the comparison found: the target is not what the source is.
    pub differences: Vec<Refused>,
}

impl Migrated {
    fn add(&mut self, other: Self) {
        self.users += other.users;
        self.devices += other.devices;
        self.blocks += other.blocks;
        self.conversations += other.conversations;
        self.entries += other.entries;
        self.known += other.known;
        self.markers += other.markers;
        self.rows += other.rows;
        self.settings += other.settings;
        self.positions += other.positions;
        self.compared += other.compared;
        self.refused.extend(other.refused);
        self.differences.extend(other.differences);
    }

    /// Whether everything that the source holds is in the target.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.refused.is_empty() && self.differences.is_empty()
    }
}

/// Something that was not moved, or is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which user, device or conversation.
    pub what: String,
    /// Why, or how it differs.
    pub why: String,
}

impl Refused {
    fn new(what: impl ToString, why: impl Into<String>) -> Self {
        Self {
            what: what.to_string(),
            why: why.into(),
        }
    }
}

/// Is told as the migration goes on.
pub trait Watch: Send {
    /// So many conversations are to be copied, and then compared unless nothing is.
    fn begin(&mut self, conversations: u64);
    /// One more conversation was copied or compared.
    fn conversation(&mut self);
    /// This was refused, or differs.
    fn refused(&mut self, refused: &Refused);
}

/// The migration stopped. What was copied stays; run it again to go on.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It would copy a store onto itself.
    #[error("source and target are the same store")]
    Same,
    /// A directory cannot answer.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The target's log does not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Markers cannot be read or written.
    #[error(transparent)]
    Markers(#[from] MarkerError),
}

type Result<T> = std::result::Result<T, MigrateError>;

/// From where to where.
#[derive(Clone, Copy)]
struct Route<'a> {
    source: &'a Backends,
    target: &'a Backends,
}

/// Copies everything of `source` into `target`, then compares. Neither may be served meanwhile, and what the source had
/// accepted must be fanned out.
///
/// # Errors
/// A store cannot go on, or both are the same. What is refused is no error, it is reported and passed over.
pub async fn migrate(
    source: &Backends,
    target: &Backends,
    verify: Verify,
    now: UnixMillis,
    watch: &mut dyn Watch,
) -> Result<Migrated> {
    if source.markers.store_id() == target.markers.store_id() {
        return Err(MigrateError::Same);
    }
    let route = Route { source, target };
    let mut all = Migrated::default();
    people::copy(route, now, &mut all).await?;
    for refused in &all.refused {
        watch.refused(refused);
    }
    watch.begin(count_conversations(&*source.directory).await?);
    let mut skipped = BTreeSet::new();
    copy_conversations(route, &mut all, &mut skipped, watch).await?;
    copy_own(route, &mut all, &skipped).await?;
    if verify != Verify::None {
        compare(route, verify, &mut all, &skipped, watch).await?;
    }
    Ok(all)
}

async fn copy_conversations(
    route: Route<'_>,
    all: &mut Migrated,
    skipped: &mut BTreeSet<ConversationId>,
    watch: &mut dyn Watch,
) -> Result<()> {
    let ids = conversations(&*route.source.directory);
    let copying = ids.map(|id| async move {
        let id = id?;
        Ok::<_, MigrateError>((id, conversation::copy(route, id).await?))
    });
    let mut copied = copying.buffer_unordered(AT_ONCE);
    while let Some(outcome) = copied.next().await {
        let (id, done) = outcome?;
        if let Some(refused) = done.refused.first() {
            watch.refused(refused);
            skipped.insert(id);
        }
        watch.conversation();
        all.add(done);
    }
    Ok(())
}

async fn copy_own(route: Route<'_>, all: &mut Migrated, skipped: &BTreeSet<ConversationId>) -> Result<()> {
    let users = users(&*route.source.directory);
    let copying = users.map(|user| async move { own::copy(route, &user?.id, skipped).await });
    let mut copied = copying.buffer_unordered(AT_ONCE);
    while let Some(done) = copied.next().await {
        all.add(done?);
    }
    Ok(())
}

async fn compare(
    route: Route<'_>,
    verify: Verify,
    all: &mut Migrated,
    skipped: &BTreeSet<ConversationId>,
    watch: &mut dyn Watch,
) -> Result<()> {
    let ids = conversations(&*route.source.directory);
    let comparing = ids.map(|id| async move {
        let id = id?;
        if skipped.contains(&id) {
            return Ok(Migrated::default());
        }
        verify::conversation(route, id, verify).await
    });
    let mut compared = comparing.buffer_unordered(AT_ONCE);
    while let Some(found) = compared.next().await {
        let found = found?;
        for difference in &found.differences {
            watch.refused(difference);
        }
        watch.conversation();
        all.add(found);
    }
    let users = users(&*route.source.directory);
    let comparing = users.map(|user| async move { verify::user(route, &user?, skipped).await });
    let mut compared = comparing.buffer_unordered(AT_ONCE);
    while let Some(found) = compared.next().await {
        let found = found?;
        for difference in &found.differences {
            watch.refused(difference);
        }
        all.add(found);
    }
    Ok(())
}
