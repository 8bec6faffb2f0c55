//! Reconnect storms (R3, F7, P14): what a hello costs is counted at the store, and does not grow with what a user has.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use stonechat_proto::v1;

use super::harness::{TestNode, grounds, node_with};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::domain::{ClientMsgId, ConversationId, Sender, Seq};
use crate::storage::contract::doubled_log::{Doubled, LogDouble};
use crate::storage::contract::hooked_markers::{Hook, HookedMarkers};
use crate::storage::{Head, MessageLog, PageLimit, Prior, ReadError, StoredEntry};

/// Devices that were thrown off and come back at once.
const DEVICES: usize = 200;
/// Reads of markers and log that a hello costs when nothing changed: the synced stamp, and the inbox since then.
const READS_PER_HELLO: usize = 2;
/// Those that news of one conversation add: the user's markers and the device's position there, its head, and a page of its log.
const READS_OF_NEWS: usize = 4;

/// Counts reads, by the name of what was asked.
#[derive(Default)]
struct Reads {
    all: AtomicUsize,
    by_name: Mutex<BTreeMap<&'static str, usize>>,
}

impl Reads {
    fn count(&self, name: &'static str) {
        self.all.fetch_add(1, Ordering::Relaxed);
        *self.by_name.lock().expect("no panic").entry(name).or_default() += 1;
    }

    fn take(&self) -> usize {
        println!("{:?}", std::mem::take(&mut *self.by_name.lock().expect("no panic")));
        self.all.swap(0, Ordering::Relaxed)
    }
}

impl Hook for Reads {
    fn read(&self, what: &'static str) {
        self.count(what);
    }
}

struct CountedLog {
    inner: Arc<dyn MessageLog>,
    reads: Arc<Reads>,
}

#[async_trait]
impl LogDouble for CountedLog {
    fn inner(&self) -> &dyn MessageLog {
        &*self.inner
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        self.reads.count("head");
        self.inner.head(conversation).await
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        self.reads.count("read");
        self.inner.read(conversation, from, to, limit).await
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        self.reads.count("find");
        self.inner.find(conversation, sender, id, known_head).await
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        self.reads.count("newest_id");
        self.inner.newest_id(conversation, sender).await
    }
}

/// A node whose stores count, in front of nobody's limits.
async fn counted_node() -> (TestNode, Arc<Reads>) {
    let reads = Arc::new(Reads::default());
    let mut grounds = grounds(Arc::new(EmbeddedBus::new()));
    grounds.backends.markers = Arc::new(HookedMarkers {
        inner: Arc::clone(&grounds.backends.markers),
        hook: reads.clone(),
    });
    grounds.backends.log = Arc::new(Doubled(CountedLog {
        inner: Arc::clone(&grounds.backends.log),
        reads: Arc::clone(&reads),
    }));
    let unhurried = Config {
        address_connections_per_second: 0,
        address_requests_per_second: 0,
        user_requests_per_second: 0,
        ..Config::default()
    };
    (node_with(grounds, unhurried).await, reads)
}

/// A user with so many conversations, all of which their devices have acknowledged; the cursor is that of their list.
async fn settled(node: &TestNode, user: &str, conversations: usize, devices: usize) -> Vec<v1::Hello> {
    for number in 0..conversations {
        node.direct(user, &format!("{user}-peer{number}")).await;
    }
    let mut hellos = Vec::new();
    for device in 0..devices {
        let hello = node.hello(user, &format!("d{device}"));
        let (mut peer, welcome) = node.open(hello.clone()).await;
        let mut left = conversations;
        while left > 0 {
            let (entry, _) = peer.delivery().await;
            let acked = peer.ask(super::harness::ack(&entry.conversation_id, entry.seq)).await;
            left -= 1;
            if left == 0 {
                // What is stored by now is noted as synced behind the answer.
                while !matches!(peer.next().await, (id, _) if id == acked) {}
            }
        }
        tokio::time::sleep(Duration::from_secs(25)).await;
        hellos.push(v1::Hello {
            cursor: welcome.cursor,
            ..hello
        });
    }
    hellos
}

/// R3: with nothing new, a hello costs the same few reads for a user of three conversations and for one of three hundred.
#[tokio::test(start_paused = true)]
async fn r3_a_hello_costs_the_same_few_reads_whatever_a_user_has() {
    let (node, reads) = counted_node().await;
    let few = settled(&node, "few", 3, 1).await;
    let many = settled(&node, "many", 300, 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut costs = Vec::new();
    for hello in few.into_iter().chain(many) {
        reads.take();
        let (mut peer, welcome) = node.open(hello).await;
        assert!(welcome.continuous);
        peer.until(|body| matches!(body, v1::server_frame::Body::CaughtUp(_)))
            .await;
        costs.push(reads.take());
        drop(peer);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("reads of a hello: {costs:?}");
    assert_eq!(costs[0], costs[1], "the cost grows with the conversations of a user");
    assert!(costs[0] <= READS_PER_HELLO, "{} reads", costs[0]);
}

/// F7: everybody was thrown off and comes back in the same moment; one message waits for each.
#[tokio::test(start_paused = true)]
async fn f7_a_reconnect_storm_costs_a_bounded_number_of_reads_a_client() {
    let (node, reads) = counted_node().await;
    let mut hellos = Vec::new();
    for number in 0..DEVICES {
        hellos.extend(settled(&node, &format!("user{number}"), 1, 1).await);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for number in 0..DEVICES {
        let conversation = node
            .direct(&format!("user{number}"), &format!("user{number}-peer0"))
            .await;
        let mut sender = node.live(&format!("user{number}-peer0"), "s").await;
        sender.say(&conversation, "news").await;
        drop(sender);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    reads.take();
    let comings = hellos.into_iter().map(|hello| async {
        let (mut peer, _) = node.open(hello).await;
        let (entry, backlog) = peer.delivery().await;
        assert!(backlog);
        assert_eq!(entry.seq, 2);
        peer.until(|body| matches!(body, v1::server_frame::Body::CaughtUp(_)))
            .await;
        peer
    });
    let peers = futures_util::future::join_all(comings).await;
    let all = reads.take();
    println!(
        "{DEVICES} devices back at once: {all} reads, {:.1} each",
        all as f64 / DEVICES as f64
    );
    assert_eq!(peers.len(), DEVICES);
    let most = DEVICES * (READS_PER_HELLO + READS_OF_NEWS);
    assert!(all <= most, "{all} reads for {DEVICES} hellos");
}
