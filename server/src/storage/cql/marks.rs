//! This process's marks: which conversations have entries that may not have been fanned out. A mark is written before an append
//! and covers everything of this process from its seq on. Too many do no harm, one too few hides a message.
//!
//! Marks lie by rounds of some seconds. A round is a partition that goes as a whole once everything in it was fanned out, so that an
//! append costs no delete, and a table that is a queue has no tombstones to read. A row of `writers` says which rounds there
//! may be; while there are any it is written anew every second, so when it stands still its writer is dead, or so slow that
//! somebody else does its work (`left`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use scylla::statement::prepared::PreparedStatement;
use stonechat_host::{Host, monotonic};
use tracing::warn;

use super::client::{Client, Values};
use super::left::{Mark, ids_of};
use super::rounds::{Round, Rounds, WriterRow};
use super::rows::{blob, conversation, kind, number};
use super::{CqlError, Inner};
use crate::domain::{ConversationId, Seq};

/// Partitions of `writers`: each core reads them all every few seconds.
pub(super) const SHARDS: u8 = 16;
/// Requests at a time of a sweep and of a look.
pub(super) const REQUESTS_AT_ONCE: usize = 16;
/// For so long marks go into one round: what a death leaves is found by reading two or three of them.
const ROUND_FOR: Duration = Duration::from_secs(2);
/// A round is not relied on for new appends when it is older: others delete what stood still for minutes, and an append takes two
/// minutes at worst.
const ROUND_MAX: Duration = Duration::from_secs(10);
/// So many rounds may be open; what is open in an older one is marked again in the newest. Bounds what is read of a dead writer.
const ROUNDS_KEPT: u64 = 8;
/// Conversations that are marked again in one sweep; the others are in the next.
const MOVED_MAX: usize = 2_000;
/// What makes no progress for so long is looked at: its fan-out gave up, or an append of unknown outcome landed late.
const STUCK_AFTER: Duration = Duration::from_secs(6);
/// What did not land by then never will: above the two minutes in which an append's outcome is looked for.
pub(super) const LANDED_WITHIN: Duration = Duration::from_secs(300);

/// A mark is written once, its round deleted once: these write times order the two, whatever the clocks and the network do.
const MARK_TIME: i64 = 1;
const DELETE_TIME: i64 = 2;

pub(super) struct Marks {
    insert: PreparedStatement,
    delete: PreparedStatement,
    register: PreparedStatement,
    /// Another one for each process.
    pub(super) writer: [u8; 16],
    rounds: Mutex<Rounds>,
    /// One at a time writes the row of `writers`, whose write times grow.
    registering: tokio::sync::Mutex<()>,
    #[cfg(test)]
    silent: std::sync::atomic::AtomicBool,
}

/// An append under way: its mark stays as long as this lives.
pub(super) struct Flight<'a> {
    marks: &'a Marks,
    id: ConversationId,
    round: Round,
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
        self.marks
            .rounds()
            .leave(self.round, self.id, self.may_reach, monotonic());
    }
}

impl Marks {
    pub(super) async fn prepare(client: &Client, host: &Host) -> Result<Self, CqlError> {
        let insert = format!(
            "INSERT INTO marks (writer, round, conversation, from_seq) VALUES (?, ?, ?, ?) USING TIMESTAMP {MARK_TIME}"
        );
        let delete = format!("DELETE FROM marks USING TIMESTAMP {DELETE_TIME} WHERE writer = ? AND round = ?");
        let register =
            "INSERT INTO writers (shard, writer, oldest, newest, version) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
        Ok(Self {
            insert: client.prepare(&insert).await?,
            delete: client.prepare(&delete).await?,
            register: client.prepare(register).await?,
            writer: host.random.bytes16(),
            rounds: Mutex::default(),
            registering: tokio::sync::Mutex::default(),
            #[cfg(test)]
            silent: std::sync::atomic::AtomicBool::new(false),
        })
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place in the present round; `None` when there is none to rely on.
    fn enter(&self, id: ConversationId, may_reach: Seq) -> Option<Flight<'_>> {
        let round = self.rounds().enter(id, monotonic(), ROUND_MAX)?;
        Some(Flight {
            marks: self,
            id,
            round,
            may_reach,
        })
    }

    /// Everything up to here was fanned out, as far as this process knows.
    pub(super) fn done(&self, id: ConversationId) -> Seq {
        self.rounds().done(id)
    }
}

/// What tests let happen to a process.
#[cfg(test)]
impl Marks {
    fn is_silent(&self) -> bool {
        self.silent.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// It stands still, as if it were dead or frozen.
    pub(super) fn fall_silent(&self) {
        self.silent.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn wake_up(&self) {
        self.silent.store(false, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn end_round(&self) {
        self.rounds().close();
    }

    pub(super) fn age(&self, by: Duration) {
        self.rounds().age(by);
    }

    pub(super) fn rounds_open(&self) -> usize {
        self.rounds().count()
    }
}

/// The partition of `writers` that a writer's row lies in.
pub(super) fn shard_of(writer: &[u8]) -> i8 {
    // Random bytes; below 16, so never negative.
    (writer.first().copied().unwrap_or_default() % SHARDS).cast_signed()
}

impl Inner {
    /// Before an append: a mark covers its first seq from here on, and stays while the flight lives.
    pub(super) async fn announce(&self, id: ConversationId, first: Seq, last: Seq) -> Result<Flight<'_>, CqlError> {
        let flight = match self.marks.enter(id, last) {
            Some(flight) => flight,
            None => {
                self.open_round().await?;
                let entered = self.marks.enter(id, last);
                entered.ok_or_else(|| CqlError::Answer("a round of marks was old before it was used".to_owned()))?
            }
        };
        let covered = self.marks.rounds().is_covered(flight.round, id, first);
        if covered {
            return Ok(flight);
        }
        let written = self.write_mark(flight.round, id, first).await;
        // Who slept meanwhile for so long that others may have deleted it relies on nothing.
        let stands = self.marks.rounds().is_younger(flight.round, monotonic(), LANDED_WITHIN);
        let error = match written {
            Ok(()) if stands => return Ok(flight),
            Ok(()) => CqlError::Answer("a mark of fan-out was written long ago".to_owned()),
            Err(error) => error,
        };
        flight.missed();
        Err(error)
    }

    async fn write_mark(&self, round: Round, id: ConversationId, from: Seq) -> Result<(), CqlError> {
        let mut values = round_key(&self.marks.writer, round);
        values.extend([conversation(id), number(from.0)]);
        self.client.write(&self.marks.insert, values).await?;
        self.marks.rounds().marked(round, id, from);
        Ok(())
    }

    /// A round to rely on, unless somebody else just opened one. It is registered before a mark goes into it: others must find it.
    async fn open_round(&self) -> Result<(), CqlError> {
        let _turn = self.marks.registering.lock().await;
        if self.marks.rounds().is_fresh(monotonic(), ROUND_FOR) {
            return Ok(());
        }
        let since = monotonic();
        let (round, row) = {
            let mut rounds = self.marks.rounds();
            let round = rounds.next();
            (round, rounds.row(Some(round)))
        };
        self.tell(row).await?;
        self.marks.rounds().open(round, since);
        Ok(())
    }

    /// Shows that the writer lives, and which rounds there are.
    async fn show_life(&self) -> Result<(), CqlError> {
        let _turn = self.marks.registering.lock().await;
        let row = self.marks.rounds().row(None);
        self.tell(row).await
    }

    async fn tell(&self, row: WriterRow) -> Result<(), CqlError> {
        let writer = &self.marks.writer;
        let values = vec![
            kind(shard_of(writer)),
            blob(writer),
            number(row.oldest.0),
            number(row.newest.0),
            number(row.version),
            number(row.version),
        ];
        self.client.write(&self.marks.register, values).await?;
        self.marks.rounds().registered(row);
        Ok(())
    }

    pub(super) fn fanned_out(&self, id: ConversationId, up_to: Seq) {
        self.marks.rounds().fanned_out(id, up_to);
    }

    /// Opens the next round when it is time, takes back rounds in which everything was fanned out, and shows life while there
    /// are others.
    pub(super) async fn sweep_marks(&self) {
        #[cfg(test)]
        if self.marks.is_silent() {
            return;
        }
        let turns = self.marks.rounds().turn(monotonic(), ROUND_FOR);
        if turns && let Err(error) = self.open_round().await {
            warn!(%error, "no new round of marks could be opened");
        }
        let past = self.marks.rounds().past();
        for round in past {
            self.release(round).await;
        }
        let shows_life = self.marks.rounds().has_to_show_life();
        if shows_life && let Err(error) = self.show_life().await {
            warn!(%error, "other nodes may take this one for dead");
        }
    }

    /// Takes back all rounds, and says so: nothing is appended any more.
    pub(super) async fn retire_marks(&self) {
        self.marks.rounds().close();
        self.sweep_marks().await;
    }

    async fn release(&self, round: Round) {
        let open = self.marks.rounds().open_in(round, ROUNDS_KEPT);
        stream::iter(open.into_iter().take(MOVED_MAX))
            .map(|(id, next)| self.mark_again(id, next))
            .buffer_unordered(REQUESTS_AT_ONCE)
            .for_each(async |()| ())
            .await;
        if !self.marks.rounds().release(round) {
            return;
        }
        let deleted = self
            .client
            .write(&self.marks.delete, round_key(&self.marks.writer, round));
        if let Err(error) = deleted.await {
            warn!(%error, "marks of fan-out could not be taken back, trying again");
            self.marks.rounds().keep_for_deletion(round);
        }
    }

    /// A newer mark for what is still open in an old round.
    async fn mark_again(&self, id: ConversationId, next: Seq) {
        match self.announce(id, next, Seq::ZERO).await {
            Ok(flight) => flight.missed(),
            Err(error) => warn!(conversation = %id, %error, "a mark of fan-out could not be moved"),
        }
    }

    /// Takes over what another writer left of a conversation from a seq on: from here on this process's mark covers it. Returns
    /// up to where.
    pub(super) async fn adopt(&self, id: ConversationId, from: Seq) -> Result<Seq, CqlError> {
        let head = self.newest(id).await?.map_or(Seq::ZERO, |newest| newest.head.seq);
        if head >= from.max(self.marks.done(id).next()) {
            drop(self.announce(id, from, head).await?);
        }
        Ok(head)
    }

    /// From where on this process has to see to the fan-out of a conversation.
    pub(super) async fn own_pending(&self, id: ConversationId) -> Result<Option<Seq>, CqlError> {
        let first = self.marks.rounds().first_mark(id);
        match first {
            Some(from) => self.still_pending(id, from).await,
            None => Ok(None),
        }
    }

    /// What of this process makes no progress.
    pub(super) async fn stuck(&self) -> Result<Vec<Mark>, CqlError> {
        let stuck = self.marks.rounds().stuck(monotonic(), STUCK_AFTER);
        let marks: Vec<Mark> = stuck.iter().map(|(id, from, _)| (*id, *from)).collect();
        let pending = self.pending_among(&marks).await?;
        let still = ids_of(&pending);
        let lost = stuck
            .into_iter()
            .filter(|(id, _, ago)| *ago >= LANDED_WITHIN && !still.contains(id));
        lost.for_each(|(id, ..)| self.marks.rounds().never_landed(id));
        Ok(pending)
    }

    /// What of a mark still counts: not what was fanned out since, and nothing above the head, where an append was
    /// announced and never came. A log that cannot tell its head keeps its mark.
    pub(super) async fn still_pending(&self, id: ConversationId, from: Seq) -> Result<Option<Seq>, CqlError> {
        let from = from.max(self.marks.done(id).next());
        let head = match self.newest(id).await {
            Ok(newest) => newest.map_or(Seq::ZERO, |newest| newest.head.seq),
            Err(CqlError::Damaged(_)) => return Ok(Some(from)),
            Err(error) => return Err(error),
        };
        Ok((from <= head).then_some(from))
    }

    /// Deletes a round of somebody who is gone.
    pub(super) async fn delete_round(&self, writer: &[u8], round: Round) -> Result<(), CqlError> {
        self.client.write(&self.marks.delete, round_key(writer, round)).await
    }
}

fn round_key(writer: &[u8], round: Round) -> Values {
    vec![blob(writer), number(round.0)]
}
