//! Several nodes on the same stores: which there are, who owns a conversation, and appends on their way to the owner.
//!
//! `view` keeps the list of nodes, `clock` compares their clocks, `link` is the line to one of them, `service` the other end of
//! it, behind the `door`. Nothing here is needed for safety: nodes that disagree lose compare-and-sets and time.

mod clock;
mod door;
mod link;
mod service;
mod view;

pub use door::{ForwardingServer, NODE_CONNECTIONS_MAX, serve};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use prost::Message;
use stonechat_host::Connector;
use stonechat_proto::node::v1::ForwardRequest;
use tokio::sync::watch;

use self::clock::{ClockWatch, Finding};
use self::link::Link;
use self::view::View;
use crate::bus::{Bus, NodeRecord};
use crate::conversation::{ForwardAnswer, Forwarded, Peers, TakenAnswer};
use crate::domain::{ClockOffset, ConversationId, Seq};
use crate::telemetry::meters::meters;
use crate::wire::forward;

/// How often a node says that it lives, and looks who else does.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// A node that says nothing for so long is gone: four announcements lost in a row.
const ALIVE_FOR: Duration = Duration::from_secs(5);

/// Looks at the clocks before a node is not started for its own: records of nodes that died a moment ago are gone by the last.
const FIRST_CLOCK_LOOKS: usize = 6;

/// Bytes of appends under way on one line, at either end of it: a hundred of the largest or tens of thousands of the usual ones,
/// and of a fleet of a hundred nodes less than 2 GiB when all of them are stuck at once.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of an append beside its content: ids, times, its place in queues.
const APPEND_BYTES: usize = 512;

/// Bytes that a request takes while it is under way: each end has it as it travels and as it is done.
fn weight(request: &ForwardRequest) -> usize {
    APPEND_BYTES + 2 * request.encoded_len()
}

/// This node among the others.
pub struct Cluster {
    me: NodeRecord,
    bus: Arc<dyn Bus>,
    connector: Arc<dyn Connector>,
    view: RwLock<Arc<View>>,
    clock: ClockWatch,
    /// Lines to the others, by name; those of nodes that are gone are closed.
    links: Mutex<BTreeMap<String, Arc<Link>>>,
}

impl Cluster {
    /// Knows itself alone until [`Self::run`] has looked. Its clock may be as far from the others' as `clock_limit`; zero is no
    /// limit.
    #[must_use]
    pub fn new(me: NodeRecord, bus: Arc<dyn Bus>, connector: Arc<dyn Connector>, clock_limit: Duration) -> Arc<Self> {
        let view = View::new([me.clone()].into());
        Arc::new(Self {
            me,
            bus,
            connector,
            view: RwLock::new(Arc::new(view)),
            clock: ClockWatch::new(clock_limit),
            links: Mutex::default(),
        })
    }

    /// Says that this node lives and follows who else does, for as long as it is awaited.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.look().await;
            tokio::time::sleep(ANNOUNCE_EVERY).await;
        }
    }

    /// Looks at the clocks before anybody is told of this node. Without a bus, or without others, there is nothing to see.
    ///
    /// # Errors
    /// How far this node's is from the others', when that is too far: it must not serve.
    pub async fn check_clock(&self) -> Result<(), ClockOffset> {
        for look in 1.. {
            let me = self.record().await;
            let said = self.bus.nodes().await.unwrap_or_default();
            match ClockWatch::find(&me, &said) {
                Finding::Apart(apart) if self.clock.is_wrong(Finding::Apart(apart)) => {
                    if look >= FIRST_CLOCK_LOOKS {
                        return Err(apart);
                    }
                    tokio::time::sleep(ANNOUNCE_EVERY).await;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Whether this node's clock may be believed, as it is found to be from now on.
    #[must_use]
    pub fn clock_trusted(&self) -> watch::Receiver<bool> {
        self.clock.follow()
    }

    /// What this node says of itself now: who does not trust its own clock owns nothing.
    async fn record(&self) -> NodeRecord {
        NodeRecord {
            core: self.is_core(),
            clock: self.bus.clock().await,
            ..self.me.clone()
        }
    }

    fn is_core(&self) -> bool {
        self.me.core && self.clock.is_trusted()
    }

    /// Says that this node lives, and looks who else does.
    pub async fn look(&self) {
        let me = self.record().await;
        self.bus.announce_node(&me, ALIVE_FOR).await;
        // While the bus cannot tell, what was known is the best guess (I10).
        let Some(said) = self.bus.nodes().await else {
            return;
        };
        self.clock.take(ClockWatch::find(&me, &said));
        let before = self.view();
        let after = before.followed_by(said, &me);
        meters().nodes.set(after.cores().count());
        if after.fingerprint() != before.fingerprint() {
            tracing::info!(nodes = after.cores().count(), "other nodes are known now");
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|name, _| after.knows(name));
        for node in after.cores().filter(|node| node.name != self.me.name) {
            links
                .entry(node.name.clone())
                .or_insert_with(|| Link::open(node.clone(), Arc::clone(&self.connector)));
        }
        meters().node_lines.set(links.len());
        drop(links);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
    }

    /// Takes this node out of the others' view: they hand it nothing more.
    pub async fn leave(&self) {
        self.bus.withdraw_node(&self.me.name).await;
    }

    /// Fingerprint of the nodes that are known.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.view().fingerprint()
    }

    /// How many other nodes appends can be handed to.
    #[cfg(test)]
    pub(crate) fn reachable(&self) -> usize {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.values().filter(|link| link.is_up()).count()
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn link(&self, name: &str) -> Option<Arc<Link>> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(name).map(Arc::clone)
    }

    /// The line to the owner; `None` when that is this node, or nobody else can be reached.
    fn owner(&self, conversation: ConversationId, view: &View) -> Option<Arc<Link>> {
        let is_there =
            |node: &NodeRecord| node.name == self.me.name || self.link(&node.name).is_some_and(|l| l.is_up());
        let owner = view.owner(conversation, is_there)?;
        self.link(&owner.name)
    }
}

impl Peers for Cluster {
    fn owns(&self, conversation: ConversationId) -> bool {
        self.is_core() && self.owner(conversation, &self.view()).is_none()
    }

    fn forward(&self, append: &Forwarded) -> Option<ForwardAnswer> {
        let view = self.view();
        let link = self.owner(append.request.conversation, &view)?;
        link.send(forward::request(append, view.fingerprint()), append.request.clone())
    }

    fn take_over(&self, conversation: ConversationId, from: Seq) -> Option<TakenAnswer> {
        let view = self.view();
        let link = self.owner(conversation, &view)?;
        link.take_over(forward::take_over(conversation, from, view.fingerprint()))
    }
}

#[cfg(test)]
mod tests;
