//! Tests of presence: C15 both ways, over the embedded backends, by the paused clock of the runtime and a wall clock
//! that jumps.

mod storm;

use std::collections::BTreeMap;

use stonechat_host::{Clock, ManualClock, SystemRandom};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::advance;

use super::*;
use crate::bus::Subscription;
use crate::bus::embedded::EmbeddedBus;
use crate::domain::roster::Standing;
use crate::domain::{ClientMsgId, ConversationId, CorrelationId, Kind, Member, Role, Sender, Seq, Span};
use crate::storage::embedded::directory::{Patience, SqliteDirectory};
use crate::storage::{NewConversation, Projection};

const START_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// One or more nodes over one bus and one directory.
struct World {
    bus: Arc<EmbeddedBus>,
    directory: Arc<SqliteDirectory>,
    clock: Arc<ManualClock>,
    sweepers: Vec<JoinHandle<()>>,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory.sqlite");
        Self {
            bus: Arc::new(EmbeddedBus::new()),
            directory: Arc::new(SqliteDirectory::open(&path, Patience::default()).await.unwrap()),
            clock: Arc::new(ManualClock::new(START_MS)),
            sweepers: Vec::new(),
            _folder: folder,
        }
    }

    /// The directory is open: from here on time moves only by the test.
    async fn paused() -> Self {
        let world = Self::new().await;
        tokio::time::pause();
        world
    }

    fn node(&mut self, gateway: &str) -> Presence {
        let host = Host {
            clock: self.clock.clone(),
            random: Arc::new(SystemRandom),
        };
        let presence = Presence::new(self.bus.clone(), self.directory.clone(), host, gateway.to_owned());
        self.sweepers.push(tokio::spawn(presence.clone().run()));
        presence
    }

    async fn watch(&self, user: &UserId) -> Subscription {
        self.bus.subscribe(Topic::Presence(user.clone())).await
    }

    /// Moves both clocks, in steps that let the sweepers run.
    async fn pass(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(Duration::from_millis(500));
            let now = self.clock.unix_ms();
            self.clock.set(now + i64::try_from(step.as_millis()).unwrap());
            advance(step).await;
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            left -= step;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for sweeper in &self.sweepers {
            sweeper.abort();
        }
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn session(id: &str) -> SessionId {
    SessionId::parse(id).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn shown(node: &Presence, user: &UserId) -> Status {
    node.current(std::slice::from_ref(user)).await[0].status
}

/// The statuses that watchers were told since the last call.
async fn told(events: &mut Subscription) -> Vec<Status> {
    let mut statuses = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        match event {
            Event::Presence(presence) => statuses.push(presence.status),
            other => panic!("{other:?} on a presence topic"),
        }
    }
    statuses
}

#[tokio::test]
async fn c15_a_live_stream_is_never_offline_whatever_the_wall_clock_does() {
    let mut world = World::paused().await;
    let (node, ann, phone) = (world.node("g1"), user("ann"), session("s1"));
    let mut events = world.watch(&ann).await;
    node.session_alive(&ann, &phone, false).await;
    for jump in [HOUR_MS, -2 * HOUR_MS, 0, HOUR_MS, -START_MS] {
        world.clock.set(world.clock.unix_ms() + jump);
        for _ in 0..4 {
            world.pass(seconds(15)).await;
            assert_eq!(shown(&node, &ann).await, Status::Online, "after a jump of {jump} ms");
            world.pass(seconds(15)).await;
            node.session_alive(&ann, &phone, false).await;
        }
    }
    assert_eq!(told(&mut events).await, [Status::Online]);
}

#[tokio::test]
async fn c15_a_silent_session_is_offline_within_validity_and_one_sweep() {
    let mut world = World::paused().await;
    let (node, ann, phone) = (world.node("g1"), user("ann"), session("s1"));
    let mut events = world.watch(&ann).await;
    node.session_alive(&ann, &phone, false).await;
    // A wall clock that goes back must not keep anybody online.
    world.clock.set(START_MS - HOUR_MS);
    world.pass(seconds(59)).await;
    assert_eq!(shown(&node, &ann).await, Status::Online);
    world.pass(seconds(1)).await;
    assert_eq!(shown(&node, &ann).await, Status::Offline);
    world.pass(SWEEP).await;
    assert_eq!(told(&mut events).await, [Status::Online, Status::Offline]);
    assert!(
        node.inner.shards[shard_of(&ann)].lock().await.is_empty(),
        "ann is still kept"
    );
    assert_eq!(world.bus.statuses(&[ann]).await, [Vec::new()]);
}

#[tokio::test]
async fn c15_a_session_that_stalled_and_came_back_is_online_again() {
    let mut world = World::paused().await;
    let (node, ann, phone) = (world.node("g1"), user("ann"), session("s1"));
    node.session_alive(&ann, &phone, false).await;
    world.pass(seconds(70)).await;
    assert_eq!(shown(&node, &ann).await, Status::Offline);
    node.session_alive(&ann, &phone, false).await;
    assert_eq!(shown(&node, &ann).await, Status::Online);
}

#[tokio::test]
async fn a_burst_of_frames_refreshes_the_record_once() {
    let mut world = World::paused().await;
    let (node, ann, phone) = (world.node("g1"), user("ann"), session("s1"));
    let mut valid = Vec::new();
    for _ in 0..3 {
        node.session_alive(&ann, &phone, false).await;
        valid.push(world.bus.statuses(std::slice::from_ref(&ann)).await[0][0].valid_until);
        world.pass(seconds(6)).await;
    }
    assert_eq!(valid[0], valid[1]);
    assert_eq!(valid[2].0 - valid[0].0, 12_000);
}

#[tokio::test]
async fn a_broken_stream_shows_only_after_the_grace() {
    let mut world = World::paused().await;
    let (node, ann) = (world.node("g1"), user("ann"));
    let mut events = world.watch(&ann).await;
    node.session_alive(&ann, &session("s1"), false).await;
    node.session_ended(&ann, &session("s1"), Ending::Lost).await;
    world.pass(seconds(29)).await;
    node.session_alive(&ann, &session("s2"), false).await;
    world.pass(seconds(20)).await;
    assert_eq!(told(&mut events).await, [Status::Online], "a reconnect was seen");
    node.session_ended(&ann, &session("s2"), Ending::Lost).await;
    world.pass(seconds(29)).await;
    assert_eq!(shown(&node, &ann).await, Status::Online);
    world.pass(seconds(1) + SWEEP).await;
    assert_eq!(told(&mut events).await, [Status::Offline]);
}

#[tokio::test]
async fn bye_is_offline_at_once_unless_another_device_lives() {
    let mut world = World::paused().await;
    let (node, ann) = (world.node("g1"), user("ann"));
    let mut events = world.watch(&ann).await;
    node.session_alive(&ann, &session("phone"), false).await;
    node.session_alive(&ann, &session("tablet"), false).await;
    node.session_ended(&ann, &session("phone"), Ending::Bye).await;
    assert_eq!(shown(&node, &ann).await, Status::Online);
    node.session_ended(&ann, &session("tablet"), Ending::Bye).await;
    assert_eq!(shown(&node, &ann).await, Status::Offline);
    assert_eq!(told(&mut events).await, [Status::Online, Status::Offline]);
}

#[tokio::test]
async fn a_user_is_away_when_all_their_apps_are_in_the_background() {
    let mut world = World::paused().await;
    let (node, ann) = (world.node("g1"), user("ann"));
    node.session_alive(&ann, &session("phone"), false).await;
    node.session_alive(&ann, &session("tablet"), true).await;
    assert_eq!(shown(&node, &ann).await, Status::Online);
    node.session_alive(&ann, &session("phone"), true).await;
    assert_eq!(shown(&node, &ann).await, Status::Away);
    node.session_alive(&ann, &session("tablet"), false).await;
    assert_eq!(shown(&node, &ann).await, Status::Online);
}

#[tokio::test]
async fn an_invisible_user_shows_nothing_on_any_device_until_they_choose_again() {
    let mut world = World::paused().await;
    let (node, ann) = (world.node("g1"), user("ann"));
    let mut events = world.watch(&ann).await;
    node.session_alive(&ann, &session("phone"), false).await;
    let seen = node.set_status(&ann, Status::Offline).await;
    assert_eq!((seen.status, seen.last_active), (Status::Offline, None));
    for _ in 0..6 {
        world.pass(seconds(30)).await;
        node.session_alive(&ann, &session("phone"), false).await;
        node.session_alive(&ann, &session("tablet"), false).await;
        assert_eq!(shown(&node, &ann).await, Status::Offline);
    }
    // The stream breaks and comes back within the grace: still invisible.
    node.session_ended(&ann, &session("phone"), Ending::Lost).await;
    node.session_ended(&ann, &session("tablet"), Ending::Lost).await;
    world.pass(seconds(29)).await;
    node.session_alive(&ann, &session("phone2"), false).await;
    world.pass(seconds(29)).await;
    assert_eq!(shown(&node, &ann).await, Status::Offline);
    assert_eq!(told(&mut events).await, [Status::Online, Status::Offline]);
    node.set_status(&ann, Status::Online).await;
    assert_eq!(shown(&node, &ann).await, Status::Online);
    // The choice goes with the last session.
    node.set_status(&ann, Status::Busy).await;
    node.session_ended(&ann, &session("phone2"), Ending::Bye).await;
    node.session_alive(&ann, &session("phone3"), false).await;
    assert_eq!(shown(&node, &ann).await, Status::Online);
}

#[tokio::test]
async fn a_status_without_a_stream_holds_for_the_validity() {
    let mut world = World::paused().await;
    let (node, ann) = (world.node("g1"), user("ann"));
    let mut events = world.watch(&ann).await;
    assert_eq!(node.set_status(&ann, Status::Busy).await.status, Status::Busy);
    world.pass(seconds(59)).await;
    assert_eq!(shown(&node, &ann).await, Status::Busy);
    world.pass(seconds(1) + SWEEP).await;
    assert_eq!(shown(&node, &ann).await, Status::Offline);
    assert_eq!(told(&mut events).await, [Status::Busy, Status::Offline]);
}

#[tokio::test]
async fn nodes_see_each_others_sessions_and_choices_until_they_fall_silent() {
    let mut world = World::paused().await;
    let (one, two, ann) = (world.node("g1"), world.node("g2"), user("ann"));
    let mut events = world.watch(&ann).await;
    one.session_alive(&ann, &session("phone"), false).await;
    assert_eq!(shown(&two, &ann).await, Status::Online);
    two.session_alive(&ann, &session("tablet"), false).await;
    two.set_status(&ann, Status::Busy).await;
    assert_eq!(shown(&one, &ann).await, Status::Busy);
    // The tablet leaves; the phone at the other node keeps the choice alive.
    world.pass(seconds(15)).await;
    one.session_alive(&ann, &session("phone"), false).await;
    two.session_ended(&ann, &session("tablet"), Ending::Bye).await;
    for _ in 0..4 {
        world.pass(seconds(30)).await;
        one.session_alive(&ann, &session("phone"), false).await;
        assert_eq!(shown(&two, &ann).await, Status::Busy);
    }
    // Each node tells what it sees change; the other may have told it before.
    let mut told = told(&mut events).await;
    told.dedup();
    assert_eq!(told, [Status::Online, Status::Busy]);
    // The first node dies without a word.
    world.sweepers.remove(0).abort();
    drop(one);
    world.pass(seconds(60)).await;
    assert_eq!(shown(&two, &ann).await, Status::Offline);
}

/// What is told of changes that came within one sweep, once the next ones are over: no more than two may tell.
async fn told_without_storm(world: &mut World, events: &mut Subscription) -> Vec<Status> {
    world.pass(SWEEP * 2).await;
    let told = told(events).await;
    let most = 2 * usize::from(CHANGES_PER_SWEEP);
    assert!(told.len() <= most, "{} events", told.len());
    told
}

#[tokio::test]
async fn i9_a_flapping_client_makes_no_storm_and_its_last_word_counts() {
    let mut world = World::paused().await;
    let (node, ann) = (world.node("g1"), user("ann"));
    let mut events = world.watch(&ann).await;
    node.session_alive(&ann, &session("s1"), false).await;
    for _ in 0..500 {
        node.set_status(&ann, Status::Busy).await;
        node.set_status(&ann, Status::Away).await;
    }
    let told = told_without_storm(&mut world, &mut events).await;
    assert_eq!(told.last(), Some(&Status::Away));
}

/// The same by hello and bye, which leave nothing of the user behind each time.
#[tokio::test]
async fn i9_who_comes_and_goes_makes_no_storm() {
    let mut world = World::paused().await;
    let (node, ann) = (world.node("g1"), user("ann"));
    let mut events = world.watch(&ann).await;
    for _ in 0..500 {
        node.session_alive(&ann, &session("s1"), false).await;
        node.session_ended(&ann, &session("s1"), Ending::Bye).await;
    }
    let told = told_without_storm(&mut world, &mut events).await;
    assert_ne!(told.last(), Some(&Status::Online));
    assert!(node.inner.shards[shard_of(&ann)].lock().await.is_empty());
}

#[tokio::test]
async fn i9_sessions_of_one_user_are_bounded() {
    let mut world = World::paused().await;
    let (node, ann) = (world.node("g1"), user("ann"));
    for number in 0..200 {
        node.session_alive(&ann, &session(&format!("s{number}")), false).await;
    }
    assert_eq!(world.bus.statuses(&[ann]).await[0].len(), super::user::SESSIONS_MAX);
}

impl World {
    async fn share(&self, number: u8, users: &[&UserId]) {
        for user in users {
            self.directory.ensure_user(user, UnixMillis(1)).await.unwrap();
        }
        let mut members: Vec<Member> = users
            .iter()
            .map(|user| Member {
                user: (*user).clone(),
                role: Role::Owner,
            })
            .collect();
        members.sort_by(|one, other| one.user.cmp(&other.user));
        let standing = Standing {
            role: Role::Owner,
            spans: vec![Span {
                joined: Seq(1),
                left: None,
            }],
        };
        let standings: BTreeMap<UserId, Standing> =
            users.iter().map(|user| ((*user).clone(), standing.clone())).collect();
        let id = ConversationId::from_random([number; 16]);
        let new = NewConversation {
            id,
            kind: Kind::Group,
            name: String::new(),
            creator: Sender {
                user: Some(users[0].clone()),
                device: None,
            },
            client_msg_id: ClientMsgId::parse(&format!("c{number}")).unwrap(),
            correlation: CorrelationId::default(),
            members,
            created: UnixMillis(1),
        };
        self.directory.create_conversation(new).await.unwrap();
        let projection = Projection {
            applied: Seq(1),
            standings,
            ..Projection::default()
        };
        self.directory.apply(id, projection).await.unwrap();
    }
}

#[tokio::test]
async fn i11_presence_is_seen_by_those_who_share_a_conversation_and_have_no_block() {
    let mut world = World::new().await;
    let (ann, bob, cem, dee, eve) = (user("ann"), user("bob"), user("cem"), user("dee"), user("eve"));
    world.share(1, &[&ann, &bob, &cem, &dee]).await;
    world.directory.ensure_user(&eve, UnixMillis(1)).await.unwrap();
    let node = world.node("g1");
    for everybody in [&ann, &bob, &cem, &dee, &eve] {
        node.session_alive(everybody, &session("s"), false).await;
    }
    world.directory.set_block(&cem, &ann, true).await.unwrap();
    world.directory.set_block(&ann, &dee, true).await.unwrap();
    let asked = [eve, dee, bob, ann.clone(), cem, user("nobody")];
    let rows = node.visible(&ann, &asked).await.unwrap();
    let order: Vec<&UserId> = rows.iter().map(|row| &row.user).collect();
    assert_eq!(order, asked.iter().collect::<Vec<_>>());
    let online = [
        Status::Offline,
        Status::Offline,
        Status::Online,
        Status::Online,
        Status::Offline,
        Status::Offline,
    ];
    assert_eq!(rows.iter().map(|row| row.status).collect::<Vec<_>>(), online);
    assert!(
        rows.iter()
            .all(|row| (row.status == Status::Offline) == row.last_active.is_none())
    );
}

#[tokio::test]
async fn i11_when_the_directory_is_gone_nobody_is_seen() {
    let mut world = World::new().await;
    let node = world.node("g1");
    world.directory.close().await;
    let refused = node.visible(&user("ann"), &[user("bob")]).await.unwrap_err();
    assert!(matches!(refused.reason, Reason::Unavailable { .. }));
    assert_eq!(refused.effect, Effect::NotDone);
}
