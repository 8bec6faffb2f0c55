//! Fan-out: tells everybody in an entry's audience that it is there, after the ack and off its path.
//!
//! Order: live publish, the directory's projection, unread floors, inbox rows, then "done". If the process dies in
//! between, the log still says that fan-out is pending and whoever takes the conversation over does it again; receivers
//! drop what they have. If a store fails, what is not written is owed, and made up for in order once it answers again. If it is
//! slow, what comes meanwhile is told at once, and owed as well where it is too much to keep (`behind`).

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stonechat_host::{crash_point, monotonic};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use super::Backends;
use super::barrier::Ticket;
use super::behind::{Behind, Left, add_to};
use super::core::Core;
use super::limits::{
    FANOUT_QUEUE_MAX, FANOUT_ROUND_MAX, LINGER_MEMBERS, LINGER_PER_MEMBER, PROJECTION_EVERY, REPLAY_PAGE,
};
use super::owed::{Owed, Record};
use super::projection::{concerns_directory, project};
use super::state::{State, directory_refusal, marker_refusal, read_refusal};
use crate::bus::Event;
use crate::domain::{Body, ConversationId, Counted, Entry, MarkerSet, Refusal, Roster, Seq, UserId};
use crate::storage::{FanoutRecord, InboxHead, InboxRaise, MarkerRaise, PageLimit, Projection, StoredEntry};
use crate::telemetry::meters::meters;
use crate::telemetry::traces::{Stage, all_within};

/// Entries of one commit, in order.
pub(super) struct FanoutBatch {
    pub(super) entries: Vec<Arc<StoredEntry>>,
    /// The roster after the last of them.
    pub(super) roster: Arc<Roster>,
    /// Held until the batch is fanned out.
    pub(super) ticket: Ticket,
}

/// The actor's end of its worker.
pub(super) struct Fanout {
    batches: mpsc::Sender<FanoutBatch>,
    left: Arc<Left>,
    owes: Arc<AtomicBool>,
}

impl Fanout {
    /// Hands a batch over. Never waits: the next ack is behind it.
    pub(super) fn send(&self, batch: FanoutBatch) {
        self.left.queue(&self.batches, batch);
    }

    /// Whether something is still to be made up for.
    pub(super) fn owes(&self) -> bool {
        self.owes.load(Ordering::Acquire) || self.left.is_some()
    }
}

/// Starts the worker of one conversation; it ends when the actor is gone and the queue is empty. What nobody may have
/// heard of, from `pending` up to the head, it owes from the start: the entry that created the conversation, or what a
/// node appended that died or gave up before it knew.
pub(super) fn spawn(core: &Arc<Core>, state: &State, pending: Option<Seq>) -> Fanout {
    let (sender, batches) = mpsc::channel::<FanoutBatch>(FANOUT_QUEUE_MAX);
    let owes = Arc::new(AtomicBool::new(false));
    let live = Live {
        backends: core.backends.clone(),
        id: state.id,
    };
    let mut record = Record::new(core.backends.clone(), state, Arc::clone(&owes));
    if let Some(from) = pending {
        record.owe(Owed {
            from,
            to: state.head.seq,
            untold_to: state.head.seq,
            roster: Arc::clone(&state.roster),
            again: monotonic(),
            ticket: Some(core.barrier.ticket(state.id, &state.roster)),
        });
    }
    let left = Arc::<Left>::default();
    let inbox = Inbox {
        batches,
        left: Arc::clone(&left),
        published: Vec::new(),
        behind: None,
    };
    tokio::spawn(work(Arc::clone(core), live, record, inbox));
    Fanout {
        batches: sender,
        left,
        owes,
    }
}

/// What a worker is given, and has told and not written. Bounded by `FANOUT_QUEUE_MAX` and `FANOUT_ROUND_MAX`.
struct Inbox {
    batches: mpsc::Receiver<FanoutBatch>,
    left: Arc<Left>,
    /// To be written together.
    published: Vec<FanoutBatch>,
    /// What came behind a full round.
    behind: Option<Behind>,
}

impl Inbox {
    async fn publish(&mut self, batch: FanoutBatch, live: &Live) {
        live.publish(&batch.entries, &batch.roster, Some(batch.ticket.taken()))
            .await;
        if self.behind.is_none() && self.published.len() < FANOUT_ROUND_MAX {
            self.published.push(batch);
        } else {
            add_to(&mut self.behind, Behind::told(batch));
            self.left.note(true);
        }
    }

    /// Waits for something, and publishes meanwhile what comes.
    async fn publish_while(&mut self, other: impl Future<Output = ()>, live: &Live) {
        let mut other = pin!(other);
        loop {
            tokio::select! { biased;
                () = &mut other => return,
                Some(batch) = self.batches.recv() => self.publish(batch, live).await,
            }
        }
    }

    /// What is too late to be kept, once everything before it is written or owed.
    fn late(&mut self) -> Option<Behind> {
        let mut late = self.behind.take();
        add_to(&mut late, self.left.take(&self.batches));
        late
    }
}

/// Publishes each batch as it comes. What outlives the process is written for all batches that came meanwhile at once: a
/// busy conversation costs as many writes as the store can take, not as many as it has entries.
async fn work(core: Arc<Core>, live: Live, mut record: Record, mut inbox: Inbox) {
    loop {
        if inbox.published.is_empty() {
            if let Some(late) = inbox.late() {
                record.fall_behind(late);
                inbox.left.note(false);
            }
            let came = match record.due() {
                Some(due) => tokio::time::timeout_at(due, inbox.batches.recv()).await.ok(),
                None => Some(inbox.batches.recv().await),
            };
            match came {
                Some(Some(batch)) => inbox.publish(batch, &live).await,
                // What is owed is left to whoever takes the conversation over.
                Some(None) => return,
                None => {
                    inbox.publish_while(record.make_up(&live), &live).await;
                    continue;
                }
            }
        }
        let linger = core.barrier.linger(linger(&inbox.published));
        inbox.publish_while(linger, &live).await;
        let round = Round::of(std::mem::take(&mut inbox.published));
        inbox.publish_while(record.record(&round, &live), &live).await;
        for ticket in &round.tickets {
            meters().fanout_seconds.since(ticket.taken());
        }
    }
}

/// How long a batch may wait for others before it is written: in proportion to what writing it costs.
fn linger(published: &[FanoutBatch]) -> Duration {
    let members = published.first().map_or(0, |batch| batch.roster.len());
    let costly = members.saturating_sub(LINGER_MEMBERS);
    LINGER_PER_MEMBER * u32::try_from(costly).unwrap_or(u32::MAX)
}

/// What is written together. The tickets are held until it is.
pub(super) struct Round {
    pub(super) entries: Vec<Arc<StoredEntry>>,
    /// The roster after the last of them.
    pub(super) roster: Arc<Roster>,
    tickets: Vec<Ticket>,
}

impl Round {
    fn of(batches: Vec<FanoutBatch>) -> Self {
        let mut round = Self {
            entries: Vec::new(),
            roster: Arc::default(),
            tickets: Vec::with_capacity(batches.len()),
        };
        for batch in batches {
            round.entries.extend(batch.entries);
            round.roster = batch.roster;
            round.tickets.push(batch.ticket);
        }
        round
    }
}

/// Entries `from..=to`.
pub(super) async fn read_range(
    backends: &Backends,
    id: ConversationId,
    from: Seq,
    to: Seq,
) -> Result<Vec<Arc<StoredEntry>>, Refusal> {
    let mut entries = Vec::new();
    let mut next = from;
    while next <= to {
        let limit = PageLimit {
            entries: REPLAY_PAGE,
            bytes: usize::MAX,
        };
        let page = backends.log.read(id, next, to, limit).await.map_err(read_refusal)?;
        let Some(last) = page.last() else { break };
        next = last.entry.seq.next();
        entries.extend(page);
    }
    Ok(entries)
}

/// What is told at once, and may be lost.
pub(super) struct Live {
    backends: Backends,
    id: ConversationId,
}

impl Live {
    pub(super) async fn publish(&self, entries: &[Arc<StoredEntry>], roster: &Roster, acked: Option<Instant>) {
        for (audience, entries) in by_audience(entries, roster) {
            let event = Event::Entries(entries.into(), acked);
            let correlations = entries.iter().map(|stored| stored.entry.correlation);
            let published = self.backends.bus.publish_to_users(&audience, event);
            let offline = all_within(Stage::Publish, correlations, published).await;
            for stored in entries {
                let correlation = stored.entry.correlation;
                debug!(%correlation, conversation = %self.id, seq = stored.entry.seq.0, audience = audience.len(),
                    offline = offline.as_ref().map(Vec::len), "entry published");
            }
        }
        crash_point("fanout.published");
    }
}

/// Runs of entries with one audience. It changes only behind an entry that changes the membership, whose own audience is
/// its own, too.
fn by_audience<'a>(entries: &'a [Arc<StoredEntry>], roster: &Roster) -> Vec<(Vec<UserId>, &'a [Arc<StoredEntry>])> {
    let apart = |one: &Arc<StoredEntry>, next: &Arc<StoredEntry>| {
        one.entry.body.changes_membership() || next.entry.body.changes_membership()
    };
    let runs = entries.chunk_by(|one, next| !apart(one, next));
    runs.map(|run| (roster.audience(run[0].entry.seq).cloned().collect(), run))
        .collect()
}

/// What outlives the process.
impl Record {
    /// Everything that outlives the process. Each step may be repeated.
    pub(super) async fn write(&mut self, entries: &[Arc<StoredEntry>], roster: &Roster) -> Result<(), Refusal> {
        self.project(entries, roster).await?;
        crash_point("fanout.projected");
        let record = FanoutRecord {
            floors: floors(self.id, entries, roster),
            rows: inbox_raises(entries, roster),
        };
        let recorded = self.backends.markers.record_fanout(self.id, record).await;
        recorded.map_err(marker_refusal)?;
        crash_point("fanout.recorded");
        Ok(())
    }

    async fn project(&mut self, entries: &[Arc<StoredEntry>], roster: &Roster) -> Result<(), Refusal> {
        let mut projection = Projection::default();
        for stored in entries {
            project(&mut projection, &stored.entry, roster);
        }
        let due = projection.applied.0.saturating_sub(self.projected.0) >= PROJECTION_EVERY;
        if due || entries.iter().any(|stored| concerns_directory(&stored.entry)) {
            let applied = projection.applied;
            self.backends
                .directory
                .apply(self.id, projection)
                .await
                .map_err(directory_refusal)?;
            self.projected = applied;
        }
        Ok(())
    }

    /// Those who joined or left see their list change.
    pub(super) async fn announce_rows(&self, entries: &[Arc<StoredEntry>]) {
        for stored in entries {
            let users: Vec<UserId> = users_changed(&stored.entry).into_iter().cloned().collect();
            if !users.is_empty() {
                self.backends.bus.publish_to_users(&users, Event::OwnRow(self.id)).await;
            }
        }
    }
}

/// One row per user and run of entries: the rows name the newest entry alone.
fn inbox_raises(entries: &[Arc<StoredEntry>], roster: &Roster) -> Vec<InboxRaise> {
    let raise = |(users, run): (Vec<UserId>, &[Arc<StoredEntry>])| {
        let entry = &run[run.len() - 1].entry;
        let head = InboxHead {
            seq: entry.seq,
            ordinal: entry.ordinal,
            time: entry.time,
        };
        InboxRaise { users, head }
    };
    by_audience(entries, roster).into_iter().map(raise).collect()
}

fn users_changed(entry: &Entry) -> Vec<&UserId> {
    match &entry.body {
        Body::Created { members, .. } | Body::Members(members) => members.iter().map(|member| &member.user).collect(),
        Body::Left { user, .. } => vec![user],
        _ => Vec::new(),
    }
}

/// Nothing before a user's own newest message, or before their joining, counts as unread.
fn floors(id: ConversationId, entries: &[Arc<StoredEntry>], roster: &Roster) -> Vec<MarkerRaise> {
    let mut floors: BTreeMap<UserId, Counted> = BTreeMap::new();
    for stored in entries {
        let entry = &stored.entry;
        let at = Counted {
            seq: entry.seq,
            ordinal: entry.ordinal,
        };
        let users: Vec<&UserId> = match &entry.body {
            Body::Message(_) => entry.sender.user.iter().collect(),
            Body::Created { members, .. } | Body::Members(members) => {
                let joined_here = |user: &&UserId| joined_at(roster, user, entry.seq);
                members.iter().map(|member| &member.user).filter(joined_here).collect()
            }
            _ => Vec::new(),
        };
        // Entries come in order: the last one of a user is the highest.
        floors.extend(users.into_iter().map(|user| (user.clone(), at)));
    }
    let raises = floors.into_iter().map(|(user, floor)| floor_raise(id, user, floor));
    raises.collect()
}

fn joined_at(roster: &Roster, user: &UserId, seq: Seq) -> bool {
    let standing = roster.standing(user);
    standing.is_some_and(|standing| standing.spans.iter().any(|span| span.joined == seq))
}

fn floor_raise(conversation: ConversationId, user: UserId, floor: Counted) -> MarkerRaise {
    MarkerRaise {
        user,
        conversation,
        markers: MarkerSet {
            unread_floor: floor,
            ..MarkerSet::default()
        },
        device: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CorrelationId, Member, Role, Sender, UnixMillis};

    fn stored(seq: u64, body: Body) -> Arc<StoredEntry> {
        let entry = Entry {
            conversation: ConversationId([1; 16]),
            seq: Seq(seq),
            time: UnixMillis(0),
            ordinal: crate::domain::Ordinal(seq),
            sender: Sender {
                user: None,
                device: None,
            },
            client_msg_id: crate::domain::ClientMsgId::parse("m").unwrap(),
            correlation: CorrelationId([0; 16]),
            origin_time: None,
            body,
        };
        let wire = bytes::Bytes::new();
        Arc::new(StoredEntry { entry, wire })
    }

    /// I7: entries of one batch go out together only as far as the same people may read all of them.
    #[test]
    fn i7_a_batch_is_told_to_each_audience_apart() {
        let user = |name: &str| UserId::parse(name).unwrap();
        let role = Role::Member;
        let joins = |name: &str| Body::Members(vec![Member { user: user(name), role }]);
        let leaves = |name: &str| Body::Left {
            user: user(name),
            removed: false,
            promoted: None,
        };
        let says = || Body::Renamed("n".to_owned());
        let bodies = [
            joins("ada"),
            says(),
            says(),
            joins("bob"),
            says(),
            leaves("ada"),
            says(),
        ];
        let entries: Vec<_> = (1..).zip(bodies).map(|(seq, body)| stored(seq, body)).collect();
        let mut roster = Roster::default();
        entries.iter().for_each(|stored| roster.apply(&stored.entry));
        let told: Vec<(Vec<String>, Vec<u64>)> = by_audience(&entries, &roster)
            .into_iter()
            .map(|(audience, run)| {
                let seqs = run.iter().map(|stored| stored.entry.seq.0).collect();
                (audience.iter().map(ToString::to_string).collect(), seqs)
            })
            .collect();
        let both = || vec!["ada".to_owned(), "bob".to_owned()];
        let (ada, bob) = (vec!["ada".to_owned()], vec!["bob".to_owned()]);
        let expected = [
            (ada.clone(), vec![1]),
            (ada, vec![2, 3]),
            (both(), vec![4]),
            (both(), vec![5]),
            (both(), vec![6]),
            (bob, vec![7]),
        ];
        assert_eq!(told, expected);
    }
}
