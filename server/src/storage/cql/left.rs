//! What other processes left: marks of writers that stand still. Whoever is responsible for a writer has what it left taken over,
//! conversation by conversation, and deletes its marks once nothing of it can come any more.
//!
//! Whether a writer stands still is judged by this process's own clock, from when it first saw the writer's newest version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::statement::prepared::PreparedStatement;
use stonechat_host::monotonic;
use tokio::time::Instant;

use super::client::Client;
use super::marks::{LANDED_WITHIN, REQUESTS_AT_ONCE, SHARDS, shard_of};
use super::rounds::{Round, WriterRow};
use super::rows::{blob, conversation, kind, number, read_conversation, read_number, signed};
use super::{CqlError, Inner};
use crate::domain::{ConversationId, Seq};
use crate::storage::LeftFanout;

/// A writer that says nothing for so long is looked after: two of its signs of life are late.
const SILENT_AFTER: Duration = Duration::from_millis(2_500);
/// What was taken over is looked at again so often, for what lands late.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A writer's name, as it lies in the table.
type Writer = Vec<u8>;
/// What a mark says: which conversation, from where on.
pub(super) type Mark = (ConversationId, Seq);

pub(super) struct Left {
    writers: PreparedStatement,
    of_round: PreparedStatement,
    of_conversation: PreparedStatement,
    forget: PreparedStatement,
    seen: Mutex<Seen>,
}

/// What the last looks showed. Bounded by what there is: a writer leaves with its row, a conversation with the last mark of it.
#[derive(Default)]
struct Seen {
    /// The version of each other writer, and since when it is that.
    writers: BTreeMap<Writer, (u64, Instant)>,
    /// Up to where somebody took a conversation over, and when to look again.
    taken: BTreeMap<ConversationId, (Seq, Instant)>,
}

impl Left {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        const MARKS: &str = "SELECT conversation, from_seq FROM marks WHERE writer = ? AND round = ?";
        Ok(Self {
            writers: client
                .prepare("SELECT writer, oldest, newest, version FROM writers WHERE shard = ?")
                .await?,
            of_round: client.prepare(MARKS).await?,
            of_conversation: client.prepare(&format!("{MARKS} AND conversation = ?")).await?,
            forget: client
                .prepare("DELETE FROM writers USING TIMESTAMP ? WHERE shard = ? AND writer = ?")
                .await?,
            seen: Mutex::default(),
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Takes in what the writers say now.
    fn look(&mut self, rows: &BTreeMap<Writer, WriterRow>, now: Instant) {
        self.writers.retain(|writer, _| rows.contains_key(writer));
        for (writer, row) in rows {
            let seen = self.writers.entry(writer.clone()).or_insert((row.version, now));
            if seen.0 != row.version {
                *seen = (row.version, now);
            }
        }
    }

    fn silence(&self, writer: &Writer, now: Instant) -> Duration {
        self.writers
            .get(writer)
            .map_or(Duration::ZERO, |(_, since)| now - *since)
    }

    /// From where on a mark is still to be looked at; `None` when it was, a moment ago.
    fn due(&self, (id, from): Mark, now: Instant) -> Option<Mark> {
        match self.taken.get(&id) {
            Some((_, again)) if now < *again => None,
            Some((up_to, _)) => Some((id, from.max(up_to.next()))),
            None => Some((id, from)),
        }
    }
}

impl Inner {
    /// What writers that stand still left, of those this process is responsible for, and what is stuck here.
    pub(super) async fn left(
        &self,
        ours: &(dyn Fn([u8; 16]) -> bool + Send + Sync),
    ) -> Result<Vec<LeftFanout>, CqlError> {
        let rows = self.writers().await?;
        let now = monotonic();
        let silent: Vec<(Writer, WriterRow, Duration)> = {
            let mut seen = self.left.seen();
            seen.look(&rows, now);
            let silence = rows.into_iter().map(|(writer, row)| {
                let silence = seen.silence(&writer, now);
                (writer, row, silence)
            });
            let is_left = |writer: &Writer, silence: Duration| silence >= SILENT_AFTER && *writer != self.marks.writer;
            silence
                .filter(|(writer, _, silence)| is_left(writer, *silence))
                .filter(|(writer, ..)| name_of(writer).is_some_and(ours))
                .collect()
        };
        let stuck = self.stuck().await?;
        let mut left: Vec<LeftFanout> = stuck.into_iter().map(|mark| left_of(mark, true)).collect();
        let mut marked = BTreeSet::new();
        for (writer, row, silence) in silent {
            let marks = self.marks_left_by(&writer, row).await?;
            let pending = self.pending_and_due(&marks, now).await?;
            if pending.is_empty() && silence >= LANDED_WITHIN {
                self.forget_writer(&writer, row).await?;
            }
            marked.extend(marks.into_keys());
            left.extend(pending.into_iter().map(|mark| left_of(mark, false)));
        }
        self.left.seen().taken.retain(|id, _| marked.contains(id));
        Ok(left)
    }

    /// Somebody takes the conversation over up to here.
    pub(super) fn taken(&self, id: ConversationId, up_to: Seq) {
        let again = monotonic() + AGAIN_AFTER;
        let mut seen = self.left.seen();
        let taken = seen.taken.entry(id).or_insert((up_to, again));
        *taken = (up_to.max(taken.0), again);
    }

    pub(super) async fn writers(&self) -> Result<BTreeMap<Writer, WriterRow>, CqlError> {
        let shards = (0..SHARDS.cast_signed()).map(|shard| {
            self.client
                .rows::<(Writer, i64, i64, i64)>(&self.left.writers, vec![kind(shard)])
        });
        let rows: Vec<Vec<_>> = stream::iter(shards).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        let row = |(writer, oldest, newest, version): (Writer, i64, i64, i64)| {
            let row = WriterRow {
                oldest: Round(read_number(oldest, "a round of marks")?),
                newest: Round(read_number(newest, "a round of marks")?),
                version: read_number(version, "a writer's version")?,
            };
            Ok((writer, row))
        };
        rows.into_iter().flatten().map(row).collect()
    }

    /// Everything that a writer marked, from the lowest seq of each conversation on.
    async fn marks_left_by(&self, writer: &Writer, row: WriterRow) -> Result<BTreeMap<ConversationId, Seq>, CqlError> {
        let rounds = (row.oldest.0..=row.newest.0).map(|round| {
            let key = vec![blob(writer), number(round)];
            self.client.rows::<(Vec<u8>, i64)>(&self.left.of_round, key)
        });
        let rows: Vec<Vec<_>> = stream::iter(rounds).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        let mut marks = BTreeMap::new();
        for (id, from) in rows.into_iter().flatten() {
            let from = Seq(read_number(from, "a mark of fan-out")?);
            add(&mut marks, (read_conversation(&id)?, from));
        }
        Ok(marks)
    }

    /// What of these is pending, but for what somebody took over a moment ago.
    async fn pending_and_due(
        &self,
        marks: &BTreeMap<ConversationId, Seq>,
        now: Instant,
    ) -> Result<Vec<Mark>, CqlError> {
        let due: Vec<Mark> = {
            let seen = self.left.seen();
            let marks = marks.iter().map(|(id, from)| (*id, *from));
            marks.filter_map(|mark| seen.due(mark, now)).collect()
        };
        let pending = self.pending_among(&due).await?;
        let still = ids_of(&pending);
        let mut seen = self.left.seen();
        for (id, _) in due.iter().filter(|(id, _)| !still.contains(id)) {
            // Nothing landed behind what was taken over, up to now.
            if let Some((_, again)) = seen.taken.get_mut(id) {
                *again = now + AGAIN_AFTER;
            }
        }
        Ok(pending)
    }

    /// Those of these marks that still count, from where on they do.
    pub(super) async fn pending_among(&self, marks: &[Mark]) -> Result<Vec<Mark>, CqlError> {
        let looks = marks.iter().copied().map(async |(id, from)| {
            let from = self.still_pending(id, from).await?;
            Ok::<_, CqlError>(from.map(|from| (id, from)))
        });
        let found: Vec<_> = stream::iter(looks).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Nothing of this writer can come any more. Should it live all the same, its next sign of life, which is newer, stands.
    async fn forget_writer(&self, writer: &Writer, row: WriterRow) -> Result<(), CqlError> {
        for round in row.oldest.0..=row.newest.0 {
            self.delete_round(writer, Round(round)).await?;
        }
        let version = signed(row.version.cast_signed());
        let values = vec![version, kind(shard_of(writer)), blob(writer)];
        self.client.write(&self.left.forget, values).await
    }

    /// Every conversation with marks of anybody, with its oldest seq that may not have been fanned out.
    pub(super) async fn all_pending(&self) -> Result<Vec<(ConversationId, Seq)>, CqlError> {
        let mut oldest = BTreeMap::new();
        for (writer, row) in self.writers().await? {
            let marks = self.marks_left_by(&writer, row).await?;
            marks.into_iter().for_each(|mark| add(&mut oldest, mark));
        }
        let oldest: Vec<Mark> = oldest.into_iter().collect();
        self.pending_among(&oldest).await
    }

    /// The same of one conversation: a request for each round of each writer.
    pub(super) async fn pending_of(&self, id: ConversationId) -> Result<Option<Seq>, CqlError> {
        let rounds = self.writers().await?.into_iter().flat_map(|(writer, row)| {
            let rounds = row.oldest.0..=row.newest.0;
            rounds.map(move |round| vec![blob(&writer), number(round), conversation(id)])
        });
        let asks = rounds.map(|key| self.client.rows::<(Vec<u8>, i64)>(&self.left.of_conversation, key));
        let rows: Vec<Vec<_>> = stream::iter(asks).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        let Some(from) = rows.into_iter().flatten().map(|(_, from)| from).min() else {
            return Ok(None);
        };
        self.still_pending(id, Seq(read_number(from, "a mark of fan-out")?))
            .await
    }
}

/// Of several marks of a conversation the lowest covers all.
fn add(marks: &mut BTreeMap<ConversationId, Seq>, (id, from): Mark) {
    let lowest = marks.entry(id).or_insert(from);
    *lowest = from.min(*lowest);
}

pub(super) fn ids_of(marks: &[Mark]) -> BTreeSet<ConversationId> {
    marks.iter().map(|(id, _)| *id).collect()
}

fn left_of((conversation, from): Mark, own: bool) -> LeftFanout {
    LeftFanout {
        conversation,
        from,
        own,
    }
}

fn name_of(writer: &Writer) -> Option<[u8; 16]> {
    writer.as_slice().try_into().ok()
}

#[cfg(test)]
impl Left {
    /// As if everything had been seen so much earlier.
    pub(super) fn age(&self, by: Duration) {
        let mut seen = self.seen();
        seen.writers.values_mut().for_each(|(_, since)| *since -= by);
        seen.taken.values_mut().for_each(|(_, again)| *again -= by);
    }
}
