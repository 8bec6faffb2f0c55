//! I7: the audience of a seq is the membership there (T12, F9).

use stonechat_proto::v1;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Bench, PATIENCE, RawSession, UNHURRIED, send_frame};

use crate::support::{head, judge, pipeline, reaches, refusal};

#[tokio::test]
async fn a_removed_member_gets_the_removal_and_nothing_after_it() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.group(&["alice", "bob", "carol"]).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut carol = bench.open("carol", "phone").await;
    bench.send(&mut alice, &room, "all of us").await;
    let left = bench.remove(&room, "carol").await;
    let after = bench.send(&mut alice, &room, "without carol").await;
    reaches(&mut carol, &room, left).await;
    carol.ping(PATIENCE).await;
    assert_eq!(carol.observed().newest(&room), left);
    // Not at a new hello either, and not by history.
    let again = bench.open("carol", "tablet").await;
    assert_eq!(again.observed().seqs(&room), (1..=left).collect::<Vec<u64>>());
    let write = carol.request(send_frame(&room, "late", "may I?"), PATIENCE).await;
    assert_eq!(refusal(&write).effect(), v1::Effect::NotDone);
    let back = bench.add(&room, "carol").await;
    reaches(&mut carol, &room, back).await;
    assert_eq!(carol.observed().seqs(&room).last(), Some(&back));
    assert!(
        !carol.observed().seqs(&room).contains(&after),
        "what was said without her stays so"
    );
    reaches(&mut alice, &room, back).await;
    judge(&bench.verdict().await, &[Check::C12, Check::C13, Check::C16]);
}

/// T12: members are removed and added while many send.
#[tokio::test]
async fn removals_and_joins_race_with_many_senders() {
    const SENDERS: usize = 50;
    const SENDS: u64 = 8;
    let mut bench = Bench::start(&UNHURRIED).await;
    let names: Vec<String> = (0..SENDERS).map(|number| format!("sender{number}")).collect();
    let mut members: Vec<&str> = names.iter().map(String::as_str).collect();
    members.extend(["carol", "dave"]);
    let room = bench.group(&members).await;
    bench.users(&["mallory"]).await;
    let mut senders = Vec::new();
    for name in &names {
        senders.push(bench.open(name, "phone").await);
    }
    let mut guests = Vec::new();
    for (guest, device) in [
        ("carol", "phone"),
        ("carol", "tablet"),
        ("dave", "phone"),
        ("mallory", "phone"),
    ] {
        guests.push(bench.open(guest, device).await);
    }
    let sends = async {
        for session in &senders {
            pipeline(session, &room, "race", SENDS).await;
        }
    };
    let moves = async {
        for guest in ["carol", "dave", "carol", "dave"] {
            for _ in 0..5 {
                bench.remove(&room, guest).await;
                bench.add(&room, guest).await;
            }
        }
    };
    tokio::join!(sends, moves);
    settle(
        &bench,
        &room,
        senders.iter_mut().chain(guests.iter_mut().take(3)),
        SENDERS as u64 * SENDS,
    )
    .await;
    judge(&bench.verdict().await, &[Check::C8, Check::C12, Check::C13, Check::C16]);
}

/// Waits until every send is answered and everybody has the head.
async fn settle<'a>(bench: &Bench, room: &str, sessions: impl Iterator<Item = &'a mut RawSession>, sends: u64) {
    let mut sessions: Vec<&mut RawSession> = sessions.collect();
    let count = sessions.len() as u64 - 3;
    for session in &mut sessions[..usize::try_from(count).unwrap_or(0)] {
        session
            .until("all answers", PATIENCE, |seen| {
                seen.answers.len() as u64 >= sends / count
            })
            .await;
    }
    let head = head(bench, room).await;
    for session in sessions {
        reaches(session, room, head).await;
    }
}

/// I11: absent and forbidden answer alike.
#[tokio::test]
async fn a_stranger_cannot_tell_a_conversation_from_none() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    bench.users(&["mallory"]).await;
    let mut mallory = bench.open("mallory", "phone").await;
    let nowhere = "6f1d9a52-8a1c-4b7e-9f57-0f2d3c4b5a69";
    let hidden = mallory.request(send_frame(&room, "m", "hello?"), PATIENCE).await;
    let absent = mallory.request(send_frame(nowhere, "m", "hello?"), PATIENCE).await;
    assert_eq!(refusal(&hidden), refusal(&absent));
    assert_eq!(refusal(&hidden).reason(), v1::RefusalReason::NotFound);
    bench.verdict().await.assert_clean(&[Check::C9]);
}
