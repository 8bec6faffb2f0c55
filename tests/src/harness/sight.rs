//! From what the wire carries to what the checker knows.

use prost::Message;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::entry::Body;
use stonechat_proto::v1::message_content::Content;

use crate::checker::{BodyHash, FinalEntry, MarkerValues, Membership, MessageKey, Seq, Sighting};

/// The hash of an entry's body; `None` for a tombstone.
#[must_use]
pub fn body_hash(body: Option<&Body>) -> Option<BodyHash> {
    match body {
        None | Some(Body::Tombstone(_)) => None,
        Some(body) => {
            let alone = v1::Entry {
                body: Some(body.clone()),
                ..v1::Entry::default()
            };
            Some(BodyHash::of(&alone.encode_to_vec()))
        }
    }
}

/// An entry as a reader saw it.
#[must_use]
pub fn sighting(entry: &v1::Entry) -> Sighting {
    Sighting {
        seq: Seq(entry.seq),
        key: key(entry),
        body: body_hash(entry.body.as_ref()),
    }
}

/// The text of a message; empty when the entry is something else.
#[must_use]
pub fn text_of(entry: &v1::Entry) -> &str {
    match &entry.body {
        Some(Body::Message(v1::MessageContent {
            content: Some(Content::Text(text)),
            ..
        })) => text,
        _ => "",
    }
}

fn key(entry: &v1::Entry) -> MessageKey {
    MessageKey {
        conversation: entry.conversation_id.as_str().into(),
        user: entry.sender_user_id.as_str().into(),
        device: entry.sender_device_id.as_str().into(),
        id: entry.client_msg_id.as_str().into(),
    }
}

/// An entry of the final log.
pub(super) fn final_entry(entry: &v1::Entry) -> FinalEntry {
    FinalEntry {
        seq: Seq(entry.seq),
        key: key(entry),
        body: body_hash(entry.body.as_ref()),
        membership: membership(entry.body.as_ref()),
    }
}

fn membership(body: Option<&Body>) -> Membership {
    let users = |members: &[v1::Member]| members.iter().map(|member| member.user_id.as_str().into()).collect();
    match body {
        Some(Body::Created(created)) => Membership::Joined(users(&created.members)),
        Some(Body::Members(changed)) => Membership::Joined(users(&changed.members)),
        Some(Body::Left(left)) => Membership::Left(left.user_id.as_str().into()),
        _ => Membership::Unchanged,
    }
}

/// The header of a frame that appends, and the body that its entry will have.
pub(super) fn append_of(asked: &Asked) -> Option<(&v1::AppendHeader, BodyHash)> {
    let (header, body) = match asked {
        Asked::Send(send) => (&send.header, Body::Message(send.content.clone()?)),
        Asked::Edit(edit) => (
            &edit.header,
            Body::Edited(v1::MessageEdited {
                target_seq: edit.target_seq,
                content: edit.content.clone(),
            }),
        ),
        Asked::Redact(redact) => (
            &redact.header,
            Body::Redacted(v1::MessageRedacted {
                target_seq: redact.target_seq,
                reason: redact.reason.clone(),
            }),
        ),
        Asked::React(react) => (
            &react.header,
            Body::Reaction(v1::ReactionChanged {
                target_seq: react.target_seq,
                reaction: react.reaction.clone(),
                removed: react.remove,
            }),
        ),
        Asked::Pin(pin) => (
            &pin.header,
            Body::Pin(v1::PinChanged {
                target_seq: pin.target_seq,
                pinned: !pin.unpin,
            }),
        ),
        _ => return None,
    };
    Some((header.as_ref()?, body_hash(Some(&body))?))
}

/// Own markers.
pub(super) fn own(markers: &v1::Markers) -> MarkerValues {
    MarkerValues {
        delivered: Seq(markers.delivered_seq),
        read: Seq(markers.read_seq),
    }
}

/// Markers as the others see them.
pub(super) fn public(receipt: &v1::MemberReceipt) -> MarkerValues {
    MarkerValues {
        delivered: Seq(receipt.delivered_seq),
        read: Seq(receipt.read_seq),
    }
}
