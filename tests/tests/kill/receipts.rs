//! F10 on the real binary: receipts that are shuffled and doubled over two devices, crossing kills, leaves and re-joins, never
//! go down (I6) and end where they must.

use stonechat_host::{Random, SeededRandom};
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Acks, Bench, PATIENCE, RawSession, UNHURRIED, reaches_head};

const ROUNDS: u64 = 6;
/// Messages of a round, and marks that each device has on the way when the process dies.
const MESSAGES: u64 = 8;
const MARKS: u64 = 60;

fn mark(random: &SeededRandom, room: &str, up_to: u64) -> Asked {
    let conversation_id = room.to_owned();
    let seq = 1 + random.below(up_to);
    match random.below(3) {
        0 => Asked::MarkDelivered(v1::MarkDeliveredRequest { conversation_id, seq }),
        private => Asked::MarkRead(v1::MarkReadRequest {
            conversation_id,
            seq,
            private: private == 1,
        }),
    }
}

/// Marks of both devices in any order, each twice, none waited for.
async fn shuffle(devices: &[RawSession], random: &SeededRandom, room: &str, up_to: u64) {
    for _ in 0..MARKS {
        for device in devices {
            let asked = mark(random, room, up_to);
            device.ask(asked.clone()).await;
            device.ask(asked).await;
        }
    }
}

async fn markers(session: &mut RawSession, room: &str, seq: u64) -> v1::Markers {
    let read = Asked::MarkRead(v1::MarkReadRequest {
        conversation_id: room.to_owned(),
        seq,
        private: false,
    });
    match session.request(read, PATIENCE).await {
        Seen::MarkRead(v1::MarkReadResponse {
            outcome: Some(v1::mark_read_response::Outcome::Markers(markers)),
        }) => markers,
        other => panic!("not marked: {other:?}"),
    }
}

#[tokio::test]
async fn f10_receipts_across_kills_leaves_and_joins_never_go_down() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.group(&["alice", "bob"]).await;
    let seed = 10;
    println!("seed {seed}");
    let random = SeededRandom::new(seed);
    for round in 0..ROUNDS {
        let mut alice = bench.open("alice", "phone").await;
        let mut newest = 0;
        for number in 0..MESSAGES {
            newest = bench.send(&mut alice, &room, &format!("round {round}, {number}")).await;
        }
        let mut devices = Vec::new();
        for device in ["phone", "tablet"] {
            let mut session = bench.open_with("bob", bench.hello("bob", device), Acks::Each).await;
            reaches_head(&bench, &mut session, &room).await;
            devices.push(session);
        }
        // Every other round bob leaves and comes back while his marks are on their way.
        tokio::join!(shuffle(&devices, &random, &room, newest), async {
            if round % 2 == 0 {
                bench.remove(&room, "bob").await;
                bench.add(&room, "bob").await;
            }
        });
        bench.server.kill_and_restart().await;
    }
    let mut alice = bench.open("alice", "phone").await;
    let mut ends = Vec::new();
    for device in ["phone", "tablet"] {
        let mut bob = bench.open("bob", device).await;
        let head = reaches_head(&bench, &mut bob, &room).await;
        let low = markers(&mut bob, &room, 1).await;
        assert!(low.read_seq > 1, "an old mark is ignored: {low:?}");
        let end = markers(&mut bob, &room, head).await;
        let told = (end.read_seq, end.delivered_seq, end.unread_count);
        assert_eq!(told, (head, head, 0), "{device}");
        ends.push(bob);
    }
    reaches_head(&bench, &mut alice, &room).await;
    let verdict = bench.verdict().await;
    verdict.assert_clean(&[Check::C10, Check::C11, Check::C12, Check::C13]);
    let looked = verdict.examined(Check::C10);
    println!("F10: {ROUNDS} kills, {looked} looks at receipts, 0 decreases");
    assert!(looked > 100, "{looked} looks");
    bench.server.kill_and_audit().await;
}
