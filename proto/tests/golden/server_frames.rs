//! A golden server frame with each body.

use stonechat_proto::v1::server_frame::Body;
use stonechat_proto::v1::{
    Appended, CaughtUp, CloseReason, ConversationHead, ConversationList, Delivery, Done, Durability, EditResponse,
    GetHistoryResponse, HistoryPage, Limits, ListConversationsResponse, MarkDeliveredResponse, MarkReadResponse,
    MarkUnreadResponse, PinResponse, Pong, PresenceList, ReactResponse, ReceiptsMoved, RedactResponse, Resync,
    SendResponse, ServerFrame, SetStatusResponse, SetTypingResponse, StreamClosed, Typing, TypingAccepted, Welcome,
};
use stonechat_proto::v1::{
    edit_response, entry, get_history_response, list_conversations_response, mark_delivered_response,
    mark_read_response, mark_unread_response, pin_response, react_response, redact_response, send_response,
    set_status_response, set_typing_response,
};

use crate::entries;
use crate::parts::{appended, conversation, markers, presence, receipts_of_members, refusal, summary, text};

/// Name of the arm (and of a variant after a dot), and the value.
pub(crate) fn server_frames() -> Vec<(&'static str, ServerFrame)> {
    let answers = appends().into_iter().chain(marks()).chain(reads());
    let all = answers.chain(session()).chain(events());
    all.map(|(name, body)| (name, frame(body))).collect()
}

fn frame(body: Body) -> ServerFrame {
    ServerFrame {
        request_id: 7,
        body: Some(body),
    }
}

macro_rules! answer {
    ($response:ident, $module:ident :: $arm:ident, $value:expr) => {
        $response {
            outcome: Some($module::Outcome::$arm($value)),
        }
    };
}

fn appends() -> Vec<(&'static str, Body)> {
    vec![
        (
            "send",
            Body::Send(answer!(SendResponse, send_response::Appended, appended())),
        ),
        (
            "send.is_delivery",
            Body::Send(answer!(
                SendResponse,
                send_response::Appended,
                Appended {
                    is_delivery: true,
                    ..appended()
                }
            )),
        ),
        (
            "send.refusal",
            Body::Send(answer!(SendResponse, send_response::Refusal, refusal())),
        ),
        (
            "edit",
            Body::Edit(answer!(EditResponse, edit_response::Appended, appended())),
        ),
        (
            "redact",
            Body::Redact(answer!(RedactResponse, redact_response::Appended, appended())),
        ),
        (
            "react",
            Body::React(answer!(ReactResponse, react_response::Appended, appended())),
        ),
        (
            "pin",
            Body::Pin(answer!(PinResponse, pin_response::Appended, appended())),
        ),
    ]
}

fn marks() -> Vec<(&'static str, Body)> {
    let delivered = answer!(MarkDeliveredResponse, mark_delivered_response::Markers, markers());
    let read = answer!(MarkReadResponse, mark_read_response::Markers, markers());
    let unread = answer!(MarkUnreadResponse, mark_unread_response::Markers, markers());
    let typing = answer!(SetTypingResponse, set_typing_response::Accepted, TypingAccepted {});
    let status = answer!(SetStatusResponse, set_status_response::Presence, presence());
    vec![
        ("mark_delivered", Body::MarkDelivered(delivered)),
        ("mark_read", Body::MarkRead(read)),
        ("mark_unread", Body::MarkUnread(unread)),
        ("typing", Body::Typing(typing)),
        ("set_status", Body::SetStatus(status)),
    ]
}

fn message() -> entry::Body {
    text().map(entry::Body::Message).expect("a text")
}

fn reads() -> Vec<(&'static str, Body)> {
    let list = ConversationList {
        conversations: vec![summary()],
        next_cursor: vec![4, 5].into(),
        has_more: true,
    };
    let page = HistoryPage {
        conversation_id: conversation(),
        entries: vec![entries::entry(message())],
        first_available_seq: 2,
        head_seq: 18,
        has_more: true,
    };
    let sync = answer!(ListConversationsResponse, list_conversations_response::List, list);
    let history = answer!(GetHistoryResponse, get_history_response::Page, page);
    vec![("sync", Body::Sync(sync)), ("history", Body::History(history))]
}

fn welcome() -> Welcome {
    Welcome {
        session_id: "s-1".to_owned(),
        user_id: "alice".to_owned(),
        protocol: 1,
        server_time_ms: 1_764_000_000_123,
        limits: Some(Limits {
            window: 256,
            max_frame_bytes: 65_536,
            max_text_bytes: 16_384,
            heartbeat_ms: 30_000,
            silence_ms: 45_000,
            max_requests_in_flight: 64,
            max_watched_users: 200,
        }),
        resume_token: vec![6, 6, 6].into(),
        resumed: true,
        continuous: true,
        conversations: vec![summary()],
        has_more: true,
        cursor: vec![4, 5].into(),
        token_expires_ms: 1_764_086_400_000,
        durability: Durability::LocalFsync as i32,
    }
}

fn session() -> Vec<(&'static str, Body)> {
    let pong = Pong {
        server_time_ms: 1_764_000_000_123,
        heads: vec![ConversationHead {
            conversation_id: conversation(),
            head_seq: 18,
        }],
    };
    let closed = StreamClosed {
        reason: CloseReason::Draining as i32,
        retry_after_ms: 1_500,
        message: "maintenance".to_owned(),
        endpoint: "chat2.example:443".to_owned(),
        reconnect: true,
    };
    let watching = PresenceList {
        presences: vec![presence()],
    };
    vec![
        ("welcome", Body::Welcome(welcome())),
        ("watching", Body::Watching(watching)),
        ("pong", Body::Pong(pong)),
        ("done", Body::Done(Done {})),
        ("refusal", Body::Refusal(refusal())),
        ("closed", Body::Closed(closed)),
    ]
}

fn events() -> Vec<(&'static str, Body)> {
    let delivery = Delivery {
        entry: Some(entries::entry(message())),
        backlog: true,
    };
    let receipts = ReceiptsMoved {
        conversation_id: conversation(),
        members: receipts_of_members(),
        delivered_to_all_seq: 16,
        read_by_all_seq: 14,
    };
    let typing = Typing {
        conversation_id: conversation(),
        user_id: "bob".to_owned(),
        stopped: true,
    };
    let caught_up = CaughtUp {
        cursor: vec![4, 5].into(),
    };
    vec![
        ("delivery", Body::Delivery(delivery)),
        ("caught_up", Body::CaughtUp(caught_up)),
        ("receipts", Body::Receipts(receipts)),
        ("markers", Body::Markers(markers())),
        ("typing_event", Body::TypingEvent(typing)),
        ("presence", Body::Presence(presence())),
        ("conversation", Body::Conversation(summary())),
        ("resync", Body::Resync(Resync {})),
    ]
}
