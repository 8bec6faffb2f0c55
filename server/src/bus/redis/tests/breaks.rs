//! Connections that are killed, and a Redis that goes and comes back empty.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::groups::acquainted;
use super::{LONG, each_redis, next, next_number, node, numbered, options, record, session, until, user};
use crate::bus::{Bus, Event, NodeRecord, Topic};

/// A Redis of this test alone.
struct Private {
    port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Private {
    /// `None`, and says so, where there is no binary.
    fn start() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut private = Self {
            port: free.local_addr().unwrap().port(),
            folder: tempfile::tempdir().unwrap(),
            child: None,
        };
        drop(free);
        private.serve().then_some(private)
    }

    fn serve(&mut self) -> bool {
        let spawned = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn();
        match spawned {
            Ok(child) => self.child = Some(child),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped: {error}");
                println!("skipped: there is no redis-server ({error}), scripts/redis installs it");
            }
        }
        self.child.is_some()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("running").id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills the subscribing connections of every server behind the options, as an administrator would.
async fn kill_subscribers(addresses: &[String]) {
    for address in addresses {
        let client = redis::Client::open(address.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd("CLIENT");
        command.arg("KILL").arg("TYPE").arg("pubsub");
        let _: i64 = command.query_async(&mut connection).await.unwrap();
    }
}

/// On servers of its own: the other tests would lose their connections too.
#[tokio::test]
async fn i10_a_killed_subscription_tells_its_subscribers_and_goes_on() {
    let Some(private) = Private::start() else { return };
    let options = options(&private.address(), false);
    let (here, there) = (node(&options).await, node(&options).await);
    let topic = Topic::User(user("ada"));
    let mut subscription = there.subscribe(topic.clone()).await;
    for round in 0..3 {
        kill_subscribers(&options.addresses).await;
        assert!(matches!(next(&mut subscription).await, Event::Lost), "it wakes");
        assert!(subscription.take_lagged());
        // Once more when it is subscribed again: only from then on nothing is missing.
        assert!(matches!(next(&mut subscription).await, Event::Lost), "it wakes again");
        assert!(subscription.take_lagged());
        until("the publisher is back too", || async { here.fleet.is_whole() }).await;
        assert_eq!(here.publish(&topic, numbered(round)).await, 1);
        assert_eq!(next_number(&mut subscription).await, round);
    }
    assert!(!subscription.take_lagged());
}

#[tokio::test]
async fn i10_redis_goes_and_comes_back_empty() {
    let Some(mut private) = Private::start() else { return };
    let options = options(&private.address(), false);
    let (here, there) = (node(&options).await, node(&options).await);
    let (ada, topic) = (user("ada"), Topic::User(user("ada")));
    let mut local = here.subscribe(topic.clone()).await;
    let mut remote = there.subscribe(topic.clone()).await;
    here.set_status(&ada, &session("s1"), record("g1")).await;
    here.set_status(&ada, &session("s2"), record("g1")).await;
    private.kill();
    until("both notice", || async {
        !here.fleet.is_whole() && !there.fleet.is_whole()
    })
    .await;
    let began = stonechat_host::monotonic();
    for number in 0..50 {
        assert_eq!(here.publish(&topic, numbered(number)).await, 1, "its own still hear");
    }
    here.clear_status(&ada, &session("s2")).await;
    assert!(there.statuses(std::slice::from_ref(&ada)).await[0].is_empty());
    assert!(there.nodes().await.is_none(), "it cannot tell");
    let mut late = there.subscribe(Topic::Presence(ada.clone())).await;
    assert!(began.elapsed() < Duration::from_secs(1), "nothing waits for it");
    assert!(late.take_lagged());
    for number in 0..50 {
        assert_eq!(next_number(&mut local).await, number);
    }
    assert!(private.serve());
    until("events flow again", || async {
        here.publish(&topic, numbered(99)).await == 2
    })
    .await;
    while next_number(&mut remote).await != 99 {}
    assert!(remote.take_lagged());
    until("presence is told again, without what was taken back", || async {
        there.statuses(std::slice::from_ref(&ada)).await[0].len() == 1
    })
    .await;
    until("a subscription of the outage hears", || async {
        here.publish(&Topic::Presence(user("ada")), numbered(7)).await == 1
    })
    .await;
    assert_eq!(next_number(&mut late).await, 7);
}

/// I10: gateways that lost their connections are told at once again when they are back, and their users know that they may have
/// missed something.
#[tokio::test]
async fn i10_users_are_told_when_their_gateway_may_have_missed_something() {
    let Some(private) = Private::start() else { return };
    let options = options(&private.address(), false);
    let (here, there) = acquainted(&options).await;
    let members: Vec<_> = (0..100).map(|number| user(&format!("u{number}"))).collect();
    let mut subscriptions = Vec::new();
    for member in &members {
        subscriptions.push(there.subscribe(Topic::User(member.clone())).await);
    }
    assert_eq!(here.publish_to_users(&members, numbered(0)).await, None);
    kill_subscribers(&options.addresses).await;
    for subscription in &mut subscriptions {
        assert_eq!(next_number(subscription).await, 0);
        assert!(matches!(next(subscription).await, Event::Lost), "it wakes");
        assert!(subscription.take_lagged());
    }
    until("both are told at once again", || async {
        here.nodes().await;
        here.publish_to_users(&members, numbered(1)).await.is_none()
    })
    .await;
    for subscription in &mut subscriptions {
        assert_eq!(next_number(subscription).await, 1);
    }
}

/// A Redis that hangs is left, not waited for.
#[tokio::test]
async fn i10_a_redis_that_hangs_holds_nobody_up() {
    let Some(private) = Private::start() else { return };
    let options = options(&private.address(), false);
    let here = node(&options).await;
    let topic = Topic::User(user("ada"));
    let mut local = here.subscribe(topic.clone()).await;
    private.signal("-STOP");
    let began = stonechat_host::monotonic();
    let users: Vec<_> = (0..1_000).map(|number| user(&format!("u{number}"))).collect();
    assert_eq!(here.publish_to_users(&users, numbered(1)).await, Some(users.clone()));
    for _ in 0..20 {
        here.publish(&topic, numbered(2)).await;
    }
    let took = began.elapsed();
    private.signal("-CONT");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert_eq!(next_number(&mut local).await, 2);
    until("it is used again", || async { here.fleet.is_whole() }).await;
}

#[tokio::test]
async fn i10_a_node_starts_while_redis_is_away_and_finds_it_later() {
    let Some(mut private) = Private::start() else { return };
    private.kill();
    let options = options(&private.address(), false);
    let here = node(&options).await;
    let ada = user("ada");
    let mut early = here.subscribe(Topic::User(ada.clone())).await;
    assert!(early.take_lagged());
    here.set_status(&ada, &session("s1"), record("g1")).await;
    assert!(private.serve());
    let there = node(&options).await;
    until("it is heard", || async {
        there.publish(&Topic::User(user("ada")), numbered(3)).await == 1
    })
    .await;
    assert_eq!(next_number(&mut early).await, 3);
    until("it is seen", || async {
        there.statuses(std::slice::from_ref(&ada)).await[0].len() == 1
    })
    .await;
    let announced = NodeRecord {
        name: "n1".to_owned(),
        address: "n1:1".to_owned(),
        core: true,
        hears_groups: true,
        hears_promoted: true,
        clock: None,
    };
    here.announce_node(&announced, LONG).await;
    assert_eq!(there.nodes().await, Some(vec![announced]));
}

/// Connections to all nodes of the cluster are killed: the topics of each come back.
#[tokio::test]
async fn i10_a_cluster_whose_connections_broke_is_subscribed_again() {
    let Some(options) = each_redis().into_iter().find(|options| options.cluster) else {
        return;
    };
    let (here, there) = (node(&options).await, node(&options).await);
    let users: Vec<_> = (0..60).map(|number| user(&format!("u{number}"))).collect();
    let mut subscriptions = Vec::new();
    for user in &users {
        subscriptions.push(there.subscribe(Topic::User(user.clone())).await);
    }
    there.fleet.break_all();
    for subscription in &mut subscriptions {
        assert!(matches!(next(subscription).await, Event::Lost));
        assert!(subscription.take_lagged());
    }
    until("all are reached again", || async {
        here.publish_to_users(&users, numbered(1)).await == Some(Vec::new())
    })
    .await;
    for subscription in &mut subscriptions {
        assert_eq!(next_number(subscription).await, 1);
    }
}
