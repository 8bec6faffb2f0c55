//! What devices acknowledged: registers that rise, and that a device which lost its data may set down.
//!
//! The write time is `generation << 44 | value + 1`. Setting down begins the row's next generation, which outranks whatever
//! of the last one is still under way. The generation is read back from the write time: value and rank are one cell, and
//! cannot disagree.

use std::collections::BTreeMap;

use stonechat_host::monotonic;
use tokio::time::Instant;
use tracing::error;

use super::client::Steps;
use super::rows::{blob, conversation, number, read_conversation, read_number, text};
use super::{CqlError, Inner};
use crate::domain::{ConversationId, DeviceId, Seq, UserId};
use crate::storage::ChangeStamp;

/// Bits of a write time that rank values within a generation; the 19 above it count generations.
const VALUE_BITS: u32 = 44;
/// Generations of one row: a device that loses its data half a million times is refused.
const GENERATIONS_MAX: u64 = (1 << (63 - VALUE_BITS)) - 1;
/// A synced stamp is longer than its rank: within the same rank the servers keep the larger value, which is the later.
const STAMP_SHIFT: u32 = 18;
/// Where the synced stamp lies among a device's conversations, whose ids have 16 bytes.
const SYNCED: &[u8] = &[0];

/// A cell as it is stored; all zero when it is not. Of two, the one with the higher generation is the later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    generation: u64,
    value: u64,
}

impl Cell {
    /// The next generation at `value`.
    fn lowered(self, value: u64) -> Result<Self, CqlError> {
        if self.generation >= GENERATIONS_MAX {
            return Err(CqlError::Damaged("a device set itself back too often".to_owned()));
        }
        Ok(Self {
            value,
            generation: self.generation + 1,
        })
    }
}

fn rank(generation: u64, value: u64) -> u64 {
    let value = value.min((1 << VALUE_BITS) - 1);
    generation << VALUE_BITS | value
}

fn generation_of(written: i64) -> u64 {
    written.cast_unsigned() >> VALUE_BITS
}

type PositionRow = (Vec<u8>, Option<i64>, Option<i64>);
pub(super) type Cells = BTreeMap<ConversationId, Cell>;

impl Inner {
    fn position(&self, user: &UserId, row: PositionRow) -> Result<Option<(ConversationId, Cell)>, CqlError> {
        let (id, Some(value), Some(written)) = row else {
            return Ok(None);
        };
        let value = read_number(value, "a position")?;
        let mut cell = Cell {
            value,
            generation: generation_of(written),
        };
        if written.cast_unsigned() != rank(cell.generation, value + 1) {
            // It heals by itself: the next write is of the generation after the one that it pretends to be of.
            cell.generation += 1;
            self.client.count_foreign_write();
            error!(%user, written, "a device's position was written past this store");
        }
        Ok(Some((read_conversation(&id)?, cell)))
    }

    async fn cells(&self, user: &UserId, device: &DeviceId, ids: &[ConversationId]) -> Result<Cells, CqlError> {
        let since = monotonic();
        let statements = (&self.registers.some_positions, &self.registers.all_positions);
        let rows: Vec<PositionRow> = self.rows_of(statements, user, device.as_str(), ids).await?;
        let cells = rows.into_iter().filter(|(id, _, _)| id != SYNCED);
        let cells = cells.map(|row| self.position(user, row)).filter_map(Result::transpose);
        let cells: Cells = cells.collect::<Result<_, _>>()?;
        self.positions_stored(user, device, &cells, since);
        Ok(cells)
    }

    pub(super) async fn positions_of(
        &self,
        user: &UserId,
        device: &DeviceId,
        ids: &[ConversationId],
    ) -> Result<Vec<Seq>, CqlError> {
        let cells = self.cells(user, device, ids).await?;
        let value = |id: &ConversationId| Seq(cells.get(id).copied().unwrap_or_default().value);
        Ok(ids.iter().map(value).collect())
    }

    /// As [`Self::cells`], but of what this node knows already nothing is read.
    async fn known_cells(&self, user: &UserId, device: &DeviceId, ids: &[ConversationId]) -> Result<Cells, CqlError> {
        let (mut known, mut unknown) = (Cells::new(), Vec::new());
        for id in ids {
            match self.known.position(user, device, *id) {
                Some(cell) => drop(known.insert(*id, cell)),
                None => unknown.push(*id),
            }
        }
        if !unknown.is_empty() {
            known.extend(self.cells(user, device, &unknown).await?);
        }
        Ok(known)
    }

    /// Positions were written; `since`: when that began.
    pub(super) fn positions_stored(&self, user: &UserId, device: &DeviceId, stored: &Cells, since: Instant) {
        for (id, cell) in stored {
            self.known.stored_position(user, device, *id, *cell, since);
        }
    }

    /// Statements that raise positions to what is wanted, where they are lower, and where they are then.
    pub(super) async fn raised_positions<'a>(
        &'a self,
        user: &UserId,
        device: &DeviceId,
        wanted: &BTreeMap<ConversationId, Seq>,
        steps: &mut Steps<'a>,
    ) -> Result<Cells, CqlError> {
        let ids: Vec<ConversationId> = wanted.keys().copied().collect();
        let cells = self.known_cells(user, device, &ids).await?;
        let mut raised = Cells::new();
        for (id, seq) in wanted {
            let cell = cells.get(id).copied().unwrap_or_default();
            if seq.0 > cell.value {
                let cell = Cell { value: seq.0, ..cell };
                self.push_position(user, device, *id, cell, steps);
                raised.insert(*id, cell);
            }
        }
        Ok(raised)
    }

    fn push_position<'a>(
        &'a self,
        user: &UserId,
        device: &DeviceId,
        id: ConversationId,
        cell: Cell,
        steps: &mut Steps<'a>,
    ) {
        let values = vec![
            number(rank(cell.generation, cell.value + 1)),
            number(cell.value),
            text(user.as_str()),
            text(device.as_str()),
            conversation(id),
        ];
        steps.push((&self.registers.position, values));
    }

    pub(super) async fn set_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        positions: &[(ConversationId, Seq)],
    ) -> Result<(), CqlError> {
        let wanted: BTreeMap<ConversationId, Seq> = positions.iter().copied().collect();
        let ids: Vec<ConversationId> = wanted.keys().copied().collect();
        let cells = self.cells(user, device, &ids).await?;
        let (mut steps, mut set, mut lower) = (Steps::new(), Cells::new(), false);
        for (id, seq) in wanted {
            let cell = cells.get(&id).copied().unwrap_or_default();
            let cell = match seq.0.cmp(&cell.value) {
                std::cmp::Ordering::Less => {
                    lower = true;
                    cell.lowered(seq.0)?
                }
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Greater => Cell { value: seq.0, ..cell },
            };
            self.push_position(user, device, id, cell, &mut steps);
            set.insert(id, cell);
        }
        if lower {
            // First of all: a crash between two batches must not leave the stamp above lowered positions.
            steps.insert(0, self.unsynced(user, device).await?);
        }
        self.write_set(user, device, steps, &set).await
    }

    /// Writes positions that may have gone down: until it is done nothing is known of them.
    async fn write_set(&self, user: &UserId, device: &DeviceId, steps: Steps<'_>, set: &Cells) -> Result<(), CqlError> {
        let since = monotonic();
        for id in set.keys() {
            self.known.forget_position(user, device, *id);
        }
        self.write_steps(steps).await?;
        self.positions_stored(user, device, set, since);
        Ok(())
    }

    pub(super) async fn forget(&self, user: &UserId, device: &DeviceId) -> Result<(), CqlError> {
        let key = vec![text(user.as_str()), text(device.as_str())];
        let rows: Vec<PositionRow> = self.client.rows(&self.registers.all_positions, key).await?;
        let (mut steps, mut set) = (vec![self.unsynced(user, device).await?], Cells::new());
        for row in rows.into_iter().filter(|(id, _, _)| id != SYNCED) {
            if let Some((id, cell)) = self.position(user, row)?
                && cell.value > 0
            {
                let cell = cell.lowered(0)?;
                self.push_position(user, device, id, cell, &mut steps);
                set.insert(id, cell);
            }
        }
        self.write_set(user, device, steps, &set).await
    }

    async fn synced_cell(&self, user: &UserId, device: &DeviceId) -> Result<Cell, CqlError> {
        let key = vec![text(user.as_str()), text(device.as_str()), blob(SYNCED)];
        let row: Option<(Option<i64>, Option<i64>)> = self.client.row(&self.registers.synced, key).await?;
        let Some((Some(value), Some(written))) = row else {
            return Ok(Cell::default());
        };
        Ok(Cell {
            value: read_number(value, "a synced stamp")?,
            generation: generation_of(written),
        })
    }

    fn synced_step(
        &self,
        user: &UserId,
        device: &DeviceId,
        cell: Cell,
    ) -> (&scylla::statement::prepared::PreparedStatement, super::client::Values) {
        let values = vec![
            number(rank(cell.generation, cell.value >> STAMP_SHIFT)),
            number(cell.value),
            text(user.as_str()),
            text(device.as_str()),
            blob(SYNCED),
        ];
        (&self.registers.set_synced, values)
    }

    /// Takes the synced stamp back to nothing, in its next generation, whatever is under way.
    async fn unsynced(
        &self,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<(&scylla::statement::prepared::PreparedStatement, super::client::Values), CqlError> {
        let cell = self.synced_cell(user, device).await?.lowered(0)?;
        Ok(self.synced_step(user, device, cell))
    }

    pub(super) async fn synced_of(&self, user: &UserId, device: &DeviceId) -> Result<ChangeStamp, CqlError> {
        Ok(ChangeStamp(self.synced_cell(user, device).await?.value))
    }

    pub(super) async fn raise_synced_of(
        &self,
        user: &UserId,
        device: &DeviceId,
        change: ChangeStamp,
    ) -> Result<(), CqlError> {
        let cell = self.synced_cell(user, device).await?;
        if change.0 <= cell.value {
            return Ok(());
        }
        let value = change.0;
        let (statement, values) = self.synced_step(user, device, Cell { value, ..cell });
        self.client.write(statement, values).await
    }
}
