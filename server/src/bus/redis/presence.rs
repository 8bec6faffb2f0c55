//! What sessions say of their users: a hash `user_status:{user}` with a record per session, which holds while the lease
//! of its gateway lives. So a live gateway costs one refresh, not one per session.
//!
//! What this process said it also remembers, to say it again to a Redis that forgot.
//!
//! Ages and deadlines in records are by the clock of one Redis, which all nodes ask: their own may be hours apart, and a
//! record must not be old or gone for that alone (C15).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::Instant;

use super::codec;
use super::fleet::{COMMANDS_MAX, Fleet};
use super::names::partition_of_user;
use super::time;
use super::topics::lock;
use crate::bus::StatusRecord;
use crate::bus::embedded::{STATUS_USERS_MAX, STATUSES_PER_USER_MAX};
use crate::domain::{SessionId, UnixMillis, UserId};

/// A gateway that died is gone for readers after this.
const LEASE: Duration = Duration::from_secs(60);
/// Three tries within a lease, and a Redis that forgot what was said is found out in time.
const LEASE_REFRESH: Duration = Duration::from_secs(15);
/// Leases of others are asked for again after this: less than the slack presence has anyhow.
const LEASE_KNOWN: Duration = Duration::from_secs(1);
/// Gateways whose lease is remembered, more than one installation has; above it they are asked for each time.
const LEASES_MAX: usize = 1_024;
/// Gateways of one process: one, and a few in tests. Above it the new one has no lease, and its sessions look offline.
const GATEWAYS_MAX: usize = 16;
/// A record that says the same is written again after this only: its lease keeps it. It bounds how stale the last
/// activity of somebody who is online may look.
const REWRITE: Duration = Duration::from_secs(300);
/// A record not written for this long is no more: its writer forgot it while Redis was away.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// A record of a gateway without a lease is deleted by who reads it when it is older than this: one whose gateway only
/// lost its lease is written again before.
const LEFT_BEHIND: Duration = Duration::from_secs(180);
/// A hash that nobody writes any more goes by itself.
const HASH_EXPIRES: Duration = Duration::from_secs(24 * 60 * 60);
/// Users looked at under one lock while all is said again.
const AGAIN_BATCH: usize = COMMANDS_MAX;

/// Something this process said of a session.
#[derive(Debug, Clone)]
struct Own {
    /// `None`: it was taken back, and Redis does not know yet.
    record: Option<StatusRecord>,
    /// When Redis last took it.
    written: Option<Instant>,
}

type OwnMap = BTreeMap<UserId, BTreeMap<SessionId, Own>>;

/// One thing to say to Redis.
struct Word {
    user: UserId,
    session: SessionId,
    record: Option<StatusRecord>,
}

/// Presence of this process and of others.
pub(super) struct Statuses {
    fleet: Arc<Fleet>,
    own: Mutex<OwnMap>,
    gateways: Mutex<BTreeSet<String>>,
    /// When each lease was asked for, and until when it lives.
    leases: Mutex<BTreeMap<String, (Instant, Option<Instant>)>>,
    /// What the common clock showed then.
    common: Mutex<Option<(Instant, i64)>>,
}

/// Whether what Redis has is good enough: the lease keeps a record, but not what the user chose.
fn still_says(own: &Own, record: &StatusRecord, now: Instant) -> bool {
    let same = own
        .record
        .as_ref()
        .is_some_and(|before| (before.status, &before.gateway) == (record.status, &record.gateway));
    let fresh = own.written.is_some_and(|at| now < at + REWRITE);
    same && fresh && !record.gateway.is_empty()
}

/// Makes room for one more session when the user has the most.
fn make_room(sessions: &mut BTreeMap<SessionId, Own>) {
    if sessions.len() >= STATUSES_PER_USER_MAX {
        let until = |own: &Own| own.record.as_ref().map(|record| record.valid_until);
        let stalest = sessions.iter().min_by_key(|(_, own)| until(own));
        if let Some(session) = stalest.map(|(session, _)| session.clone()) {
            sessions.remove(&session);
        }
    }
}

impl Statuses {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self {
            fleet,
            own: Mutex::default(),
            gateways: Mutex::default(),
            leases: Mutex::default(),
            common: Mutex::default(),
        }
    }

    /// Asks what time it is on the Redis that lists the nodes.
    async fn learn_time(&self) {
        if let Some(now) = time::common(&self.fleet).await {
            *lock(&self.common) = Some((stonechat_host::monotonic(), now.0));
        }
    }

    /// The common clock now, in milliseconds since the Unix epoch; the own one as long as nobody could be asked.
    async fn common_ms(&self) -> i64 {
        let known = *lock(&self.common);
        if known.is_none() {
            self.learn_time().await;
        }
        let known = *lock(&self.common);
        known.map_or_else(
            || self.fleet.host.clock.unix_ms(),
            |(at, then)| then.saturating_add(millis(at.elapsed())),
        )
    }

    /// Sets what a session says.
    pub(super) async fn set(&self, user: &UserId, session: &SessionId, record: StatusRecord) {
        if !record.gateway.is_empty() && !self.knows_gateway(&record.gateway) {
            self.refresh_leases().await;
        }
        if self.remember(user, session, Some(&record)) {
            self.say(vec![Word {
                user: user.clone(),
                session: session.clone(),
                record: Some(record),
            }])
            .await;
        }
    }

    /// Takes back what a session said.
    pub(super) async fn clear(&self, user: &UserId, session: &SessionId) {
        self.remember(user, session, None);
        self.say(vec![Word {
            user: user.clone(),
            session: session.clone(),
            record: None,
        }])
        .await;
    }

    /// Notes what is to be said; false when Redis has it, or there is no room.
    fn remember(&self, user: &UserId, session: &SessionId, record: Option<&StatusRecord>) -> bool {
        let mut own = lock(&self.own);
        if own.len() >= STATUS_USERS_MAX && !own.contains_key(user) {
            return false;
        }
        let sessions = own.entry(user.clone()).or_default();
        if let (Some(before), Some(record)) = (sessions.get_mut(session), record)
            && still_says(before, record, stonechat_host::monotonic())
        {
            before.record = Some(record.clone());
            return false;
        }
        if !sessions.contains_key(session) {
            make_room(sessions);
        }
        let said = Own {
            record: record.cloned(),
            written: None,
        };
        sessions.insert(session.clone(), said);
        true
    }

    fn knows_gateway(&self, gateway: &str) -> bool {
        let mut gateways = lock(&self.gateways);
        if gateways.contains(gateway) {
            return true;
        }
        if gateways.len() < GATEWAYS_MAX {
            gateways.insert(gateway.to_owned());
        }
        false
    }

    /// Writes to Redis, and notes what it took.
    async fn say(&self, words: Vec<Word>) {
        let fleet = &self.fleet;
        let written = self.common_ms().await;
        let ahead = written.saturating_sub(fleet.host.clock.unix_ms());
        let add = |commands: &mut Pipeline, word: &Word| {
            let (key, field) = (fleet.names.statuses(&word.user).text, word.session.as_str());
            match &word.record {
                Some(record) => {
                    let record = codec::encode_status(&moved_by(ahead, record.clone()), UnixMillis(written));
                    commands.cmd("HSET").arg(key).arg(field).arg(record)
                }
                None => commands.cmd("HDEL").arg(key).arg(field),
            };
        };
        let of_user = |word: &Word| partition_of_user(&word.user);
        let answers = fleet.ask_each(&words, of_user, add).await;
        let told: Vec<&Word> = words
            .iter()
            .zip(answers)
            .filter_map(|(word, answer)| answer.map(|_| word))
            .collect();
        self.note_told(&told);
        let kept: Vec<&UserId> = told
            .iter()
            .filter(|word| word.record.is_some())
            .map(|word| &word.user)
            .collect();
        let expire = |commands: &mut Pipeline, user: &&UserId| {
            let key = fleet.names.statuses(user).text;
            commands.cmd("EXPIRE").arg(key).arg(HASH_EXPIRES.as_secs());
        };
        fleet.ask_each(&kept, |user| partition_of_user(user), expire).await;
    }

    fn note_told(&self, told: &[&Word]) {
        let now = stonechat_host::monotonic();
        let mut own = lock(&self.own);
        for word in told {
            let Some(sessions) = own.get_mut(&word.user) else {
                continue;
            };
            let Some(said) = sessions.get_mut(&word.session) else {
                continue;
            };
            // Unless another word came in between.
            if said.record == word.record {
                said.written = Some(now);
                if word.record.is_none() {
                    sessions.remove(&word.session);
                }
            }
            if sessions.is_empty() {
                own.remove(&word.user);
            }
        }
    }

    /// What all sessions of these users say, as far as it holds.
    pub(super) async fn of(&self, users: &[UserId]) -> Vec<Vec<StatusRecord>> {
        let fleet = &self.fleet;
        let add = |commands: &mut Pipeline, user: &UserId| {
            commands.cmd("HGETALL").arg(fleet.names.statuses(user).text);
        };
        let answers = fleet.ask_each(users, partition_of_user, add).await;
        let rows: Vec<Vec<(SessionId, StatusRecord, UnixMillis)>> = answers.into_iter().map(rows_of).collect();
        let gateways: BTreeSet<&str> = rows
            .iter()
            .flatten()
            .map(|(_, record, _)| record.gateway.as_str())
            .filter(|gateway| !gateway.is_empty())
            .collect();
        let leases = self.leases_of(&gateways).await;
        let common = self.common_ms().await;
        let now = (stonechat_host::monotonic(), fleet.host.clock.unix_ms());
        let behind = now.1.saturating_sub(common);
        let mut left_behind = Vec::new();
        let mut found = Vec::with_capacity(rows.len());
        for (user, records) in users.iter().zip(rows) {
            let mut held = Vec::with_capacity(records.len());
            for (session, record, written) in records {
                let age = Duration::from_millis(u64::try_from(common.saturating_sub(written.0)).unwrap_or(0));
                match judge(moved_by(behind, record), age, &leases, now) {
                    Some(record) => held.push(record),
                    None if age > LEFT_BEHIND => left_behind.push((user, session)),
                    None => {}
                }
            }
            found.push(held);
        }
        self.sweep(&left_behind).await;
        found
    }

    /// Deletes what gateways that are gone left behind.
    async fn sweep(&self, left_behind: &[(&UserId, SessionId)]) {
        let add = |commands: &mut Pipeline, (user, session): &(&UserId, SessionId)| {
            let key = self.fleet.names.statuses(user).text;
            commands.cmd("HDEL").arg(key).arg(session.as_str());
        };
        self.fleet
            .ask_each(left_behind, |(user, _)| partition_of_user(user), add)
            .await;
    }

    /// Until when the leases of these gateways live; who is not in it has none, or cannot be asked.
    async fn leases_of(&self, gateways: &BTreeSet<&str>) -> BTreeMap<String, Instant> {
        let now = stonechat_host::monotonic();
        let mut known = BTreeMap::new();
        let mut unknown = Vec::new();
        {
            let leases = lock(&self.leases);
            for gateway in gateways {
                match leases.get(*gateway) {
                    Some((asked, until)) if now < *asked + LEASE_KNOWN => {
                        known.extend(until.map(|until| ((*gateway).to_owned(), until)));
                    }
                    _ => unknown.push((*gateway).to_owned()),
                }
            }
        }
        let fleet = &self.fleet;
        let add = |commands: &mut Pipeline, gateway: &String| {
            commands.cmd("PTTL").arg(fleet.names.lease(gateway).text);
        };
        let of_gateway = |gateway: &String| fleet.names.lease(gateway).partition;
        let answers = fleet.ask_each(&unknown, of_gateway, add).await;
        for (gateway, answer) in unknown.into_iter().zip(answers) {
            let left = answer.and_then(|answer| redis::from_redis_value::<i64>(answer).ok());
            let Some(left) = left else { continue };
            let until = u64::try_from(left).ok().map(|left| now + Duration::from_millis(left));
            self.note_lease(&gateway, (now, until));
            known.extend(until.map(|until| (gateway, until)));
        }
        known
    }

    fn note_lease(&self, gateway: &str, lease: (Instant, Option<Instant>)) {
        let mut leases = lock(&self.leases);
        if leases.len() >= LEASES_MAX {
            leases.retain(|_, (asked, _)| lease.0 < *asked + LEASE_KNOWN);
        }
        if leases.len() < LEASES_MAX {
            leases.insert(gateway.to_owned(), lease);
        }
    }

    /// Refreshes the leases of this process.
    async fn refresh_leases(&self) {
        let gateways: Vec<String> = lock(&self.gateways).iter().cloned().collect();
        let fleet = &self.fleet;
        let now = stonechat_host::monotonic();
        let add = |commands: &mut Pipeline, gateway: &String| {
            let key = fleet.names.lease(gateway).text;
            commands.cmd("SET").arg(key).arg(1).arg("PX").arg(millis(LEASE));
        };
        let of_gateway = |gateway: &String| fleet.names.lease(gateway).partition;
        let answers = fleet.ask_each(&gateways, of_gateway, add).await;
        for (gateway, answer) in gateways.iter().zip(answers) {
            if answer.is_some() {
                self.note_lease(gateway, (now, Some(now + LEASE)));
            }
        }
    }

    /// Leaves a mark of this process on each Redis, and tells the partitions of those that did not have it any more: each node of a
    /// cluster may forget everything by itself, and not even a connection breaks.
    pub(super) async fn unmarked(&self) -> BTreeSet<u16> {
        let fleet = &self.fleet;
        let shares = fleet.shares();
        let add = |commands: &mut Pipeline, (place, _): &(u16, BTreeSet<u16>)| {
            let key = fleet.names.mark(*place, &fleet.origin);
            let set = commands.cmd("SET").arg(key.text).arg(1);
            set.arg("PX").arg(millis(LEASE)).arg("GET");
        };
        let answers = fleet.ask_each(&shares, |(place, _)| *place, add).await;
        let missing = shares
            .into_iter()
            .zip(answers)
            .filter(|(_, answer)| *answer == Some(Value::Nil));
        missing.flat_map(|((_, share), _)| share).collect()
    }

    /// Keeps the leases, and says again what a Redis that came up may have forgotten; for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LEASE_REFRESH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.fleet.rising.notified() => {}
                _ = ticks.tick() => {}
            }
            self.learn_time().await;
            let mut forgot = self.fleet.take_risen();
            self.refresh_leases().await;
            forgot.extend(self.unmarked().await);
            self.say_again(&forgot).await;
        }
    }

    /// Says what lies on these partitions, and whatever Redis did not take when it was said: a cluster that lacks a node answers
    /// with refusals, and no connection breaks.
    async fn say_again(&self, forgot: &BTreeSet<u16>) {
        let mut after: Option<UserId> = None;
        loop {
            let words = {
                let own = lock(&self.own);
                let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let users: Vec<_> = own
                    .range::<UserId, _>((from, Bound::Unbounded))
                    .take(AGAIN_BATCH)
                    .collect();
                let Some((last, _)) = users.last() else { return };
                after = Some((*last).clone());
                let said = users
                    .into_iter()
                    .flat_map(|(user, sessions)| sessions.iter().map(move |(session, own)| (user, session, own)));
                said.filter(|(user, _, own)| own.written.is_none() || forgot.contains(&partition_of_user(user)))
                    .map(|(user, session, own)| word(user, session, own))
                    .collect::<Vec<_>>()
            };
            if !words.is_empty() {
                self.say(words).await;
            }
        }
    }
}

fn word(user: &UserId, session: &SessionId, own: &Own) -> Word {
    Word {
        user: user.clone(),
        session: session.clone(),
        record: own.record.clone(),
    }
}

/// The same record by a clock that is so many milliseconds ahead.
fn moved_by(ahead_ms: i64, mut record: StatusRecord) -> StatusRecord {
    record.valid_until = UnixMillis(record.valid_until.0.saturating_add(ahead_ms));
    record
}

/// The records of one hash.
fn rows_of(answer: Option<Value>) -> Vec<(SessionId, StatusRecord, UnixMillis)> {
    let fields = answer.and_then(|answer| redis::from_redis_value::<Vec<(String, Vec<u8>)>>(answer).ok());
    let rows = fields.unwrap_or_default().into_iter().filter_map(|(session, record)| {
        let (record, written) = codec::decode_status(&record)?;
        Some((SessionId::parse(&session).ok()?, record, written))
    });
    rows.collect()
}

/// A record as it holds now; `None` when it does not.
fn judge(
    mut record: StatusRecord,
    age: Duration,
    leases: &BTreeMap<String, Instant>,
    (now, wall): (Instant, i64),
) -> Option<StatusRecord> {
    if age > FORGOTTEN {
        return None;
    }
    if !record.gateway.is_empty() {
        let left = leases.get(&record.gateway)?.checked_duration_since(now)?;
        record.valid_until = UnixMillis(wall.saturating_add(millis(left)));
    }
    Some(record)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
