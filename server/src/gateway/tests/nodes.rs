//! Several nodes on the same stores: appends find their owner, and nothing is lost when one dies, freezes or goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stonechat_host::{Clock, Host, ShiftedClock};
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{Peer, TestNode, appended, grounds, node_among, send, until};
use crate::bus::embedded::EmbeddedBus;
use crate::bus::redis::{RedisBus, RedisOptions};
use crate::config::{Config, Roles};
use crate::conversation::Backends;
use crate::domain::{ConversationId, Seq};
use crate::node::Grounds;
use crate::storage::contract::doubled_log::{Doubled, LogDouble};
use crate::storage::contract::samples;
use crate::storage::contract::services::{REDIS, service, unique};
use crate::storage::{LeftFanout, MessageLog, ReadError};
use crate::telemetry::meters::meters;

/// With the time in which a dead node is noticed, what it left must be visible within 15 s (I5).
pub(super) const VISIBLE_WITHIN: Duration = Duration::from_secs(15);

fn with_role(gateway: bool, core: bool) -> Config {
    Config {
        roles: Roles { gateway, core },
        ..Config::default()
    }
}

fn shared() -> Grounds {
    grounds(Arc::new(EmbeddedBus::new()))
}

/// Waits until each node can hand appends to so many others.
pub(super) async fn acquainted(nodes: &[(&TestNode, usize)]) {
    for (node, others) in nodes {
        until("they reach each other", async || {
            node.handle.reachable_nodes() >= *others
        })
        .await;
    }
}

/// The seqs that requests were answered with, in the order asked. Answers come in any order.
async fn answers(peer: &mut Peer, asked: Vec<u64>) -> Vec<u64> {
    let mut found = BTreeMap::new();
    while found.len() < asked.len() {
        let (id, body) = peer.next().await;
        assert!(!matches!(body, Reply::Closed(_)), "the stream ended: {body:?}");
        if asked.contains(&id) {
            found.insert(id, appended(body));
        }
    }
    asked.iter().map(|id| found[id]).collect()
}

async fn hears(peer: &mut Peer, conversation: &str, from: u64, to: u64) {
    for expected in from..=to {
        let (entry, _) = peer.delivery().await;
        assert_eq!(entry.seq, expected, "{conversation}");
        peer.ack(conversation, expected).await;
    }
}

/// I3, I4: whoever sends through whichever node, pipelined, has one order, and it is the sender's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i4_sends_through_two_nodes_have_one_order() {
    let grounds = shared();
    let one = node_among(grounds.clone(), Config::default()).await;
    let other = node_among(grounds, Config::default()).await;
    acquainted(&[(&one, 1), (&other, 1)]).await;
    let before = meters().forwards.get();
    for pair in 0..8 {
        let (alice, bob) = (format!("alice{pair}"), format!("bob{pair}"));
        let conversation = one.direct(&alice, &bob).await;
        let mut alice = one.live(&alice, "a").await;
        let mut bob = other.live(&bob, "b").await;
        let (mut of_alice, mut of_bob) = (Vec::new(), Vec::new());
        for number in 0..20 {
            of_alice.push(alice.ask(send(&conversation, &format!("a{number}"), "x")).await);
            of_bob.push(bob.ask(send(&conversation, &format!("b{number}"), "x")).await);
        }
        let (of_alice, of_bob) = (answers(&mut alice, of_alice).await, answers(&mut bob, of_bob).await);
        assert!(of_alice.is_sorted() && of_bob.is_sorted(), "{of_alice:?} {of_bob:?}");
        let seqs: BTreeSet<u64> = of_alice.into_iter().chain(of_bob).collect();
        assert_eq!(seqs, (2..=41).collect());
    }
    assert!(
        meters().forwards.get() > before,
        "each node owned everything it was asked for"
    );
}

/// A gateway owns nothing, and what it takes is appended by a core.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_hands_everything_to_a_core() {
    let grounds = shared();
    let gateway = node_among(grounds.clone(), with_role(true, false)).await;
    let core = node_among(grounds, with_role(false, true)).await;
    acquainted(&[(&gateway, 1)]).await;
    let conversation = gateway.direct("alice", "bob").await;
    let (mut alice, mut bob) = (gateway.live("alice", "a").await, gateway.live("bob", "b").await);
    bob.ack(&conversation, 1).await;
    let before = meters().forwards_taken.get();
    for number in 0..10 {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    assert!(meters().forwards_taken.get() >= before + 10);
    hears(&mut bob, &conversation, 2, 11).await;
    drop(core);
    // I1, and I10 for nodes: without any core the gateway appends by itself.
    for number in 10..20 {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    hears(&mut bob, &conversation, 12, 21).await;
}

/// A node that is dropped is dead to the others at once, not only when it was silent for long: nothing of its lines goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_node_is_dead() {
    let grounds = shared();
    let stays = node_among(grounds.clone(), Config::default()).await;
    let dies = node_among(grounds, Config::default()).await;
    acquainted(&[(&stays, 1)]).await;
    drop(dies);
    let noticed = async {
        while stays.handle.reachable_nodes() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // It is in the list for five seconds more.
    let noticed = tokio::time::timeout(Duration::from_secs(3), noticed).await;
    assert!(noticed.is_ok(), "its line is still up");
}

/// I1, I2: a node that dies takes nothing acknowledged with it, and what was on its way there is stored once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_an_owner_that_dies_costs_time_alone() {
    let grounds = shared();
    let stays = node_among(grounds.clone(), Config::default()).await;
    let dies = node_among(grounds, Config::default()).await;
    acquainted(&[(&stays, 1), (&dies, 1)]).await;
    let mut conversations = Vec::new();
    for pair in 0..8 {
        conversations.push(stays.direct(&format!("alice{pair}"), "bob").await);
    }
    let mut bob = stays.live("bob", "b").await;
    let mut dies = Some(dies);
    for round in 0..50 {
        if round == 10 {
            drop(dies.take());
        }
        let mut asked = Vec::new();
        for conversation in &conversations {
            asked.push(bob.ask(send(conversation, &format!("m{round}"), "x")).await);
        }
        assert_eq!(answers(&mut bob, asked).await, [round + 2; 8]);
        for conversation in &conversations {
            bob.ack(conversation, round + 1).await;
        }
    }
    for conversation in &conversations {
        let id = conversation.parse().expect("an id");
        let head = stays
            .grounds
            .backends
            .log
            .head(id)
            .await
            .expect("readable")
            .expect("a head");
        assert_eq!(head.seq.0, 51, "50 sends and the first entry, none twice");
    }
}

/// I5: an entry that nobody fanned out, because who appended it died, is visible within 15 s to who is connected elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_a_dead_node_left_is_fanned_out_by_another() {
    let grounds = shared();
    let one = node_among(grounds.clone(), Config::default()).await;
    let other = node_among(grounds, Config::default()).await;
    acquainted(&[(&one, 1), (&other, 1)]).await;
    let conversation = one.direct("alice", "bob").await;
    let mut bob = other.live("bob", "b").await;
    bob.ack(&conversation, 1).await;
    let id = conversation.parse().expect("an id");
    // As a node does that dies right after its append.
    samples::append(&*one.grounds.backends.log, id, &[samples::message("left")])
        .await
        .expect("appended");
    let heard = tokio::time::timeout(VISIBLE_WITHIN, hears(&mut bob, &conversation, 2, 2)).await;
    heard.expect("it stayed hidden");
}

/// The log as it shows to one node who is responsible for all that was left, or for none of it.
struct Responsible {
    log: Arc<dyn MessageLog>,
    is: bool,
    /// Whether the node adopted something.
    adopted: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl LogDouble for Responsible {
    fn inner(&self) -> &dyn MessageLog {
        &*self.log
    }

    async fn fanout_left(
        &self,
        _ours: &(dyn Fn([u8; 16]) -> bool + Send + Sync),
    ) -> Result<Vec<LeftFanout>, ReadError> {
        self.log.fanout_left(&|_| self.is).await
    }

    async fn adopt_fanout(&self, conversation: ConversationId, from: Seq) -> Result<Seq, ReadError> {
        self.adopted.store(true, Ordering::Relaxed);
        self.log.adopt_fanout(conversation, from).await
    }
}

/// I5: who finds what was left asks its owner to take it over, over the line between them: only a gateway finds anything here, and a
/// gateway owns nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_the_owner_is_asked_to_take_over_what_was_left() {
    let grounds = shared();
    let adopted = [Arc::<AtomicBool>::default(), Arc::default()];
    let seen_by = |is: bool| {
        let log = Arc::clone(&grounds.backends.log);
        let adopted = Arc::clone(&adopted[usize::from(is)]);
        Grounds {
            backends: Backends {
                log: Arc::new(Doubled(Responsible { log, is, adopted })),
                ..grounds.backends.clone()
            },
            authenticator: Arc::clone(&grounds.authenticator),
        }
    };
    let _core = node_among(seen_by(false), with_role(false, true)).await;
    let gateway = node_among(seen_by(true), with_role(true, false)).await;
    acquainted(&[(&gateway, 1)]).await;
    let conversation = gateway.direct("alice", "bob").await;
    let mut bob = gateway.live("bob", "b").await;
    bob.ack(&conversation, 1).await;
    let id = conversation.parse().expect("an id");
    samples::append(&*grounds.backends.log, id, &[samples::message("left")])
        .await
        .expect("appended");
    let heard = tokio::time::timeout(VISIBLE_WITHIN, hears(&mut bob, &conversation, 2, 2)).await;
    heard.expect("it stayed hidden");
    assert_eq!(adopted.map(|adopted| adopted.load(Ordering::Relaxed)), [true, false]);
}

/// I8: who goes in order hands over: every send through another node is acknowledged meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_node_that_drains_refuses_nobody_elsewhere() {
    let grounds = shared();
    let stays = node_among(grounds.clone(), Config::default()).await;
    let goes = node_among(grounds, Config::default()).await;
    acquainted(&[(&stays, 1), (&goes, 1)]).await;
    let conversation = stays.direct("alice", "bob").await;
    let mut alice = stays.live("alice", "a").await;
    let draining = tokio::spawn(async move { goes.handle.drain().await });
    for number in 0..200 {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    draining.await.expect("drained");
    alice.say(&conversation, "last").await;
}

/// Waits until a node is ready, or is not.
async fn is_ready(node: &TestNode, ready: bool) {
    let what = format!("ready is {ready}");
    until(&what, async || node.handle.gateway().unready().is_none() == ready).await;
}

/// D14: a node whose clock parts from the others' is not ready and hands what it owned to them; its streams go on and nothing is
/// lost (I1); when the clock is set it serves as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d14_a_node_whose_clock_parts_stops_owning_and_cuts_nobody_off() {
    let Some(redis) = service(REDIS) else { return };
    let (shared, prefix) = (shared(), unique());
    let clock = Arc::new(ShiftedClock::default());
    let of_clock = |clock: Arc<dyn Clock>| Host {
        clock,
        ..Host::system()
    };
    let on = async |host| {
        let options = RedisOptions {
            addresses: vec![redis.clone()],
            trust: None,
            cluster: false,
            prefix: prefix.clone(),
        };
        let bus = Arc::new(RedisBus::open(options, host).await.expect("usable options"));
        let backends = Backends {
            bus,
            ..shared.backends.clone()
        };
        let grounds = Grounds {
            backends,
            ..shared.clone()
        };
        node_among(grounds, Config::default()).await
    };
    let stays = on(Host::system()).await;
    let parts = on(of_clock(Arc::clone(&clock) as _)).await;
    acquainted(&[(&stays, 1), (&parts, 1)]).await;
    let conversation = parts.direct("alice", "bob").await;
    let mut alice = parts.live("alice", "a").await;
    clock.shift(30_000);
    is_ready(&parts, false).await;
    is_ready(&stays, true).await;
    let health = tonic_health::pb::HealthCheckRequest::default();
    let mut asked = tonic_health::pb::health_client::HealthClient::new(parts.channel().await);
    let answer = asked.check(health).await.expect("it answers").into_inner();
    assert_eq!(
        answer.status(),
        tonic_health::pb::health_check_response::ServingStatus::NotServing
    );
    for number in 0..20 {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    clock.shift(0);
    is_ready(&parts, true).await;
    alice.say(&conversation, "last").await;
}
