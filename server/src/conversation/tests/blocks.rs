//! Blocks: what they stop, from when on, and what they do not stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bed::{Bed, caller, direct, member, text, user};
use super::lying_log::{failing, slow_to_load};
use crate::bus::{Event, Subscription, Topic};
use crate::conversation::{Backends, Conversations, CreateRequest, Limits, People};
use crate::domain::{Change, ConversationId, Effect, Kind, Reason, Role, Seq};
use crate::storage::ReadError;

fn people(bed: &Bed) -> People {
    People::new(bed.conversations.clone(), bed.host.clone())
}

async fn pair(bed: &Bed) -> ConversationId {
    let asked = direct("alice", "bob", "pair");
    bed.conversations.create(&caller("alice"), asked).await.unwrap().id
}

async fn listens(bed: &Bed, who: &str) -> Subscription {
    bed.backends.bus.subscribe(Topic::User(user(who))).await
}

/// The block is set while the 1:1 loads, and after the load asked whether there is one.
#[tokio::test]
async fn a_block_set_while_the_1_1_loads_counts() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let pair = pair(&bed).await;
    let (mut gate, log) = slow_to_load(Arc::clone(&bed.backends.log));
    let backends = Backends {
        log,
        ..bed.backends.clone()
    };
    let node = Conversations::new(backends, bed.host.clone(), Limits::default());
    let people = People::new(node.clone(), bed.host.clone());
    gate.open.send_replace(false);
    let load = tokio::spawn({
        let node = node.clone();
        async move { node.get(&caller("alice"), pair).await }
    });
    gate.came.wait_for(|came| *came > 0).await.unwrap();
    let block = tokio::spawn(async move { people.set_block(&user("bob"), &user("alice"), true).await });
    while bed.backends.directory.blocks(&user("bob")).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.open.send_replace(true);
    load.await.unwrap().unwrap();
    block.await.unwrap().unwrap();
    let late = super::bed::request(pair, "m", text("m"));
    let refusal = node.append(&caller("alice"), late).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Blocked);
}

/// I8: a block that the loaded 1:1 cannot learn of is not said to be in force.
#[tokio::test]
async fn i8_a_block_that_does_not_count_yet_is_no_success() {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let fail = failing(move |_, _, _| {
        let fails = switch.load(Ordering::Relaxed);
        fails.then(|| ReadError::Unavailable("no answer".to_owned()))
    });
    let bed = Bed::with(&["alice", "bob"], Limits::default(), fail).await;
    let pair = pair(&bed).await;
    bed.send("alice", pair, "before").await;
    let people = people(&bed);
    broken.store(true, Ordering::Relaxed);
    let refusal = people.set_block(&user("bob"), &user("alice"), true).await.unwrap_err();
    assert_eq!(refusal.effect, Effect::Unknown, "{refusal:?}");
    broken.store(false, Ordering::Relaxed);
    people.set_block(&user("bob"), &user("alice"), true).await.unwrap();
    let refusal = bed.append("alice", pair, "m", text("m")).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Blocked);
}

/// No typing between the two: in a group the others hear it, and in the 1:1 it is refused though the block was set through
/// another node, of which this one hears nothing.
#[tokio::test]
async fn there_is_no_typing_between_two_with_a_block() {
    let bed = Bed::new(&["alice", "bob", "carol"]).await;
    let pair = pair(&bed).await;
    let others = [member("bob", Role::Member), member("carol", Role::Member)];
    let group = bed.group("alice", &others).await;
    bed.conversations.settled(&user("alice")).await;
    let directory = &bed.backends.directory;
    directory.set_block(&user("carol"), &user("alice"), true).await.unwrap();
    let (mut bob, mut carol) = (listens(&bed, "bob").await, listens(&bed, "carol").await);
    let rules = &bed.conversations;
    rules.set_typing(&caller("alice"), group, false).await.unwrap();
    let heard = bob.next().await.unwrap();
    assert!(matches!(heard, Event::Typing { .. }), "{heard:?}");
    rules.set_typing(&caller("bob"), group, false).await.unwrap();
    let Some(Event::Typing { user: who, .. }) = carol.next().await else {
        panic!("carol hears of somebody who types");
    };
    assert_eq!(who, user("bob"), "nothing of alice");
    rules.set_typing(&caller("alice"), pair, false).await.unwrap();
    directory.set_block(&user("bob"), &user("alice"), true).await.unwrap();
    let refusal = rules.set_typing(&caller("alice"), pair, false).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Blocked);
}

/// Sessions of both look again whom they may watch, without a row that would say why.
#[tokio::test]
async fn a_block_tells_the_sessions_of_both_to_look_again() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let (mut alice, mut bob) = (listens(&bed, "alice").await, listens(&bed, "bob").await);
    for blocked in [true, false] {
        let set = people(&bed).set_block(&user("alice"), &user("bob"), blocked).await;
        set.unwrap();
        for (who, events) in [("alice", &mut alice), ("bob", &mut bob)] {
            let Some(Event::OwnRow(id)) = events.next().await else {
                panic!("{who} looks again");
            };
            let row = bed.conversations.summary(&user(who), None, id).await.unwrap();
            assert!(row.is_none(), "{row:?}");
        }
    }
}

/// An admin who blocks the owner keeps out of no group what the owner may do there.
#[tokio::test]
async fn a_block_keeps_nobody_out_who_is_in_already() {
    let bed = Bed::new(&["alice", "bob", "carol"]).await;
    let group = bed.group("alice", &[member("bob", Role::Admin)]).await;
    let directory = &bed.backends.directory;
    directory.set_block(&user("bob"), &user("alice"), true).await.unwrap();
    let plain = vec![member("bob", Role::Member), member("carol", Role::Member)];
    bed.append("alice", group, "role", Change::SetMembers(plain))
        .await
        .unwrap();
    bed.append("alice", group, "out", Change::RemoveMember(user("bob")))
        .await
        .unwrap();
    let again = Change::SetMembers(vec![member("bob", Role::Member)]);
    let refusal = bed.append("alice", group, "in", again).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Blocked);
}

/// I2: what was created is found again, by the request that created it and by the pair, whoever blocks whom meanwhile.
#[tokio::test]
async fn i2_a_block_hides_nothing_that_is_there() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let pair = pair(&bed).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let directory = &bed.backends.directory;
    directory.set_block(&user("bob"), &user("alice"), true).await.unwrap();
    for node in [bed.conversations.clone(), bed.other_node()] {
        for (from, to, id) in [
            ("alice", "bob", "pair"),
            ("alice", "bob", "found"),
            ("bob", "alice", "found"),
        ] {
            let found = node.create(&caller(from), direct(from, to, id)).await.unwrap();
            assert_eq!((found.id, found.head), (pair, Seq(1)), "{from} {id}");
        }
    }
    assert_eq!(bed.group("alice", &[member("bob", Role::Member)]).await, group);
    let new = CreateRequest {
        kind: Kind::Group,
        ..direct("alice", "bob", "new")
    };
    let refusal = bed.conversations.create(&caller("alice"), new).await.unwrap_err();
    assert_eq!((refusal.reason, refusal.effect), (Reason::Blocked, Effect::NotDone));
}

/// I11: in their 1:1 neither hears how far the other is, whoever of them blocked, and both still see themselves; in a group both do.
#[tokio::test]
async fn i11_receipts_are_not_shown_between_two_with_a_block() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let pair = pair(&bed).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let rules = &bed.conversations;
    let directory = &bed.backends.directory;
    let read = async |of: ConversationId, viewer: &str, seq| {
        let shown = rules.receipts(&caller(viewer), of, seq, true).await.unwrap();
        (shown.delivered, shown.read)
    };
    for id in [pair, group] {
        let seq = bed.send("alice", id, "m").await.seq;
        rules.mark_read(&caller("bob"), id, seq, false).await.unwrap();
        assert_eq!(read(id, "alice", seq).await, (1, 1));
        directory.set_block(&user("bob"), &user("alice"), true).await.unwrap();
        let seen_by_alice = if id == pair { (0, 0) } else { (1, 1) };
        assert_eq!(read(id, "alice", seq).await, seen_by_alice);
        assert_eq!(read(id, "bob", seq).await, (1, 1), "of himself");
        directory.set_block(&user("bob"), &user("alice"), false).await.unwrap();
        assert_eq!(read(id, "alice", seq).await, (1, 1), "it comes back");
    }
}
