//! The sessions of this node: how many there are, and the word to end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::limits::SESSIONS_PER_USER_MAX;
use crate::domain::UserId;
use crate::storage::Revocation;
use crate::telemetry::meters::{Held, meters};

/// What all sessions of the node are told.
#[derive(Debug, Default)]
pub(super) struct Word {
    /// The node drains: the time to end.
    pub(super) draining: bool,
    /// What was revoked lately of users who have sessions here.
    pub(super) revoked: BTreeMap<UserId, Vec<Revocation>>,
}

/// Counts sessions and tells them what concerns them all.
pub(super) struct Sessions {
    word: watch::Sender<Word>,
    count: watch::Sender<usize>,
    /// Sessions by user; without those that have none.
    by_user: Mutex<BTreeMap<UserId, usize>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            word: watch::Sender::default(),
            count: watch::Sender::new(0),
            by_user: Mutex::default(),
        }
    }
}

/// A stream counts as long as this lives.
pub(super) struct Open {
    sessions: Arc<Sessions>,
    _counted: Held,
}

/// A user's session counts as long as this lives.
pub(super) struct Seat {
    sessions: Arc<Sessions>,
    user: UserId,
    _counted: Held,
}

impl Sessions {
    /// A stream opened, not yet of anybody.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.count.send_modify(|count| *count += 1);
        Open {
            sessions: Arc::clone(self),
            _counted: meters().streams.hold(),
        }
    }

    /// A seat for one more session of this user; `None` when they have too many.
    pub(super) fn seat(self: &Arc<Self>, user: &UserId) -> Option<Seat> {
        let mut by_user = self.by_user();
        let taken = by_user.entry(user.clone()).or_default();
        if *taken >= SESSIONS_PER_USER_MAX {
            return None;
        }
        *taken += 1;
        Some(Seat {
            sessions: Arc::clone(self),
            user: user.clone(),
            _counted: meters().sessions.hold(),
        })
    }

    /// Whether the node drains.
    pub(super) fn is_draining(&self) -> bool {
        self.word.borrow().draining
    }

    /// Where the word is heard. What was said before is there, but does not wake.
    pub(super) fn word(&self) -> watch::Receiver<Word> {
        self.word.subscribe()
    }

    /// Whether the user has a session here.
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.by_user().contains_key(user)
    }

    /// Tells what was revoked lately, unless all of it was told before.
    pub(super) fn tell_revoked(&self, revoked: Vec<Revocation>) {
        let mut by_user: BTreeMap<UserId, Vec<Revocation>> = BTreeMap::new();
        for revocation in revoked {
            by_user.entry(revocation.user.clone()).or_default().push(revocation);
        }
        self.word.send_if_modified(|word| {
            let told = std::mem::replace(&mut word.revoked, by_user);
            let is_news = |(user, revoked): (&UserId, &Vec<Revocation>)| {
                let told = told.get(user).map_or(&[][..], Vec::as_slice);
                revoked.iter().any(|revocation| !told.contains(revocation))
            };
            word.revoked.iter().any(is_news)
        });
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Ends all sessions and waits for them.
    pub(super) async fn drain(&self) {
        self.word.send_modify(|word| word.draining = true);
        let mut count = self.count.subscribe();
        // The sender is in `self`: it cannot be gone.
        let _none = count.wait_for(|count| *count == 0).await;
    }

    fn by_user(&self) -> MutexGuard<'_, BTreeMap<UserId, usize>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.sessions.count.send_modify(|count| *count -= 1);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_user = self.sessions.by_user();
        if let Some(taken) = by_user.get_mut(&self.user) {
            *taken -= 1;
            if *taken == 0 {
                by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I9: a user's sessions are bounded, and a seat comes back.
    #[test]
    fn seats_are_bounded_and_come_back() {
        let sessions = Arc::new(Sessions::default());
        let user = UserId::parse("alice").expect("an id");
        let mut seats: Vec<_> = (0..SESSIONS_PER_USER_MAX).map(|_| sessions.seat(&user)).collect();
        assert!(seats.iter().all(Option::is_some));
        assert!(sessions.seat(&user).is_none());
        seats.pop();
        assert!(sessions.seat(&user).is_some());
        drop(seats);
        assert!(sessions.by_user().is_empty());
    }

    #[tokio::test]
    async fn a_drain_waits_for_every_stream() {
        let sessions = Arc::new(Sessions::default());
        let open = sessions.open();
        let mut word = sessions.word();
        let drain = sessions.drain();
        tokio::pin!(drain);
        assert!(futures_util::poll!(drain.as_mut()).is_pending());
        assert!(word.borrow_and_update().draining);
        drop(open);
        drain.await;
    }
}
