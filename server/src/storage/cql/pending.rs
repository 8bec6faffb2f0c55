//! Which conversations have entries that may not have been fanned out: rows `(shard, conversation, from, owner)`, each
//! written before an append and covering everything from its seq on. Too many rows do no harm, one too few hides a message.
//!
//! A node deletes its own rows when it has fanned out what they cover, and remembers which of its rows are there: while one
//! is, its next appends need none. Rows of others are deleted when they are older than any node trusts its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::statement::prepared::PreparedStatement;
use stonechat_host::{Host, monotonic};
use tokio::time::Instant;
use tracing::warn;

use super::client::{Client, Values};
use super::rows::{blob, conversation, kind, number, read_conversation, read_number, signed};
use super::{CqlError, Inner};
use crate::domain::{ConversationId, Seq};

/// Partitions of the table. Fixed: a row must be found again, and a start reads them all.
const SHARDS: u8 = 64;
/// Requests at a time of a start and of a sweep.
const REQUESTS_AT_ONCE: usize = 16;
/// Conversations of one sweep; the others come in the next.
const SWEPT_MAX: usize = 2_000;
/// For so long a node relies on a row that it wrote, without writing another.
const TRUSTED_FOR: Duration = Duration::from_secs(10);
/// Rows of others are deleted when they are older: well above the time they are trusted, that of an append whose outcome
/// is looked for (two minutes at worst), and the difference of two clocks. What landed on them has landed by then.
const OTHERS_AFTER_MS: i64 = 300_000;

pub(super) struct Pending {
    insert: PreparedStatement,
    delete: PreparedStatement,
    of_shard: PreparedStatement,
    of_conversation: PreparedStatement,
    owner: [u8; 16],
    known: Mutex<BTreeMap<ConversationId, Known>>,
}

/// What this node knows of one conversation's rows.
#[derive(Default)]
struct Known {
    /// Own rows that are in the table, and since when; `None`: there, but not relied on.
    own: BTreeMap<Seq, Option<Instant>>,
    /// Rows of others that were read: seq, owner, when written.
    others: Vec<(Seq, Vec<u8>, i64)>,
    /// Appends under way.
    flying: usize,
    /// Newest seq that this node appended, or may have.
    newest: Seq,
    /// Everything up to here was fanned out.
    done: Seq,
}

impl Known {
    fn is_covered(&self, first: Seq) -> bool {
        self.own.range(..=first).any(|(_, at)| is_fresh(*at))
    }

    /// Whether a row that stays covers everything that is not fanned out.
    fn is_covered_behind(&self) -> bool {
        self.own.get(&self.done.next()).is_some_and(|at| is_fresh(*at))
    }

    fn is_idle(&self) -> bool {
        self.own.is_empty() && self.others.is_empty() && self.flying == 0
    }
}

fn is_fresh(written: Option<Instant>) -> bool {
    written.is_some_and(|at| monotonic() - at < TRUSTED_FOR)
}

/// An append under way: its row stays as long as this lives.
pub(super) struct Flight<'a> {
    pending: &'a Pending,
    id: ConversationId,
    /// Where the head is if it lands. Unless told otherwise it may have: who waited may be gone.
    may_reach: Seq,
}

impl Flight<'_> {
    /// It certainly did not land.
    pub(super) fn missed(mut self) {
        self.may_reach = Seq::ZERO;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.pending.known().get_mut(&self.id) {
            known.flying = known.flying.saturating_sub(1);
            known.newest = known.newest.max(self.may_reach);
        }
    }
}

/// Conversation, seq, owner and when written, as stored.
type Columns = (Vec<u8>, i64, Vec<u8>, Option<i64>);

/// A row of the table.
struct Row {
    id: ConversationId,
    from: Seq,
    owner: Vec<u8>,
    written: i64,
}

impl Pending {
    pub(super) async fn prepare(client: &Client, host: &Host) -> Result<Self, CqlError> {
        const COLUMNS: &str = "SELECT conversation, from_seq, owner, written FROM pending WHERE shard = ?";
        Ok(Self {
            insert: client
                .prepare("INSERT INTO pending (shard, conversation, from_seq, owner, written) VALUES (?, ?, ?, ?, ?)")
                .await?,
            delete: client
                .prepare("DELETE FROM pending WHERE shard = ? AND conversation = ? AND from_seq = ? AND owner = ?")
                .await?,
            of_shard: client.prepare(COLUMNS).await?,
            of_conversation: client.prepare(&format!("{COLUMNS} AND conversation = ?")).await?,
            owner: host.random.bytes16(),
            known: Mutex::default(),
        })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ConversationId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shard_of(id: ConversationId) -> i8 {
    // Ids are random in all but a few bits; below 64, so never negative.
    let sum =
        id.0.iter()
            .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
    (sum % SHARDS).cast_signed()
}

fn row_key(id: ConversationId, from: Seq, owner: &[u8]) -> Values {
    vec![kind(shard_of(id)), conversation(id), number(from.0), blob(owner)]
}

impl Inner {
    /// Before an append: a row covers its first seq from here on, and stays while the flight lives.
    pub(super) async fn announce(&self, id: ConversationId, first: Seq, last: Seq) -> Result<Flight<'_>, CqlError> {
        let covered = {
            let mut all = self.pending.known();
            let known = all.entry(id).or_default();
            known.flying += 1;
            known.is_covered(first)
        };
        let flight = Flight {
            pending: &self.pending,
            id,
            may_reach: last,
        };
        if !covered && let Err(error) = self.write_pending(id, first).await {
            flight.missed();
            return Err(error);
        }
        Ok(flight)
    }

    async fn write_pending(&self, id: ConversationId, from: Seq) -> Result<(), CqlError> {
        let since = monotonic();
        let mut values = row_key(id, from, &self.pending.owner);
        values.push(signed(self.host.clock.unix_ms()));
        self.client.write(&self.pending.insert, values).await?;
        self.pending
            .known()
            .entry(id)
            .or_default()
            .own
            .insert(from, Some(since));
        Ok(())
    }

    pub(super) fn fanned_out(&self, id: ConversationId, up_to: Seq) {
        if let Some(known) = self.pending.known().get_mut(&id) {
            known.done = known.done.max(up_to);
        }
    }

    /// Takes back rows of what was fanned out.
    pub(super) async fn sweep_pending(&self) {
        let old = self.host.clock.unix_ms() - OTHERS_AFTER_MS;
        let due: Vec<ConversationId> = {
            let mut all = self.pending.known();
            all.retain(|_, known| !known.is_idle());
            let is_due = |known: &Known| {
                known.own.keys().any(|from| *from <= known.done)
                    || known
                        .others
                        .iter()
                        .any(|(from, _, written)| *from <= known.done && *written < old)
            };
            let due = all.iter().filter(|(_, known)| is_due(known));
            due.map(|(id, _)| *id).take(SWEPT_MAX).collect()
        };
        let sweeps = due.into_iter().map(|id| async move {
            if let Err(error) = self.sweep_one(id, old).await {
                warn!(conversation = %id, %error, "a mark of fan-out could not be taken back");
            }
        });
        stream::iter(sweeps)
            .buffer_unordered(REQUESTS_AT_ONCE)
            .for_each(async |()| ())
            .await;
    }

    async fn sweep_one(&self, id: ConversationId, old: i64) -> Result<(), CqlError> {
        let open = {
            let all = self.pending.known();
            let Some(known) = all.get(&id) else { return Ok(()) };
            let open = known.flying > 0 || known.newest > known.done;
            (open && !known.is_covered_behind()).then_some(known.done.next())
        };
        if let Some(next) = open {
            // What is appended now relies on a row that goes: its successor first.
            self.write_pending(id, next).await?;
        }
        let (own, others) = {
            let mut all = self.pending.known();
            let Some(known) = all.get_mut(&id) else { return Ok(()) };
            let rest = known.own.split_off(&known.done.next());
            let still_open = known.flying > 0 || known.newest > known.done;
            if still_open && rest.keys().next() != Some(&known.done.next()) {
                // An append began meanwhile, or the end moved: again in the next round.
                known.own.extend(rest);
                return Ok(());
            }
            let own = std::mem::replace(&mut known.own, rest);
            let done = known.done;
            let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut known.others)
                .into_iter()
                .partition(|(from, _, written)| *from <= done && *written < old);
            known.others = stay;
            (own, gone)
        };
        for from in own.keys() {
            let deleted = self
                .client
                .write(&self.pending.delete, row_key(id, *from, &self.pending.owner));
            if let Err(error) = deleted.await {
                let mut all = self.pending.known();
                let known = all.entry(id).or_default();
                for from in own.keys() {
                    known.own.entry(*from).or_insert(None);
                }
                return Err(error);
            }
        }
        self.delete_others(id, others).await
    }

    /// Deletes rows of others, unless the log went on since: then they may cover what their owner appended and did not
    /// fan out. They are read again by whoever takes over.
    async fn delete_others(&self, id: ConversationId, rows: Vec<(Seq, Vec<u8>, i64)>) -> Result<(), CqlError> {
        if rows.is_empty() {
            return Ok(());
        }
        let head = self.newest(id).await?.map_or(Seq::ZERO, |newest| newest.head.seq);
        let done = self.pending.known().get(&id).map_or(Seq::ZERO, |known| known.done);
        if head > done {
            self.pending.known().entry(id).or_default().others.extend(rows);
            return Ok(());
        }
        for (from, owner, _) in rows {
            self.client
                .write(&self.pending.delete, row_key(id, from, &owner))
                .await?;
        }
        Ok(())
    }

    /// Every conversation with rows, with its oldest seq that may not have been fanned out.
    pub(super) async fn all_pending(&self) -> Result<Vec<(ConversationId, Seq)>, CqlError> {
        let shards =
            (0..SHARDS.cast_signed()).map(|shard| self.pending_rows(&self.pending.of_shard, vec![kind(shard)]));
        let rows: Vec<Vec<Row>> = stream::iter(shards).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        let mut oldest: BTreeMap<ConversationId, Seq> = BTreeMap::new();
        for row in rows.into_iter().flatten() {
            let from = oldest.entry(row.id).or_insert(row.from);
            *from = row.from.min(*from);
        }
        let checks = oldest.into_iter().map(|(id, from)| self.still_pending(id, from));
        let checked: Vec<_> = stream::iter(checks).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        Ok(checked.into_iter().flatten().collect())
    }

    pub(super) async fn pending_of(&self, id: ConversationId) -> Result<Option<Seq>, CqlError> {
        let values = vec![kind(shard_of(id)), conversation(id)];
        let rows = self.pending_rows(&self.pending.of_conversation, values).await?;
        let Some(from) = rows.iter().map(|row| row.from).min() else {
            return Ok(None);
        };
        Ok(self.still_pending(id, from).await?.map(|(_, from)| from))
    }

    /// Reads rows, and remembers those of others: whoever fans them out takes them back.
    async fn pending_rows(&self, statement: &PreparedStatement, values: Values) -> Result<Vec<Row>, CqlError> {
        let rows: Vec<Columns> = self.client.rows(statement, values).await?;
        let mut read = Vec::with_capacity(rows.len());
        for (id, from, owner, written) in rows {
            read.push(Row {
                id: read_conversation(&id)?,
                from: Seq(read_number(from, "a mark of fan-out")?),
                owner,
                written: written.unwrap_or(0),
            });
        }
        let mut all = self.pending.known();
        for row in read.iter().filter(|row| row.owner != self.pending.owner) {
            let others = &mut all.entry(row.id).or_default().others;
            if !others
                .iter()
                .any(|(from, owner, _)| (from, owner) == (&row.from, &row.owner))
            {
                others.push((row.from, row.owner.clone(), row.written));
            }
        }
        Ok(read)
    }

    /// What of a row still counts: not what was fanned out since, and nothing above the head, where an append was
    /// announced and never came. A log that cannot tell its head keeps its row.
    async fn still_pending(&self, id: ConversationId, from: Seq) -> Result<Option<(ConversationId, Seq)>, CqlError> {
        let done = self.pending.known().get(&id).map_or(Seq::ZERO, |known| known.done);
        let from = from.max(done.next());
        let head = match self.newest(id).await {
            Ok(newest) => newest.map_or(Seq::ZERO, |newest| newest.head.seq),
            Err(CqlError::Damaged(_)) => return Ok(Some((id, from))),
            Err(error) => return Err(error),
        };
        Ok((from <= head).then_some((id, from)))
    }
}
