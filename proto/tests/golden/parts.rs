//! Parts that several golden values share. Every field is set, so that a renumbered one shows.

use stonechat_proto::v1::{
    AppendHeader, Appended, Ciphertext, ConversationKind, ConversationSummary, Effect, Markers, MediaReference, Member,
    MemberReceipt, MemberRole, MessageContent, Presence, Refusal, RefusalReason, Status, message_content,
};

pub(crate) const CONVERSATION: &str = "6f1d9a52-8a1c-4b7e-9f57-0f2d3c4b5a69";

pub(crate) fn conversation() -> String {
    CONVERSATION.to_owned()
}

pub(crate) fn correlation() -> String {
    "00112233445566778899aabbccddeeff".to_owned()
}

pub(crate) fn header() -> Option<AppendHeader> {
    Some(AppendHeader {
        conversation_id: conversation(),
        client_msg_id: "m-42".to_owned(),
        previous_client_msg_id: "m-41".to_owned(),
        known_head: 17,
    })
}

pub(crate) fn text() -> Option<MessageContent> {
    Some(MessageContent {
        content: Some(message_content::Content::Text("Grüße, 世界 👩‍👩‍👧".to_owned())),
        reply_to_seq: 3,
        media: vec![MediaReference {
            uri: "media/cat.jpg".to_owned(),
            content_type: "image/jpeg".to_owned(),
            size_bytes: 300_000,
        }],
    })
}

pub(crate) fn secret() -> Option<MessageContent> {
    Some(MessageContent {
        content: Some(message_content::Content::Ciphertext(Ciphertext {
            scheme: "olm.v1".to_owned(),
            data: vec![0, 255, 1, 254].into(),
        })),
        reply_to_seq: 0,
        media: Vec::new(),
    })
}

pub(crate) fn appended() -> Appended {
    Appended {
        conversation_id: conversation(),
        client_msg_id: "m-42".to_owned(),
        seq: 18,
        server_time_ms: 1_764_000_000_123,
        duplicate: true,
        correlation_id: correlation(),
        is_delivery: false,
    }
}

pub(crate) fn refusal() -> Refusal {
    Refusal {
        reason: RefusalReason::ClientMsgIdReused as i32,
        effect: Effect::NotDone as i32,
        message: "another payload was stored under this id".to_owned(),
        retry_after_ms: 250,
        stored_seq: 12,
        head_seq: 18,
        first_available_seq: 2,
        last_client_msg_id: "m-40".to_owned(),
        field: "send.content.text".to_owned(),
    }
}

pub(crate) fn members() -> Vec<Member> {
    let member = |user: &str, role: MemberRole| Member {
        user_id: user.to_owned(),
        role: role as i32,
    };
    vec![member("alice", MemberRole::Owner), member("bob", MemberRole::Member)]
}

pub(crate) fn markers() -> Markers {
    Markers {
        conversation_id: conversation(),
        delivered_seq: 18,
        read_seq: 16,
        unread_from_seq: 15,
        unread_count: 2,
    }
}

pub(crate) fn receipts_of_members() -> Vec<MemberReceipt> {
    vec![MemberReceipt {
        user_id: "bob".to_owned(),
        delivered_seq: 18,
        read_seq: 17,
    }]
}

pub(crate) fn presence() -> Presence {
    Presence {
        user_id: "bob".to_owned(),
        status: Status::Away as i32,
        last_active_ms: 1_764_000_000_000,
    }
}

pub(crate) fn summary() -> ConversationSummary {
    ConversationSummary {
        conversation_id: conversation(),
        kind: ConversationKind::Direct as i32,
        name: "Crew".to_owned(),
        peer_user_id: "bob".to_owned(),
        head_seq: 18,
        activity_ms: 1_764_000_000_123,
        markers: Some(markers()),
        muted_until_ms: 1_764_100_000_000,
        archived: true,
        former_member: true,
        first_available_seq: 2,
        device_seq: 14,
    }
}
