//! Creating conversations: one per pair, one per request id, also after a crash in between.

use futures_util::future::join_all;

use super::bed::{Bed, caller, direct, member, user};
use crate::domain::{Kind, Reason, Role, Seq};
use crate::storage::PageLimit;

#[tokio::test]
async fn one_conversation_per_pair_when_both_create_it_at_the_same_moment() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let other = bed.other_node();
    let creations = (0..20).map(|n| {
        let (node, from, to) = if n % 2 == 0 {
            (&bed.conversations, "alice", "bob")
        } else {
            (&other, "bob", "alice")
        };
        async move {
            node.create(&caller(from), direct(from, to, &format!("c{n}")))
                .await
                .unwrap()
        }
    });
    let created = join_all(creations).await;
    assert!(
        created
            .iter()
            .all(|info| info.id == created[0].id && info.head == Seq(1))
    );
    assert_eq!(created[0].members.len(), 2);
    let head = bed.backends.log.head(created[0].id).await.unwrap().unwrap();
    let limit = PageLimit {
        entries: 1,
        bytes: usize::MAX,
    };
    let entries = bed
        .backends
        .log
        .read(created[0].id, Seq(1), head.seq, limit)
        .await
        .unwrap();
    assert_eq!(
        entries[0].entry.correlation,
        caller("alice").correlation,
        "of the request that created it"
    );
}

#[tokio::test]
async fn i2_the_same_request_id_gives_the_same_group_and_another_content_is_refused() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let first = bed.group("alice", &[member("bob", Role::Member)]).await;
    assert_eq!(bed.group("alice", &[member("bob", Role::Member)]).await, first);
    let mut other = direct("alice", "bob", "create");
    other.kind = Kind::Group;
    "another".clone_into(&mut other.name);
    let refusal = bed.conversations.create(&caller("alice"), other).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::AlreadyExists);
}

#[tokio::test]
async fn unknown_and_blocked_users_cannot_be_pulled_in() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let refusal = bed
        .conversations
        .create(&caller("alice"), direct("alice", "nobody", "1"))
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::NotFound);
    bed.backends
        .directory
        .set_block(&user("bob"), &user("alice"), true)
        .await
        .unwrap();
    let refusal = bed
        .conversations
        .create(&caller("alice"), direct("alice", "bob", "2"))
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::Blocked);
    let refusal = bed
        .conversations
        .create(&caller("alice"), direct("alice", "alice", "3"))
        .await
        .unwrap_err();
    assert!(matches!(refusal.reason, Reason::Invalid { .. }));
}

#[tokio::test]
async fn a_block_stops_the_pair_at_once_and_lifting_it_lets_them_go_on() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let conversation = bed
        .conversations
        .create(&caller("alice"), direct("alice", "bob", "1"))
        .await
        .unwrap()
        .id;
    bed.send("alice", conversation, "before").await;
    bed.backends
        .directory
        .set_block(&user("bob"), &user("alice"), true)
        .await
        .unwrap();
    let told = bed.conversations.block_changed(&user("bob"), &user("alice")).await;
    told.unwrap();
    let refusal = bed
        .append("alice", conversation, "m", super::bed::text("m"))
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::Blocked);
    bed.backends
        .directory
        .set_block(&user("bob"), &user("alice"), false)
        .await
        .unwrap();
    let told = bed.conversations.block_changed(&user("bob"), &user("alice")).await;
    told.unwrap();
    assert_eq!(bed.send("alice", conversation, "m").await.seq, Seq(3));
}
