//! Tests of the parsers: no bytes make them panic, nothing over a limit passes, each refusal names a field that is
//! there, and what passes is kept byte for byte.

use proptest::prelude::*;
use prost::Message;
use stonechat_proto::{admin, v1};

use super::entry::content_to_proto;
use super::{Answer, answer, conversation, message, people, presence, receipt, refusal, session};
use crate::domain::limits::{
    CIPHERTEXT_BYTES_MAX, HISTORY_PAGE_MAX, LIST_PAGE_MAX, MEDIA_MAX, REACTION_BYTES_MAX, REASON_BYTES_MAX, SEQ_MAX,
    TEXT_BYTES_MAX, WATCHED_USERS_MAX, WINDOW_MAX,
};
use crate::domain::{Change, ClientMsgId, Content, Effect, MessageContent, Reason, Refusal, Seq, UserId};

#[path = "tests/fields.rs"]
mod fields_exist;
#[path = "tests/frames.rs"]
mod frames;
#[path = "tests/names.rs"]
mod names;

const CONVERSATION: &str = "00112233-4455-6677-8899-aabbccddeeff";

fn header() -> Option<v1::AppendHeader> {
    Some(v1::AppendHeader {
        conversation_id: CONVERSATION.to_owned(),
        client_msg_id: "m:1".to_owned(),
        previous_client_msg_id: "m:0".to_owned(),
        known_head: 7,
    })
}

fn text(plain: &str) -> Option<v1::MessageContent> {
    Some(v1::MessageContent {
        content: Some(v1::message_content::Content::Text(plain.to_owned())),
        reply_to_seq: 0,
        media: Vec::new(),
    })
}

fn send_text(plain: &str) -> Result<MessageContent, Refusal> {
    let parsed = message::send(v1::SendRequest {
        header: header(),
        content: text(plain),
    });
    parsed.map(|append| match append.change {
        Change::Message(content) => content,
        other => panic!("a send became {other:?}"),
    })
}

fn field_of<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    match result.unwrap_err().reason {
        Reason::Invalid { field } => field.into_owned(),
        other => panic!("refused as {other:?}"),
    }
}

#[test]
fn bodies_pass_byte_for_byte_whatever_the_script() {
    let samples = [
        "👨‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👍🏽",
        "שלום עולם",
        "می‌خواهم",
        "e\u{301}\u{323} n\u{303}",
        "\u{202E}reversed\u{202C}",
        "<script>alert(1)</script>",
        "line\r\nbreak\ttab \u{7}",
        " spaces around ",
    ];
    for sample in samples {
        let content = send_text(sample).unwrap();
        assert_eq!(content.content, Content::Text(sample.to_owned()));
        assert_eq!(Some(content_to_proto(&content)), text(sample));
    }
}

#[test]
fn text_is_bounded_in_bytes_at_exactly_the_limit() {
    assert!(send_text(&"x".repeat(TEXT_BYTES_MAX)).is_ok());
    assert_eq!(
        field_of(send_text(&"x".repeat(TEXT_BYTES_MAX + 1))),
        "send.content.text"
    );
    // 3 bytes a character: counting characters would let three times the limit pass.
    assert_eq!(
        field_of(send_text(&"€".repeat(TEXT_BYTES_MAX / 2))),
        "send.content.text"
    );
    assert_eq!(field_of(send_text("")), "send.content.text");
    assert_eq!(field_of(send_text("a\0b")), "send.content.text");
}

#[test]
fn a_refusal_says_not_done_and_keeps_every_field_on_the_wire() {
    let reasons = [
        Reason::Invalid {
            field: "send.header".into(),
        },
        Reason::Unauthenticated,
        Reason::Forbidden,
        Reason::NotFound,
        Reason::ClientMsgIdReused { stored: Seq(4) },
        Reason::OutOfOrder {
            last: ClientMsgId::parse("m1").ok(),
        },
        Reason::OutOfOrder { last: None },
        Reason::BeyondHead { head: Seq(9) },
        Reason::CursorExpired {
            first_available: Seq(2),
            head: Seq(9),
        },
        Reason::ResyncRequired,
        Reason::RateLimited { retry_after_ms: 20 },
        Reason::LimitReached,
        Reason::Unavailable { retry_after_ms: 30 },
        Reason::Internal,
        Reason::AlreadyExists,
        Reason::Protocol,
        Reason::Blocked,
    ];
    for reason in reasons {
        for effect in [Effect::NotDone, Effect::Unknown] {
            let refused = Refusal {
                reason: reason.clone(),
                effect,
                message: "why".to_owned(),
            };
            assert_eq!(refusal::from_proto(refusal::to_proto(&refused)), refused);
        }
    }
    let codes = (0..=16)
        .filter(|code| v1::RefusalReason::try_from(*code).is_ok())
        .count();
    assert_eq!(codes, 17, "a reason was added to the contract without a test here");
}

#[test]
fn what_an_unreadable_refusal_left_undone_is_unknown() {
    let read = refusal::from_proto(v1::Refusal::default());
    assert_eq!((read.reason, read.effect), (Reason::Internal, Effect::Unknown));
}

#[test]
fn an_answer_holds_the_value_or_the_refusal() {
    let done: v1::SendResponse = answer(Ok(v1::Appended {
        seq: 3,
        ..v1::Appended::default()
    }));
    assert!(done.refusal().is_none());
    let refused: v1::SendResponse = answer(Err(Refusal::no_conversation()));
    assert_eq!(
        refused.refusal().map(v1::Refusal::reason),
        Some(v1::RefusalReason::NotFound)
    );
}

#[test]
fn a_direct_has_one_peer_and_no_name_and_the_owner_may_be_listed() {
    let owner = UserId::parse("ann").unwrap();
    let member = |id: &str| v1::Member {
        user_id: id.to_owned(),
        role: 0,
    };
    let request = |name: &str, ids: &[&str]| v1::CreateConversationRequest {
        client_msg_id: "c1".to_owned(),
        kind: v1::ConversationKind::Direct.into(),
        name: name.to_owned(),
        members: ids.iter().copied().map(member).collect(),
    };
    let create = |name, ids| conversation::create(&owner, request(name, ids));
    assert_eq!(create("", &["ann", "bob"]).unwrap().members.len(), 1);
    for (ids, field) in [
        (&["ann"][..], "create_conversation.members"),
        (&["bob", "cem"][..], "create_conversation.members"),
        (&["bob", "bob"][..], "create_conversation.members"),
        (&["b b"][..], "create_conversation.members.user_id"),
    ] {
        assert_eq!(field_of(create("", ids)), field);
    }
    assert_eq!(field_of(create("name", &["bob"])), "create_conversation.name");
}

#[test]
fn a_page_over_its_limit_is_refused_not_cut() {
    let query = |limit| {
        message::history(&v1::GetHistoryRequest {
            conversation_id: CONVERSATION.to_owned(),
            anchor: Some(v1::get_history_request::Anchor::AfterSeq(u64::MAX)),
            limit,
            until_seq: 0,
        })
    };
    assert_eq!(query(0).unwrap().limit, 50);
    assert_eq!(query(200).unwrap().limit, 200);
    assert_eq!(field_of(query(201)), "history.limit");
}

#[test]
fn a_hello_speaks_a_common_protocol_or_is_refused() {
    let hello = |min, max| {
        session::hello(v1::Hello {
            device_id: "d1".to_owned(),
            protocol_min: min,
            protocol_max: max,
            ..v1::Hello::default()
        })
    };
    assert_eq!(hello(1, 3).unwrap().window, WINDOW_MAX);
    assert_eq!(hello(2, 3).unwrap_err().reason, Reason::Protocol);
    assert_eq!(field_of(hello(0, 0)), "hello.protocol_max");
    assert_eq!(field_of(hello(3, 1)), "hello.protocol_max");
}

#[test]
fn a_token_is_never_printed() {
    let token = session::Token("secret-canary".to_owned());
    assert!(!format!("{token:?}").contains("canary"));
}
