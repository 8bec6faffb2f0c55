//! Several devices of one user, and ids of messages across devices, streams and tokens (carboncopy_SUITE, Complement).

use std::collections::{BTreeMap, BTreeSet};

use stonechat_host::{Random, SeededRandom};
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::harness::{Acks, Bench, Claims, Hello, PATIENCE, RawSession, UNHURRIED, send_frame};

use crate::support::{appended, judge, reaches};

/// `TestTxnScopeOnLocalEcho`, `same_stanza_id`: the echo says which send of which device it is, so that the sender finds its
/// own and the other device knows that it is not its own; and what is delivered is what history has.
#[tokio::test]
async fn the_echo_names_the_device_and_id_of_the_send() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut phone = bench.open("alice", "phone").await;
    let mut tablet = bench.open("alice", "tablet").await;
    let mut bob = bench.open("bob", "phone").await;
    let answer = phone.request(send_frame(&room, "m-1", "hello"), PATIENCE).await;
    let stored = appended(&answer);
    let history = bench.entries(&room).await;
    for session in [&mut phone, &mut tablet, &mut bob] {
        reaches(session, &room, stored.seq).await;
        let seen = session.observed();
        let echo = seen
            .entries(&room)
            .find(|entry| entry.seq == stored.seq)
            .expect("the echo");
        let sender = (echo.sender_user_id.as_str(), echo.sender_device_id.as_str());
        assert_eq!((sender, echo.client_msg_id.as_str()), (("alice", "phone"), "m-1"));
        assert_eq!(
            (echo.server_time_ms, &echo.correlation_id),
            (stored.server_time_ms, &stored.correlation_id)
        );
        assert!(seen.entries(&room).eq(&history), "delivered and kept are the same");
    }
    judge(&bench.verdict().await, &[]);
}

/// `TestTxnIdWithRefreshToken`: the id belongs to the device, whatever token it comes with.
#[tokio::test]
async fn an_id_outlives_the_token_it_was_sent_with() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let first = bench.token(&Claims::user("alice").expiring_in(60));
    let hello = Hello {
        token: first,
        ..bench.hello("alice", "phone")
    };
    let mut alice = bench.open_with("alice", hello, Acks::Each).await;
    let once = || send_frame(&room, "once", "hello");
    let seq = appended(&alice.request(once(), PATIENCE).await).seq;
    let mut bound = Claims::user("alice").expiring_in(120);
    bound.dev = Some("phone".to_owned());
    let second = Asked::Reauthenticate(v1::Reauthenticate {
        token: bench.token(&bound),
    });
    assert!(matches!(alice.request(second, PATIENCE).await, Seen::Done(_)));
    let again = alice.request(once(), PATIENCE).await;
    assert_eq!((appended(&again).seq, appended(&again).duplicate), (seq, true));
    alice.cut();
    let third = Hello {
        token: bench.token(&Claims::user("alice").expiring_in(240)),
        ..bench.hello("alice", "phone")
    };
    let mut alice = bench.open_with("alice", third, Acks::Each).await;
    let again = alice.request(once(), PATIENCE).await;
    assert_eq!((appended(&again).seq, appended(&again).duplicate), (seq, true));
    reaches(&mut alice, &room, seq).await;
    judge(&bench.verdict().await, &[]);
}

/// One device through all its streams.
#[derive(Default)]
struct Copies {
    stream: Option<RawSession>,
    /// What was acknowledged before a bye, which stores all acks.
    settled: BTreeSet<u64>,
    all: BTreeSet<u64>,
}

impl Copies {
    /// Takes in what the stream saw; nothing that was settled before may be among it.
    fn take(&mut self, room: &str, acked: BTreeSet<u64>, device: &str) {
        let Some(stream) = self.stream.take() else { return };
        let seqs = stream.observed().seqs(room);
        let again: Vec<u64> = seqs.iter().copied().filter(|seq| self.settled.contains(seq)).collect();
        assert!(again.is_empty(), "{device} got {again:?} twice");
        self.settled.extend(acked);
        self.all.extend(seqs);
    }

    /// Says bye; returns what was acknowledged before.
    async fn bye(&mut self, room: &str) -> BTreeSet<u64> {
        let Some(stream) = &mut self.stream else {
            return BTreeSet::new();
        };
        let seen = stream.observed().seqs(room);
        // What was seen before a round trip was acknowledged before its end.
        stream.ping(PATIENCE).await;
        stream.bye(PATIENCE).await;
        seen.into_iter().collect()
    }
}

/// Property: each device gets exactly one copy, `dropped_client_doesnt_create_duplicate_carbons`. Devices of two users come
/// and go, politely or not, while a third one sends.
#[tokio::test]
async fn devices_that_come_and_go_get_one_copy_each() {
    const DEVICES: [(&str, &str); 4] = [
        ("alice", "phone"),
        ("alice", "tablet"),
        ("bob", "phone"),
        ("bob", "laptop"),
    ];
    const STEPS: u64 = 150;
    let seed = 77;
    println!("seed {seed}");
    let random = SeededRandom::new(seed);
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.group(&["carol", "alice", "bob"]).await;
    let mut carol = bench.open("carol", "phone").await;
    let mut devices: BTreeMap<(&str, &str), Copies> = BTreeMap::new();
    let mut head = 1;
    for step in 0..STEPS {
        let device = DEVICES[usize::try_from(random.below(4)).unwrap_or(0)];
        let copies = devices.entry(device).or_default();
        match (random.below(6), copies.stream.is_some()) {
            (0..3, _) => head = bench.send(&mut carol, &room, &format!("step {step}")).await,
            (_, false) => copies.stream = Some(bench.open(device.0, device.1).await),
            (3, true) => {
                let acked = copies.bye(&room).await;
                copies.take(&room, acked, device.1);
            }
            (4, true) => copies.take(&room, BTreeSet::new(), device.1),
            _ => {}
        }
    }
    for device in DEVICES {
        let copies = devices.entry(device).or_default();
        if copies.stream.is_none() {
            copies.stream = Some(bench.open(device.0, device.1).await);
        }
        if let Some(stream) = &mut copies.stream {
            let had = copies.all.last().copied().unwrap_or(0);
            let all = |seen: &stonechat_tests::harness::Observed| seen.reached(&room).max(had) >= head;
            stream.until("the head", PATIENCE, all).await;
        }
    }
    reaches(&mut carol, &room, head).await;
    let verdict = bench.verdict().await;
    for (device, copies) in &mut devices {
        copies.take(&room, BTreeSet::new(), device.1);
        assert_eq!(copies.all, (1..=head).collect::<BTreeSet<u64>>(), "{device:?}");
    }
    judge(&verdict, &[]);
}
