//! Proto to domain. Checks forms only; the limits of what users send are checked at the edge.

use stonechat_proto::v1;
use stonechat_proto::v1::entry::Body as ProtoBody;
use stonechat_proto::v1::message_content::Content as ProtoContent;

use super::EntryError;
use crate::domain::{
    Body, ClientMsgId, Content, DeviceId, Entry, Kind, Media, Member, MessageContent, Ordinal, Role, Sender, Seq,
    UnixMillis, UserId,
};

/// The domain form of an entry.
///
/// # Errors
/// See [`EntryError`].
pub fn entry_from_proto(proto: v1::Entry) -> Result<Entry, EntryError> {
    Ok(Entry {
        conversation: proto.conversation_id.parse()?,
        seq: Seq(proto.seq),
        time: UnixMillis(proto.server_time_ms),
        ordinal: Ordinal(proto.ordinal),
        sender: Sender {
            user: optional(&proto.sender_user_id, UserId::parse)?,
            device: optional(&proto.sender_device_id, DeviceId::parse)?,
        },
        client_msg_id: ClientMsgId::parse(&proto.client_msg_id)?,
        correlation: proto.correlation_id.parse()?,
        origin_time: (proto.origin_time_ms != 0).then_some(UnixMillis(proto.origin_time_ms)),
        body: body_from_proto(proto.body.ok_or(EntryError::Field("body"))?)?,
    })
}

fn optional<T, E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, E> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

fn body_from_proto(body: ProtoBody) -> Result<Body, EntryError> {
    Ok(match body {
        ProtoBody::Message(content) => Body::Message(content_from_proto(content)?),
        ProtoBody::Edited(edited) => Body::Edited {
            target: Seq(edited.target_seq),
            content: content_from_proto(edited.content.ok_or(EntryError::Field("edited.content"))?)?,
        },
        ProtoBody::Redacted(redacted) => Body::Redacted {
            target: Seq(redacted.target_seq),
            reason: redacted.reason,
        },
        ProtoBody::Reaction(reaction) => Body::Reaction {
            target: Seq(reaction.target_seq),
            reaction: reaction.reaction,
            removed: reaction.removed,
        },
        ProtoBody::Pin(pin) => Body::Pin {
            target: Seq(pin.target_seq),
            pinned: pin.pinned,
        },
        ProtoBody::Created(created) => Body::Created {
            kind: kind_from_proto(created.kind).ok_or(EntryError::Field("created.kind"))?,
            name: created.name,
            members: members_from_proto(&created.members)?,
        },
        ProtoBody::Members(changed) => Body::Members(members_from_proto(&changed.members)?),
        ProtoBody::Left(left) => Body::Left {
            user: UserId::parse(&left.user_id)?,
            removed: left.removed,
            promoted: optional(&left.promoted_user_id, UserId::parse)?,
        },
        ProtoBody::Renamed(renamed) => Body::Renamed(renamed.name),
        ProtoBody::Tombstone(tombstone) => Body::Tombstone {
            redacted_by: Seq(tombstone.redacted_by_seq),
        },
    })
}

/// The domain form of a message's content.
///
/// # Errors
/// `Field` when it holds neither text nor ciphertext.
pub fn content_from_proto(proto: v1::MessageContent) -> Result<MessageContent, EntryError> {
    Ok(MessageContent {
        content: match proto.content.ok_or(EntryError::Field("content"))? {
            ProtoContent::Text(text) => Content::Text(text),
            ProtoContent::Ciphertext(ciphertext) => Content::Ciphertext {
                scheme: ciphertext.scheme,
                data: ciphertext.data,
            },
        },
        reply_to: (proto.reply_to_seq != 0).then_some(Seq(proto.reply_to_seq)),
        media: proto.media.into_iter().map(media_from_proto).collect(),
    })
}

fn media_from_proto(proto: v1::MediaReference) -> Media {
    Media {
        uri: proto.uri,
        content_type: proto.content_type,
        size_bytes: proto.size_bytes,
    }
}

fn members_from_proto(members: &[v1::Member]) -> Result<Vec<Member>, EntryError> {
    members.iter().map(member_from_proto).collect()
}

/// The domain form of a member.
///
/// # Errors
/// The user id is malformed, or the role unknown.
pub fn member_from_proto(proto: &v1::Member) -> Result<Member, EntryError> {
    Ok(Member {
        user: UserId::parse(&proto.user_id)?,
        role: role_from_proto(proto.role).ok_or(EntryError::Field("member.role"))?,
    })
}

/// The domain form of a role; unspecified is read as member, an unknown one is `None`.
#[must_use]
pub fn role_from_proto(role: i32) -> Option<Role> {
    match v1::MemberRole::try_from(role).ok()? {
        v1::MemberRole::Unspecified | v1::MemberRole::Member => Some(Role::Member),
        v1::MemberRole::Admin => Some(Role::Admin),
        v1::MemberRole::Owner => Some(Role::Owner),
    }
}

/// The domain form of a kind; `None` when unspecified or unknown.
#[must_use]
pub fn kind_from_proto(kind: i32) -> Option<Kind> {
    match v1::ConversationKind::try_from(kind).ok()? {
        v1::ConversationKind::Unspecified => None,
        v1::ConversationKind::Direct => Some(Kind::Direct),
        v1::ConversationKind::Group => Some(Kind::Group),
    }
}
