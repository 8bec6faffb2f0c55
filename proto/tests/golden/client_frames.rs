//! A golden client frame with each body.

use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::get_history_request::Anchor;
use stonechat_proto::v1::{
    Ack, AppState, Bye, ClientFrame, ConversationPosition, EditRequest, GetHistoryRequest, Hello, InitialBacklog,
    ListConversationsRequest, MarkDeliveredRequest, MarkReadRequest, MarkUnreadRequest, PinRequest, Ping, ReactRequest,
    Reauthenticate, RedactRequest, SendRequest, SetAppState, SetStatusRequest, SetTypingRequest, Status,
    UnwatchPresence, WatchPresence,
};

use crate::parts::{conversation, header, secret, text};

/// Name of the arm (and of a variant after a dot), and the value.
pub(crate) fn client_frames() -> Vec<(&'static str, ClientFrame)> {
    let all = session().into_iter().chain(appends()).chain(marks()).chain(reads());
    all.map(|(name, body)| (name, frame(body))).collect()
}

fn frame(body: Body) -> ClientFrame {
    ClientFrame {
        request_id: 7,
        body: Some(body),
    }
}

fn hello() -> Hello {
    Hello {
        token: "header.claims.signature".to_owned(),
        device_id: "phone".to_owned(),
        stream_name: "push".to_owned(),
        protocol_min: 1,
        protocol_max: 2,
        app_state: AppState::Background as i32,
        resume_token: vec![9, 8, 7].into(),
        cursor: vec![1, 2, 3].into(),
        positions: vec![ConversationPosition {
            conversation_id: conversation(),
            seq: 5,
        }],
        initial_backlog: InitialBacklog::Nothing as i32,
        client_name: "golden 1.0".to_owned(),
        window: 64,
        forget_device_positions: true,
        answers_are_deliveries: false,
    }
}

fn session() -> Vec<(&'static str, Body)> {
    let users = vec!["bob".to_owned(), "carol".to_owned()];
    let watch = WatchPresence {
        user_ids: users.clone(),
        replace: true,
    };
    let ack = Ack {
        conversation_id: conversation(),
        seq: 18,
    };
    let set_status = SetStatusRequest {
        status: Status::Busy as i32,
    };
    let app_state = SetAppState {
        app_state: AppState::Background as i32,
    };
    let reauthenticate = Reauthenticate {
        token: "header.claims.signature2".to_owned(),
    };
    vec![
        ("hello", Body::Hello(hello())),
        (
            "hello.answers_are_deliveries",
            Body::Hello(Hello {
                answers_are_deliveries: true,
                ..hello()
            }),
        ),
        ("watch_presence", Body::WatchPresence(watch)),
        (
            "unwatch_presence",
            Body::UnwatchPresence(UnwatchPresence { user_ids: users }),
        ),
        ("set_status", Body::SetStatus(set_status)),
        ("set_app_state", Body::SetAppState(app_state)),
        ("ack", Body::Ack(ack)),
        ("reauthenticate", Body::Reauthenticate(reauthenticate)),
        ("ping", Body::Ping(Ping {})),
        ("bye", Body::Bye(Bye {})),
    ]
}

fn appends() -> Vec<(&'static str, Body)> {
    let send = |content| SendRequest {
        header: header(),
        content,
    };
    let edit = EditRequest {
        header: header(),
        target_seq: 12,
        content: text(),
    };
    let redact = RedactRequest {
        header: header(),
        target_seq: 12,
        reason: "spam".to_owned(),
    };
    let react = ReactRequest {
        header: header(),
        target_seq: 12,
        reaction: "👍🏽".to_owned(),
        remove: true,
    };
    let pin = PinRequest {
        header: header(),
        target_seq: 12,
        unpin: true,
    };
    vec![
        ("send", Body::Send(send(text()))),
        ("send.ciphertext", Body::Send(send(secret()))),
        ("edit", Body::Edit(edit)),
        ("redact", Body::Redact(redact)),
        ("react", Body::React(react)),
        ("pin", Body::Pin(pin)),
    ]
}

fn marks() -> Vec<(&'static str, Body)> {
    let delivered = MarkDeliveredRequest {
        conversation_id: conversation(),
        seq: 18,
    };
    let read = MarkReadRequest {
        conversation_id: conversation(),
        seq: 17,
        private: true,
    };
    let unread = MarkUnreadRequest {
        conversation_id: conversation(),
        from_seq: 15,
    };
    let typing = SetTypingRequest {
        conversation_id: conversation(),
        stopped: true,
    };
    vec![
        ("mark_delivered", Body::MarkDelivered(delivered)),
        ("mark_read", Body::MarkRead(read)),
        ("mark_unread", Body::MarkUnread(unread)),
        ("typing", Body::Typing(typing)),
    ]
}

fn reads() -> Vec<(&'static str, Body)> {
    let sync = ListConversationsRequest {
        cursor: vec![1, 2, 3].into(),
        limit: 20,
    };
    let history = |anchor| GetHistoryRequest {
        conversation_id: conversation(),
        anchor: Some(anchor),
        limit: 50,
        until_seq: 18,
    };
    vec![
        ("sync", Body::Sync(sync)),
        ("history", Body::History(history(Anchor::AfterSeq(4)))),
        ("history.before", Body::History(history(Anchor::BeforeSeq(0)))),
        ("history.around", Body::History(history(Anchor::AroundSeq(9)))),
    ]
}
