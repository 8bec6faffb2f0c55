//! The conversation list: only what changed, and cursors that are good, old, damaged or of another store.

use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::harness::{Acks, Bench, PATIENCE, UNHURRIED};

use crate::support::{rows, sync};

fn ids(rows: &[v1::ConversationSummary]) -> Vec<&str> {
    rows.iter().map(|row| row.conversation_id.as_str()).collect()
}

#[tokio::test]
async fn a_cursor_lists_only_what_changed_since() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let mut rooms = Vec::new();
    for peer in ["bob", "carol", "dave"] {
        rooms.push(bench.direct("alice", peer).await);
    }
    let mut bob = bench.open("bob", "phone").await;
    let mut alice = bench.open("alice", "phone").await;
    let all = rows(alice.request(sync(b"", 0), PATIENCE).await);
    assert_eq!(all.conversations.len(), 3);
    let nothing = rows(alice.request(sync(&all.next_cursor, 0), PATIENCE).await);
    assert!(nothing.conversations.is_empty() && !nothing.has_more, "{nothing:?}");
    bench.send(&mut bob, &rooms[0], "news").await;
    let news = rows(alice.request(sync(&all.next_cursor, 0), PATIENCE).await);
    assert_eq!(ids(&news.conversations), [rooms[0].as_str()]);
    assert_eq!(news.conversations[0].peer_user_id, "bob");
    // The same by hello: one round trip to what changed.
    let mut hello = bench.hello("alice", "tablet");
    hello.cursor = all.next_cursor.clone();
    let mut tablet = bench.open_with("alice", hello, Acks::Each).await;
    let welcome = tablet.welcome(PATIENCE).await;
    assert!(welcome.continuous);
    assert_eq!(ids(&welcome.conversations), [rooms[0].as_str()]);
    bench
        .verdict()
        .await
        .assert_clean(&[stonechat_tests::checker::Check::C6]);
}

#[tokio::test]
async fn pages_of_the_list_give_every_row_once() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let peers: Vec<String> = (0..7).map(|number| format!("peer{number}")).collect();
    for peer in &peers {
        bench.direct("alice", peer).await;
    }
    let mut alice = bench.open("alice", "phone").await;
    let (mut cursor, mut seen) = (bytes::Bytes::new(), Vec::new());
    loop {
        let page = rows(alice.request(sync(&cursor, 3), PATIENCE).await);
        assert!(page.conversations.len() <= 3);
        seen.extend(page.conversations.into_iter().map(|row| row.peer_user_id));
        cursor = page.next_cursor;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seen, peers, "oldest change first, each once");
}

/// A cursor of another store, or damaged, starts from nothing and says so; it never decides what is delivered.
#[tokio::test]
async fn a_bad_cursor_starts_from_nothing_and_says_so() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let other = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    other.users(&["alice"]).await;
    let mut stranger = other.open("alice", "phone").await;
    let foreign = rows(stranger.request(sync(b"", 0), PATIENCE).await).next_cursor;
    for cursor in [foreign.to_vec(), b"garbage".to_vec(), vec![0xff; 4_000]] {
        let mut hello = bench.hello("alice", "phone");
        hello.cursor = cursor.clone().into();
        let mut alice = bench.open_with("alice", hello, Acks::Never).await;
        let welcome = alice.welcome(PATIENCE).await;
        assert!(!welcome.continuous, "{cursor:?}");
        assert_eq!(ids(&welcome.conversations), [room.as_str()]);
        alice
            .until("the delivery", PATIENCE, |seen| seen.newest(&room) == 1)
            .await;
        let answer = alice.request(sync(&cursor, 0), PATIENCE).await;
        let refused = matches!(&answer, Seen::Sync(v1::ListConversationsResponse {
            outcome: Some(v1::list_conversations_response::Outcome::Refusal(refusal)),
        }) if refusal.reason() == v1::RefusalReason::ResyncRequired);
        assert!(refused || matches!(&answer, Seen::Refusal(_)), "{answer:?}");
    }
}
