//! Markers of users: one partition for each user, one row for each conversation, and a row for each device's position.
//!
//! A register is written `USING TIMESTAMP` value + 1, so the highest value stays whatever the order of writes, and what is
//! written again changes nothing (D15, D16). No statement here takes the time of a clock, and none deletes: either would
//! hide every later value. What was written so by others is found when it is read.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::statement::prepared::PreparedStatement;
use stonechat_host::monotonic;
use tracing::error;

use super::client::{Client, Steps, Values};
use super::positions::Cells;
use super::rows::{conversation, list, number, read_conversation, read_number, text};
use super::{CqlError, Inner};
use crate::domain::{ConversationId, Counted, DeviceId, MarkerSet, Ordinal, Seq, UserId};
use crate::storage::MarkerRaise;

/// Keys of one request; ScyllaDB takes 100 by default.
const KEYS_PER_REQUEST: usize = 100;
/// Requests with keys that one call may cost; above it the user's whole partition is read.
const KEYED_REQUESTS_MAX: usize = 4;
/// Statements of one batch: some ten kilobytes.
pub(super) const STEPS_PER_BATCH: usize = 200;
/// Users at a time of one call.
const USERS_AT_ONCE: usize = 32;
/// The place of the user's own markers among those of devices, which are never empty.
const OWN: &str = "";

pub(super) struct Registers {
    delivered: PreparedStatement,
    read: PreparedStatement,
    read_public: PreparedStatement,
    floor: PreparedStatement,
    some: PreparedStatement,
    all: PreparedStatement,
    pub(super) position: PreparedStatement,
    pub(super) some_positions: PreparedStatement,
    pub(super) all_positions: PreparedStatement,
    pub(super) set_synced: PreparedStatement,
    pub(super) synced: PreparedStatement,
}

impl Registers {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        const HERE: &str = "WHERE user = ? AND device = ? AND conversation = ?";
        const OF_DEVICE: &str = "FROM markers WHERE user = ? AND device = ?";
        let raise = async |set: &str| {
            let statement = format!("UPDATE markers USING TIMESTAMP ? SET {set} {HERE}");
            client.prepare(&statement).await
        };
        let markers = format!(
            "SELECT conversation, delivered, WRITETIME(delivered), read, WRITETIME(read), read_ordinal, read_public, \
             WRITETIME(read_public), floor, WRITETIME(floor), floor_ordinal {OF_DEVICE}"
        );
        let positions = format!("SELECT conversation, position, WRITETIME(position) {OF_DEVICE}");
        Ok(Self {
            delivered: raise("delivered = ?").await?,
            read: raise("read = ?, read_ordinal = ?").await?,
            read_public: raise("read_public = ?").await?,
            floor: raise("floor = ?, floor_ordinal = ?").await?,
            some: client.prepare(&format!("{markers} AND conversation IN ?")).await?,
            all: client.prepare(&markers).await?,
            position: raise("position = ?").await?,
            some_positions: client.prepare(&format!("{positions} AND conversation IN ?")).await?,
            all_positions: client.prepare(&positions).await?,
            set_synced: raise("synced = ?").await?,
            synced: client
                .prepare(&format!("SELECT synced, WRITETIME(synced) FROM markers {HERE}"))
                .await?,
        })
    }

    /// The statements that raise what is above zero.
    fn raise<'a>(&'a self, raise: &MarkerRaise, steps: &mut Steps<'a>) {
        let set = raise.markers;
        let mut add = |statement: &'a PreparedStatement, seq: Seq, ordinal: Option<Ordinal>| {
            if seq == Seq::ZERO && ordinal.unwrap_or_default() == Ordinal::ZERO {
                return;
            }
            let mut values = vec![number(seq.0 + 1), number(seq.0)];
            values.extend(ordinal.map(|ordinal| number(ordinal.0)));
            values.extend([text(raise.user.as_str()), text(OWN), conversation(raise.conversation)]);
            steps.push((statement, values));
        };
        add(&self.delivered, set.delivered, None);
        add(&self.read, set.read.seq, Some(set.read.ordinal));
        add(&self.read_public, set.read_public, None);
        add(&self.floor, set.unread_floor.seq, Some(set.unread_floor.ordinal));
    }
}

type MarkerRow = (
    Vec<u8>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

/// Where a user's devices shall be at least.
fn positions_wanted(raises: &[MarkerRaise]) -> BTreeMap<&DeviceId, BTreeMap<ConversationId, Seq>> {
    let mut wanted: BTreeMap<&DeviceId, BTreeMap<ConversationId, Seq>> = BTreeMap::new();
    for raise in raises {
        if let Some((device, seq)) = &raise.device {
            let highest = wanted.entry(device).or_default().entry(raise.conversation).or_default();
            *highest = (*seq).max(*highest);
        }
    }
    wanted
}

impl Inner {
    /// A register's value. Its write time must be that of the value: else it was written by a clock, or by hand.
    fn register(&self, user: &UserId, value: Option<i64>, written: Option<i64>) -> Result<Seq, CqlError> {
        let Some(value) = value else { return Ok(Seq::ZERO) };
        if written != Some(value + 1) {
            self.client.count_foreign_write();
            error!(%user, ?written, "a marker was written past this store; later values stay hidden");
        }
        Ok(Seq(read_number(value, "a marker")?))
    }

    fn marker_set(&self, user: &UserId, row: MarkerRow) -> Result<(ConversationId, MarkerSet), CqlError> {
        let (id, delivered, at0, read, at1, read_ordinal, public, at2, floor, at3, floor_ordinal) = row;
        let ordinal = |value: Option<i64>| read_number(value.unwrap_or(0), "an ordinal").map(Ordinal);
        let set = MarkerSet {
            delivered: self.register(user, delivered, at0)?,
            read: Counted {
                seq: self.register(user, read, at1)?,
                ordinal: ordinal(read_ordinal)?,
            },
            read_public: self.register(user, public, at2)?,
            unread_floor: Counted {
                seq: self.register(user, floor, at3)?,
                ordinal: ordinal(floor_ordinal)?,
            },
        };
        Ok((read_conversation(&id)?, set))
    }

    /// Rows of one user and device: by key when few are asked for, else all there are.
    pub(super) async fn rows_of<T>(
        &self,
        (some, all): (&PreparedStatement, &PreparedStatement),
        user: &UserId,
        device: &str,
        ids: &[ConversationId],
    ) -> Result<Vec<T>, CqlError>
    where
        T: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
    {
        let key = || vec![text(user.as_str()), text(device)];
        if ids.len() > KEYS_PER_REQUEST * KEYED_REQUESTS_MAX {
            return self.client.rows(all, key()).await;
        }
        let requests: Vec<Values> = ids
            .chunks(KEYS_PER_REQUEST)
            .map(|ids| {
                let mut values = key();
                values.push(list(ids.iter().map(|id| conversation(*id))));
                values
            })
            .collect();
        let reads = requests.into_iter().map(|values| self.client.rows(some, values));
        let rows: Vec<Vec<T>> = stream::iter(reads).buffered(KEYED_REQUESTS_MAX).try_collect().await?;
        Ok(rows.into_iter().flatten().collect())
    }

    pub(super) async fn markers_of(&self, user: &UserId, ids: &[ConversationId]) -> Result<Vec<MarkerSet>, CqlError> {
        let statements = (&self.registers.some, &self.registers.all);
        let rows: Vec<MarkerRow> = self.rows_of(statements, user, OWN, ids).await?;
        let sets = rows.into_iter().map(|row| self.marker_set(user, row));
        let sets: BTreeMap<ConversationId, MarkerSet> = sets.collect::<Result<_, _>>()?;
        Ok(ids.iter().map(|id| sets.get(id).copied().unwrap_or_default()).collect())
    }

    pub(super) async fn markers_in(&self, id: ConversationId, users: &[UserId]) -> Result<Vec<MarkerSet>, CqlError> {
        let users = users.iter().cloned();
        let reads = users.map(|user| async move { self.markers_of(&user, &[id]).await });
        let sets: Vec<Vec<MarkerSet>> = stream::iter(reads).buffered(USERS_AT_ONCE).try_collect().await?;
        Ok(sets.into_iter().flatten().collect())
    }

    /// Raises registers and positions: for each user one write, and one read for positions of which nothing is known.
    pub(super) async fn raise_all(&self, raises: Vec<MarkerRaise>) -> Result<(), CqlError> {
        let mut of_users: BTreeMap<UserId, Vec<MarkerRaise>> = BTreeMap::new();
        for raise in raises {
            of_users.entry(raise.user.clone()).or_default().push(raise);
        }
        let users = of_users.into_iter();
        let writes = users.map(|(user, raises)| async move { self.raise_user(&user, &raises).await });
        stream::iter(writes).buffer_unordered(USERS_AT_ONCE).try_collect().await
    }

    /// Statements that raise a user's registers.
    pub(super) fn raise_registers<'a>(&'a self, raises: &[MarkerRaise], steps: &mut Steps<'a>) {
        for raise in raises {
            self.registers.raise(raise, steps);
        }
    }

    async fn raise_user(&self, user: &UserId, raises: &[MarkerRaise]) -> Result<(), CqlError> {
        let since = monotonic();
        let mut steps = Steps::new();
        self.raise_registers(raises, &mut steps);
        let mut raised: Vec<(&DeviceId, Cells)> = Vec::new();
        for (device, wanted) in positions_wanted(raises) {
            let cells = self.raised_positions(user, device, &wanted, &mut steps).await?;
            raised.push((device, cells));
        }
        self.write_steps(steps).await?;
        for (device, cells) in raised {
            self.positions_stored(user, device, &cells, since);
        }
        Ok(())
    }

    /// Writes steps of one partition, in batches.
    pub(super) async fn write_steps(&self, mut steps: Steps<'_>) -> Result<(), CqlError> {
        while steps.len() > STEPS_PER_BATCH {
            let rest = steps.split_off(STEPS_PER_BATCH);
            self.client.write_all(std::mem::replace(&mut steps, rest)).await?;
        }
        self.client.write_all(steps).await
    }
}
