//! Domain to proto.

use stonechat_proto::v1;
use stonechat_proto::v1::entry::Body as ProtoBody;
use stonechat_proto::v1::message_content::Content as ProtoContent;

use crate::domain::{Body, Content, Entry, Kind, Media, Member, MessageContent, Role, Seq};

/// The proto form of an entry.
#[must_use]
pub fn entry_to_proto(entry: &Entry) -> v1::Entry {
    let sender = &entry.sender;
    v1::Entry {
        conversation_id: entry.conversation.to_string(),
        seq: entry.seq.0,
        server_time_ms: entry.time.0,
        ordinal: entry.ordinal.0,
        sender_user_id: sender.user.as_ref().map_or_else(String::new, ToString::to_string),
        sender_device_id: sender.device.as_ref().map_or_else(String::new, ToString::to_string),
        client_msg_id: entry.client_msg_id.to_string(),
        correlation_id: entry.correlation.to_string(),
        origin_time_ms: entry.origin_time.map_or(0, |time| time.0),
        body: Some(body_to_proto(&entry.body)),
    }
}

fn body_to_proto(body: &Body) -> ProtoBody {
    match body {
        Body::Message(content) => ProtoBody::Message(content_to_proto(content)),
        Body::Edited { target, content } => ProtoBody::Edited(v1::MessageEdited {
            target_seq: target.0,
            content: Some(content_to_proto(content)),
        }),
        Body::Redacted { target, reason } => ProtoBody::Redacted(v1::MessageRedacted {
            target_seq: target.0,
            reason: reason.clone(),
        }),
        Body::Reaction {
            target,
            reaction,
            removed,
        } => ProtoBody::Reaction(v1::ReactionChanged {
            target_seq: target.0,
            reaction: reaction.clone(),
            removed: *removed,
        }),
        Body::Pin { target, pinned } => ProtoBody::Pin(v1::PinChanged {
            target_seq: target.0,
            pinned: *pinned,
        }),
        Body::Tombstone { redacted_by } => ProtoBody::Tombstone(v1::Tombstone {
            redacted_by_seq: redacted_by.0,
        }),
        Body::Created { kind, name, members } => ProtoBody::Created(v1::ConversationCreated {
            kind: kind_to_proto(*kind).into(),
            name: name.clone(),
            members: members.iter().map(member_to_proto).collect(),
        }),
        Body::Members(members) => ProtoBody::Members(v1::MembersChanged {
            members: members.iter().map(member_to_proto).collect(),
        }),
        Body::Left {
            user,
            removed,
            promoted,
        } => ProtoBody::Left(v1::MemberLeft {
            user_id: user.to_string(),
            removed: *removed,
            promoted_user_id: promoted.as_ref().map_or_else(String::new, ToString::to_string),
        }),
        Body::Renamed(name) => ProtoBody::Renamed(v1::ConversationRenamed { name: name.clone() }),
    }
}

/// The proto form of a message's content.
#[must_use]
pub fn content_to_proto(content: &MessageContent) -> v1::MessageContent {
    v1::MessageContent {
        content: Some(match &content.content {
            Content::Text(text) => ProtoContent::Text(text.clone()),
            Content::Ciphertext { scheme, data } => ProtoContent::Ciphertext(v1::Ciphertext {
                scheme: scheme.clone(),
                data: data.clone(),
            }),
        }),
        reply_to_seq: content.reply_to.unwrap_or(Seq::ZERO).0,
        media: content.media.iter().map(media_to_proto).collect(),
    }
}

fn media_to_proto(media: &Media) -> v1::MediaReference {
    v1::MediaReference {
        uri: media.uri.clone(),
        content_type: media.content_type.clone(),
        size_bytes: media.size_bytes,
    }
}

/// The proto form of a member.
#[must_use]
pub fn member_to_proto(member: &Member) -> v1::Member {
    v1::Member {
        user_id: member.user.to_string(),
        role: role_to_proto(member.role).into(),
    }
}

/// The proto form of a role.
#[must_use]
pub fn role_to_proto(role: Role) -> v1::MemberRole {
    match role {
        Role::Member => v1::MemberRole::Member,
        Role::Admin => v1::MemberRole::Admin,
        Role::Owner => v1::MemberRole::Owner,
    }
}

/// The proto form of a kind.
#[must_use]
pub fn kind_to_proto(kind: Kind) -> v1::ConversationKind {
    match kind {
        Kind::Direct => v1::ConversationKind::Direct,
        Kind::Group => v1::ConversationKind::Group,
    }
}
