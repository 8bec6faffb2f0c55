//! What commands print with `--json`: the contract's messages with the contract's field names.

use serde_json::{Value, json};
use stonechat_client::v1::{
    self, Appended, Conversation, ConversationKind, ConversationSummary, Entry, HistoryPage, Markers, Member,
    MemberRole, MessageContent, Presence, ReceiptsMoved, Status, entry, message_content,
};
use stonechat_client::{DisconnectReason, Event};

pub(super) fn appended(appended: &Appended) -> Value {
    json!({
        "conversation_id": appended.conversation_id,
        "client_msg_id": appended.client_msg_id,
        "seq": appended.seq,
        "server_time_ms": appended.server_time_ms,
        "duplicate": appended.duplicate,
        "correlation_id": appended.correlation_id,
    })
}

pub(super) fn entry(entry: &Entry) -> Value {
    json!({
        "conversation_id": entry.conversation_id,
        "seq": entry.seq,
        "server_time_ms": entry.server_time_ms,
        "ordinal": entry.ordinal,
        "sender_user_id": entry.sender_user_id,
        "sender_device_id": entry.sender_device_id,
        "client_msg_id": entry.client_msg_id,
        "correlation_id": entry.correlation_id,
        "origin_time_ms": entry.origin_time_ms,
        "body": body(entry.body.as_ref()),
    })
}

fn body(body: Option<&entry::Body>) -> Value {
    match body {
        Some(entry::Body::Message(message)) => json!({ "message": content(message) }),
        Some(entry::Body::Edited(edited)) => {
            let new = edited.content.as_ref().map_or(Value::Null, content);
            json!({ "edited": { "target_seq": edited.target_seq, "content": new } })
        }
        Some(entry::Body::Redacted(redacted)) => {
            json!({ "redacted": { "target_seq": redacted.target_seq, "reason": redacted.reason } })
        }
        Some(entry::Body::Reaction(change)) => json!({ "reaction": {
            "target_seq": change.target_seq, "reaction": change.reaction, "removed": change.removed,
        } }),
        Some(entry::Body::Pin(pin)) => json!({ "pin": { "target_seq": pin.target_seq, "pinned": pin.pinned } }),
        Some(entry::Body::Created(created)) => json!({ "created": {
            "kind": kind(created.kind()), "name": created.name, "members": members(&created.members),
        } }),
        Some(entry::Body::Members(changed)) => json!({ "members": members(&changed.members) }),
        Some(entry::Body::Left(left)) => json!({ "left": {
            "user_id": left.user_id, "removed": left.removed, "promoted_user_id": left.promoted_user_id,
        } }),
        Some(entry::Body::Renamed(renamed)) => json!({ "renamed": { "name": renamed.name } }),
        Some(entry::Body::Tombstone(tombstone)) => {
            json!({ "tombstone": { "redacted_by_seq": tombstone.redacted_by_seq } })
        }
        None => Value::Null,
    }
}

fn content(content: &MessageContent) -> Value {
    let mut value = match &content.content {
        Some(message_content::Content::Text(text)) => json!({ "text": text }),
        Some(message_content::Content::Ciphertext(secret)) => {
            json!({ "ciphertext": { "scheme": secret.scheme, "bytes": secret.data.len() } })
        }
        None => json!({}),
    };
    if content.reply_to_seq > 0 {
        value["reply_to_seq"] = content.reply_to_seq.into();
    }
    if !content.media.is_empty() {
        let media = content.media.iter().map(
            |media| json!({ "uri": media.uri, "content_type": media.content_type, "size_bytes": media.size_bytes }),
        );
        value["media"] = media.collect();
    }
    value
}

fn members(members: &[Member]) -> Value {
    members
        .iter()
        .map(|member| json!({ "user_id": member.user_id, "role": role(member.role()) }))
        .collect()
}

pub(super) fn kind(kind: ConversationKind) -> &'static str {
    match kind {
        ConversationKind::Direct => "direct",
        ConversationKind::Group => "group",
        ConversationKind::Unspecified => "unknown",
    }
}

pub(super) fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Owner => "owner",
        MemberRole::Admin => "admin",
        MemberRole::Member | MemberRole::Unspecified => "member",
    }
}

pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Online | Status::Unspecified => "online",
        Status::Away => "away",
        Status::Busy => "busy",
        Status::Offline => "offline",
    }
}

pub(super) fn markers(markers: &Markers) -> Value {
    json!({
        "conversation_id": markers.conversation_id,
        "delivered_seq": markers.delivered_seq,
        "read_seq": markers.read_seq,
        "unread_from_seq": markers.unread_from_seq,
        "unread_count": markers.unread_count,
    })
}

pub(super) fn summary(row: &ConversationSummary) -> Value {
    json!({
        "conversation_id": row.conversation_id,
        "kind": kind(row.kind()),
        "name": row.name,
        "peer_user_id": row.peer_user_id,
        "head_seq": row.head_seq,
        "activity_ms": row.activity_ms,
        "markers": row.markers.as_ref().map(markers),
        "muted_until_ms": row.muted_until_ms,
        "archived": row.archived,
        "former_member": row.former_member,
        "first_available_seq": row.first_available_seq,
    })
}

pub(super) fn conversation(conversation: &Conversation) -> Value {
    json!({
        "conversation_id": conversation.conversation_id,
        "kind": kind(conversation.kind()),
        "name": conversation.name,
        "members": members(&conversation.members),
        "head_seq": conversation.head_seq,
        "created_ms": conversation.created_ms,
        "pinned_seqs": conversation.pinned_seqs,
    })
}

pub(super) fn page(page: &HistoryPage) -> Value {
    json!({
        "conversation_id": page.conversation_id,
        "first_available_seq": page.first_available_seq,
        "head_seq": page.head_seq,
        "has_more": page.has_more,
    })
}

pub(super) fn user(user: &v1::User) -> Value {
    json!({ "user_id": user.user_id, "display_name": user.display_name, "deactivated": user.deactivated })
}

pub(super) fn presence(presence: &Presence) -> Value {
    json!({
        "user_id": presence.user_id,
        "status": status(presence.status()),
        "last_active_ms": presence.last_active_ms,
    })
}

fn receipts(moved: &ReceiptsMoved) -> Value {
    let members = moved.members.iter().map(|member| {
        json!({ "user_id": member.user_id, "delivered_seq": member.delivered_seq, "read_seq": member.read_seq })
    });
    json!({
        "conversation_id": moved.conversation_id,
        "members": members.collect::<Value>(),
        "delivered_to_all_seq": moved.delivered_to_all_seq,
        "read_by_all_seq": moved.read_by_all_seq,
    })
}

fn refusal(refusal: &v1::Refusal) -> Value {
    json!({
        "reason": refusal.reason().as_str_name().trim_start_matches("REFUSAL_REASON_"),
        "effect": refusal.effect().as_str_name().trim_start_matches("EFFECT_"),
        "message": refusal.message,
        "retry_after_ms": refusal.retry_after_ms,
    })
}

/// An entry of the past, as `chat` shows it at first, in the form of an event.
pub(super) fn past(past: &Entry) -> Value {
    json!({ "event": "history", "entry": entry(past) })
}

/// Something asked for that was not done, in the form of an event.
pub(super) fn complaint(message: &str) -> Value {
    json!({ "event": "not_done", "message": message })
}

/// An event as `{"event": "name", …}`.
pub(super) fn event(event: &Event) -> Value {
    match event {
        Event::Connected(welcome) => json!({
            "event": "connected", "user_id": welcome.user_id, "session_id": welcome.session_id,
            "resumed": welcome.resumed, "conversations": welcome.conversations.iter().map(summary).collect::<Value>(),
        }),
        Event::Conversations(list) => json!({
            "event": "conversations", "conversations": list.conversations.iter().map(summary).collect::<Value>(),
        }),
        Event::Disconnected { reason, retry } => json!({
            "event": "disconnected", "reason": reason_name(reason), "retry_ms": retry.map(|retry| retry.as_millis()),
        }),
        Event::Delivered {
            entry: delivered,
            backlog,
        } => {
            json!({ "event": "delivered", "backlog": backlog, "entry": entry(delivered) })
        }
        Event::CaughtUp => json!({ "event": "caught_up" }),
        Event::SendAccepted(done) => json!({ "event": "send_accepted", "appended": appended(done) }),
        Event::SendFailed {
            conversation_id,
            client_msg_id,
            refusal: why,
        } => json!({
            "event": "send_failed", "conversation_id": conversation_id, "client_msg_id": client_msg_id,
            "refusal": refusal(why),
        }),
        Event::Receipts(moved) => json!({ "event": "receipts", "receipts": receipts(moved) }),
        Event::ReceiptsMissed => json!({ "event": "receipts_missed" }),
        Event::Markers(own) => json!({ "event": "markers", "markers": markers(own) }),
        Event::Typing(typing) => json!({
            "event": "typing", "conversation_id": typing.conversation_id, "user_id": typing.user_id,
            "stopped": typing.stopped,
        }),
        Event::Presence(shown) => json!({ "event": "presence", "presence": presence(shown) }),
        Event::Conversation(row) => json!({ "event": "conversation", "conversation": summary(row) }),
        Event::Rewound {
            conversation_id,
            head_seq,
        } => {
            json!({ "event": "rewound", "conversation_id": conversation_id, "head_seq": head_seq })
        }
        Event::StoreFailed(message) => json!({ "event": "store_failed", "message": message }),
    }
}

fn reason_name(reason: &DisconnectReason) -> String {
    super::text::disconnect(reason)
}
