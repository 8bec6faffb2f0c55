//! I6: receipts only go forward, unread counts are exact.

use std::collections::BTreeMap;

use stonechat_host::{Random, SeededRandom};
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::receipt_service_client::ReceiptServiceClient;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Bench, Claims, Observed, PATIENCE, RawSession, UNHURRIED};

use crate::support::{judge, mark_delivered, mark_read, markers, reaches, rows, sync};

/// The newest receipt of a user that came unasked.
fn receipt(seen: &Observed, user: &str) -> Option<v1::MemberReceipt> {
    let moved = seen.events.iter().rev().filter_map(|event| match event {
        Seen::Receipts(moved) => Some(&moved.members),
        _ => None,
    });
    moved.flatten().find(|member| member.user_id == user).cloned()
}

#[tokio::test]
async fn delivered_and_read_reach_the_sender_and_private_reads_do_not() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut tablet = bench.open("bob", "tablet").await;
    bench.send(&mut alice, &room, "one").await;
    let two = bench.send(&mut alice, &room, "two").await;
    reaches(&mut bob, &room, two).await;
    let delivered = |seen: &Observed| receipt(seen, "bob").is_some_and(|found| found.delivered_seq == two);
    alice.until("bob's delivered receipt", PATIENCE, delivered).await;
    bob.request(mark_read(&room, two, true), PATIENCE).await;
    let own = |seen: &Observed| {
        seen.events
            .iter()
            .any(|event| matches!(event, Seen::Markers(own) if own.read_seq == two))
    };
    tablet.until("the private read of the phone", PATIENCE, own).await;
    alice.ping(PATIENCE).await;
    assert_eq!(
        receipt(&alice.observed(), "bob").map(|found| found.read_seq),
        Some(0),
        "private stays private"
    );
    bob.request(mark_read(&room, two, false), PATIENCE).await;
    let read = |seen: &Observed| receipt(seen, "bob").is_some_and(|found| found.read_seq == two);
    alice.until("bob's read receipt", PATIENCE, read).await;
    reaches(&mut alice, &room, two).await;
    reaches(&mut tablet, &room, two).await;
    judge(&bench.verdict().await, &[Check::C10, Check::C11]);
}

#[tokio::test]
async fn counts_and_names_of_who_received_and_read() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.group(&["alice", "bob", "carol", "dave"]).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut carol = bench.open("carol", "phone").await;
    let seq = bench.send(&mut alice, &room, "who reads this?").await;
    reaches(&mut bob, &room, seq).await;
    reaches(&mut carol, &room, seq).await;
    bob.request(mark_read(&room, seq, false), PATIENCE).await;
    carol.request(mark_read(&room, seq, true), PATIENCE).await;
    let mut client = ReceiptServiceClient::new(bench.call_as(&Claims::user("alice"), "phone"));
    let request = v1::GetReceiptsRequest {
        conversation_id: room.clone(),
        seq,
        with_members: true,
    };
    let answer = client.get_receipts(request).await.expect("receipts").into_inner();
    let Some(v1::get_receipts_response::Outcome::Receipts(receipts)) = answer.outcome else {
        panic!("{answer:?}");
    };
    let counts = (receipts.delivered_count, receipts.read_count, receipts.audience_count);
    assert_eq!(counts, (2, 1, 3), "{receipts:?}");
    let names: Vec<&str> = receipts.members.iter().map(|member| member.user_id.as_str()).collect();
    assert_eq!(names, ["bob", "carol", "dave"]);
    assert_eq!(receipts.members[1].read_seq, 0, "carol read privately");
}

#[tokio::test]
async fn lower_markers_are_ignored_and_higher_than_the_head_are_refused() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut newest = 0;
    for number in 0..5 {
        newest = bench.send(&mut alice, &room, &format!("m{number}")).await;
    }
    reaches(&mut bob, &room, newest).await;
    let high = markers(&bob.request(mark_read(&room, newest, false), PATIENCE).await);
    assert_eq!((high.read_seq, high.unread_count), (newest, 0));
    let low = markers(&bob.request(mark_read(&room, 1, false), PATIENCE).await);
    assert_eq!(low, high, "lower values change nothing");
    let low = markers(&bob.request(mark_delivered(&room, 1), PATIENCE).await);
    assert_eq!(low, high);
    let beyond = bob.request(mark_read(&room, newest + 1, false), PATIENCE).await;
    let refused = matches!(&beyond, Seen::MarkRead(v1::MarkReadResponse {
        outcome: Some(v1::mark_read_response::Outcome::Refusal(refusal)),
    }) if refusal.reason() == v1::RefusalReason::BeyondHead && refusal.head_seq == newest);
    assert!(refused, "{beyond:?}");
    reaches(&mut alice, &room, newest).await;
    // The refused mark claimed more than there is; C11 looks at the rest.
    judge(&bench.verdict().await, &[Check::C10, Check::C11]);
}

/// T9: receipts shuffled, duplicated, past leave and re-join, and a kill: C10, C11.
#[tokio::test]
async fn receipts_never_go_down_through_leave_rejoin_and_kill() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.group(&["alice", "bob"]).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let random = SeededRandom::new(9);
    let mut newest = 0;
    for round in 0..6 {
        for number in 0..5 {
            newest = bench.send(&mut alice, &room, &format!("r{round} m{number}")).await;
        }
        reaches(&mut bob, &room, newest).await;
        for _ in 0..10 {
            let seq = 1 + random.below(newest);
            let private = random.below(2) == 0;
            bob.request(mark_read(&room, seq, private), PATIENCE).await;
        }
        match round % 3 {
            0 => {
                let left = bench.remove(&room, "bob").await;
                reaches(&mut bob, &room, left).await;
                bob.request(mark_read(&room, 1, false), PATIENCE).await;
                newest = bench.add(&room, "bob").await;
                reaches(&mut bob, &room, newest).await;
            }
            1 => {
                bench.server.kill_and_restart().await;
                alice = bench.open("alice", "phone").await;
                bob = bench.open("bob", "phone").await;
            }
            _ => {}
        }
    }
    reaches(&mut alice, &room, newest).await;
    bob.request(mark_read(&room, newest, false), PATIENCE).await;
    judge(&bench.verdict().await, &[Check::C10, Check::C11]);
}

/// A user's unread count by a plain model: messages of others after what they read, wrote last, or joined at.
#[derive(Default, Clone, Copy)]
struct Reader {
    read: u64,
    wrote: u64,
}

struct Model {
    /// Seq and sender of each message.
    messages: Vec<(u64, &'static str)>,
    readers: BTreeMap<&'static str, Reader>,
}

impl Model {
    fn unread(&self, user: &str) -> u64 {
        let reader = self.readers.get(user).copied().unwrap_or_default();
        let seen = reader.read.max(reader.wrote);
        self.messages.iter().filter(|(seq, _)| *seq > seen).count() as u64
    }
}

async fn unread_of(session: &mut RawSession, room: &str) -> u64 {
    let list = rows(session.request(sync(b"", 0), PATIENCE).await);
    let row = list
        .conversations
        .iter()
        .find(|row| row.conversation_id == room)
        .expect("a row");
    row.markers.as_ref().map_or(0, |markers| markers.unread_count)
}

/// `unread_count_is_the_same_after_going_online_again`, and a random walk against the model.
#[tokio::test]
async fn unread_counts_follow_the_model_through_sends_reads_reconnects_and_kills() {
    const USERS: [&str; 3] = ["alice", "bob", "carol"];
    const STEPS: u64 = 120;
    const KILL_EVERY: u64 = 40;
    let seed = 20_241;
    println!("seed {seed}");
    let random = SeededRandom::new(seed);
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.group(&USERS).await;
    let mut model = Model {
        messages: Vec::new(),
        readers: BTreeMap::new(),
    };
    let mut sessions = Vec::new();
    for user in USERS {
        sessions.push(bench.open(user, "phone").await);
    }
    let (mut head, mut kills) = (1, 0);
    for step in 0..STEPS {
        if step % KILL_EVERY == KILL_EVERY - 1 {
            bench.server.kill_and_restart().await;
            kills += 1;
            for (user, session) in USERS.into_iter().zip(&mut sessions) {
                *session = bench.open(user, "phone").await;
            }
        }
        let who = usize::try_from(random.below(3)).unwrap_or(0);
        let user = USERS[who];
        let session = &mut sessions[who];
        match random.below(10) {
            0..5 => {
                head = bench.send(session, &room, &format!("step {step}")).await;
                model.messages.push((head, user));
                model.readers.entry(user).or_default().wrote = head;
            }
            5..8 => {
                let seq = 1 + random.below(head);
                let answer = session
                    .request(mark_read(&room, seq, random.below(2) == 0), PATIENCE)
                    .await;
                let reader = model.readers.entry(user).or_default();
                reader.read = reader.read.max(seq);
                assert_eq!(
                    markers(&answer).unread_count,
                    model.unread(user),
                    "step {step}: {user} read {seq}"
                );
            }
            _ => *session = bench.open(user, "phone").await,
        }
        let counted = unread_of(&mut sessions[who], &room).await;
        assert_eq!(counted, model.unread(user), "seed {seed}, step {step}: {user}");
    }
    assert_eq!(kills, STEPS / KILL_EVERY);
    for session in &mut sessions {
        reaches(session, &room, head).await;
    }
    judge(&bench.verdict().await, &[Check::C6, Check::C10, Check::C11]);
}

/// `mark_unread` shows as unread without moving the read marker; reading clears it.
#[tokio::test]
async fn mark_unread_moves_nothing_and_reading_clears_it() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let one = bench.send(&mut alice, &room, "one").await;
    let two = bench.send(&mut alice, &room, "two").await;
    reaches(&mut bob, &room, two).await;
    bob.request(mark_read(&room, two, false), PATIENCE).await;
    let unread = Asked::MarkUnread(v1::MarkUnreadRequest {
        conversation_id: room.clone(),
        from_seq: one,
    });
    let shown = markers(&bob.request(unread, PATIENCE).await);
    assert_eq!((shown.unread_from_seq, shown.read_seq), (one, two));
    let cleared = markers(&bob.request(mark_read(&room, two, false), PATIENCE).await);
    assert_eq!((cleared.unread_from_seq, cleared.unread_count), (0, 0));
    reaches(&mut alice, &room, two).await;
    judge(&bench.verdict().await, &[Check::C10]);
}
