//! Acknowledged, then SIGKILL: 300 of 300 are there, none twice, from every state of the recipient.

use std::collections::BTreeSet;

use stonechat_tests::harness::{Acks, Bench, DELIVERY, RawSession, Sender, UNHURRIED, each_once, reaches_head};

const MESSAGES: u64 = 300;

async fn bench() -> (Bench, String, Sender) {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = Sender::new("alice", &room);
    alice.connect(&bench).await;
    (bench, room, alice)
}

/// Sends, kills at the last ack, starts again, and counts what bob's devices find.
async fn killed_after_the_last_ack(mut bench: Bench, room: String, mut alice: Sender, devices: &[&str]) {
    alice.send(MESSAGES).await;
    alice.answers().await;
    bench.server.kill().await;
    assert_eq!(alice.acked(), MESSAGES);
    bench.server.restart(None).await;
    assert_eq!(
        each_once(&bench, &room, &[&alice]).await,
        MESSAGES,
        "300 of 300, none twice"
    );
    for device in devices {
        let mut bob = bench.open("bob", device).await;
        reaches_head(&bench, &mut bob, &room).await;
    }
    alice.connect(&bench).await;
    reaches_head(&bench, alice.session(), &room).await;
    bench.verdict().await.assert_clean(&DELIVERY);
    bench.server.kill_and_audit().await;
}

fn all_of(sessions: &[&RawSession], room: &str) -> BTreeSet<u64> {
    sessions
        .iter()
        .flat_map(|session| session.observed().seqs(room))
        .collect()
}

#[tokio::test]
async fn while_the_recipient_is_online() {
    let (bench, room, alice) = bench().await;
    let _bob = bench.open("bob", "phone").await;
    killed_after_the_last_ack(bench, room, alice, &["phone"]).await;
}

#[tokio::test]
async fn while_the_recipient_does_not_read() {
    let (bench, room, alice) = bench().await;
    let bob = bench.open("bob", "phone").await;
    bob.pause();
    killed_after_the_last_ack(bench, room, alice, &["phone"]).await;
}

#[tokio::test]
async fn while_the_recipient_acknowledges_nothing() {
    let (bench, room, alice) = bench().await;
    let bob = bench.open_with("bob", bench.hello("bob", "phone"), Acks::Never).await;
    bob.stalls();
    killed_after_the_last_ack(bench, room, alice, &["phone"]).await;
}

#[tokio::test]
async fn while_the_recipient_is_offline() {
    let (bench, room, alice) = bench().await;
    killed_after_the_last_ack(bench, room, alice, &["phone"]).await;
}

/// The backlog of a resumed stream is half delivered when the server dies.
#[tokio::test]
async fn while_the_recipient_is_half_resumed() {
    let (mut bench, room, mut alice) = bench().await;
    let mut bob = bench.open("bob", "phone").await;
    let resume_token = bob.welcome(stonechat_tests::harness::PATIENCE).await.resume_token;
    bob.cut();
    alice.send(MESSAGES).await;
    alice.answers().await;
    let mut hello = bench.hello("bob", "phone");
    hello.resume_token = resume_token;
    hello.window = 50;
    let mut half = bench.open_with("bob", hello, Acks::Never).await;
    half.stalls();
    half.until("half a window", stonechat_tests::harness::PATIENCE, |seen| {
        seen.newest(&room) >= 25
    })
    .await;
    half.ack(&room, 20).await;
    bench.server.kill_and_restart().await;
    let mut again = bench.open("bob", "phone").await;
    let head = reaches_head(&bench, &mut again, &room).await;
    assert_eq!(
        all_of(&[&bob, &half, &again], &room),
        (1..=head).collect::<BTreeSet<u64>>()
    );
    assert_eq!(each_once(&bench, &room, &[&alice]).await, MESSAGES);
    alice.connect(&bench).await;
    reaches_head(&bench, alice.session(), &room).await;
    bench.verdict().await.assert_clean(&DELIVERY);
    bench.server.kill_and_audit().await;
}

#[tokio::test]
async fn while_a_second_device_is_offline() {
    let (bench, room, alice) = bench().await;
    let _phone = bench.open("bob", "phone").await;
    bench
        .open("bob", "tablet")
        .await
        .bye(stonechat_tests::harness::PATIENCE)
        .await;
    killed_after_the_last_ack(bench, room, alice, &["phone", "tablet"]).await;
}
