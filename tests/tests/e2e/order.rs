//! I3 and I4: one order for everybody, and each sender's own order in it.

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Bench, PATIENCE, UNHURRIED, append_outcome, header, send_frame, text, text_of};

use crate::support::{appended, judge, pipeline, reaches, refusal, seqs};

#[tokio::test]
async fn pipelined_sends_of_many_devices_keep_each_senders_order() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let users = ["alice", "bob", "carol", "dave"];
    let room = bench.group(&users).await;
    let mut sessions = Vec::new();
    for user in users {
        sessions.push(bench.open(user, "phone").await);
    }
    let mut asked = Vec::new();
    for session in &sessions {
        asked.push(pipeline(session, &room, "p", 200).await);
    }
    let mut head = 0;
    for (session, requests) in sessions.iter_mut().zip(&asked) {
        let stored = seqs(session, requests).await;
        assert!(stored.is_sorted(), "{stored:?}");
        head = head.max(stored.into_iter().max().unwrap_or(0));
    }
    for session in &mut sessions {
        reaches(session, &room, head).await;
    }
    judge(&bench.verdict().await, &[Check::C8]);
}

fn send_after(room: &str, id: &str, previous: &str) -> Asked {
    let mut header = header(room, id);
    header.previous_client_msg_id = previous.to_owned();
    Asked::Send(v1::SendRequest {
        header: Some(header),
        content: Some(text(id)),
    })
}

#[tokio::test]
async fn a_named_predecessor_that_is_missing_refuses_and_says_which_is_newest() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let early = alice.request(send_after(&room, "b", "a"), PATIENCE).await;
    assert_eq!(refusal(&early).reason(), v1::RefusalReason::OutOfOrder);
    assert_eq!(refusal(&early).effect(), v1::Effect::NotDone);
    assert_eq!(refusal(&early).last_client_msg_id, "");
    let first = alice.request(send_frame(&room, "a", "a"), PATIENCE).await;
    let second = alice.request(send_after(&room, "b", "a"), PATIENCE).await;
    assert_eq!(appended(&second).seq, appended(&first).seq + 1);
    let skipped = alice.request(send_after(&room, "d", "c"), PATIENCE).await;
    assert_eq!(refusal(&skipped).last_client_msg_id, "b");
    // A retry is answered with its seq although something was accepted after it.
    let retry = alice.request(send_after(&room, "a", ""), PATIENCE).await;
    assert!(appended(&retry).duplicate);
    judge(&bench.verdict().await, &[Check::C8, Check::C9]);
}

/// A refused send in the middle of a pipeline never lets a later one overtake what is sent again.
#[tokio::test]
async fn a_refusal_in_a_pipeline_leaves_no_disorder() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let before = alice.ask(send_frame(&room, "one", "one")).await;
    let broken = alice.ask(send_after(&room, "two", "nobody")).await;
    let after = alice.ask(send_after(&room, "three", "two")).await;
    assert!(!appended(&alice.answer(before, PATIENCE).await).duplicate);
    for request in [broken, after] {
        let answer = alice.answer(request, PATIENCE).await;
        assert_eq!(refusal(&answer).reason(), v1::RefusalReason::OutOfOrder);
    }
    let two = alice.request(send_after(&room, "two", "one"), PATIENCE).await;
    let three = alice.request(send_after(&room, "three", "two"), PATIENCE).await;
    assert!(appended(&two).seq < appended(&three).seq);
    reaches(&mut alice, &room, appended(&three).seq).await;
    judge(&bench.verdict().await, &[Check::C8, Check::C9]);
}

/// I4: what a full conversation refuses keeps its place on the stream: new messages, sent meanwhile by somebody who looks at
/// no answer, do not get before it.
#[tokio::test]
async fn what_was_refused_for_a_while_is_not_overtaken() {
    const ROUNDS_MAX: usize = 200;
    let limits = [
        "--conversation-entries-per-second",
        "10",
        "--session-frames-per-second",
        "100000",
    ];
    let mut bench = Bench::start(&limits).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut open: Vec<String> = (0..40).map(|number| format!("first-{number}")).collect();
    let mut said = open.clone();
    for round in 0..ROUNDS_MAX {
        if open.is_empty() {
            break;
        }
        if (1..20).contains(&round) {
            // It goes ahead of what is sent again.
            let new = format!("new-{round}");
            alice.ask(send_frame(&room, &new, &new)).await;
            open.push(new.clone());
            said.push(new);
        }
        let mut requests = Vec::new();
        for id in &open {
            requests.push((alice.ask(send_frame(&room, id, id)).await, id.clone()));
        }
        open.clear();
        for (request, id) in requests {
            if append_outcome(&alice.answer(request, PATIENCE).await).is_some_and(|outcome| outcome.is_err()) {
                open.push(id);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(open, Vec::<String>::new(), "all of it is stored in the end");
    let entries = bench.entries(&room).await;
    let lies: Vec<String> = entries.iter().map(|entry| text_of(entry).to_owned()).collect();
    assert_eq!(lies[1..], said[..], "in the order in which it was first said");
    let head = entries.len() as u64;
    reaches(&mut alice, &room, head).await;
    judge(&bench.verdict().await, &[Check::C8, Check::C9]);
}
