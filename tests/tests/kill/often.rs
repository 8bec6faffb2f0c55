//! F3: SIGKILL every two seconds under load: no acknowledged message lost or doubled.

use std::time::Duration;

use stonechat_host::monotonic;
use stonechat_tests::harness::{Bench, DELIVERY, Sender, UNHURRIED, each_once, reaches_head};

const EVERY: Duration = Duration::from_secs(2);
/// Conversations, each with its own sender: the writer commits them in groups.
const ROOMS: usize = 8;
/// Messages a sender has on the way at most.
const AHEAD: u64 = 200;

struct Load {
    room: String,
    sender: Sender,
}

async fn load(bench: &mut Bench) -> Vec<Load> {
    let mut loads = Vec::new();
    for number in 0..ROOMS {
        let user = format!("sender{number}");
        let room = bench.direct(&user, "bob").await;
        let sender = Sender::new(&user, &room);
        loads.push(Load { room, sender });
    }
    loads
}

/// Sends until the time is over or the stream is.
async fn send_for(loads: &mut [Load], time: Duration) {
    let until = monotonic() + time;
    while monotonic() < until {
        for load in loads.iter_mut() {
            load.sender.send(AHEAD / 10).await;
        }
        let answers = async {
            for load in loads.iter_mut() {
                load.sender.answers().await;
            }
        };
        if tokio::time::timeout(until.saturating_duration_since(monotonic()), answers)
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Runs under load, with a kill every two seconds, for so long.
async fn run(total: Duration, needed: u64) {
    let mut bench = Bench::start(&UNHURRIED).await;
    let mut loads = load(&mut bench).await;
    let until = monotonic() + total;
    let mut kills = 0;
    while monotonic() < until {
        for load in &mut loads {
            load.sender.connect(&bench).await;
        }
        let bob = bench
            .open_with("bob", bench.hello("bob", "phone"), stonechat_tests::harness::Acks::Each)
            .await;
        send_for(&mut loads, EVERY).await;
        bench.server.kill_and_restart().await;
        kills += 1;
        bob.cut();
    }
    for load in &mut loads {
        load.sender.finish(&bench).await;
    }
    let mut bob = bench.open("bob", "phone").await;
    let mut total = 0;
    for load in &mut loads {
        reaches_head(&bench, &mut bob, &load.room).await;
        reaches_head(&bench, load.sender.session(), &load.room).await;
        total += each_once(&bench, &load.room, &[&load.sender]).await;
    }
    bench.verdict().await.assert_clean(&DELIVERY);
    bench.server.kill_and_audit().await;
    println!("under {kills} kills: {total} messages, 0 lost, 0 doubled");
    assert!(total >= needed, "only {total} messages");
}

#[tokio::test]
async fn nothing_is_lost_under_a_kill_every_two_seconds() {
    run(Duration::from_secs(16), 200).await;
}

/// The long form: `cargo test -p stonechat-tests --release --test kill -- --ignored --nocapture ten_minutes`.
#[tokio::test]
#[ignore = "takes over ten minutes"]
async fn nothing_is_lost_in_ten_minutes_of_kills() {
    run(Duration::from_secs(600), 200_000).await;
}
