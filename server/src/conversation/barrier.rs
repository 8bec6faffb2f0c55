//! Tickets of fan-out under way, so that a catch-up can wait for what was acknowledged before it began: for what concerns
//! its own user, and nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::BARRIER_MAX;
use crate::domain::{ConversationId, Roster, UserId};
use crate::telemetry::meters::{Held, meters};

#[derive(Default)]
struct Tickets {
    next: u64,
    under_way: BTreeMap<u64, Subject>,
}

/// What is being fanned out.
struct Subject {
    conversation: ConversationId,
    /// Who may be concerned.
    roster: Arc<Roster>,
}

/// Hands out tickets before acks and waits for older ones. Bounded by the fan-out queues of the loaded conversations.
#[derive(Default)]
pub(super) struct FanoutBarrier {
    tickets: Mutex<Tickets>,
    finished: Notify,
    /// How many wait now, and the word that one more does.
    waiting: AtomicUsize,
    awaited: Notify,
}

/// Somebody waits until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Fan-out of one batch is under way until this is dropped.
pub(super) struct Ticket {
    number: u64,
    barrier: Arc<FanoutBarrier>,
    taken: Instant,
    _counted: Held,
}

impl Ticket {
    /// When it was taken.
    pub(super) fn taken(&self) -> Instant {
        self.taken
    }

    /// It stands for later batches as well, with whom those concern: a later roster still has everybody of an earlier one.
    pub(super) fn widen(&self, roster: &Arc<Roster>) {
        if let Some(subject) = self.barrier.lock().under_way.get_mut(&self.number) {
            subject.roster = Arc::clone(roster);
        }
    }
}

impl FanoutBarrier {
    /// Takes a ticket; do it before the ack.
    pub(super) fn ticket(self: &Arc<Self>, conversation: ConversationId, roster: &Arc<Roster>) -> Ticket {
        let mut tickets = self.lock();
        let number = tickets.next;
        tickets.next += 1;
        let roster = Arc::clone(roster);
        tickets.under_way.insert(number, Subject { conversation, roster });
        Ticket {
            number,
            barrier: Arc::clone(self),
            taken: stonechat_host::monotonic(),
            _counted: meters().fanout_pending.hold(),
        }
    }

    /// Waits until every ticket taken before the call is done, or `BARRIER_MAX`: then the log repairs what is late.
    pub(super) async fn wait(&self) {
        self.wait_until(|tickets, target| tickets.under_way.range(..target).next().is_none())
            .await;
    }

    /// The same for what concerns a user.
    pub(super) async fn wait_for_user(&self, user: &UserId) {
        self.wait_for_those(|subject| subject.roster.standing(user).is_some())
            .await;
    }

    /// The same for one conversation.
    pub(super) async fn wait_for(&self, conversation: ConversationId) {
        self.wait_for_those(|subject| subject.conversation == conversation)
            .await;
    }

    async fn wait_for_those(&self, concerns: impl Fn(&Subject) -> bool) {
        self.wait_until(|tickets, target| !tickets.under_way.range(..target).any(|(_, subject)| concerns(subject)))
            .await;
    }

    /// Lets fan-out gather more for a while, unless somebody waits for it.
    pub(super) async fn linger(&self, pause: Duration) {
        let awaited = self.awaited.notified();
        if !pause.is_zero() && self.waiting.load(Ordering::Acquire) == 0 {
            // Either is a reason to go on.
            let _paused = tokio::time::timeout(pause, awaited).await;
        }
    }

    async fn wait_until(&self, done: impl Fn(&Tickets, u64) -> bool) {
        let target = {
            let tickets = self.lock();
            if done(&tickets, tickets.next) {
                return;
            }
            tickets.next
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        self.awaited.notify_waiters();
        let all_done = async {
            loop {
                let finished = self.finished.notified();
                if done(&self.lock(), target) {
                    return;
                }
                finished.await;
            }
        };
        if tokio::time::timeout(BARRIER_MAX, all_done).await.is_err() {
            tracing::warn!("fan-out is late, going on without it");
        }
    }

    /// Batches whose fan-out is under way.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.lock().under_way.len()
    }

    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.barrier.lock().under_way.remove(&self.number);
        self.barrier.finished.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_older_tickets_only() {
        let barrier = Arc::new(FanoutBarrier::default());
        let (here, there) = (ConversationId([1; 16]), ConversationId([2; 16]));
        let user = |name: &str| UserId::parse(name).unwrap();
        let standing = crate::domain::roster::Standing {
            role: crate::domain::Role::Member,
            spans: Vec::new(),
        };
        let roster = Arc::new(Roster::from_standings([(user("ada"), standing)].into()));
        let old = barrier.ticket(here, &roster);
        barrier.wait_for(there).await;
        barrier.wait_for_user(&user("bob")).await;
        let late = Duration::from_millis(1);
        assert!(
            tokio::time::timeout(late, barrier.wait_for_user(&user("ada")))
                .await
                .is_err()
        );
        let waiting = tokio::spawn({
            let barrier = Arc::clone(&barrier);
            async move { barrier.wait().await }
        });
        tokio::task::yield_now().await;
        let _newer = barrier.ticket(here, &roster);
        assert!(!waiting.is_finished());
        drop(old);
        waiting.await.unwrap();
    }

    /// Whoever waits ends a pause at once, whether they came before or during it.
    #[tokio::test(start_paused = true)]
    async fn fan_out_lingers_only_while_nobody_waits() {
        let barrier = Arc::new(FanoutBarrier::default());
        let ticket = barrier.ticket(ConversationId([1; 16]), &Arc::default());
        let pause = Duration::from_secs(1);
        let alone = stonechat_host::monotonic();
        barrier.linger(pause).await;
        assert_eq!(alone.elapsed(), pause);
        let waiting = tokio::spawn({
            let barrier = Arc::clone(&barrier);
            async move { barrier.wait().await }
        });
        let hurried = stonechat_host::monotonic();
        barrier.linger(pause).await;
        barrier.linger(pause).await;
        assert_eq!(hurried.elapsed(), Duration::ZERO);
        drop(ticket);
        waiting.await.unwrap();
    }
}
