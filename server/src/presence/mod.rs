//! Presence: what is true of people right now, merged over their sessions. Nothing is stored; nothing else breaks
//! without it.
//!
//! A session is good for 60 s after its last sign of life; a broken stream for a grace of one heartbeat; `bye` is
//! offline at once. What a user chose (away, busy, invisible) covers all their sessions until they choose again or the
//! last session ends. This node knows its own sessions by the monotonic clock; the bus carries them to others.

mod user;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Host;
use tokio::sync::{Mutex, MutexGuard};

use self::user::{Merged, Now, Record, Said, UserState};
use crate::bus::{Bus, Event, Status, StatusRecord, Topic, UserPresence};
use crate::domain::{Effect, Reason, Refusal, SessionId, UnixMillis, UserId};
use crate::storage::{Directory, DirectoryError};

/// How often records are swept: the slack on top of the validity before watchers are told.
const SWEEP: Duration = Duration::from_secs(2);
/// Changes of one user told at once between two sweeps; more are told as one at the next. A flapping client cannot
/// make a storm of events.
const CHANGES_PER_SWEEP: u8 = 4;
/// Users known here; above it new ones are shown as offline: presence is shed first.
const USERS_MAX: usize = 400_000;
/// Locks over the users, so that a slow bus holds up few of them. Within one lock, events go out in order.
const SHARDS: usize = 64;
/// Retry hint when the directory does not answer.
const RETRY_AFTER_MS: u64 = 1_000;
/// Gateway name of the record that holds what a user chose: it is said by the user, not by a gateway.
const CHOICE: &str = "";

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By `bye`, or because the credentials were withdrawn: offline at once.
    Bye,
    /// Another stream of the same device took over, which counts instead.
    Replaced,
    /// The stream broke, fell silent or was drained: it may come back within the grace.
    Lost,
}

type Shard = BTreeMap<UserId, UserState>;

struct Inner {
    bus: Arc<dyn Bus>,
    directory: Arc<dyn Directory>,
    host: Host,
    gateway: String,
    choice_place: SessionId,
    shards: Vec<Mutex<Shard>>,
}

/// Presence of everybody, as this node knows it. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    inner: Arc<Inner>,
}

impl Presence {
    /// `gateway` names this process in the records that other nodes read: not empty, and no two alike.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, directory: Arc<dyn Directory>, host: Host, gateway: String) -> Self {
        let inner = Inner {
            bus,
            directory,
            host,
            gateway,
            choice_place: SessionId::of_choice(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A session lives: call it when it starts, when its app comes to the fore or goes to the back, and for each frame
    /// or at least each heartbeat of the client. Between refreshes it costs a look-up. Shows the user as online, or as
    /// away when all their apps are in the background.
    pub async fn session_alive(&self, user: &UserId, session: &SessionId, background: bool) {
        let status = if background { Status::Away } else { Status::Online };
        let mut shard = self.shard(user).await;
        let now = self.now();
        let Some(state) = self.state(&mut shard, user, now).await else {
            return;
        };
        let Some(record) = state.alive(session, status, now) else {
            return;
        };
        self.send(user, session, &record, now).await;
        self.keep_choice(&mut shard, user, now).await;
        self.settle(&mut shard, user, now).await;
    }

    /// A session ended.
    pub async fn session_ended(&self, user: &UserId, session: &SessionId, ending: Ending) {
        let mut shard = self.shard(user).await;
        let now = self.now();
        let Some(state) = shard.get_mut(user).filter(|state| state.knows(session)) else {
            return;
        };
        if ending == Ending::Lost {
            if let Some(record) = state.lose(session, now) {
                self.send(user, session, &record, now).await;
            }
        } else {
            state.end(session);
            self.inner.bus.clear_status(user, session).await;
        }
        if ending == Ending::Bye {
            self.drop_choice_of_nobody(&mut shard, user, now).await;
        }
        self.settle(&mut shard, user, now).await;
    }

    /// The last session of a user said bye: what they chose went with it.
    async fn drop_choice_of_nobody(&self, shard: &mut Shard, user: &UserId, now: Now) {
        let Some(state) = shard.get_mut(user).filter(|state| !state.has_sessions()) else {
            return;
        };
        state.forget_choice();
        let records = self.remote(user).await;
        let elsewhere = self.of_others(&records, now).any(|record| record.gateway != CHOICE);
        self.clear_choice_if(!elsewhere, user).await;
    }

    /// A live session keeps what its user chose alive, also when they chose it at another node.
    async fn keep_choice(&self, shard: &mut Shard, user: &UserId, now: Now) {
        let records = self.remote(user).await;
        let Some(state) = shard.get_mut(user) else { return };
        for record in self.of_others(&records, now).filter(|record| record.gateway == CHOICE) {
            state.adopt(record.status, record.last_active, now);
        }
        if let Some(chosen) = state.chosen() {
            self.send_choice(user, chosen, now).await;
        }
    }

    /// The user chose a status, on whichever device or by an rpc; returns what others see now. It covers all their
    /// sessions as long as one of them lives, and without one it holds for 60 s.
    pub async fn set_status(&self, user: &UserId, status: Status) -> UserPresence {
        let mut shard = self.shard(user).await;
        let now = self.now();
        if let Some(state) = self.state(&mut shard, user, now).await {
            let record = state.choose(status, now);
            self.send_choice(user, &record, now).await;
        }
        let merged = self.settle(&mut shard, user, now).await;
        presence(user, merged)
    }

    /// The status the user chose here and that still holds, so that a resumed session can go on with it.
    pub async fn chosen(&self, user: &UserId) -> Option<Status> {
        let shard = self.shard(user).await;
        shard.get(user)?.chosen().map(|record| record.status)
    }

    /// Those of `users` whose presence `viewer` may see: themself, and who shares a conversation with them and is not
    /// blocked either way. Subscribe to nobody else; ask again when memberships or blocks changed.
    ///
    /// # Errors
    /// The directory cannot answer: then nobody is seen.
    pub async fn watchable(&self, viewer: &UserId, users: &[UserId]) -> Result<BTreeSet<UserId>, Refusal> {
        let distinct: BTreeSet<UserId> = users.iter().filter(|user| *user != viewer).cloned().collect();
        let others: Vec<UserId> = distinct.into_iter().collect();
        let directory = &self.inner.directory;
        let sharing = directory.sharing(viewer, &others).await.map_err(not_known)?;
        let blocked = directory.blocked_among(viewer, &others).await.map_err(not_known)?;
        let mut seen: BTreeSet<UserId> = sharing.into_iter().collect();
        for user in &blocked {
            seen.remove(user);
        }
        if users.contains(viewer) {
            seen.insert(viewer.clone());
        }
        Ok(seen)
    }

    /// The presence of `users` as `viewer` may see it, in the order asked; who may not be seen reads as offline.
    ///
    /// # Errors
    /// The directory cannot answer: then nobody is seen.
    pub async fn visible(&self, viewer: &UserId, users: &[UserId]) -> Result<Vec<UserPresence>, Refusal> {
        let seen: Vec<UserId> = self.watchable(viewer, users).await?.into_iter().collect();
        let known: BTreeMap<UserId, UserPresence> = self
            .current(&seen)
            .await
            .into_iter()
            .map(|presence| (presence.user.clone(), presence))
            .collect();
        let rows = users.iter().map(|user| {
            let known = known.get(user).cloned();
            known.unwrap_or_else(|| presence(user, Merged::OFFLINE))
        });
        Ok(rows.collect())
    }

    /// The presence of `users` without asking who looks, in the order asked. For users that passed
    /// [`Presence::watchable`].
    pub async fn current(&self, users: &[UserId]) -> Vec<UserPresence> {
        let remote = self.inner.bus.statuses(users).await;
        let now = self.now();
        let mut rows = Vec::with_capacity(users.len());
        for (user, records) in users.iter().zip(remote) {
            let shard = self.shard(user).await;
            let merged = self.merge(shard.get(user), &records, now);
            rows.push(presence(user, merged));
        }
        rows
    }

    /// Expires records and tells changes that were held back, for ever. Spawn it once.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep().await;
        }
    }

    async fn sweep(&self) {
        for shard in &self.inner.shards {
            let users: Vec<UserId> = shard.lock().await.keys().cloned().collect();
            for user in users {
                self.sweep_user(&user).await;
            }
        }
    }

    async fn sweep_user(&self, user: &UserId) {
        let mut shard = self.shard(user).await;
        let now = self.now();
        let Some(state) = shard.get_mut(user) else { return };
        let flapped = state.changes_left < CHANGES_PER_SWEEP;
        state.changes_left = CHANGES_PER_SWEEP;
        let (gone, choice_gone) = state.expire(now);
        if gone.is_empty() && !choice_gone && !flapped && !state.is_empty() {
            return;
        }
        for session in &gone {
            self.inner.bus.clear_status(user, session).await;
        }
        self.clear_choice_if(choice_gone, user).await;
        let merged = self.settle(&mut shard, user, now).await;
        if shard.get(user).is_some_and(|state| state.is_over(merged.status)) {
            shard.remove(user);
        }
    }

    /// Tells watchers when what they see changed (another node with sessions of the user may tell them as well), and
    /// forgets users of whom nothing is known or was told since the last sweep: who comes and goes all the time must not
    /// be new each time. Returns what others see.
    async fn settle(&self, shard: &mut Shard, user: &UserId, now: Now) -> Merged {
        let records = self.remote(user).await;
        let merged = self.merge(shard.get(user), &records, now);
        let Some(state) = shard.get_mut(user) else {
            return merged;
        };
        if state.shown != merged.status && state.changes_left > 0 {
            state.changes_left -= 1;
            state.shown = merged.status;
            let event = Event::Presence(presence(user, merged));
            self.inner.bus.publish(&Topic::Presence(user.clone()), event).await;
        }
        if state.is_over(merged.status) && state.changes_left == CHANGES_PER_SWEEP {
            shard.remove(user);
        }
        merged
    }

    fn merge(&self, local: Option<&UserState>, records: &[StatusRecord], now: Now) -> Merged {
        let mut said = local.map_or_else(Said::default, |state| state.said(now));
        let here = local.and_then(UserState::chosen).map(|chosen| chosen.last_active);
        for record in self.of_others(records, now) {
            if record.gateway != CHOICE {
                said.add_session(record.status, record.last_active);
            } else if here != Some(record.last_active) {
                // The same choice, when it is known here, counts as long as it holds by the monotonic clock.
                said.add_choice(record.status, record.last_active);
            }
        }
        said.merged()
    }

    /// The valid records that are not of this node's own sessions.
    fn of_others<'a>(&'a self, records: &'a [StatusRecord], now: Now) -> impl Iterator<Item = &'a StatusRecord> {
        let others = records.iter().filter(|record| record.gateway != self.inner.gateway);
        others.filter(move |record| record.valid_until > now.wall)
    }

    /// The user's state here; a new one starts from what other nodes say. `None` when there is no room.
    async fn state<'shard>(&self, shard: &'shard mut Shard, user: &UserId, now: Now) -> Option<&'shard mut UserState> {
        if !shard.contains_key(user) {
            if shard.len() >= USERS_MAX / SHARDS {
                return None;
            }
            let records = self.remote(user).await;
            let shown = self.merge(None, &records, now).status;
            shard.insert(user.clone(), UserState::new(shown, CHANGES_PER_SWEEP));
        }
        shard.get_mut(user)
    }

    async fn remote(&self, user: &UserId) -> Vec<StatusRecord> {
        let records = self.inner.bus.statuses(std::slice::from_ref(user)).await;
        records.into_iter().next().unwrap_or_default()
    }

    async fn send(&self, user: &UserId, session: &SessionId, record: &Record, now: Now) {
        let record = record.published(&self.inner.gateway, now);
        self.inner.bus.set_status(user, session, record).await;
    }

    async fn send_choice(&self, user: &UserId, record: &Record, now: Now) {
        let record = record.published(CHOICE, now);
        self.inner.bus.set_status(user, &self.inner.choice_place, record).await;
    }

    async fn clear_choice_if(&self, gone: bool, user: &UserId) {
        if gone {
            self.inner.bus.clear_status(user, &self.inner.choice_place).await;
        }
    }

    async fn shard(&self, user: &UserId) -> MutexGuard<'_, Shard> {
        self.inner.shards[shard_of(user)].lock().await
    }

    fn now(&self) -> Now {
        Now {
            mono: stonechat_host::monotonic(),
            wall: UnixMillis(self.inner.host.clock.unix_ms()),
        }
    }
}

/// FNV-1a: spreads ids over the locks, the same in every run.
fn shard_of(user: &UserId) -> usize {
    let hash = user.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash % SHARDS as u64).unwrap_or(0)
}

fn presence(user: &UserId, merged: Merged) -> UserPresence {
    UserPresence {
        user: user.clone(),
        status: merged.status,
        last_active: merged.last_active,
    }
}

fn not_known(error: DirectoryError) -> Refusal {
    tracing::warn!(%error, "presence cannot tell who may be seen");
    Refusal {
        reason: Reason::Unavailable {
            retry_after_ms: RETRY_AFTER_MS,
        },
        effect: Effect::NotDone,
        message: "presence is not available now".to_owned(),
    }
}
