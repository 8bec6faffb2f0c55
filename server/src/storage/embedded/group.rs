//! One group commit: what its jobs want written, readable by the jobs after them.
//!
//! The engine shows writes only after their commit, and two writes of one key in one batch would be ambiguous to it: so
//! jobs write here, one value per key, and the batch is made at the end.

use std::collections::BTreeMap;

use fjall::Slice;

use super::engine::{Engine, Pair};
use super::fault::Fault;
use super::keys::{COMMIT, Space};
use super::recent::Recent;
use super::rows::{self, Commit};
use crate::storage::ChangeStamp;

/// `None` is a removal.
type Writes = BTreeMap<Slice, Option<Slice>>;

/// Change stamps reserved at once: one commit in so many must be durable for their sake alone.
const CHANGE_STAMPS_RESERVED: u64 = 65_536;

/// A group under construction.
pub(super) struct Group<'a> {
    engine: &'a Engine,
    recent: &'a mut Recent,
    writes: [Writes; 3],
    /// What the present job wrote; joins `writes` when the job succeeds.
    staged: [Writes; 3],
    durable: bool,
    newest_change: ChangeStamp,
    staged_change: ChangeStamp,
}

impl<'a> Group<'a> {
    pub(super) fn new(engine: &'a Engine, recent: &'a mut Recent) -> Self {
        let newest_change = engine.newest_change();
        Self {
            engine,
            recent,
            writes: Default::default(),
            staged: Default::default(),
            durable: false,
            newest_change,
            staged_change: newest_change,
        }
    }

    /// Runs one job: its writes join the group as a whole, or not at all when it fails. `durable`: they must be on disk
    /// before it is answered.
    pub(super) fn run<T, E>(&mut self, durable: bool, job: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let done = job(self);
        if done.is_ok() {
            self.durable |= durable && self.staged.iter().any(|staged| !staged.is_empty());
            self.newest_change = self.staged_change;
            for (writes, staged) in self.writes.iter_mut().zip(&mut self.staged) {
                // Not `append`, which walks through all that the group has.
                writes.extend(std::mem::take(staged));
            }
        }
        self.staged_change = self.newest_change;
        self.staged.iter_mut().for_each(Writes::clear);
        done
    }

    /// A row that will be asked for again.
    pub(super) fn get(&mut self, space: Space, key: &[u8]) -> Result<Option<Slice>, Fault> {
        if let Some(known) = self.known(space, key) {
            return Ok(known);
        }
        let stored = self.engine.get(space, key)?;
        self.recent.remember(space, key.into(), stored.clone());
        Ok(stored)
    }

    /// The row without going to the engine, if it was written or asked for lately.
    pub(super) fn known(&mut self, space: Space, key: &[u8]) -> Option<Option<Slice>> {
        self.own(space, key).or_else(|| self.recent.get(space, key))
    }

    /// A row that is as a rule asked for once: it is not remembered.
    pub(super) fn get_once(&mut self, space: Space, key: &[u8]) -> Result<Option<Slice>, Fault> {
        match self.known(space, key) {
            Some(known) => Ok(known),
            None => self.engine.get(space, key),
        }
    }

    /// What this group has written there.
    fn own(&self, space: Space, key: &[u8]) -> Option<Option<Slice>> {
        let mut writes = [&self.staged, &self.writes].into_iter();
        writes.find_map(|writes| writes[space as usize].get(key).cloned())
    }

    pub(super) fn put(&mut self, space: Space, key: impl Into<Slice>, value: impl Into<Slice>) {
        self.staged[space as usize].insert(key.into(), Some(value.into()));
    }

    pub(super) fn remove(&mut self, space: Space, key: impl Into<Slice>) {
        self.staged[space as usize].insert(key.into(), None);
    }

    /// All rows whose key starts with `prefix`, by key.
    pub(super) fn scan(&self, space: Space, prefix: &[u8]) -> Result<Vec<Pair>, Fault> {
        let mut rows = BTreeMap::new();
        for row in self.engine.view().prefix(space, prefix) {
            let (key, value) = row?;
            rows.insert(key, Some(value));
        }
        for writes in [&self.writes, &self.staged] {
            let from = writes[space as usize].range(Slice::from(prefix)..);
            let under = from.take_while(|(key, _)| key.starts_with(prefix));
            rows.extend(under.map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(rows
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect())
    }

    /// Whether any row's key starts with `prefix`.
    pub(super) fn scan_any(&self, space: Space, prefix: &[u8]) -> Result<bool, Fault> {
        if let Some(found) = self.engine.view().prefix(space, prefix).next() {
            return found.map(|_| true);
        }
        let mut written = [&self.writes, &self.staged].into_iter().flat_map(|writes| {
            let from = writes[space as usize].range(Slice::from(prefix)..);
            from.take_while(|(key, _)| key.starts_with(prefix))
        });
        Ok(written.any(|(_, value)| value.is_some()))
    }

    /// A stamp above all before it.
    pub(super) fn next_change(&mut self) -> ChangeStamp {
        self.staged_change.0 += 1;
        self.staged_change
    }

    pub(super) fn newest_change(&self) -> ChangeStamp {
        self.newest_change
    }

    /// Commits what was written, if anything was. Returns the commit's record and whether it is durable.
    ///
    /// # Errors
    /// Nobody knows what of it is on disk: the store must not go on.
    pub(super) fn commit(self, before: Commit) -> fjall::Result<Option<(Commit, bool)>> {
        let items: usize = self.writes.iter().map(Writes::len).sum();
        if items == 0 {
            return Ok(None);
        }
        let exhausted = self.newest_change.0 > before.change_ceiling;
        let commit = Commit {
            number: before.number + 1,
            durable: before.durable,
            change_ceiling: if exhausted {
                self.newest_change.0 + CHANGE_STAMPS_RESERVED
            } else {
                before.change_ceiling
            },
        };
        // Stamps above the durable ceiling must not be seen before the higher ceiling is durable: they could be given
        // out twice after a loss of power.
        let durable = self.durable || exhausted;
        let mut batch = self.engine.batch(items + 1, durable);
        let recent = self.recent;
        for (space, writes) in [Space::Entries, Space::Index, Space::Users]
            .into_iter()
            .zip(self.writes)
        {
            let keyspace = self.engine.keyspace(space);
            for (key, value) in writes {
                recent.written(space, &key, value.as_ref());
                match value {
                    Some(value) => batch.insert(keyspace, key, value),
                    None => batch.remove(keyspace, key),
                }
            }
        }
        batch.insert(self.engine.keyspace(Space::Index), COMMIT, rows::commit(commit));
        batch.commit()?;
        let durable_up_to = if durable { commit.number } else { commit.durable };
        Ok(Some((
            Commit {
                durable: durable_up_to,
                ..commit
            },
            durable,
        )))
    }
}
