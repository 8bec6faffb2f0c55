//! What fan-out writes, one round after the other; what a store does not take is owed, and made up for in order as soon as
//! it answers again. Bounded: two positions for each conversation that is loaded, whatever is owed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stonechat_host::{crash_point, monotonic, rule_holds};
use tokio::time::Instant;
use tracing::{error, warn};

use super::Backends;
use super::barrier::Ticket;
use super::behind::Behind;
use super::fanout::{Live, Round, read_range};
use super::limits::REPLAY_PAGE;
use super::state::State;
use crate::domain::{ConversationId, Refusal, Roster, Seq};
use crate::storage::StoredEntry;
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

impl Owed {
    /// And these, which are behind it as a rule. They wait for the same try.
    fn add(&mut self, behind: Behind) {
        self.from = self.from.min(behind.from);
        self.untold_to = self.untold_to.max(behind.untold_to);
        self.extend(behind.to, &behind.roster);
        // Once a try failed nobody waits for them.
        if let Some(ticket) = &self.ticket {
            ticket.widen(&self.roster);
        }
    }

    fn extend(&mut self, to: Seq, roster: &Arc<Roster>) {
        if to > self.to {
            (self.to, self.roster) = (to, Arc::clone(roster));
        }
    }
}

/// Writes it, one round after the other.
pub(super) struct Record {
    pub(super) backends: Backends,
    pub(super) id: ConversationId,
    /// The directory knows the conversation up to here.
    pub(super) projected: Seq,
    /// While something is, "done" is not said: a crash leaves it to whoever takes the conversation over.
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

    /// Has what is too late to be kept made up for, as soon as may be.
    pub(super) fn fall_behind(&mut self, behind: Behind) {
        if let Some(owed) = &mut self.owed {
            return owed.add(behind);
        }
        warn!(conversation = %self.id, from = behind.from.0, to = behind.to.0, "fan-out is slow, its rows are late");
        self.owe(Owed {
            from: behind.from,
            to: behind.to,
            untold_to: behind.untold_to,
            roster: behind.roster,
            again: monotonic(),
            ticket: Some(behind.ticket),
        });
    }

    pub(super) async fn record(&mut self, round: &Round, live: &Live) {
        let (Some(first), Some(last)) = (round.entries.first(), round.entries.last()) else {
            return;
        };
        let (from, to) = (first.entry.seq, last.entry.seq);
        if let Some(owed) = &mut self.owed {
            owed.extend(to, &round.roster);
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
}
