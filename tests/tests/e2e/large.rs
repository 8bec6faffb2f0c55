//! I6 in a group of 500 where everybody receives and reads: counts and lists are exact, and the sender hears of it in a few
//! events.

use futures_util::future::join_all;
use stonechat_host::monotonic;
use stonechat_proto::admin::v1 as admin;
use stonechat_proto::v1;
use stonechat_proto::v1::receipt_service_client::ReceiptServiceClient;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::checker::{Check, Seq, What};
use stonechat_tests::harness::{Bench, Claims, Observed, PATIENCE, RawSession, UNHURRIED, header, member};

use crate::support::{judge, reaches};

const MEMBERS: usize = 500;
/// Members that one change may name.
const PER_CHANGE: usize = 100;
/// Members with a stream; the others speak unary.
const STREAMS: usize = 20;
/// Calls at a time.
const AT_ONCE: usize = 25;
/// Receipts of a large group are told together, once in this time: RECEIPTS_DELAY_LARGE of the server.
const TOLD_EVERY_MS: u128 = 500;
/// Members named in one event.
const NAMED_MAX: usize = 50;

fn name(number: usize) -> String {
    format!("user{number:03}")
}

async fn group(bench: &mut Bench) -> String {
    let names: Vec<String> = (0..MEMBERS).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for some in names.chunks(AT_ONCE) {
        join_all(some.iter().map(|user| bench.users(std::slice::from_ref(user)))).await;
    }
    let room = bench.group(&names[..PER_CHANGE]).await;
    let mut client = admin::conversation_admin_service_client::ConversationAdminServiceClient::new(bench.admin());
    for (number, some) in names[PER_CHANGE..].chunks(PER_CHANGE).enumerate() {
        let request = admin::SetMembersRequest {
            header: Some(header(&room, &format!("members-{number}"))),
            members: some.iter().map(|user| member(user)).collect(),
        };
        let answer = client.set_members(request).await.expect("an answer").into_inner();
        assert!(
            matches!(answer.outcome, Some(admin::set_members_response::Outcome::Appended(_))),
            "{answer:?}"
        );
    }
    room
}

/// What a member does with the message.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Receive,
    Read,
    ReadPrivately,
}

async fn mark(bench: &Bench, room: &str, seq: u64, number: usize, does: Does) {
    let user = name(number);
    bench.recorder.say(What::MarkInvoked {
        user: user.as_str().into(),
        device: None,
        conversation: room.into(),
        seq: Seq(seq),
    });
    let mut client = ReceiptServiceClient::new(bench.call_as(&Claims::user(&user), "phone"));
    let conversation_id = room.to_owned();
    let done = if does == Does::Receive {
        let answer = client
            .mark_delivered(v1::MarkDeliveredRequest { conversation_id, seq })
            .await;
        matches!(
            answer.expect("an answer").into_inner().outcome,
            Some(v1::mark_delivered_response::Outcome::Markers(_))
        )
    } else {
        let request = v1::MarkReadRequest {
            conversation_id,
            seq,
            private: does == Does::ReadPrivately,
        };
        let answer = client.mark_read(request).await;
        matches!(
            answer.expect("an answer").into_inner().outcome,
            Some(v1::mark_read_response::Outcome::Markers(_))
        )
    };
    assert!(done, "{user} was refused");
}

async fn all_mark(bench: &Bench, room: &str, seq: u64, members: std::ops::Range<usize>, does: Does) {
    let members: Vec<usize> = members.collect();
    for some in members.chunks(AT_ONCE) {
        join_all(some.iter().map(|number| mark(bench, room, seq, *number, does))).await;
    }
}

async fn receipts(bench: &Bench, room: &str, seq: u64) -> v1::Receipts {
    let mut client = ReceiptServiceClient::new(bench.call_as(&Claims::user(&name(0)), "phone"));
    let request = v1::GetReceiptsRequest {
        conversation_id: room.to_owned(),
        seq,
        with_members: true,
    };
    match client
        .get_receipts(request)
        .await
        .expect("an answer")
        .into_inner()
        .outcome
    {
        Some(v1::get_receipts_response::Outcome::Receipts(receipts)) => receipts,
        other => panic!("{other:?}"),
    }
}

fn told(seen: &Observed) -> Vec<&v1::ReceiptsMoved> {
    let moved = seen.events.iter().filter_map(|event| match event {
        Seen::Receipts(moved) => Some(moved),
        _ => None,
    });
    moved.collect()
}

async fn hears(sender: &mut RawSession, what: &str, holds: impl Fn(&v1::ReceiptsMoved) -> bool) {
    sender
        .until(what, PATIENCE, |seen| told(seen).last().is_some_and(|last| holds(last)))
        .await;
}

#[tokio::test]
async fn receipts_of_500_are_exact_and_told_in_few_events() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = group(&mut bench).await;
    let mut sender = bench.open(&name(0), "phone").await;
    let mut streams = Vec::new();
    for number in 1..STREAMS {
        streams.push(bench.open(&name(number), "phone").await);
    }
    let started = monotonic();
    let already = told(&sender.observed()).len();
    let seq = bench.send(&mut sender, &room, "who reads this?").await;
    for stream in &mut streams {
        reaches(stream, &room, seq).await;
    }
    all_mark(&bench, &room, seq, STREAMS..MEMBERS, Does::Receive).await;
    all_mark(&bench, &room, seq, 1..300, Does::Read).await;
    all_mark(&bench, &room, seq, 300..400, Does::ReadPrivately).await;
    hears(&mut sender, "that all received", |last| {
        last.delivered_to_all_seq >= seq
    })
    .await;
    let half = receipts(&bench, &room, seq).await;
    assert_eq!(
        (half.delivered_count, half.read_count, half.audience_count),
        (499, 299, 499)
    );
    let names: Vec<&str> = half.members.iter().map(|member| member.user_id.as_str()).collect();
    assert_eq!(
        names,
        (1..MEMBERS).map(name).collect::<Vec<String>>(),
        "everybody but the sender, by name"
    );
    for (number, found) in (1..MEMBERS).zip(&half.members) {
        let read = if number < 300 { seq } else { 0 };
        assert_eq!((found.delivered_seq, found.read_seq), (seq, read), "{}", found.user_id);
    }
    assert!(
        told(&sender.observed())
            .last()
            .is_some_and(|last| last.read_by_all_seq < seq),
        "100 read privately"
    );
    all_mark(&bench, &room, seq, 300..MEMBERS, Does::Read).await;
    hears(&mut sender, "that all read", |last| last.read_by_all_seq >= seq).await;
    let whole = receipts(&bench, &room, seq).await;
    assert_eq!((whole.delivered_count, whole.read_count), (499, 499));
    let seen = sender.observed();
    let events = &told(&seen)[already..];
    let rounds = started.elapsed().as_millis() / TOLD_EVERY_MS;
    println!("{} receipts of 499 members came in {} events", 499 * 3, events.len());
    // One more for what was due when the clock began, one for what is due at its end.
    assert!(
        events.len() as u128 <= rounds + 2,
        "{} events in {rounds} rounds",
        events.len()
    );
    assert!(events.iter().all(|event| event.members.len() <= NAMED_MAX));
    reaches(&mut sender, &room, seq).await;
    judge(&bench.verdict().await, &[Check::C10, Check::C11]);
}
