//! Markers and unread counts (I6).

use std::sync::Arc;

use futures_util::FutureExt;

use super::bed::{Bed, caller, member, request, text, user};
use crate::bus::{Event, ReceiptsMoved, Subscription, Topic};
use crate::domain::{Reason, Role, Seq};

#[tokio::test]
async fn i6_unread_is_exact_for_members_joiners_and_writers() {
    let bed = Bed::new(&["alice", "bob", "carol"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    for n in 0..3 {
        bed.send("alice", group, &format!("m{n}")).await;
    }
    assert_eq!(
        (bed.unread("alice", group).await, bed.unread("bob", group).await),
        (0, 3)
    );
    let add = crate::domain::Change::SetMembers(vec![member("carol", Role::Member)]);
    bed.append("alice", group, "add", add).await.unwrap();
    assert_eq!(bed.unread("carol", group).await, 0);
    bed.send("alice", group, "m4").await;
    assert_eq!(
        (bed.unread("carol", group).await, bed.unread("bob", group).await),
        (1, 4)
    );
    bed.conversations
        .mark_read(&caller("bob"), group, Seq(3), true)
        .await
        .unwrap();
    assert_eq!(bed.unread("bob", group).await, 2);
    bed.send("bob", group, "mine").await;
    assert_eq!(
        (bed.unread("bob", group).await, bed.unread("carol", group).await),
        (0, 2)
    );
}

#[tokio::test]
async fn i6_markers_only_go_forward_and_never_beyond_the_head() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    for n in 0..5 {
        bed.send("alice", group, &format!("m{n}")).await;
    }
    let me = caller("bob");
    let marked = bed.conversations.mark_read(&me, group, Seq(5), false).await.unwrap();
    assert_eq!(
        (marked.delivered, marked.read, marked.unread_count),
        (Seq(5), Seq(5), 1)
    );
    let lower = bed.conversations.mark_read(&me, group, Seq(2), false).await.unwrap();
    assert_eq!((lower.read, lower.unread_count), (Seq(5), 1));
    let refusal = bed
        .conversations
        .mark_read(&me, group, Seq(7), false)
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::BeyondHead { head: Seq(6) });
    assert!(bed.conversations.mark_delivered(&me, group, Seq(7)).await.is_err());
}

/// I6: of several acks in one write each has its own answer, and one that is refused takes none of the others along.
#[tokio::test]
async fn i6_acks_of_several_conversations_are_answered_each() {
    let bed = Bed::new(&["alice", "bob", "carol", "dave"]).await;
    let mut groups = Vec::new();
    for (owner, other) in [("alice", "bob"), ("carol", "alice"), ("dave", "bob")] {
        let group = bed.group(owner, &[member(other, Role::Member)]).await;
        bed.send(owner, group, "m").await;
        groups.push(group);
    }
    let me = caller("bob");
    let acks = [(groups[0], Seq(2)), (groups[1], Seq(2)), (groups[2], Seq(2))];
    let stored = bed.conversations.acknowledge(&me, &acks).await;
    assert!(stored[0].is_ok() && stored[2].is_ok());
    assert_eq!(stored[1].clone().unwrap_err().reason, Reason::NotFound, "not theirs");
    let sets = bed.backends.markers.get_many(&user("bob"), &groups).await.unwrap();
    let delivered: Vec<Seq> = sets.iter().map(|set| set.delivered).collect();
    assert_eq!(delivered, [Seq(2), Seq(0), Seq(2)]);
}

/// I6: what another node appended may be acknowledged here, although this node has not taken it in.
#[tokio::test]
async fn i6_an_ack_of_what_another_node_appended_counts() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    bed.send("alice", group, "m").await;
    let elsewhere = request(group, "elsewhere", text("elsewhere"));
    let appended = bed.other_node().append(&caller("alice"), elsewhere).await;
    let sent = appended.unwrap().seq;
    let stored = bed.conversations.acknowledge(&caller("bob"), &[(group, sent)]).await;
    assert!(stored[0].is_ok(), "{stored:?}");
    let set = bed.backends.markers.get(&user("bob"), group).await.unwrap();
    assert_eq!(set.delivered, sent);
}

#[tokio::test]
async fn p11_a_private_read_stays_with_the_reader() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let sent = bed.send("alice", group, "m").await.seq;
    bed.conversations
        .mark_read(&caller("bob"), group, sent, true)
        .await
        .unwrap();
    let receipts = bed
        .conversations
        .receipts(&caller("alice"), group, sent, true)
        .await
        .unwrap();
    assert_eq!((receipts.delivered, receipts.read, receipts.audience), (1, 0, 1));
    bed.conversations
        .mark_read(&caller("bob"), group, sent, false)
        .await
        .unwrap();
    let receipts = bed
        .conversations
        .receipts(&caller("alice"), group, sent, true)
        .await
        .unwrap();
    assert_eq!((receipts.read, receipts.members[0].read), (1, sent));
}

#[tokio::test]
async fn p10_mark_unread_is_a_field_of_its_own_and_reading_clears_it() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let sent = bed.send("alice", group, "m").await.seq;
    let me = caller("bob");
    bed.conversations.mark_read(&me, group, sent, false).await.unwrap();
    let marked = bed.conversations.mark_unread(&me, group, Some(sent)).await.unwrap();
    assert_eq!(
        (marked.unread_from, marked.read, marked.unread_count),
        (Some(sent), sent, 0)
    );
    let read = bed.conversations.mark_read(&me, group, sent, false).await.unwrap();
    assert_eq!(read.unread_from, None);
}

#[tokio::test]
async fn i6_the_sender_hears_of_receipts_without_their_own_state_in_the_way() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let sent = bed.send("alice", group, "m").await.seq;
    let mut events = bed.backends.bus.subscribe(Topic::User(user("alice"))).await;
    let stored = bed.conversations.acknowledge(&caller("bob"), &[(group, sent)]).await;
    assert!(stored[0].is_ok());
    let moved = receipts(&mut events).await;
    assert_eq!((moved.delivered_to_all, moved.read_by_all), (sent, Seq(0)));
    assert_eq!(moved.members, [(user("bob"), sent, Seq(0))]);
}

/// I7, C12: another node removed somebody and went on, and this one has not taken that in: what is acknowledged of it here is told
/// to those who are still there alone.
#[tokio::test]
async fn i7_receipts_are_told_to_the_members_at_the_head() {
    let bed = Bed::new(&["alice", "bob", "carol"]).await;
    let group = bed
        .group("alice", &[member("bob", Role::Member), member("carol", Role::Member)])
        .await;
    bed.send("alice", group, "m").await;
    let bus = &bed.backends.bus;
    let mut alices = bus.subscribe(Topic::User(user("alice"))).await;
    let mut bobs = bus.subscribe(Topic::User(user("bob"))).await;
    let other = bed.other_node();
    let removal = request(group, "out", crate::domain::Change::RemoveMember(user("bob")));
    other.append(&caller("alice"), removal).await.unwrap();
    let later = request(group, "later", text("later"));
    let sent = other.append(&caller("alice"), later).await.unwrap().seq;
    let stored = bed.conversations.acknowledge(&caller("carol"), &[(group, sent)]).await;
    assert!(stored[0].is_ok());
    let moved = receipts(&mut alices).await;
    assert_eq!(moved.members, [(user("carol"), sent, Seq(0))]);
    // Everybody was told by the end of that.
    bed.conversations.drain().await;
    while let Some(Some(event)) = bobs.next().now_or_never() {
        assert!(!matches!(event, Event::Receipts(_)), "{event:?}");
    }
}

/// The next that says whose markers moved.
pub(super) async fn receipts(events: &mut Subscription) -> Arc<ReceiptsMoved> {
    loop {
        if let Event::Receipts(moved) = events.next().await.unwrap() {
            return moved;
        }
    }
}

/// Receipts give way to messages, never the other way round: everybody in a large group acknowledges in one moment, and what
/// is said in that moment is taken.
#[tokio::test]
async fn acks_of_a_large_group_keep_no_message_out() {
    let names: Vec<String> = (0..400).map(|number| format!("member{number}")).collect();
    let mut users: Vec<&str> = names.iter().map(String::as_str).collect();
    users.push("alice");
    let bed = Bed::new(&users).await;
    let members: Vec<_> = names.iter().map(|name| member(name, Role::Member)).collect();
    let group = bed.group("alice", &members).await;
    let seq = bed.send("alice", group, "m0").await.seq;
    let acks = names.iter().map(|name| {
        let conversations = &bed.conversations;
        async move { conversations.acknowledge(&caller(name), &[(group, seq)]).await }
    });
    let (acked, sent) = tokio::join!(
        futures_util::future::join_all(acks),
        bed.append("alice", group, "m1", text("still taken"))
    );
    assert!(acked.iter().flatten().all(Result::is_ok));
    assert_eq!(sent.map(|sent| sent.seq), Ok(seq.next()));
}
