//! What the parts of the conversation rules share, and the registry of loaded conversations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stonechat_host::{Host, rule_holds};

use super::actor::{ActorHandle, spawn};
use super::barrier::FanoutBarrier;
use super::known::KnownMarkers;
use super::limits::{LOADED_MAX, Limits, WAITING_BYTES_MAX};
use super::state::{State, unavailable};
use super::{Backends, Peers};
use crate::domain::{ConversationId, Refusal, UnixMillis};
use crate::room::Room;
use crate::telemetry::meters::{Shed, meters};

/// Shared by the facade, the actors and the fan-out workers.
pub(super) struct Core {
    pub(super) backends: Backends,
    pub(super) host: Host,
    pub(super) limits: Limits,
    /// Other nodes on the same backends; `None` for a node alone.
    pub(super) peers: Option<Arc<dyn Peers>>,
    pub(super) registry: Registry,
    pub(super) barrier: Arc<FanoutBarrier>,
    pub(super) known_markers: KnownMarkers,
    /// For appends that wait, of all conversations.
    pub(super) room: Arc<Room>,
    /// Set when the node drains: appends are refused as not done.
    pub(super) closing: AtomicBool,
}

impl Core {
    pub(super) fn new(backends: Backends, host: Host, limits: Limits, peers: Option<Arc<dyn Peers>>) -> Self {
        Self {
            backends,
            host,
            limits,
            peers,
            registry: Registry::default(),
            barrier: Arc::default(),
            known_markers: KnownMarkers::default(),
            room: Room::new(WAITING_BYTES_MAX),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn now(&self) -> UnixMillis {
        UnixMillis(self.host.clock.unix_ms())
    }

    /// Whether this node is the one to append to a conversation and to fan it out.
    pub(super) fn owns(&self, id: ConversationId) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.owns(id))
    }

    /// The actor of a conversation, started when there is none. Never waits, so that calls keep their order.
    pub(super) fn actor(self: &Arc<Self>, id: ConversationId) -> Result<ActorHandle, Refusal> {
        let mut actors = self.registry.lock();
        // A closed one has ended, or fell to a fault: the next one loads what the log says.
        if let Some(handle) = actors.get(&id)
            && !handle.commands.is_closed()
            && rule_holds("one_owner")
        {
            return Ok(handle.clone());
        }
        if actors.len() >= LOADED_MAX {
            meters().shed.inc(Shed::ConversationsLoaded);
            return Err(unavailable("too many conversations are active on this node; not done"));
        }
        let generation = self.registry.generations.fetch_add(1, Ordering::Relaxed);
        let handle = spawn(Arc::clone(self), id, generation);
        actors.insert(id, handle.clone());
        Ok(handle)
    }

    /// The conversation as this node last saw it.
    pub(super) async fn state(self: &Arc<Self>, id: ConversationId) -> Result<Arc<State>, Refusal> {
        let mut handle = self.actor(id)?;
        if let Some(loaded) = &*handle.published.borrow() {
            return loaded.clone();
        }
        let _turn = handle.turn.lock().await;
        let published = handle.published.wait_for(Option::is_some).await;
        match published.ok().and_then(|value| value.clone()) {
            Some(loaded) => loaded,
            None => Err(unavailable("the conversation could not be loaded; not done")),
        }
    }
}

/// Which conversations are loaded; bounded by `LOADED_MAX`.
#[derive(Default)]
pub(super) struct Registry {
    actors: Mutex<BTreeMap<ConversationId, ActorHandle>>,
    generations: AtomicU64,
}

impl Registry {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ConversationId, ActorHandle>> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an actor, unless a newer one took its place.
    pub(super) fn remove(&self, id: ConversationId, generation: u64) {
        let mut actors = self.lock();
        if actors.get(&id).is_some_and(|handle| handle.generation == generation) {
            actors.remove(&id);
        }
    }

    /// The actor of a conversation, when there is one; it may still load, or be about to end.
    pub(super) fn get(&self, id: ConversationId) -> Option<ActorHandle> {
        self.lock().get(&id).cloned()
    }

    /// Lets every actor go once it has done what it was asked: they hold the backends, which may be opened again then.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn loaded(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn all(&self) -> Vec<ActorHandle> {
        self.lock().values().cloned().collect()
    }
}
