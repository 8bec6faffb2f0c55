//! What Redis tells of itself, and what a user who may not do everything makes of it.

use std::sync::Arc;

use stonechat_host::{Host, ShiftedClock};

use super::{each_redis, node, options};
use crate::bus::Bus;
use crate::bus::redis::{RedisFacts, RedisOptions};
use crate::storage::contract::services::{REDIS, service, unique};

#[tokio::test]
async fn each_redis_tells_what_it_is() {
    for options in each_redis() {
        let facts = RedisFacts::ask(&options, &Host::system())
            .await
            .expect("usable options");
        assert_eq!(facts.servers.len(), options.addresses.len());
        for (address, told) in &facts.servers {
            let told = told.as_ref().expect("it answers");
            assert_eq!(told.cluster, options.cluster, "{address}");
            assert!(told.version.contains('.'), "{told:?}");
            // One machine, one clock.
            assert!(told.clock.at_least_ms() < 100, "{told:?}");
        }
        assert!(
            facts.events_cross && facts.writes_cross && facts.scripts_run,
            "{facts:?}"
        );
    }
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_without_its_password() {
    let away = options("redis://:secret@127.0.0.1:1", false);
    let facts = RedisFacts::ask(&away, &Host::system()).await.expect("usable options");
    let (address, told) = &facts.servers[0];
    assert!(
        told.is_err() && !format!("{address}{told:?}").contains("secret"),
        "{facts:?}"
    );
    assert!(!facts.events_cross && !facts.writes_cross && !facts.scripts_run);
}

/// A user of one Redis, forgotten with this.
struct Limited {
    name: String,
    server: redis::Client,
}

impl Limited {
    fn create(address: &str, rights: &[&str]) -> Self {
        let limited = Self {
            name: unique(),
            server: redis::Client::open(address).unwrap(),
        };
        let mut set = redis::cmd("ACL");
        set.arg("SETUSER")
            .arg(&limited.name)
            .arg(&["on", ">secret", "~*", "&*", "+@all"])
            .arg(rights);
        limited.run(&set);
        limited
    }

    fn run(&self, command: &redis::Cmd) {
        let mut connection = self.server.get_connection().unwrap();
        command.exec(&mut connection).unwrap();
    }

    async fn facts(&self, address: &str) -> RedisFacts {
        let as_user = address.replace("redis://", &format!("redis://{}:secret@", self.name));
        let facts = RedisFacts::ask(&options(&as_user, false), &Host::system()).await;
        facts.expect("usable options")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let mut forget = redis::cmd("ACL");
        forget.arg("DELUSER").arg(&self.name);
        self.run(&forget);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_may_not_do_is_told() {
    let Some(address) = service(REDIS) else { return };
    let deaf = Limited::create(&address, &["-ssubscribe"]).facts(&address).await;
    // A link that may not subscribe begins anew again and again, so of the rest nothing is certain.
    assert!(!deaf.events_cross, "{deaf:?}");
    let mute = Limited::create(&address, &["-set"]).facts(&address).await;
    assert!(mute.events_cross && !mute.writes_cross, "{mute:?}");
    let plain = Limited::create(&address, &["-eval"]).facts(&address).await;
    assert!(
        plain.events_cross && plain.writes_cross && !plain.scripts_run,
        "{plain:?}"
    );
}

/// D14: nodes ask one clock, each by its own.
#[tokio::test]
async fn d14_nodes_compare_their_clocks_with_one() {
    for options in each_redis() {
        let here = node(&options).await;
        let shifted = Arc::new(ShiftedClock::default());
        shifted.shift(60_000);
        let host = Host {
            clock: shifted,
            ..Host::system()
        };
        let there = super::RedisBus::open(options, host).await.expect("usable options");
        let apart = there
            .clock()
            .await
            .expect("told")
            .from(here.clock().await.expect("told"));
        assert!((apart.ahead_ms - 60_000).abs() <= apart.unsure_ms, "{apart:?}");
    }
    let away = RedisOptions {
        addresses: vec!["redis://127.0.0.1:1".to_owned()],
        ..options("x", false)
    };
    assert_eq!(node(&away).await.clock().await, None);
}
