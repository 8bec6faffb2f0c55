//! The nodes: the real conversation rules, each on its own view of the shared store, bus and time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stonechat_host::{Clock, Host, SeededRandom};
use stonechat_server::bus::embedded::EmbeddedBus;
use stonechat_server::conversation::{Backends, Conversations, Limits};
use stonechat_server::presence::Presence;
use stonechat_server::storage::{Directory, Markers};
use tokio::time::Instant;

use super::bus::{NodeBus, Said};
use super::directory::NodeDirectory;
use super::gate::Gate;
use super::leases::Leases;
use super::log::{NodeLog, Truth};
use super::markers::NodeMarkers;
use super::weather::Weather;

/// Wall time at the start of a run, by a right clock.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// A node that cannot recover tries again after this long, as a supervisor would start it again.
const RESTART_AFTER: Duration = Duration::from_millis(200);
/// Seqs of a bucket: small, so that batches meet its edge all the time.
pub(super) const BUCKET: u64 = 64;

/// The wall clock of one node: it is off, and jumps.
pub(super) struct NodeClock {
    started: Instant,
    off_ms: AtomicI64,
}

impl NodeClock {
    pub(super) fn jump(&self, by_ms: i64) {
        self.off_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for NodeClock {
    fn unix_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        EPOCH_MS + elapsed + self.off_ms.load(Ordering::Relaxed)
    }
}

/// One life of a node.
pub(super) struct Node {
    pub(super) gate: Arc<Gate>,
    pub(super) rules: Conversations,
    pub(super) presence: Presence,
    pub(super) bus: Arc<NodeBus>,
}

/// Each life of a node is a gateway of its own.
fn gateway(number: usize, life: u64) -> String {
    format!("node{number}-{life}")
}

/// What a node does for presence as long as it lives.
async fn keep_presence(node: Arc<Node>) {
    tokio::select! {
        biased;
        () = node.gate.died() => {}
        () = node.bus.keep_lease() => {}
        () = node.presence.clone().run() => {}
    }
}

/// All nodes, and what outlives them.
pub(super) struct Cluster {
    pub(super) truth: Arc<Truth>,
    pub(super) markers: Arc<dyn Markers>,
    pub(super) directory: Arc<dyn Directory>,
    bus: Arc<EmbeddedBus>,
    leases: Arc<Leases>,
    weather: Weather,
    seed: u64,
    clocks: Vec<Arc<NodeClock>>,
    nodes: Mutex<Vec<Option<Arc<Node>>>>,
    lives: AtomicU64,
}

impl Cluster {
    pub(super) fn new(
        truth: Arc<Truth>,
        markers: Arc<dyn Markers>,
        directory: Arc<dyn Directory>,
        weather: Weather,
        seed: u64,
        off_ms: &[i64],
    ) -> Self {
        let started = stonechat_host::monotonic();
        let clock = |off: &i64| {
            Arc::new(NodeClock {
                started,
                off_ms: AtomicI64::new(*off),
            })
        };
        Self {
            truth,
            markers,
            directory,
            bus: Arc::new(EmbeddedBus::new()),
            leases: Arc::default(),
            weather,
            seed,
            clocks: off_ms.iter().map(clock).collect(),
            nodes: Mutex::new(vec![None; off_ms.len()]),
            lives: AtomicU64::new(0),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Option<Arc<Node>>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clock(&self, number: usize) -> &NodeClock {
        &self.clocks[number]
    }

    pub(super) fn len(&self) -> usize {
        self.clocks.len()
    }

    /// A node that runs, or at least is not known to be dead.
    pub(super) fn node(&self, number: usize) -> Option<Arc<Node>> {
        self.nodes().get(number)?.clone()
    }

    /// Starts a node and lets it serve once it has recovered.
    pub(super) async fn start(&self, number: usize) {
        loop {
            let node = self.boot(number);
            if node.rules.recover().await.is_ok() {
                self.nodes()[number] = Some(node);
                return;
            }
            node.gate.kill();
            tokio::time::sleep(RESTART_AFTER).await;
        }
    }

    fn boot(&self, number: usize) -> Arc<Node> {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let gate = Arc::new(Gate::new());
        let weather = &self.weather;
        let bus = self.bus_of(number, life, &gate);
        let backends = Backends {
            log: Arc::new(NodeLog::new(Arc::clone(&self.truth), Arc::clone(&gate))),
            markers: Arc::new(NodeMarkers::new(
                Arc::clone(&self.markers),
                Arc::clone(&gate),
                weather.clone(),
            )),
            directory: Arc::new(NodeDirectory::new(
                Arc::clone(&self.directory),
                Arc::clone(&gate),
                weather.clone(),
            )),
            bus: Arc::clone(&bus) as Arc<_>,
        };
        let host = Host {
            clock: Arc::clone(&self.clocks[number]) as Arc<_>,
            random: Arc::new(SeededRandom::new(self.seed ^ (life << 32))),
        };
        let limits = Limits {
            bucket_seqs: BUCKET,
            ..Limits::default()
        };
        let presence = Presence::new(
            Arc::clone(&backends.bus),
            Arc::clone(&backends.directory),
            host.clone(),
            gateway(number, life),
        );
        let node = Arc::new(Node {
            gate,
            rules: Conversations::new(backends, host, limits),
            presence,
            bus,
        });
        tokio::spawn(keep_presence(Arc::clone(&node)));
        node
    }

    fn bus_of(&self, number: usize, life: u64, gate: &Arc<Gate>) -> Arc<NodeBus> {
        let said = Said {
            leases: Arc::clone(&self.leases),
            clock: Arc::clone(&self.clocks[number]),
            gateway: gateway(number, life),
        };
        let (shared, weather) = (Arc::clone(&self.bus), self.weather.clone());
        Arc::new(NodeBus::new(shared, Arc::clone(gate), weather, said))
    }

    /// The power of a node fails. What it had asked the store for may still happen.
    pub(super) fn crash(&self, number: usize) -> bool {
        let node = self.nodes()[number].take();
        if let Some(node) = &node {
            node.gate.kill();
        }
        node.is_some()
    }

    pub(super) fn freeze(&self, number: usize, frozen: bool) {
        if let Some(node) = self.node(number) {
            node.gate.freeze(frozen);
        }
    }
}
