//! Fan-out: tells everybody in an entry's audience that it is there, after the ack and off its path.
//!
//! Order: live publish, the directory's projection, unread floors, inbox rows, then "done". If the process dies in
//! between, the log still says that fan-out is pending and the next start does it again; receivers drop what they have.

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::crash_point;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::Backends;
use super::barrier::Ticket;
use super::core::Core;
use super::limits::{FANOUT_QUEUE_MAX, PROJECTION_EVERY, REPLAY_PAGE};
use super::projection::{concerns_directory, project};
use super::state::{directory_refusal, marker_refusal, read_refusal};
use crate::bus::{Event, Topic};
use crate::domain::{Body, ConversationId, Counted, Entry, MarkerSet, Refusal, Roster, Seq, UserId};
use crate::storage::{InboxHead, MarkerRaise, PageLimit, Projection, StoredEntry};
use crate::telemetry::meters::meters;
use crate::telemetry::traces::{Stage, within};

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
    let (sender, mut batches) = mpsc::channel::<FanoutBatch>(FANOUT_QUEUE_MAX);
    tokio::spawn(async move {
        let mut worker = Worker {
            backends: core.backends.clone(),
            id,
            projected,
            complete: true,
        };
        while let Some(batch) = batches.recv().await {
            let acked = batch.ticket.taken();
            worker.fan_out(&batch.entries, &batch.roster, Some(acked)).await;
            meters().fanout_seconds.since(acked);
            drop(batch.ticket);
        }
    });
    sender
}

/// Does what a crash left undone.
pub(super) async fn redrive(core: &Arc<Core>, id: ConversationId, from: Seq) -> Result<(), Refusal> {
    let state = core.state(id).await?;
    let mut worker = Worker {
        backends: core.backends.clone(),
        id,
        projected: state.head.seq,
        complete: true,
    };
    let mut next = from;
    while next <= state.head.seq {
        let to = Seq(state.head.seq.0.min(next.0 + REPLAY_PAGE as u64 - 1));
        let page = read_range(&core.backends, id, next, to).await?;
        worker.fan_out(&page, &state.roster, None).await;
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

struct Worker {
    backends: Backends,
    id: ConversationId,
    /// The directory knows the conversation up to here.
    projected: Seq,
    /// False when a step failed for good: then "done" is not said, and the next start does it again.
    complete: bool,
}

impl Worker {
    async fn fan_out(&mut self, entries: &[Arc<StoredEntry>], roster: &Roster, acked: Option<Instant>) {
        let Some(last) = entries.last().map(|stored| stored.entry.seq) else {
            return;
        };
        self.publish(entries, roster, acked).await;
        crash_point("fanout.published");
        let mut delay = RETRY_DELAY;
        for _ in 0..TRIES_MAX {
            match self.record(entries, roster).await {
                Ok(()) => {
                    if self.complete {
                        self.backends.log.fanout_done(self.id, last).await;
                    }
                    crash_point("fanout.done");
                    return self.announce_rows(entries).await;
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

    async fn publish(&self, entries: &[Arc<StoredEntry>], roster: &Roster, acked: Option<Instant>) {
        for stored in entries {
            let audience: Vec<UserId> = roster.audience(stored.entry.seq).cloned().collect();
            let correlation = stored.entry.correlation;
            let event = Event::Entry(Arc::clone(stored), acked);
            let published = self.backends.bus.publish_to_users(&audience, event);
            let offline = within(Stage::Publish, correlation, published).await;
            debug!(%correlation, conversation = %self.id, seq = stored.entry.seq.0, audience = audience.len(),
                offline = offline.len(), "entry published");
        }
    }

    /// Everything that outlives the process. Each step may be repeated.
    async fn record(&mut self, entries: &[Arc<StoredEntry>], roster: &Roster) -> Result<(), Refusal> {
        self.project(entries, roster).await?;
        let floors = floors(self.id, entries, roster);
        if !floors.is_empty() {
            self.backends.markers.raise(floors).await.map_err(marker_refusal)?;
        }
        crash_point("fanout.floors_raised");
        self.raise_inbox(entries, roster).await?;
        crash_point("fanout.inbox_raised");
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

    /// One row per user and batch; entry by entry when the audience changes within the batch.
    async fn raise_inbox(&self, entries: &[Arc<StoredEntry>], roster: &Roster) -> Result<(), Refusal> {
        let one_audience = !entries.iter().any(|stored| stored.entry.body.changes_membership());
        let from = if one_audience {
            entries.len().saturating_sub(1)
        } else {
            0
        };
        for stored in &entries[from..] {
            let entry = &stored.entry;
            let head = InboxHead {
                seq: entry.seq,
                ordinal: entry.ordinal,
                time: entry.time,
            };
            let audience: Vec<UserId> = roster.audience(entry.seq).cloned().collect();
            let raised = self.backends.markers.raise_inbox(&audience, self.id, head, false).await;
            raised.map_err(marker_refusal)?;
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

fn users_changed(entry: &Entry) -> Vec<&UserId> {
    match &entry.body {
        Body::Created { members, .. } | Body::Members(members) => members.iter().map(|member| &member.user).collect(),
        Body::Left { user, .. } => vec![user],
        _ => Vec::new(),
    }
}

/// Nothing before a user's own newest message, or before their joining, counts as unread.
fn floors(id: ConversationId, entries: &[Arc<StoredEntry>], roster: &Roster) -> Vec<MarkerRaise> {
    let mut raises = Vec::new();
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
        raises.extend(users.into_iter().map(|user| floor_raise(id, user, at)));
    }
    raises
}

fn joined_at(roster: &Roster, user: &UserId, seq: Seq) -> bool {
    let standing = roster.standing(user);
    standing.is_some_and(|standing| standing.spans.iter().any(|span| span.joined == seq))
}

fn floor_raise(conversation: ConversationId, user: &UserId, floor: Counted) -> MarkerRaise {
    MarkerRaise {
        user: user.clone(),
        conversation,
        markers: MarkerSet {
            unread_floor: floor,
            ..MarkerSet::default()
        },
        device: None,
    }
}
