//! A golden entry with each body.

use stonechat_proto::v1::entry::Body;
use stonechat_proto::v1::{
    ConversationCreated, ConversationKind, ConversationRenamed, Entry, MemberLeft, MembersChanged, MessageEdited,
    MessageRedacted, PinChanged, ReactionChanged, Tombstone,
};

use crate::parts::{conversation, correlation, members, secret, text};

/// Name of the arm (and of a variant after a dot), and the value.
pub(crate) fn entries() -> Vec<(&'static str, Entry)> {
    bodies().into_iter().map(|(name, body)| (name, entry(body))).collect()
}

pub(crate) fn entry(body: Body) -> Entry {
    Entry {
        conversation_id: conversation(),
        seq: 18,
        server_time_ms: 1_764_000_000_123,
        ordinal: 11,
        sender_user_id: "alice".to_owned(),
        sender_device_id: "phone".to_owned(),
        client_msg_id: "m-42".to_owned(),
        correlation_id: correlation(),
        origin_time_ms: 1_600_000_000_000,
        body: Some(body),
    }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let edited = MessageEdited {
        target_seq: 12,
        content: text(),
    };
    let redacted = MessageRedacted {
        target_seq: 12,
        reason: "spam".to_owned(),
    };
    let reaction = ReactionChanged {
        target_seq: 12,
        reaction: "👍🏽".to_owned(),
        removed: true,
    };
    let pin = PinChanged {
        target_seq: 12,
        pinned: true,
    };
    let created = ConversationCreated {
        kind: ConversationKind::Group as i32,
        name: "Crew".to_owned(),
        members: members(),
    };
    let left = MemberLeft {
        user_id: "bob".to_owned(),
        removed: true,
        promoted_user_id: "carol".to_owned(),
    };
    let renamed = ConversationRenamed {
        name: "Crew 2".to_owned(),
    };
    vec![
        ("message", text().map(Body::Message).expect("a text")),
        ("message.ciphertext", secret().map(Body::Message).expect("a ciphertext")),
        ("edited", Body::Edited(edited)),
        ("redacted", Body::Redacted(redacted)),
        ("reaction", Body::Reaction(reaction)),
        ("pin", Body::Pin(pin)),
        ("created", Body::Created(created)),
        ("members", Body::Members(MembersChanged { members: members() })),
        ("left", Body::Left(left)),
        ("renamed", Body::Renamed(renamed)),
        ("tombstone", Body::Tombstone(Tombstone { redacted_by_seq: 19 })),
    ]
}
