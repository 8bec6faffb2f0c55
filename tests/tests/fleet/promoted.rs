//! A busy large group, which has a channel of its own that only gateways with a member hear, while members come and go and while
//! that channel breaks (I5, I7, I10, C5, C12, C13).

use std::time::Duration;

use stonechat_tests::harness::{
    Bench, DELIVERY, Fleet, Ground, PATIENCE, RawSession, Role, Sender, each_once, reaches_head,
};

use crate::VISIBLE_WITHIN;

/// Members beside those who write and listen.
const OTHERS: usize = 100;
const NODES: [Role; 3] = [Role::Both; 3];
/// Who hears live has each message by then. Streams look by themselves each 10 s: a look may stand in for one message of a round,
/// not for all of them.
const LIVE_WITHIN: Duration = Duration::from_secs(3);
/// Messages of a round, each of which is heard before the next is sent: longer than who joined is told by their own topic.
const ROUND: usize = 16;
/// The least time between two of them.
const MESSAGES_APART: Duration = Duration::from_millis(200);

/// A sender at the first node, a listener at the second, nobody at the third.
struct Party {
    fleet: Fleet,
    room: String,
    sender: Sender,
    listener: RawSession,
}

impl Party {
    /// Once the group has a channel of its own; `None` where the services are not there.
    async fn promoted() -> Option<Self> {
        let mut fleet = Fleet::start_on(Ground::default(), &NODES).await?;
        let others: Vec<String> = (0..OTHERS).map(|number| format!("other{number}")).collect();
        let mut users = vec!["sender", "listener"];
        users.extend(others.iter().map(String::as_str));
        let room = fleet.nodes[0].group(&users).await;
        let mut sender = Sender::new("sender", &room);
        sender.connect(&fleet.nodes[0]).await;
        let listener = fleet.nodes[1].open("listener", "phone").await;
        let mut party = Self {
            fleet,
            room,
            sender,
            listener,
        };
        party.is_told_by_the_channel().await;
        Some(party)
    }

    async fn told_by_the_channel(&self) -> u64 {
        let told = self.fleet.counts("stonechat_bus_publishes_total{to=\"conversation\"}");
        told.await.into_iter().sum()
    }

    async fn say(&mut self) {
        self.sender.send(1).await;
        self.sender.answers().await;
    }

    /// Sends until what is sent goes by the channel.
    async fn is_told_by_the_channel(&mut self) {
        let before = self.told_by_the_channel().await;
        let told = async {
            while self.told_by_the_channel().await < before + 5 {
                // A few at a time: what makes a group busy must not hang on how fast the stores are.
                self.sender.send(4).await;
                self.sender.answers().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, told).await.is_ok(), "it is not promoted");
    }

    /// How many nodes hear the channel.
    async fn channels(&self) -> Vec<u64> {
        self.fleet.counts("stonechat_bus_conversations").await
    }

    /// Each message of a round is live with the listener, and with another one.
    async fn is_heard_live(&mut self, other: Option<&mut RawSession>) {
        let mut other = other;
        let mut ticks = tokio::time::interval(MESSAGES_APART);
        for _ in 0..ROUND {
            ticks.tick().await;
            self.say().await;
            let node = &self.fleet.nodes[1];
            hears(node, &mut self.listener, &self.room, LIVE_WITHIN).await;
            if let Some(other) = other.as_deref_mut() {
                hears(node, other, &self.room, LIVE_WITHIN).await;
            }
        }
    }

    /// Everything is in the log once, and nothing that anybody saw contradicts a promise.
    async fn judge(mut self) {
        self.sender.finish(&self.fleet.nodes[0]).await;
        let node = &self.fleet.nodes[0];
        let total = each_once(node, &self.room, &[&self.sender]).await;
        println!("{total} messages, each once");
        node.verdict().await.assert_clean(&DELIVERY);
        self.fleet.assert_whole().await;
    }
}

async fn hears(node: &Bench, session: &mut RawSession, room: &str, within: Duration) {
    let heard = tokio::time::timeout(within, reaches_head(node, session, room)).await;
    assert!(heard.is_ok(), "{within:?} and not at the head: I5");
}

/// I5, I7, C12, C13: while its group has a channel of its own everybody hears everything live, whoever comes online at a gateway that did
/// not hear it and whoever joins as well; who is removed hears nothing more.
#[tokio::test]
async fn i5_i7_a_busy_group_is_heard_live_by_who_comes_late_and_joins_and_not_by_who_left() {
    let Some(mut party) = Party::promoted().await else {
        return;
    };
    assert_eq!(party.channels().await, [1, 1, 0], "only those with a member hear it");
    party.is_heard_live(None).await;

    let mut late = party.fleet.nodes[2].open("other7", "phone").await;
    late.welcome(PATIENCE).await;
    party.is_heard_live(Some(&mut late)).await;
    assert_eq!(party.channels().await, [1, 1, 1]);

    party.fleet.nodes[2].users(&["comer"]).await;
    let mut comer = party.fleet.nodes[2].open("comer", "phone").await;
    comer.welcome(PATIENCE).await;
    party.fleet.nodes[0].add(&party.room, "comer").await;
    party.is_heard_live(Some(&mut comer)).await;
    party.is_told_by_the_channel().await;

    let last = party.fleet.nodes[0].remove(&party.room, "other7").await;
    party.is_heard_live(Some(&mut comer)).await;
    hears_up_to(&mut late, &party.room, last).await;
    // What a node heard before is with its sessions before this.
    let end = party.fleet.nodes[0].direct("sender", "other7").await;
    late.until("the last word", PATIENCE, |seen| seen.reached(&end) > 0)
        .await;
    let seqs = late.observed().seqs(&party.room);
    assert_eq!(seqs.last(), Some(&last), "I7: the entry that removes is the last");
    party.judge().await;
}

async fn hears_up_to(session: &mut RawSession, room: &str, seq: u64) {
    let what = format!("seq {seq}");
    session.until(&what, PATIENCE, |seen| seen.reached(room) >= seq).await;
}

/// I5, I10: the subscriptions of all gateways break in the middle of it, several times: nothing is lost, and it is heard live
/// again.
#[tokio::test]
async fn i5_i10_a_busy_group_outlives_the_end_of_its_channel() {
    let Some(mut party) = Party::promoted().await else {
        return;
    };
    for _ in 0..3 {
        party.sender.send(5).await;
        party.fleet.redis.cut_subscribers().await;
        party.sender.send(5).await;
        party.sender.answers().await;
        hears(&party.fleet.nodes[1], &mut party.listener, &party.room, VISIBLE_WITHIN).await;
        party.is_told_by_the_channel().await;
        party.is_heard_live(None).await;
    }
    party.judge().await;
}
