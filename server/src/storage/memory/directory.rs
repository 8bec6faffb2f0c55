//! `Directory` in memory: deterministic, never unavailable, gone with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::limits::{DEVICES_MAX, REMOVAL_KEPT_MS};
use crate::domain::roster::Standing;
use crate::domain::{ClientMsgId, ConversationId, DeviceId, Kind, Roster, Sender, Seq, UnixMillis, UserId};
use crate::storage::{
    ConversationRecord, ConversationView, DeviceRecord, Directory, DirectoryError, NewConversation, Projection,
    Revocation, Settings, SettingsPatch, UserRecord,
};

type Result<T> = std::result::Result<T, DirectoryError>;

/// Users, devices, conversations of one simulated store; a node that restarts on it finds what it wrote.
#[derive(Default)]
pub struct MemoryDirectory(Mutex<State>);

#[derive(Default)]
struct State {
    asked_who: u64,
    users: BTreeMap<UserId, UserRecord>,
    devices: BTreeMap<(UserId, DeviceId), Device>,
    blocks: BTreeSet<(UserId, UserId)>,
    conversations: BTreeMap<ConversationId, ConversationRecord>,
    pairs: BTreeMap<(UserId, UserId), ConversationId>,
    requests: BTreeMap<(Sender, ClientMsgId), ConversationId>,
    settings: BTreeMap<(UserId, ConversationId), Settings>,
}

#[derive(Default)]
struct Device {
    /// `None` while it is removed.
    present: Option<DeviceRecord>,
    removed: Option<UnixMillis>,
}

impl MemoryDirectory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How often it was asked who a user is, or when a device was removed: what it costs to find whether a token counts.
    #[must_use]
    pub fn asked_who(&self) -> u64 {
        self.state().asked_who
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn user(&mut self, id: &UserId) -> Result<&mut UserRecord> {
        self.users
            .get_mut(id)
            .ok_or_else(|| DirectoryError::NoSuchUser(id.clone()))
    }

    fn ensure(&mut self, id: &UserId) -> &mut UserRecord {
        self.users.entry(id.clone()).or_insert_with(|| UserRecord {
            id: id.clone(),
            display_name: String::new(),
            deactivated: false,
            tokens_revoked: None,
        })
    }

    /// A device of a user; a new one only when there is room.
    fn device(&mut self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<&mut Device> {
        let key = (user.clone(), device.clone());
        if !self.devices.contains_key(&key) {
            self.make_room(user, now)?;
        }
        Ok(self.devices.entry(key).or_default())
    }

    fn make_room(&mut self, user: &UserId, now: UnixMillis) -> Result<()> {
        let own = || self.devices.iter().filter(|((owner, _), _)| owner == user);
        if own().count() < DEVICES_MAX {
            return Ok(());
        }
        let forgettable = UnixMillis(now.0.saturating_sub(REMOVAL_KEPT_MS));
        let removals = own().filter(|(_, device)| device.present.is_none());
        let oldest = removals
            .filter_map(|(key, device)| Some((device.removed?, key.clone())))
            .min();
        match oldest.filter(|(removed, _)| *removed <= forgettable) {
            Some((_, key)) => drop(self.devices.remove(&key)),
            None => return Err(DirectoryError::TooManyDevices(user.clone())),
        }
        Ok(())
    }

    fn conversation(&mut self, id: ConversationId) -> Result<&mut ConversationRecord> {
        let missing = || DirectoryError::Unavailable(format!("it has no conversation {id}; nothing was written"));
        self.conversations.get_mut(&id).ok_or_else(missing)
    }

    fn create(&mut self, new: NewConversation) -> Result<ConversationRecord> {
        let request = (new.creator.clone(), new.client_msg_id.clone());
        if let Some(known) = self.requests.get(&request).and_then(|id| self.conversations.get(id)) {
            return match known.first.asks_same_as(&new) {
                true => Ok(known.clone()),
                false => Err(DirectoryError::IdReused),
            };
        }
        for member in &new.members {
            self.user(&member.user)?;
        }
        let pair = new.pair().map(|(low, high)| (low.clone(), high.clone()));
        let known = pair.as_ref().and_then(|pair| self.pairs.get(pair)).copied();
        let id = known.unwrap_or(new.id);
        self.requests.insert(request, id);
        if let Some(pair) = pair {
            self.pairs.insert(pair, id);
        }
        Ok(self
            .conversations
            .entry(id)
            .or_insert_with(|| ConversationRecord::before(new))
            .clone())
    }

    fn shares(&self, one: &UserId, other: &UserId) -> bool {
        let both =
            |record: &ConversationRecord| record.roster.role(one).is_some() && record.roster.role(other).is_some();
        self.conversations.values().any(both)
    }

    fn blocked(&self, one: &UserId, other: &UserId) -> bool {
        self.blocks.contains(&(one.clone(), other.clone())) || self.blocks.contains(&(other.clone(), one.clone()))
    }

    fn view(&self, user: &UserId, id: ConversationId) -> Option<ConversationView> {
        let record = self.conversations.get(&id)?;
        Some(ConversationView {
            kind: record.first.kind,
            name: record.name.clone(),
            peer: peer(&record.first, user),
            standing: record.roster.standing(user).cloned(),
            settings: self.settings.get(&(user.clone(), id)).copied().unwrap_or_default(),
        })
    }
}

fn peer(first: &NewConversation, user: &UserId) -> Option<UserId> {
    match first.pair() {
        Some((low, high)) if low == user => Some(high.clone()),
        Some((low, high)) if high == user => Some(low.clone()),
        _ => None,
    }
}

fn project(record: &mut ConversationRecord, projection: Projection) {
    if projection.applied <= record.applied {
        return;
    }
    record.applied = projection.applied;
    let mut standings: BTreeMap<UserId, Standing> = record
        .roster
        .standings()
        .map(|(user, standing)| (user.clone(), standing.clone()))
        .collect();
    standings.extend(projection.standings);
    record.roster = Roster::from_standings(standings);
    if let Some(name) = projection.name {
        record.name = name;
    }
    for (target, pinned) in projection.pins {
        set_pin(&mut record.pins, target, pinned);
    }
}

/// A message that is pinned already keeps its place.
fn set_pin(pins: &mut Vec<Seq>, target: Seq, pinned: bool) {
    if !pinned {
        pins.retain(|seq| *seq != target);
    } else if !pins.contains(&target) {
        pins.push(target);
    }
}

fn after<T>(after: Option<T>) -> (Bound<T>, Bound<T>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

/// Those for whom it holds, ascending, each once.
fn select(others: &[UserId], holds: impl Fn(&UserId) -> bool) -> Vec<UserId> {
    let others: BTreeSet<&UserId> = others.iter().collect();
    others.into_iter().filter(|other| holds(other)).cloned().collect()
}

#[async_trait]
impl Directory for MemoryDirectory {
    async fn upsert_user(&self, id: &UserId, display_name: &str, _now: UnixMillis) -> Result<UserRecord> {
        let mut state = self.state();
        let user = state.ensure(id);
        display_name.clone_into(&mut user.display_name);
        Ok(user.clone())
    }

    async fn ensure_user(&self, id: &UserId, _now: UnixMillis) -> Result<UserRecord> {
        Ok(self.state().ensure(id).clone())
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>> {
        let mut state = self.state();
        state.asked_who += 1;
        let ids: BTreeSet<&UserId> = ids.iter().collect();
        Ok(ids.into_iter().filter_map(|id| state.users.get(id)).cloned().collect())
    }

    async fn list_users(&self, from: Option<&UserId>, limit: usize) -> Result<Vec<UserRecord>> {
        let state = self.state();
        let users = state.users.range(after(from.cloned()));
        Ok(users.take(limit).map(|(_, user)| user.clone()).collect())
    }

    async fn set_deactivated(&self, id: &UserId, deactivated: bool, now: UnixMillis) -> Result<UserRecord> {
        let mut state = self.state();
        let user = state.user(id)?;
        user.deactivated = deactivated;
        if deactivated {
            user.tokens_revoked = user.tokens_revoked.max(Some(now));
        }
        Ok(user.clone())
    }

    async fn revoke_tokens(&self, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
        let mut state = self.state();
        let user = state.user(id)?;
        user.tokens_revoked = user.tokens_revoked.max(Some(now));
        Ok(user.clone())
    }

    async fn revocations(
        &self,
        since: UnixMillis,
        after: Option<&Revocation>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let state = self.state();
        let revocation = |at, user: &UserId, device: Option<&DeviceId>| Revocation {
            at,
            user: user.clone(),
            device: device.cloned(),
        };
        let users = state.users.values();
        let users = users.filter_map(|user| Some(revocation(user.tokens_revoked?, &user.id, None)));
        let devices = state.devices.iter();
        let devices = devices.filter_map(|((user, id), device)| Some(revocation(device.removed?, user, Some(id))));
        let mut found: Vec<Revocation> = users.chain(devices).filter(|found| found.at >= since).collect();
        found.sort_unstable();
        let later = found
            .into_iter()
            .filter(|found| after.is_none_or(|after| found > after));
        Ok(later.take(limit).collect())
    }

    async fn touch_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<()> {
        let mut state = self.state();
        state.user(user)?;
        let present = &mut state.device(user, device, now)?.present;
        let record = present.get_or_insert_with(|| DeviceRecord {
            id: device.clone(),
            created: now,
            last_seen: now,
        });
        record.last_seen = now;
        Ok(())
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>> {
        let state = self.state();
        let own = state.devices.iter().filter(|((owner, _), _)| owner == user);
        Ok(own.filter_map(|(_, device)| device.present.clone()).collect())
    }

    async fn remove_device(&self, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<bool> {
        let mut state = self.state();
        if state.user(user).is_err() {
            return Ok(false);
        }
        let device = state.device(user, device, now)?;
        device.removed = device.removed.max(Some(now));
        Ok(device.present.take().is_some())
    }

    async fn device_removed_at(&self, user: &UserId, device: &DeviceId) -> Result<Option<UnixMillis>> {
        let mut state = self.state();
        state.asked_who += 1;
        let device = state.devices.get(&(user.clone(), device.clone()));
        Ok(device.and_then(|device| device.removed))
    }

    async fn set_block(&self, user: &UserId, target: &UserId, blocked: bool) -> Result<()> {
        let mut state = self.state();
        state.user(target)?;
        let block = (user.clone(), target.clone());
        if !blocked {
            state.blocks.remove(&block);
            return Ok(());
        }
        state.user(user)?;
        state.blocks.insert(block);
        Ok(())
    }

    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>> {
        let state = self.state();
        let own = state.blocks.iter().filter(|(owner, _)| owner == user);
        Ok(own.map(|(_, target)| target.clone()).collect())
    }

    async fn blocked_among(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        let state = self.state();
        Ok(select(others, |other| state.blocked(user, other)))
    }

    async fn create_conversation(&self, new: NewConversation) -> Result<ConversationRecord> {
        if new.kind == Kind::Direct && new.pair().is_none() {
            let why = "a 1:1 needs two members; nothing was written";
            return Err(DirectoryError::Unavailable(why.to_owned()));
        }
        self.state().create(new)
    }

    async fn requested(&self, creator: &Sender, id: &ClientMsgId) -> Result<Option<ConversationId>> {
        let request = (creator.clone(), id.clone());
        Ok(self.state().requests.get(&request).copied())
    }

    async fn direct(&self, one: &UserId, other: &UserId) -> Result<Option<ConversationId>> {
        let pair = (one.min(other).clone(), one.max(other).clone());
        Ok(self.state().pairs.get(&pair).copied())
    }

    async fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>> {
        Ok(self.state().conversations.get(&id).cloned())
    }

    async fn list_conversations(&self, from: Option<ConversationId>, limit: usize) -> Result<Vec<ConversationId>> {
        let state = self.state();
        let ids = state.conversations.range(after(from));
        Ok(ids.take(limit).map(|(id, _)| *id).collect())
    }

    async fn apply(&self, id: ConversationId, projection: Projection) -> Result<()> {
        project(self.state().conversation(id)?, projection);
        Ok(())
    }

    async fn views(&self, user: &UserId, ids: &[ConversationId]) -> Result<BTreeMap<ConversationId, ConversationView>> {
        let state = self.state();
        let views = ids.iter().filter_map(|id| Some((*id, state.view(user, *id)?)));
        Ok(views.collect())
    }

    async fn update_settings(&self, user: &UserId, id: ConversationId, patch: SettingsPatch) -> Result<Settings> {
        let mut state = self.state();
        state.conversation(id)?;
        let settings = state.settings.entry((user.clone(), id)).or_default();
        settings.muted_until = patch.muted_until.unwrap_or(settings.muted_until);
        settings.archived = patch.archived.unwrap_or(settings.archived);
        settings.unread_from = patch.unread_from.unwrap_or(settings.unread_from);
        Ok(*settings)
    }

    async fn sharing(&self, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
        let state = self.state();
        Ok(select(others, |other| state.shares(user, other)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryDirectory;
    use crate::storage::contract::directory::directory_contract;

    directory_contract!((Arc::new(MemoryDirectory::new()), ()));
}
