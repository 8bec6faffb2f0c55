//! A log whose rows are gone (T6, D8).

use stonechat_proto::v1;
use stonechat_tests::harness::{Cql, Fleet, Observed, PATIENCE, RawSession, Role, append_outcome, send_frame};

/// What a node says loudly when a log has lost rows, and when even the note is gone that it had some.
const ALARMS: [&str; 2] = ["log is damaged", "refusing to start again"];

/// Sends a text and tells why it was refused.
async fn refused(session: &mut RawSession, room: &str, id: &str) -> v1::RefusalReason {
    let answer = session.request(send_frame(room, id, id), PATIENCE).await;
    match append_outcome(&answer) {
        Some(Err(refusal)) => refusal.reason(),
        other => panic!("{id}: {other:?}"),
    }
}

/// A fleet, and a conversation whose rows are taken away.
struct Scene {
    fleet: Fleet,
    room: String,
    cql: Cql,
}

impl Scene {
    /// What is left of the conversation.
    async fn left(&self) -> usize {
        let ask = format!(
            "SELECT seq, head FROM KS.log WHERE conversation = {} AND bucket = 0",
            self.id()
        );
        self.cql.run(&ask).await.len()
    }

    /// A stream that has everything that can be had (I5): it does not wait for what is damaged.
    async fn caught_up(&self, user: &str, node: usize) -> RawSession {
        self.fleet.nodes[node].open(user, "phone").await
    }

    /// As a blob.
    fn id(&self) -> String {
        format!("0x{}", self.room.replace('-', ""))
    }

    /// Nodes that know nothing refuse, and say why in the log of whoever owns the conversation.
    async fn refused_by_strangers(&mut self, id: &str, alarm: &str) -> RawSession {
        for node in &mut self.fleet.nodes {
            node.server.kill_and_restart().await;
        }
        let mut bob = self.caught_up("bob", 1).await;
        assert_eq!(refused(&mut bob, &self.room, id).await, DAMAGED);
        let logs = self.fleet.nodes.iter().map(|node| node.server.log_file());
        let logs: Vec<String> = logs.map(|log| std::fs::read_to_string(log).expect("a log")).collect();
        assert!(logs.iter().any(|log| log.contains(alarm)), "{alarm}: {logs:#?}");
        bob
    }
}

/// A log without its rows cannot say what was stored, so what became of an id may be told as unknown (C9); the reason is this.
const DAMAGED: v1::RefusalReason = v1::RefusalReason::Internal;

/// T6: the newest bucket of a conversation that had messages, whose floor is 1, is gone from the servers. It is refused by the
/// node that knew it and by nodes that never did, also when the hint is gone that it had a head; each says so in its log, and
/// nothing is stored: it does not begin again at 1.
#[tokio::test]
async fn t6_a_log_that_lost_its_head_is_refused_and_never_begins_again() {
    let Some(mut fleet) = Fleet::start(&[Role::Both; 2]).await else {
        return;
    };
    let room = fleet.nodes[0].group(&["alice", "bob"]).await;
    let other = fleet.nodes[0].direct("alice", "bob").await;
    let mut alice = fleet.nodes[0].open("alice", "phone").await;
    for number in 0..3 {
        fleet.nodes[0]
            .send(&mut alice, &room, &format!("message {number}"))
            .await;
    }
    let cql = Cql::of(&fleet).await;
    let mut scene = Scene { fleet, room, cql };
    assert!(scene.left().await > 0);
    let gone = format!("DELETE FROM KS.log WHERE conversation = {} AND bucket = 0", scene.id());
    scene.cql.run(&gone).await;
    assert_eq!(refused(&mut alice, &scene.room, "to-the-one-that-knew").await, DAMAGED);
    scene.refused_by_strangers("with-the-hint", ALARMS[0]).await;
    // The write time of a hint is its value.
    let hint = format!(
        "DELETE FROM KS.hints USING TIMESTAMP 100 WHERE conversation = {}",
        scene.id()
    );
    scene.cql.run(&hint).await;
    let mut bob = scene.refused_by_strangers("without-it", ALARMS[1]).await;
    let mut alice = scene.caught_up("alice", 0).await;
    assert_eq!(refused(&mut alice, &scene.room, "once-more").await, DAMAGED);
    assert_eq!(scene.left().await, 0, "something was stored");
    let audited = scene.fleet.audit().await;
    let named = format!("conversation {}: its log is gone", scene.room);
    assert!(!audited.whole && audited.said.contains(&named), "{}", audited.said);
    // The damage ends at that conversation.
    scene.fleet.nodes[1].send(&mut bob, &other, "elsewhere").await;
    let heard = |seen: &Observed| seen.texts(&other).contains(&"elsewhere".to_owned());
    alice.until("what was said elsewhere", PATIENCE, heard).await;
}
