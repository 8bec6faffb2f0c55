//! Talking: live delivery, catch-up, several devices.

use std::collections::BTreeSet;

use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Acks, Bench, PATIENCE, UNHURRIED};

use crate::support::{judge, pipeline, reaches, seqs};

#[tokio::test]
async fn two_users_chat_and_see_one_order() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut head = 0;
    for round in 0..20 {
        bench.send(&mut alice, &room, &format!("alice {round}")).await;
        head = bench.send(&mut bob, &room, &format!("bob {round}")).await;
    }
    reaches(&mut alice, &room, head).await;
    reaches(&mut bob, &room, head).await;
    assert_eq!(alice.observed().texts(&room), bob.observed().texts(&room));
    assert_eq!(bob.observed().texts(&room).len(), 40);
    judge(&bench.verdict().await, &[Check::C7, Check::C8, Check::C16]);
}

/// `resend_more_offline_messages_than_buffer_size`: I5 for the offline, and backlog told from live.
#[tokio::test]
async fn who_was_offline_finds_everything_and_is_told_when_it_ends() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut bob = bench.open("bob", "phone").await;
    bob.bye(PATIENCE).await;
    let mut alice = bench.open("alice", "phone").await;
    let requests = pipeline(&alice, &room, "while-away", 600).await;
    let head = seqs(&mut alice, &requests).await.into_iter().max().unwrap_or(0);
    let mut bob = bench.open("bob", "phone").await;
    let backlog = bob.observed().deliveries[&room].clone();
    assert!(
        backlog.iter().all(|delivery| delivery.backlog),
        "all of it was there at hello"
    );
    assert_eq!(bob.observed().newest(&room), head, "caught up means everything");
    bench.send(&mut alice, &room, "live").await;
    reaches(&mut bob, &room, head + 1).await;
    let last = bob.observed().deliveries[&room].last().cloned();
    assert!(
        last.is_some_and(|delivery| !delivery.backlog),
        "what came after hello is live"
    );
    judge(&bench.verdict().await, &[Check::C8]);
}

/// P18: at most a window of deliveries is unacknowledged, and an ack lets the next ones through.
#[tokio::test]
async fn a_window_of_deliveries_waits_for_acks() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let requests = pipeline(&alice, &room, "m", 100).await;
    let head = seqs(&mut alice, &requests).await.into_iter().max().unwrap_or(0);
    let mut hello = bench.hello("bob", "phone");
    hello.window = 10;
    let mut bob = bench.open_with("bob", hello, Acks::Never).await;
    bob.stalls();
    let mut acked = 0;
    while acked < head {
        let upto = (acked + 10).min(head);
        reaches(&mut bob, &room, upto).await;
        bob.ping(PATIENCE).await;
        assert_eq!(bob.observed().newest(&room), upto, "nothing beyond the window");
        bob.ack(&room, upto).await;
        // Late and repeated acks are harmless.
        bob.ack(&room, acked.max(1)).await;
        acked = upto;
    }
    bob.go_on();
    judge(&bench.verdict().await, &[]);
}

/// P9, `each device gets exactly one copy`: the echo to one's own devices is the same entry of the same log.
#[tokio::test]
async fn every_device_gets_one_copy_at_the_same_seq() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut phone = bench.open("alice", "phone").await;
    let mut tablet = bench.open("alice", "tablet").await;
    let mut bobs = bench.open("bob", "phone").await;
    let mut head = 0;
    for round in 0..10 {
        head = bench.send(&mut phone, &room, &format!("m{round}")).await;
    }
    for session in [&mut phone, &mut tablet, &mut bobs] {
        reaches(session, &room, head).await;
        let seqs = session.observed().seqs(&room);
        let distinct: BTreeSet<u64> = seqs.iter().copied().collect();
        assert_eq!(seqs.len() as u64, head, "every entry once: {seqs:?}");
        assert_eq!(distinct.len(), seqs.len());
    }
    judge(&bench.verdict().await, &[Check::C8]);
}

/// `resend_unacked_on_reconnection`: what was not acknowledged comes again, what was does not.
#[tokio::test]
async fn what_was_not_acknowledged_comes_again() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut head = 0;
    for round in 0..10 {
        head = bench.send(&mut alice, &room, &format!("m{round}")).await;
    }
    let mut bob = bench.open_with("bob", bench.hello("bob", "phone"), Acks::Never).await;
    reaches(&mut bob, &room, head).await;
    bob.ack_stored(&room, 4, PATIENCE).await;
    bob.cut();
    let again = bench.open("bob", "phone").await;
    assert_eq!(again.observed().seqs(&room), (5..=head).collect::<Vec<u64>>());
    // Another device of the same user has acknowledged nothing.
    let tablet = bench.open("bob", "tablet").await;
    assert_eq!(tablet.observed().seqs(&room), (1..=head).collect::<Vec<u64>>());
    judge(&bench.verdict().await, &[]);
}

/// A reader that stops reading costs others nothing, and has everything once it reads on.
#[tokio::test]
async fn a_paused_reader_hinders_nobody_and_misses_nothing() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.group(&["alice", "bob", "carol"]).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut carol = bench.open("carol", "phone").await;
    carol.pause();
    let requests = pipeline(&alice, &room, "m", 1_000).await;
    let head = seqs(&mut alice, &requests).await.into_iter().max().unwrap_or(0);
    reaches(&mut bob, &room, head).await;
    carol.go_on();
    reaches(&mut carol, &room, head).await;
    judge(&bench.verdict().await, &[Check::C8]);
}
