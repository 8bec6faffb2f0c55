//! What of fan-out outlives the process: the directory's projection, unread floors, inbox rows, then "done".
//!
//! What a store does not take is owed, and made up for in order as soon as it answers again. Bounded: two positions for
//! each conversation that is loaded, whatever is owed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stonechat_host::{crash_point, monotonic, rule_holds};
use tokio::time::Instant;
use tracing::{error, warn};

use super::Backends;
use super::barrier::Ticket;
use super::fanout::{Live, Round, by_audience, read_range};
use super::limits::{PROJECTION_EVERY, REPLAY_PAGE};
use super::projection::{concerns_directory, project};
use super::state::{State, directory_refusal, marker_refusal};
use crate::bus::{Event, Topic};
use crate::domain::{Body, ConversationId, Counted, Entry, MarkerSet, Refusal, Roster, Seq, UserId};
use crate::storage::{InboxHead, MarkerRaise, Projection, StoredEntry};
use crate::telemetry::meters::meters;

/// Tries of a round before it is owed, and the next one may come.
const TRIES_MAX: u32 = 5;
/// Wait before the second try; doubled each time.
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Pause between tries to make up for what is owed: with the sessions' own look at the inbox every 10 s, everything is
/// visible within 15 s after the stores answer again (I5).
const OWED_AGAIN: Duration = Duration::from_secs(2);

/// What is not written yet: everything from a seq on is written in order, so that no later projection passes over an
/// earlier one.
pub(super) struct Owed {
    pub(super) from: Seq,
    pub(super) to: Seq,
    /// Nobody was told of entries up to here.
    pub(super) untold_to: Seq,
    /// The roster after `to`.
    pub(super) roster: Arc<Roster>,
    /// When the next try is due.
    pub(super) again: Instant,
    /// Held until it is written or cannot be.
    pub(super) ticket: Option<Ticket>,
}

/// Writes it, one round after the other.
pub(super) struct Record {
    backends: Backends,
    id: ConversationId,
    /// The directory knows the conversation up to here.
    projected: Seq,
    /// While something is, "done" is not said: a crash leaves it to the next start.
    owed: Option<Owed>,
    /// The same, for the actor.
    owes: Arc<AtomicBool>,
}

impl Record {
    /// The directory knows the conversation up to its head, as after a load.
    pub(super) fn new(backends: Backends, state: &State, owes: Arc<AtomicBool>) -> Self {
        Self {
            backends,
            id: state.id,
            projected: state.head.seq,
            owed: None,
            owes,
        }
    }

    /// When the next try to make up for something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.owed.as_ref().map(|owed| owed.again)
    }

    pub(super) fn owe(&mut self, owed: Owed) {
        self.owed = Some(owed);
        self.owes.store(true, Ordering::Release);
    }

    pub(super) async fn record(&mut self, round: &Round, live: &Live) {
        let (Some(first), Some(last)) = (round.entries.first(), round.entries.last()) else {
            return;
        };
        let (from, to) = (first.entry.seq, last.entry.seq);
        if let Some(owed) = &mut self.owed {
            owed.to = to;
            owed.roster = Arc::clone(&round.roster);
            if owed.again <= monotonic() {
                self.make_up(live).await;
            }
            return;
        }
        let mut delay = RETRY_DELAY;
        for _ in 0..TRIES_MAX {
            match self.write(&round.entries, &round.roster).await {
                Ok(()) => return self.written(&round.entries, to).await,
                Err(refusal) => {
                    meters().fanout_retries.inc();
                    warn!(conversation = %self.id, %refusal, "fan-out step failed, trying again");
                }
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        meters().fanout_incomplete.inc();
        if !rule_holds("what_is_late_is_owed") {
            return;
        }
        error!(conversation = %self.id, up_to = to.0, "fan-out is late, it is made up for when the stores answer");
        self.owe(Owed {
            from,
            to,
            untold_to: Seq::ZERO,
            roster: Arc::clone(&round.roster),
            again: monotonic() + OWED_AGAIN,
            ticket: None,
        });
    }

    /// One try at everything that is owed, a page at a time; what nobody was told of is told.
    pub(super) async fn make_up(&mut self, live: &Live) {
        while let Some(owed) = &self.owed {
            let (roster, untold_to) = (Arc::clone(&owed.roster), owed.untold_to);
            let page_end = Seq(owed.to.0.min(owed.from.0 + REPLAY_PAGE as u64 - 1));
            match self.write_page(owed.from, page_end, &roster).await {
                Ok(page) => {
                    let untold = page.partition_point(|stored| stored.entry.seq <= untold_to);
                    live.publish(&page[..untold], &roster, None).await;
                    self.made_up(page_end);
                    self.written(&page, page_end).await;
                }
                Err(refusal) => {
                    meters().fanout_retries.inc();
                    warn!(conversation = %self.id, %refusal, "fan-out is still late");
                    return self.put_off();
                }
            }
        }
    }

    async fn write_page(&mut self, from: Seq, to: Seq, roster: &Roster) -> Result<Vec<Arc<StoredEntry>>, Refusal> {
        let page = read_range(&self.backends, self.id, from, to).await?;
        self.write(&page, roster).await?;
        Ok(page)
    }

    /// Nothing is owed up to here any more.
    fn made_up(&mut self, up_to: Seq) {
        self.owed = self.owed.take().filter(|owed| up_to < owed.to);
        match &mut self.owed {
            Some(owed) => owed.from = up_to.next(),
            None => self.owes.store(false, Ordering::Release),
        }
    }

    fn put_off(&mut self) {
        if let Some(owed) = &mut self.owed {
            owed.again = monotonic() + OWED_AGAIN;
            owed.ticket = None;
        }
    }

    async fn written(&self, entries: &[Arc<StoredEntry>], up_to: Seq) {
        self.backends.log.fanout_done(self.id, up_to).await;
        crash_point("fanout.done");
        self.announce_rows(entries).await;
    }

    /// Everything that outlives the process. Each step may be repeated.
    async fn write(&mut self, entries: &[Arc<StoredEntry>], roster: &Roster) -> Result<(), Refusal> {
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

    /// One row per user and run of entries: the rows name the newest entry alone.
    async fn raise_inbox(&self, entries: &[Arc<StoredEntry>], roster: &Roster) -> Result<(), Refusal> {
        for (audience, run) in by_audience(entries, roster) {
            let entry = &run[run.len() - 1].entry;
            let head = InboxHead {
                seq: entry.seq,
                ordinal: entry.ordinal,
                time: entry.time,
            };
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
