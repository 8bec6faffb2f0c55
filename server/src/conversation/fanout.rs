//! Fan-out: tells everybody in an entry's audience that it is there, after the ack and off its path.
//!
//! Order: live publish, the directory's projection, unread floors, inbox rows, then "done". If the process dies in
//! between, the log still says that fan-out is pending and the next start does it again; receivers drop what they have.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::crash_point;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::Backends;
use super::barrier::Ticket;
use super::core::Core;
use super::limits::{
    FANOUT_QUEUE_MAX, FANOUT_ROUND_MAX, LINGER_MEMBERS, LINGER_PER_MEMBER, PROJECTION_EVERY, REPLAY_PAGE,
};
use super::projection::{concerns_directory, project};
use super::state::{directory_refusal, marker_refusal, read_refusal};
use crate::bus::{Event, Topic};
use crate::domain::{Body, ConversationId, Counted, Entry, MarkerSet, Refusal, Roster, Seq, UserId};
use crate::storage::{FanoutTrace, InboxHead, InboxRaise, MarkerRaise, PageLimit, Projection, StoredEntry};
use crate::telemetry::meters::meters;
use crate::telemetry::traces::{Stage, all_within};

/// Tries of a step before it is left to the next start.
const TRIES_MAX: u32 = 5;
/// Wait before the second try; doubled each time.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Entries of one commit, in order.
pub(super) struct FanoutBatch {
    pub(super) entries: Vec<Arc<StoredEntry>>,
    /// The roster after the last of them.
    pub(super) roster: Arc<Roster>,
    /// Held until the batch is fanned out.
    pub(super) ticket: Ticket,
}

/// Starts the worker of one conversation; it ends when the actor is gone and the queue is empty.
pub(super) fn spawn(core: Arc<Core>, id: ConversationId, projected: Seq) -> mpsc::Sender<FanoutBatch> {
    let (sender, batches) = mpsc::channel::<FanoutBatch>(FANOUT_QUEUE_MAX);
    let (live, record) = halves(&core, id, projected);
    tokio::spawn(work(core, live, record, batches));
    sender
}

/// What tells of a conversation's entries, and what writes them down; the directory knows it up to `projected`.
fn halves(core: &Core, id: ConversationId, projected: Seq) -> (Live, Record) {
    let live = Live {
        backends: core.backends.clone(),
        id,
    };
    let record = Record {
        backends: core.backends.clone(),
        id,
        projected,
        complete: true,
    };
    (live, record)
}

/// Publishes each batch as it comes. What outlives the process is written for all batches that came meanwhile at once: a
/// busy conversation costs as many writes as the store can take, not as many as it has entries.
async fn work(core: Arc<Core>, live: Live, mut record: Record, mut batches: mpsc::Receiver<FanoutBatch>) {
    let mut published: Vec<FanoutBatch> = Vec::new();
    loop {
        if published.is_empty() {
            let Some(batch) = batches.recv().await else { return };
            live.publish(&batch.entries, &batch.roster, Some(batch.ticket.taken()))
                .await;
            published.push(batch);
        }
        let linger = core.barrier.linger(linger(&published));
        live.publish_while(linger, &mut batches, &mut published).await;
        let round = Round::of(std::mem::take(&mut published));
        let recording = record.record(&round);
        live.publish_while(recording, &mut batches, &mut published).await;
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
struct Round {
    entries: Vec<Arc<StoredEntry>>,
    /// The roster after the last of them.
    roster: Arc<Roster>,
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

/// Does what a crash left undone.
pub(super) async fn redrive(core: &Arc<Core>, id: ConversationId, from: Seq) -> Result<(), Refusal> {
    let state = core.state(id).await?;
    let (live, mut record) = halves(core, id, state.head.seq);
    let mut next = from;
    while next <= state.head.seq {
        let to = Seq(state.head.seq.0.min(next.0 + REPLAY_PAGE as u64 - 1));
        let page = read_range(&core.backends, id, next, to).await?;
        live.publish(&page, &state.roster, None).await;
        let round = Round {
            entries: page,
            roster: Arc::clone(&state.roster),
            tickets: Vec::new(),
        };
        record.record(&round).await;
        next = to.next();
    }
    Ok(())
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
struct Live {
    backends: Backends,
    id: ConversationId,
}

impl Live {
    async fn publish(&self, entries: &[Arc<StoredEntry>], roster: &Roster, acked: Option<Instant>) {
        for (audience, entries) in by_audience(entries, roster) {
            let event = Event::Entries(entries.into(), acked);
            let correlations = entries.iter().map(|stored| stored.entry.correlation);
            let published = self.backends.bus.publish_to_users(&audience, event);
            let offline = all_within(Stage::Publish, correlations, published).await;
            for stored in entries {
                let correlation = stored.entry.correlation;
                debug!(%correlation, conversation = %self.id, seq = stored.entry.seq.0, audience = audience.len(),
                    offline = offline.len(), "entry published");
            }
        }
        crash_point("fanout.published");
    }

    /// Waits for something, and publishes meanwhile what comes.
    async fn publish_while(
        &self,
        other: impl Future<Output = ()>,
        batches: &mut mpsc::Receiver<FanoutBatch>,
        published: &mut Vec<FanoutBatch>,
    ) {
        let mut other = pin!(other);
        loop {
            let room = published.len() < FANOUT_ROUND_MAX;
            tokio::select! { biased;
                () = &mut other => return,
                Some(batch) = batches.recv(), if room => {
                    self.publish(&batch.entries, &batch.roster, Some(batch.ticket.taken())).await;
                    published.push(batch);
                }
            }
        }
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
struct Record {
    backends: Backends,
    id: ConversationId,
    /// The directory knows the conversation up to here.
    projected: Seq,
    /// False when a step failed for good: then "done" is not said, and the next start does it again.
    complete: bool,
}

impl Record {
    async fn record(&mut self, round: &Round) {
        let Some(last) = round.entries.last().map(|stored| stored.entry.seq) else {
            return;
        };
        let mut delay = RETRY_DELAY;
        for _ in 0..TRIES_MAX {
            match self.write(&round.entries, &round.roster).await {
                Ok(()) => {
                    if self.complete {
                        self.backends.log.fanout_done(self.id, last).await;
                    }
                    crash_point("fanout.done");
                    return self.announce_rows(&round.entries).await;
                }
                Err(refusal) => {
                    meters().fanout_retries.inc();
                    warn!(conversation = %self.id, %refusal, "fan-out step failed, trying again");
                }
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        self.complete = false;
        meters().fanout_incomplete.inc();
        error!(conversation = %self.id, up_to = last.0, "fan-out is incomplete until the next start");
    }

    /// Everything that outlives the process. Each step may be repeated.
    async fn write(&mut self, entries: &[Arc<StoredEntry>], roster: &Roster) -> Result<(), Refusal> {
        self.project(entries, roster).await?;
        crash_point("fanout.projected");
        let trace = FanoutTrace {
            floors: floors(self.id, entries, roster),
            rows: inbox_raises(entries, roster),
        };
        let recorded = self.backends.markers.record_fanout(self.id, trace).await;
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
    async fn announce_rows(&self, entries: &[Arc<StoredEntry>]) {
        for stored in entries {
            for user in users_changed(&stored.entry) {
                let topic = Topic::User(user.clone());
                self.backends.bus.publish(&topic, Event::OwnRow(self.id)).await;
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
