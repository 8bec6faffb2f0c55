//! A log whose rows are gone (T6, D8).

use stonechat_proto::v1;
use stonechat_tests::harness::{Acks, Cql, Fleet, Observed, PATIENCE, RawSession, Role, append_outcome, send_frame};

/// What a node says loudly when a log has lost rows.
const ALARM: &str = "log is damaged";

/// Sends a text and tells why it was refused.
async fn refused(session: &mut RawSession, room: &str, id: &str) -> v1::RefusalReason {
    let answer = session.request(send_frame(room, id, id), PATIENCE).await;
    match append_outcome(&answer) {
        Some(Err(refusal)) => refusal.reason(),
        other => panic!("{id}: {other:?}"),
    }
}

/// T6: the newest bucket of a conversation that had messages is gone from the servers. It is refused by the node that knew it
/// and by one that never did, each says so in its log, and nothing is stored: it does not begin again at 1.
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
    let id = format!("0x{}", room.replace('-', ""));
    assert!(!entries(&cql, &id).await.is_empty());
    cql.run(&format!("DELETE FROM KS.log WHERE conversation = {id} AND bucket = 0"))
        .await;
    // A log without its rows cannot say what was stored, so what became of the id may be told as unknown (C9).
    let damaged = v1::RefusalReason::Internal;
    assert_eq!(refused(&mut alice, &room, "to-the-one-that-knew").await, damaged);
    fleet.nodes[1].server.kill_and_restart().await;
    let hello = fleet.nodes[1].hello("bob", "phone");
    let mut bob = fleet.nodes[1].open_with("bob", hello, Acks::Each).await;
    bob.welcome(PATIENCE).await;
    assert_eq!(refused(&mut bob, &room, "to-one-that-did-not").await, damaged);
    assert_eq!(refused(&mut alice, &room, "once-more").await, damaged);
    assert!(entries(&cql, &id).await.is_empty(), "something was stored");
    // The damage ends at that conversation.
    fleet.nodes[1].send(&mut bob, &other, "elsewhere").await;
    let heard = |seen: &Observed| seen.texts(&other).contains(&"elsewhere".to_owned());
    alice.until("what was said elsewhere", PATIENCE, heard).await;
    let logs: Vec<String> = fleet.nodes.iter().map(|node| node.server.log_tail()).collect();
    let alarmed = logs.iter().filter(|log| log.contains(ALARM)).count();
    assert!(alarmed > 0, "{logs:#?}");
}

async fn entries(cql: &Cql, id: &str) -> Vec<scylla::value::Row> {
    let ask = format!("SELECT seq, head FROM KS.log WHERE conversation = {id} AND bucket = 0");
    cql.run(&ask).await
}
