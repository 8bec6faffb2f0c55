//! Somebody who reads, and somebody who asks again and again whether they are there (I10).

use std::time::Duration;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::harness::{Crew, Fleet, PATIENCE, RawSession};

/// Records of Redis are whole again by then.
const HEALS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at somebody's presence.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who reads, at one node, and who watches whether they are there, at the other.
pub(crate) struct Watch {
    pub(crate) reader: RawSession,
    pub(crate) watcher: RawSession,
}

impl Watch {
    pub(crate) async fn begin(fleet: &Fleet, crew: &Crew) -> Self {
        let mut watch = Self {
            reader: crew.reader(&fleet.nodes[1], "phone").await,
            watcher: fleet.nodes[0].open("other0", "phone").await,
        };
        watch.shows_online("before anything is lost").await;
        watch
    }

    /// What Redis has of the reader, asked anew.
    async fn status(&mut self) -> v1::Status {
        let anew = Asked::WatchPresence(v1::WatchPresence {
            user_ids: vec!["reader".to_owned()],
            replace: true,
        });
        match self.watcher.request(anew, PATIENCE).await {
            Seen::Watching(watching) => watching.presences[0].status(),
            other => panic!("not watching: {other:?}"),
        }
    }

    /// Both streams are heard of.
    pub(crate) async fn pings(&mut self) {
        self.reader.ping(PATIENCE).await;
        self.watcher.ping(PATIENCE).await;
    }

    /// Redis says that the reader is there, within what it may take to heal.
    pub(crate) async fn shows_online(&mut self, when: &str) {
        let since = stonechat_host::monotonic();
        let mut was_away = false;
        while self.status().await != v1::Status::Online {
            was_away = true;
            assert!(since.elapsed() < HEALS_WITHIN, "{when}: offline for {HEALS_WITHIN:?}");
            self.reader.ping(PATIENCE).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        println!(
            "{when}: online after {:.1} s, shown as offline before: {was_away}",
            since.elapsed().as_secs_f32()
        );
    }
}
