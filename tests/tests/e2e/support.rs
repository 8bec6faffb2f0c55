//! What the end-to-end cases share.

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::checker::{Check, Verdict};
use stonechat_tests::harness::{Bench, PATIENCE, RawSession, append_outcome, send_frame};

/// What every history of sends and deliveries lets the checker look at.
pub(crate) const DELIVERY: [Check; 6] = [Check::C1, Check::C2, Check::C3, Check::C4, Check::C5, Check::C14];

pub(crate) fn judge(verdict: &Verdict, more: &[Check]) {
    let needed: Vec<Check> = DELIVERY.iter().chain(more).copied().collect();
    verdict.assert_clean(&needed);
}

/// Sends numbered texts without waiting for answers; returns the requests.
pub(crate) async fn pipeline(session: &RawSession, conversation: &str, prefix: &str, count: u64) -> Vec<u64> {
    let mut requests = Vec::new();
    for number in 0..count {
        let id = format!("{prefix}-{number}");
        requests.push(session.ask(send_frame(conversation, &id, &id)).await);
    }
    requests
}

/// The seqs that requests were answered with.
pub(crate) async fn seqs(session: &mut RawSession, requests: &[u64]) -> Vec<u64> {
    let mut seqs = Vec::new();
    for request in requests {
        let answer = session.answer(*request, PATIENCE).await;
        match append_outcome(&answer) {
            Some(Ok(appended)) => seqs.push(appended.seq),
            other => panic!("not stored: {other:?}"),
        }
    }
    seqs
}

/// The refusal in an answer.
pub(crate) fn refusal(answer: &Seen) -> &v1::Refusal {
    match append_outcome(answer) {
        Some(Err(refusal)) => refusal,
        other => panic!("not refused: {other:?} {answer:?}"),
    }
}

pub(crate) fn appended(answer: &Seen) -> &v1::Appended {
    match append_outcome(answer) {
        Some(Ok(appended)) => appended,
        other => panic!("not stored: {other:?} {answer:?}"),
    }
}

/// Waits until a stream has everything up to a seq.
pub(crate) async fn reaches(session: &mut RawSession, conversation: &str, seq: u64) {
    let what = format!("seq {seq} of {conversation}");
    session
        .until(&what, PATIENCE, |seen| seen.reached(conversation) >= seq)
        .await;
}

/// The newest seq of a conversation, read as the system.
pub(crate) async fn head(bench: &Bench, conversation: &str) -> u64 {
    bench.entries(conversation).await.last().map_or(0, |entry| entry.seq)
}

pub(crate) fn mark_read(conversation: &str, seq: u64, private: bool) -> Asked {
    Asked::MarkRead(v1::MarkReadRequest {
        conversation_id: conversation.to_owned(),
        seq,
        private,
    })
}

pub(crate) fn mark_delivered(conversation: &str, seq: u64) -> Asked {
    Asked::MarkDelivered(v1::MarkDeliveredRequest {
        conversation_id: conversation.to_owned(),
        seq,
    })
}

/// The markers in an answer to a mark.
pub(crate) fn markers(answer: &Seen) -> v1::Markers {
    let markers = match answer {
        Seen::MarkRead(v1::MarkReadResponse {
            outcome: Some(v1::mark_read_response::Outcome::Markers(markers)),
        })
        | Seen::MarkDelivered(v1::MarkDeliveredResponse {
            outcome: Some(v1::mark_delivered_response::Outcome::Markers(markers)),
        })
        | Seen::MarkUnread(v1::MarkUnreadResponse {
            outcome: Some(v1::mark_unread_response::Outcome::Markers(markers)),
        }) => Some(markers.clone()),
        _ => None,
    };
    markers.unwrap_or_else(|| panic!("no markers: {answer:?}"))
}

/// The rows in an answer to sync.
pub(crate) fn rows(answer: Seen) -> v1::ConversationList {
    match answer {
        Seen::Sync(v1::ListConversationsResponse {
            outcome: Some(v1::list_conversations_response::Outcome::List(list)),
        }) => list,
        other => panic!("no list: {other:?}"),
    }
}

pub(crate) fn sync(cursor: &[u8], limit: u32) -> Asked {
    Asked::Sync(v1::ListConversationsRequest {
        cursor: cursor.to_vec().into(),
        limit,
    })
}
