//! A cluster of Redis whose slots move and whose nodes die while people talk (I5, I10, T15): nothing is lost, doubled or reordered,
//! and presence and the list of nodes are whole again by themselves.

use std::cell::Cell;
use std::time::Duration;

use stonechat_tests::checker::Moment;
use stonechat_tests::harness::{BURST, Crew, Fleet, Ground, OwnRedisCluster, Role, crewed_among};

use crate::VISIBLE_WITHIN;
use crate::nodes::owner;
use crate::watch::Watch;

/// Longer than a cluster takes to find that a node of it is gone (2 s), and that a replica takes over.
const AWAY: Duration = Duration::from_secs(5);

/// Records of Redis are whole again, and events flow, by then.
const HEALS_WITHIN: Duration = Duration::from_secs(60);
/// Far quicker than the look that each stream takes every 10 s; bursts in a row that are, for one may meet it by chance.
const LIVE: Duration = Duration::from_secs(2);
const LIVE_IN_A_ROW: usize = 3;

/// A fleet on a cluster of its own, and people who have talked.
struct Scene {
    fleet: Fleet,
    crew: Crew,
    watch: Watch,
    began: Moment,
    cluster: OwnRedisCluster,
}

impl Scene {
    async fn begin() -> Option<Self> {
        if !Fleet::can_start() {
            return None;
        }
        let cluster = OwnRedisCluster::start().await;
        let ground = Ground {
            redis_cluster: Some(cluster.addresses.clone()),
            ..Ground::default()
        };
        let (fleet, mut crew) = crewed_among(ground, &[Role::Both; 2], 1).await?;
        let watch = Watch::begin(&fleet, &crew).await;
        let began = fleet.nodes[1].recorder.now();
        crew.burst(&fleet).await;
        crew.answers().await;
        Some(Self {
            fleet,
            crew,
            watch,
            began,
            cluster,
        })
    }

    /// People talk while something goes on, and what they said is stored and with the reader in time (I5).
    async fn talk(&mut self, how_long: Duration, when: &str) {
        self.crew.pour(BURST).await;
        self.crew.answers().await;
        self.crew.keep_sending(&self.fleet, how_long).await;
        assert_eq!(self.crew.acked(), self.crew.sent(), "sends are acknowledged, {when}");
        let (crew, watch) = (&self.crew, &mut self.watch);
        let nodes = &self.fleet.nodes;
        crew.hears_all(&nodes[1], &mut watch.reader, VISIBLE_WITHIN).await;
        crew.hears_all(&nodes[0], &mut watch.watcher, VISIBLE_WITHIN).await;
    }

    /// All slots in use of one node move to another while people talk.
    async fn move_slots(&mut self, from: u8, to: u8) {
        let (cluster, moved) = (&self.cluster, Cell::new(false));
        let moving = async {
            let began = stonechat_host::monotonic();
            cluster.empty(from, to).await;
            println!("slots moved from {from} to {to} in {:?}", began.elapsed());
            moved.set(true);
        };
        let (crew, fleet, watch) = (&mut self.crew, &self.fleet, &mut self.watch);
        let talking = async {
            while !moved.get() {
                crew.keep_sending(fleet, Duration::from_secs(1)).await;
                watch.pings().await;
            }
        };
        tokio::join!(moving, talking);
    }

    /// The reader is shown as online again, hears what is said when it is said, and the nodes agree on who owns the room.
    async fn heals(&mut self, when: &str) {
        self.watch.shows_online(when).await;
        let since = stonechat_host::monotonic();
        let mut live = 0;
        while live < LIVE_IN_A_ROW {
            assert!(
                since.elapsed() < HEALS_WITHIN,
                "{when}: not heard live for {HEALS_WITHIN:?}"
            );
            let said = self.fleet.nodes[1].recorder.now();
            self.talk(Duration::ZERO, when).await;
            // One of them is at the node that owns the room, which needs no Redis.
            let lags = ["reader", "other0"].map(|user| self.crew.lags_of(user, &self.fleet, said));
            let all = lags.iter().all(|lags| lags.count() > 0 && lags.longest() < LIVE);
            live = if all { live + 1 } else { 0 };
        }
        println!("{when}: heard live after {:.1} s", since.elapsed().as_secs_f32());
        owner(&self.fleet, &mut self.crew).await;
    }

    async fn judge(mut self) {
        let lags = self.crew.reader_lags(&self.fleet, self.began);
        println!("from ack to delivery at the other node {lags}");
        assert!(lags.longest() <= VISIBLE_WITHIN, "{lags}: I5");
        self.fleet.nodes[0].server.kill_and_restart().await;
        owner(&self.fleet, &mut self.crew).await;
        self.crew.judge(&mut self.fleet).await;
    }
}

/// Every slot in use moves, some twice: whoever is subscribed there is thrown out, slot by slot.
#[tokio::test]
async fn i5_i10_slots_of_a_redis_cluster_may_move() {
    let Some(mut scene) = Scene::begin().await else { return };
    for (from, to) in [(1, 2), (3, 1), (2, 3)] {
        scene.move_slots(from, to).await;
        scene.heals("after slots moved").await;
    }
    scene.judge().await;
}

/// Each node dies, while which the cluster takes nothing, and comes back empty; then each forgets everything without a connection
/// that breaks.
#[tokio::test]
async fn i5_i10_nodes_of_a_redis_cluster_may_come_back_empty() {
    let Some(mut scene) = Scene::begin().await else { return };
    for node in 1..=3 {
        scene.cluster.kill(node).await;
        scene.talk(AWAY, "while a node of redis is away").await;
        scene.cluster.revive(node).await;
        scene.heals("after a node of redis came back empty").await;
    }
    for node in 1..=3 {
        scene.cluster.forget(node).await;
        scene.heals("after a node of redis forgot everything").await;
    }
    scene.judge().await;
}

/// A node dies, and its replica takes over.
#[tokio::test]
async fn i5_i10_a_replica_may_take_over_in_a_redis_cluster() {
    let Some(mut scene) = Scene::begin().await else { return };
    // It has the list of nodes.
    scene.cluster.shadow(1).await;
    scene.talk(Duration::ZERO, "beside a replica").await;
    scene.cluster.kill(1).await;
    scene.talk(AWAY, "while a replica takes over").await;
    scene.heals("after a replica took over").await;
    scene.cluster.revive(1).await;
    scene.heals("after it is a replica of its replica").await;
    scene.judge().await;
}

/// A node dies for good, and an operator gives its slots to the others.
#[tokio::test]
async fn i5_i10_the_others_may_take_over_in_a_redis_cluster() {
    let Some(mut scene) = Scene::begin().await else { return };
    scene.cluster.kill(1).await;
    scene.talk(AWAY, "while a node of redis is away").await;
    scene.cluster.share(1).await;
    scene.heals("after the others took over").await;
    scene.judge().await;
}
