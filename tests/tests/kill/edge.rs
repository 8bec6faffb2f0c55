//! T5: the edge of a bucket of the log, crossed by a process that dies on the way: seqs go on without hole or double.

use std::path::Path;

use stonechat_proto::v1;
use stonechat_tests::harness::{Acks, Bench, DELIVERY, Exit, PATIENCE, Sender, ServerProcess, each_once, reaches_head};

use crate::folder::copy_folder;

/// Seqs of a bucket: 4,096 is the first seq of the second.
const BUCKET: u64 = 4_096;
/// Where the conversation stands before each crossing.
const BEFORE: u64 = BUCKET - 6;
/// Messages of a crossing.
const CROSSING: u64 = 12;

/// Where the process dies, and whether messages come one by one. Then the sixth append is the first of the new bucket;
/// all at once, the batches end at the edge. The writer passes its points for receipts, too.
const DEATHS: [(&str, bool); 10] = [
    ("append.stored:5", true),
    ("append.planned:6", true),
    ("append.stored:6", true),
    ("append.acked:6", true),
    ("append.planned:2", false),
    ("append.stored:2", false),
    ("append.acked:2", false),
    ("writer.batch_checked:2", false),
    ("writer.committed:2", false),
    ("fanout.recorded:2", false),
];

const FLAGS: [&str; 4] = [
    "--conversation-entries-per-second",
    "100000",
    "--session-frames-per-second",
    "100000",
];

/// Fills a conversation up to just below the edge; the folder of the dead server is then copied.
async fn filled(copy: &Path) -> String {
    let mut bench = Bench::start(&FLAGS).await;
    let room = bench.direct("filler", "bob").await;
    let mut filler = Sender::new("filler", &room);
    filler.connect(&bench).await;
    filler.send(BEFORE - 1).await;
    filler.answers().await;
    filler.finish(&bench).await;
    assert_eq!(bench.entries(&room).await.last().map(|entry| entry.seq), Some(BEFORE));
    bench.server.kill().await;
    copy_folder(&bench.server.data_folder(), copy);
    room
}

/// Sets a device to where the crossing starts.
async fn set_position(bench: &Bench, user: &str, room: &str) {
    let mut hello = bench.hello(user, "phone");
    hello.positions = vec![v1::ConversationPosition {
        conversation_id: room.to_owned(),
        seq: BEFORE,
    }];
    bench.open_with(user, hello, Acks::Each).await.welcome(PATIENCE).await;
}

/// One message at a time, or all at once: batches of one, or as large as the edge allows.
async fn cross(alice: &mut Sender, one_by_one: bool) {
    if one_by_one {
        for _ in 0..CROSSING {
            alice.send(1).await;
            alice.answers().await;
        }
    } else {
        alice.send(CROSSING).await;
        alice.answers().await;
    }
}

async fn crosses(whole: &Path, room: &str, death: &str, one_by_one: bool) -> bool {
    let server = ServerProcess::prepare(&FLAGS);
    copy_folder(whole, &server.data_folder());
    let mut bench = Bench::on(server);
    bench.watch(room);
    bench.server.restart(None).await;
    for user in ["filler", "bob"] {
        set_position(&bench, user, room).await;
    }
    bench.server.kill().await;
    bench.server.restart(Some(death)).await;
    let bob = bench.open_with("bob", bench.hello("bob", "phone"), Acks::Each).await;
    let mut alice = Sender::new("filler", room).with_prefix("crossing");
    alice.connect(&bench).await;
    cross(&mut alice, one_by_one).await;
    let died = alice.session().observed().ended.is_some();
    if died {
        assert_eq!(bench.server.wait().await, Exit::Signal, "{death}");
    } else {
        bench.server.kill().await;
    }
    drop(bob);
    bench.server.restart(None).await;
    alice.finish(&bench).await;
    let mut bob = bench.open("bob", "phone").await;
    let head = reaches_head(&bench, &mut bob, room).await;
    reaches_head(&bench, alice.session(), room).await;
    assert_eq!(head, BEFORE + CROSSING, "{death}");
    assert_eq!(each_once(&bench, room, &[&alice]).await, CROSSING, "{death}");
    bench.verdict().await.assert_clean(&DELIVERY);
    bench.server.kill_and_audit().await;
    died
}

#[tokio::test]
async fn a_bucket_edge_is_crossed_through_deaths() {
    let whole = tempfile::tempdir().expect("a folder");
    let room = filled(whole.path()).await;
    let mut deaths = 0;
    for (death, one_by_one) in DEATHS {
        deaths += u64::from(crosses(whole.path(), &room, death, one_by_one).await);
    }
    println!("{deaths} deaths around a bucket's edge, nothing lost or doubled");
    // One that follows an ack may come too late to be seen.
    assert!(deaths >= 7, "only {deaths} deaths");
}
