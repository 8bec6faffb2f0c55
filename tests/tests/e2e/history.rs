//! History pages by seq: the grid of `mam_SUITE`, for this contract.

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::get_history_request::Anchor;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Bench, PATIENCE, RawSession, UNHURRIED};

use crate::support::{judge, refusal};

/// The conversation of these cases: its first entry, then messages up to here.
const HEAD: u64 = 15;

fn query(room: &str, anchor: Option<Anchor>, limit: u32, until_seq: u64) -> Asked {
    Asked::History(v1::GetHistoryRequest {
        conversation_id: room.to_owned(),
        anchor,
        limit,
        until_seq,
    })
}

async fn ask(session: &mut RawSession, query: Asked) -> Seen {
    session.request(query, PATIENCE).await
}

async fn page(session: &mut RawSession, query: Asked) -> v1::HistoryPage {
    match ask(session, query).await {
        Seen::History(v1::GetHistoryResponse {
            outcome: Some(v1::get_history_response::Outcome::Page(page)),
        }) => page,
        other => panic!("no page: {other:?}"),
    }
}

async fn filled(bench: &mut Bench) -> (String, RawSession) {
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    for number in 2..=HEAD {
        bench.send(&mut alice, &room, &format!("m{number}")).await;
    }
    (room, alice)
}

/// Anchor, limit, until; then the first and last seq of the page, and whether there is more.
type Case = (Anchor, u32, u64, u64, u64, bool);

const GRID: [Case; 18] = [
    (Anchor::AfterSeq(0), 5, 0, 1, 5, true),
    (Anchor::AfterSeq(0), 0, 0, 1, 15, false),
    (Anchor::AfterSeq(0), 200, 0, 1, 15, false),
    (Anchor::AfterSeq(5), 5, 0, 6, 10, true),
    (Anchor::AfterSeq(10), 5, 0, 11, 15, false),
    (Anchor::AfterSeq(14), 1, 0, 15, 15, false),
    (Anchor::AfterSeq(5), 200, 11, 6, 11, false),
    (Anchor::AfterSeq(5), 3, 11, 6, 8, true),
    (Anchor::BeforeSeq(0), 5, 0, 11, 15, true),
    (Anchor::BeforeSeq(0), 15, 0, 1, 15, false),
    (Anchor::BeforeSeq(0), 4, 10, 7, 10, true),
    (Anchor::BeforeSeq(10), 5, 0, 5, 9, true),
    (Anchor::BeforeSeq(5), 10, 0, 1, 4, false),
    (Anchor::BeforeSeq(2), 1, 0, 1, 1, false),
    (Anchor::AroundSeq(8), 4, 0, 6, 9, true),
    (Anchor::AroundSeq(1), 200, 0, 1, 15, false),
    (Anchor::AroundSeq(15), 200, 0, 1, 15, false),
    (Anchor::AroundSeq(15), 1, 0, 15, 15, true),
];

#[tokio::test]
async fn every_page_of_the_grid_holds_what_it_must() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice) = filled(&mut bench).await;
    for (anchor, limit, until, first, last, has_more) in GRID {
        let page = page(&mut alice, query(&room, Some(anchor), limit, until)).await;
        let seqs: Vec<u64> = page.entries.iter().map(|entry| entry.seq).collect();
        let case = format!("{anchor:?} limit {limit} until {until}");
        assert_eq!(seqs, (first..=last).collect::<Vec<u64>>(), "{case}");
        assert_eq!(page.has_more, has_more, "{case}");
        assert_eq!((page.first_available_seq, page.head_seq), (1, HEAD), "{case}");
    }
    judge(&bench.verdict().await, &[Check::C6]);
}

#[tokio::test]
async fn a_page_at_the_end_is_empty_and_says_that_there_is_no_more() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice) = filled(&mut bench).await;
    for anchor in [Anchor::AfterSeq(HEAD), Anchor::BeforeSeq(1)] {
        let page = page(&mut alice, query(&room, Some(anchor), 5, 0)).await;
        assert!(page.entries.is_empty() && !page.has_more, "{anchor:?}: {page:?}");
    }
}

/// Flipped pages: walking forward and walking backward give the same log.
#[tokio::test]
async fn pages_forward_and_backward_give_the_same_log() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice) = filled(&mut bench).await;
    let whole = bench.entries(&room).await;
    for limit in [1, 4, 7] {
        let mut forward = Vec::new();
        let mut after = 0;
        loop {
            let page = page(&mut alice, query(&room, Some(Anchor::AfterSeq(after)), limit, 0)).await;
            after = page.entries.last().map_or(after, |entry| entry.seq);
            forward.extend(page.entries);
            if !page.has_more {
                break;
            }
        }
        let mut backward = Vec::new();
        let mut before = 0;
        loop {
            let mut page = page(&mut alice, query(&room, Some(Anchor::BeforeSeq(before)), limit, 0)).await;
            before = page.entries.first().map_or(before, |entry| entry.seq);
            page.entries.extend(backward);
            backward = page.entries;
            if !page.has_more {
                break;
            }
        }
        assert_eq!(forward, whole, "forward by {limit}");
        assert_eq!(backward, whole, "backward by {limit}");
    }
}

/// P6: an unknown cursor is an error, not an empty page.
#[tokio::test]
async fn anchors_beyond_the_head_and_malformed_queries_are_refused() {
    use v1::RefusalReason::{BeyondHead, Invalid, NotFound};
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice) = filled(&mut bench).await;
    let nowhere = "6f1d9a52-8a1c-4b7e-9f57-0f2d3c4b5a69";
    let cases = [
        (query(&room, Some(Anchor::AfterSeq(HEAD + 1)), 5, 0), BeyondHead),
        (query(&room, Some(Anchor::AroundSeq(HEAD + 1)), 5, 0), BeyondHead),
        (query(&room, None, 5, 0), Invalid),
        (query(&room, Some(Anchor::AfterSeq(0)), 201, 0), Invalid),
        (query("not an id", Some(Anchor::AfterSeq(0)), 5, 0), Invalid),
        (query(nowhere, Some(Anchor::AfterSeq(0)), 5, 0), NotFound),
    ];
    for (query, reason) in cases {
        let what = format!("{query:?}");
        let answer = ask(&mut alice, query).await;
        let refused = history_refusal(&answer);
        assert_eq!(refused.reason(), reason, "{what}");
        assert_eq!(refused.effect(), v1::Effect::NotDone, "{what}");
        if reason == BeyondHead {
            assert_eq!(refused.head_seq, HEAD, "{what}");
        }
    }
}

fn history_refusal(answer: &Seen) -> &v1::Refusal {
    match answer {
        Seen::History(v1::GetHistoryResponse {
            outcome: Some(v1::get_history_response::Outcome::Refusal(refusal)),
        }) => refusal,
        other => refusal(other),
    }
}

/// P28: history up to the head of welcome and the live stream join without gap or overlap.
#[tokio::test]
async fn history_up_to_welcome_joins_the_live_stream() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice) = filled(&mut bench).await;
    let mut hello = bench.hello("bob", "phone");
    hello.initial_backlog = v1::InitialBacklog::Nothing as i32;
    let mut bob = bench
        .open_with("bob", hello, stonechat_tests::harness::Acks::Each)
        .await;
    let welcome = bob.welcome(PATIENCE).await;
    let head = welcome
        .conversations
        .iter()
        .find(|row| row.conversation_id == room)
        .expect("bob's row")
        .head_seq;
    let newest = bench.send(&mut alice, &room, "after hello").await;
    crate::support::reaches(&mut bob, &room, newest).await;
    let page = page(&mut bob, query(&room, Some(Anchor::BeforeSeq(0)), 200, head)).await;
    let mut seqs: Vec<u64> = page.entries.iter().map(|entry| entry.seq).collect();
    seqs.extend(bob.observed().seqs(&room));
    assert_eq!(seqs, (1..=newest).collect::<Vec<u64>>());
    judge(&bench.verdict().await, &[Check::C6]);
}

/// P7: a redaction leaves a tombstone at its seq for every reader from then on.
#[tokio::test]
async fn a_redacted_message_is_a_tombstone_at_its_seq() {
    use v1::entry::Body;
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice) = filled(&mut bench).await;
    let redact = Asked::Redact(v1::RedactRequest {
        header: Some(stonechat_tests::harness::header(&room, "redact-5")),
        target_seq: 5,
        reason: "a mistake".to_owned(),
    });
    let at = crate::support::appended(&alice.request(redact, PATIENCE).await).seq;
    let page = page(&mut alice, query(&room, Some(Anchor::AfterSeq(4)), 1, 0)).await;
    let entry = &page.entries[0];
    assert_eq!(entry.seq, 5);
    assert!(
        matches!(&entry.body, Some(Body::Tombstone(stone)) if stone.redacted_by_seq == at),
        "{entry:?}"
    );
    crate::support::reaches(&mut alice, &room, at).await;
    judge(&bench.verdict().await, &[]);
}
