//! Roles, limits and audiences (I7, I11).

use super::bed::{Bed, caller, member, text, user};
use crate::conversation::{HistoryAnchor, HistoryQuery, MemberReceipt};
use crate::domain::limits::GROUP_MEMBERS_MAX;
use crate::domain::{Change, ConversationId, Member, Reason, Refusal, Role, Seq};

async fn seqs_of(bed: &Bed, who: &str, conversation: ConversationId) -> Result<Vec<u64>, Refusal> {
    let query = HistoryQuery {
        conversation,
        anchor: HistoryAnchor::Before(None),
        limit: 200,
        until: None,
    };
    let page = bed.conversations.history(&caller(who), query).await?;
    Ok(page.entries.iter().map(|stored| stored.entry.seq.0).collect())
}

#[tokio::test]
async fn i7_c12_c13_a_member_reads_exactly_their_stays() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[]).await;
    bed.send("alice", group, "2").await;
    bed.append(
        "alice",
        group,
        "3",
        Change::SetMembers(vec![member("bob", Role::Member)]),
    )
    .await
    .unwrap();
    bed.send("alice", group, "4").await;
    bed.append("alice", group, "5", Change::RemoveMember(user("bob")))
        .await
        .unwrap();
    bed.send("alice", group, "6").await;
    bed.append(
        "alice",
        group,
        "7",
        Change::SetMembers(vec![member("bob", Role::Member)]),
    )
    .await
    .unwrap();
    bed.send("alice", group, "8").await;
    assert_eq!(seqs_of(&bed, "bob", group).await.unwrap(), [3, 4, 5, 7, 8]);
    assert_eq!(seqs_of(&bed, "alice", group).await.unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// C12: who left sees the conversation as far as they may read it: neither who is there today, nor what it is called or
/// has pinned, nor how far the others read on. Back again they see everything.
#[tokio::test]
async fn i7_c12_who_left_learns_nothing_of_what_came_later() {
    let bed = Bed::new(&["alice", "bob", "carol", "dave", "erin"]).await;
    let others = ["bob", "carol", "dave"].map(|name| member(name, Role::Member));
    let group = bed.group("alice", &others).await;
    let sent = bed.send("alice", group, "2").await.seq;
    bed.append("alice", group, "3", Change::RemoveMember(user("dave")))
        .await
        .unwrap();
    let left = bed.append("alice", group, "4", Change::RemoveMember(user("bob"))).await;
    let left = left.unwrap().seq;
    let pin = Change::Pin {
        target: sent,
        unpin: false,
    };
    let later = [
        Change::Rename("secret".to_owned()),
        pin,
        Change::SetMembers(vec![member("erin", Role::Member)]),
        text("8"),
    ];
    for (number, change) in later.into_iter().enumerate() {
        bed.append("alice", group, &format!("later-{number}"), change)
            .await
            .unwrap();
    }
    let rules = &bed.conversations;
    for (who, seq) in [("carol", Seq(8)), ("erin", Seq(7))] {
        rules.mark_read(&caller(who), group, seq, false).await.unwrap();
    }
    bed.append("alice", group, "out", Change::RemoveMember(user("carol")))
        .await
        .unwrap();
    bed.conversations.settled(&user("bob")).await;

    let seen = rules.get(&caller("bob"), group).await.unwrap();
    assert_eq!((seen.head, seen.name.as_str()), (left, ""));
    assert!(seen.members.is_empty() && seen.pins.is_empty(), "{seen:?}");
    let row = seen.mine.unwrap();
    assert_eq!((row.former_member, row.name.as_str(), row.head), (true, "", left));
    let receipts = rules.receipts(&caller("bob"), group, sent, true).await.unwrap();
    let of_carol = MemberReceipt {
        user: user("carol"),
        delivered: left,
        read: left,
    };
    assert_eq!(
        (receipts.audience, receipts.read),
        (1, 1),
        "carol was there when bob went"
    );
    assert_eq!(receipts.members, [of_carol]);

    let back = Change::SetMembers(vec![member("bob", Role::Member)]);
    bed.append("alice", group, "back", back).await.unwrap();
    bed.conversations.settled(&user("bob")).await;
    let seen = rules.get(&caller("bob"), group).await.unwrap();
    assert_eq!(
        (seen.name.as_str(), seen.members.len(), seen.pins.len()),
        ("secret", 3, 1)
    );
    assert_eq!(seen.mine.unwrap().name, "secret");
    let receipts = rules.receipts(&caller("bob"), group, sent, true).await.unwrap();
    assert_eq!(receipts.members.len(), 1, "bob, who got it in his first stay");
}

#[tokio::test]
async fn i11_outsiders_learn_nothing_and_former_members_change_nothing() {
    let bed = Bed::new(&["alice", "bob", "eve"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let absent = ConversationId([9; 16]);
    let outsider = bed.append("eve", group, "x", text("x")).await.unwrap_err();
    assert_eq!(outsider, bed.append("eve", absent, "x", text("x")).await.unwrap_err());
    assert_eq!(seqs_of(&bed, "eve", group).await, seqs_of(&bed, "eve", absent).await);
    bed.append("bob", group, "bye", Change::RemoveMember(user("bob")))
        .await
        .unwrap();
    let former = bed.append("bob", group, "y", text("y")).await.unwrap_err();
    assert_eq!(former.reason, Reason::Forbidden);
    assert_eq!(seqs_of(&bed, "bob", group).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn i11_roles_bound_what_members_and_admins_may_do() {
    let bed = Bed::new(&["alice", "bob", "carol", "dave"]).await;
    let group = bed
        .group("alice", &[member("bob", Role::Admin), member("carol", Role::Member)])
        .await;
    let forbidden = [
        ("carol", Change::SetMembers(vec![member("dave", Role::Member)])),
        ("carol", Change::Rename("mine".to_owned())),
        ("carol", Change::RemoveMember(user("bob"))),
        ("bob", Change::RemoveMember(user("alice"))),
        ("bob", Change::SetMembers(vec![member("carol", Role::Owner)])),
        ("bob", Change::SetMembers(vec![member("dave", Role::Admin)])),
    ];
    for (index, (who, change)) in forbidden.into_iter().enumerate() {
        let refusal = bed
            .append(who, group, &format!("no{index}"), change.clone())
            .await
            .unwrap_err();
        assert_eq!(refusal.reason, Reason::Forbidden, "{who} {change:?}");
    }
    bed.append(
        "bob",
        group,
        "add",
        Change::SetMembers(vec![member("dave", Role::Member)]),
    )
    .await
    .unwrap();
    bed.append("bob", group, "remove", Change::RemoveMember(user("carol")))
        .await
        .unwrap();
    bed.append(
        "alice",
        group,
        "promote",
        Change::SetMembers(vec![member("dave", Role::Owner)]),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_group_keeps_an_owner_and_at_most_500_members() {
    let names: Vec<String> = (0..GROUP_MEMBERS_MAX).map(|n| format!("u{n}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).chain(["alice", "late"]).collect();
    let bed = Bed::new(&users).await;
    let others: Vec<Member> = names[1..].iter().map(|name| member(name, Role::Member)).collect();
    let group = bed.group("alice", &others).await;
    let full = bed
        .append(
            "alice",
            group,
            "late",
            Change::SetMembers(vec![member("late", Role::Member)]),
        )
        .await;
    assert_eq!(full.unwrap_err().reason, Reason::LimitReached);
    let demote = Change::SetMembers(vec![member("alice", Role::Member)]);
    assert_eq!(
        bed.append("alice", group, "demote", demote).await.unwrap_err().reason,
        Reason::Forbidden
    );
    bed.append("alice", group, "leave", Change::RemoveMember(user("alice")))
        .await
        .unwrap();
    let info = bed.conversations.get(&caller("u1"), group).await.unwrap();
    let owners: Vec<&Member> = info
        .members
        .iter()
        .filter(|member| member.role == Role::Owner)
        .collect();
    assert_eq!(owners.len(), 1);
}

#[tokio::test]
async fn the_directory_follows_the_log_after_a_restart() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[]).await;
    bed.append(
        "alice",
        group,
        "add",
        Change::SetMembers(vec![member("bob", Role::Member)]),
    )
    .await
    .unwrap();
    bed.append("alice", group, "name", Change::Rename("new".to_owned()))
        .await
        .unwrap();
    bed.conversations.settled(&user("alice")).await;
    let info = bed.other_node().get(&caller("bob"), group).await.unwrap();
    assert_eq!((info.name.as_str(), info.members.len()), ("new", 2));
    assert_eq!(info.mine.unwrap().name, "new");
}

#[tokio::test]
async fn i4_a_message_pipelined_behind_an_addition_stays_behind_it() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[]).await;
    let add = Change::SetMembers(vec![member("bob", Role::Member)]);
    let (added, sent) = futures_util::join!(bed.append("alice", group, "add", add), bed.send("alice", group, "m"));
    assert_eq!(sent.seq, added.unwrap().seq.next());
    let stranger = Change::SetMembers(vec![member("nobody", Role::Member)]);
    assert_eq!(
        bed.append("alice", group, "no", stranger).await.unwrap_err().reason,
        Reason::NotFound
    );
}
