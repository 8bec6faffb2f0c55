//! Arbitrary entries for property tests.

use bytes::Bytes;
use proptest::prelude::*;

use crate::domain::{
    Body, ClientMsgId, Content, ConversationId, CorrelationId, DeviceId, Entry, Kind, Media, Member, MessageContent,
    Ordinal, Role, Sender, Seq, UnixMillis, UserId,
};

fn user() -> impl Strategy<Value = UserId> {
    "[A-Za-z0-9._@-]{1,64}".prop_map(|text| UserId::parse(&text).expect("matches the form"))
}

fn device() -> impl Strategy<Value = DeviceId> {
    "[A-Za-z0-9._:-]{1,64}".prop_map(|text| DeviceId::parse(&text).expect("matches the form"))
}

fn client_msg_id() -> impl Strategy<Value = ClientMsgId> {
    "[A-Za-z0-9._:-]{1,64}".prop_map(|text| ClientMsgId::parse(&text).expect("matches the form"))
}

fn seq() -> impl Strategy<Value = Seq> {
    (1..u64::MAX).prop_map(Seq)
}

fn member() -> impl Strategy<Value = Member> {
    let role = prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)];
    (user(), role).prop_map(|(user, role)| Member { user, role })
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    proptest::collection::vec(member(), 0..4)
}

fn content() -> impl Strategy<Value = MessageContent> {
    let data = proptest::collection::vec(any::<u8>(), 0..64);
    let content = prop_oneof![
        any::<String>().prop_map(Content::Text),
        ("[a-z]{1,8}", data).prop_map(|(scheme, data)| Content::Ciphertext {
            scheme,
            data: Bytes::from(data),
        }),
    ];
    let media = (any::<String>(), any::<String>(), any::<u64>()).prop_map(|(uri, content_type, size_bytes)| Media {
        uri,
        content_type,
        size_bytes,
    });
    let media = proptest::collection::vec(media, 0..3);
    (content, proptest::option::of(seq()), media).prop_map(|(content, reply_to, media)| MessageContent {
        content,
        reply_to,
        media,
    })
}

fn body() -> impl Strategy<Value = Body> {
    let kind = prop_oneof![Just(Kind::Direct), Just(Kind::Group)];
    prop_oneof![
        content().prop_map(Body::Message),
        (seq(), content()).prop_map(|(target, content)| Body::Edited { target, content }),
        (seq(), any::<String>()).prop_map(|(target, reason)| Body::Redacted { target, reason }),
        (seq(), any::<String>(), any::<bool>()).prop_map(|(target, reaction, removed)| Body::Reaction {
            target,
            reaction,
            removed
        }),
        (seq(), any::<bool>()).prop_map(|(target, pinned)| Body::Pin { target, pinned }),
        (kind, any::<String>(), members()).prop_map(|(kind, name, members)| Body::Created { kind, name, members }),
        members().prop_map(Body::Members),
        (user(), any::<bool>(), proptest::option::of(user())).prop_map(|(user, removed, promoted)| Body::Left {
            user,
            removed,
            promoted
        }),
        any::<String>().prop_map(Body::Renamed),
        seq().prop_map(|redacted_by| Body::Tombstone { redacted_by }),
    ]
}

fn sender() -> impl Strategy<Value = Sender> {
    (proptest::option::of(user()), proptest::option::of(device())).prop_map(|(user, device)| Sender { user, device })
}

/// Any entry with well-formed fields.
pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let origin = any::<i64>().prop_map(|time| (time != 0).then_some(UnixMillis(time)));
    let place = (any::<[u8; 16]>(), any::<u64>(), any::<i64>(), any::<u64>());
    let cause = (sender(), client_msg_id(), any::<[u8; 16]>(), origin);
    (place, cause, body()).prop_map(|(place, cause, body)| Entry {
        conversation: ConversationId::from_random(place.0),
        seq: Seq(place.1),
        time: UnixMillis(place.2),
        ordinal: Ordinal(place.3),
        sender: cause.0,
        client_msg_id: cause.1,
        correlation: CorrelationId(cause.2),
        origin_time: cause.3,
        body,
    })
}
