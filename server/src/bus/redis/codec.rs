//! Events between their form in this process and the bytes that Redis carries.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use stonechat_host::Host;
use stonechat_proto::node::v1 as proto;
use stonechat_proto::v1;

use crate::bus::{Event, NodeRecord, ReceiptsMoved, SessionControl, Status, StatusRecord, UserPresence};
use crate::domain::{ClockOffset, ConversationId, DeviceId, Seq, SessionId, StreamName, UnixMillis, UserId};
use crate::storage::StoredEntry;
use crate::wire::entry;

/// Version of the header. Another one is of a newer or older node: ignored, counted as lost.
const VERSION: u8 = 1;
/// Flag of an event whose order among all publishers counts, so that its publisher too hears it from Redis.
const ORDERED: u8 = 1;
const HEADER: usize = 2 + size_of::<Origin>();
/// An acknowledgement further back than this was made by another clock, or is no measurement of live delivery.
const ACKED_WITHIN_MS: i64 = 60_000;

/// Names the bus of one process: random at each start.
pub(super) type Origin = [u8; 16];

/// What the header of a payload says.
pub(super) struct Header {
    pub(super) origin: Origin,
    pub(super) ordered: bool,
}

/// Whether the order of this event among those of all publishers counts: of two streams that replace each other at
/// once, all must hear the same one last.
pub(super) fn is_ordered(event: &Event) -> bool {
    matches!(event, Event::Replaced { .. })
}

/// What a payload says.
#[derive(Debug)]
pub(super) enum Said {
    /// An event.
    Event(Event),
    /// Events of a conversation go to a channel of its own.
    Promoted {
        conversation: ConversationId,
        /// Nothing for these users is there yet.
        begins: bool,
    },
}

/// Encodes an event once, for all who get it; `users` says for whom it is where its channel does not.
pub(super) fn encode(event: &Event, users: &[UserId], origin: &Origin, host: &Host) -> Bytes {
    let flags = if is_ordered(event) { ORDERED } else { 0 };
    pack(to_proto(event, host), users, flags, origin)
}

/// Encodes that a conversation was promoted, for these users.
pub(super) fn encode_promoted(conversation: ConversationId, begins: bool, users: &[UserId], origin: &Origin) -> Bytes {
    let promoted = proto::Promoted {
        conversation: bytes_of(&conversation),
        begins,
    };
    pack(Some(proto::bus_event::Event::Promoted(promoted)), users, 0, origin)
}

fn pack(event: Option<proto::bus_event::Event>, users: &[UserId], flags: u8, origin: &Origin) -> Bytes {
    let body = proto::BusEvent {
        event,
        users: users.iter().map(|user| user.as_str().to_owned()).collect(),
    };
    let mut bytes = BytesMut::with_capacity(HEADER + body.encoded_len());
    bytes.put_u8(VERSION);
    bytes.put_u8(flags);
    bytes.put_slice(origin);
    bytes.put_slice(&body.encode_to_vec());
    bytes.freeze()
}

/// Reads the header; `None` of a version that is not known.
pub(super) fn header(payload: &[u8]) -> Option<Header> {
    let (header, _) = payload.split_first_chunk::<HEADER>()?;
    let [VERSION, flags, origin @ ..] = header else {
        return None;
    };
    Some(Header {
        origin: *origin,
        ordered: flags & ORDERED != 0,
    })
}

/// Reads what comes after the header and for whom it is; `None` of a kind that is not known, or when it is malformed.
pub(super) fn decode(mut payload: Bytes, host: &Host) -> Option<(Said, Vec<UserId>)> {
    let body = payload.split_off(HEADER.min(payload.len()));
    let body = proto::BusEvent::decode(body).ok()?;
    let users = body.users.iter().map(|user| UserId::parse(user).ok());
    let said = match body.event? {
        proto::bus_event::Event::Promoted(promoted) => Said::Promoted {
            conversation: conversation_of(&promoted.conversation)?,
            begins: promoted.begins,
        },
        kind => Said::Event(from_proto(kind, host)?),
    };
    Some((said, users.collect::<Option<_>>()?))
}

fn to_proto(event: &Event, host: &Host) -> Option<proto::bus_event::Event> {
    use proto::bus_event::Event as Kind;
    let kind = match event {
        Event::Entries(entries, acked) => Kind::Entries(proto::Entries {
            entries: entries.iter().map(|stored| stored.wire.clone()).collect(),
            acked_ms: acked.map_or(0, |at| host.clock.unix_ms().saturating_sub(millis(at.elapsed()))),
        }),
        Event::Receipts(moved) => Kind::Receipts(receipts_to_proto(moved)),
        Event::OwnRow(conversation) => Kind::OwnRow(proto::OwnRow {
            conversation: bytes_of(conversation),
        }),
        Event::Typing {
            conversation,
            user,
            stopped,
        } => Kind::Typing(proto::Typing {
            conversation: bytes_of(conversation),
            user: user.as_str().to_owned(),
            stopped: *stopped,
        }),
        Event::Presence(presence) => Kind::Presence(proto::Presence {
            user: presence.user.as_str().to_owned(),
            status: status_to_proto(presence.status).into(),
            last_active_ms: presence.last_active.map(|at| at.0),
        }),
        Event::Replaced { device, stream, by } => Kind::Replaced(proto::Replaced {
            device: device.as_str().to_owned(),
            stream: stream.as_str().to_owned(),
            by: by.as_str().to_owned(),
        }),
        Event::Revoked { device, at } => Kind::Revoked(proto::Revoked {
            device: device.as_ref().map(|device| device.as_str().to_owned()),
            at_ms: at.0,
        }),
        Event::Control(control) => Kind::Control(proto::Control {
            frames: control.frames.clone(),
        }),
        // Each bus says it itself.
        Event::Lost => return None,
    };
    Some(kind)
}

fn from_proto(kind: proto::bus_event::Event, host: &Host) -> Option<Event> {
    use proto::bus_event::Event as Kind;
    Some(match kind {
        Kind::Entries(entries) => entries_from_proto(entries, host)?,
        Kind::Receipts(moved) => Event::Receipts(Arc::new(receipts_from_proto(moved)?)),
        Kind::OwnRow(row) => Event::OwnRow(conversation_of(&row.conversation)?),
        Kind::Typing(typing) => Event::Typing {
            conversation: conversation_of(&typing.conversation)?,
            user: UserId::parse(&typing.user).ok()?,
            stopped: typing.stopped,
        },
        Kind::Presence(presence) => Event::Presence(UserPresence {
            user: UserId::parse(&presence.user).ok()?,
            status: status_from_proto(presence.status)?,
            last_active: presence.last_active_ms.map(UnixMillis),
        }),
        Kind::Replaced(replaced) => Event::Replaced {
            device: DeviceId::parse(&replaced.device).ok()?,
            stream: StreamName::parse(&replaced.stream).ok()?,
            by: SessionId::parse(&replaced.by).ok()?,
        },
        Kind::Revoked(revoked) => Event::Revoked {
            device: match revoked.device {
                Some(device) => Some(DeviceId::parse(&device).ok()?),
                None => None,
            },
            at: UnixMillis(revoked.at_ms),
        },
        Kind::Control(control) => Event::Control(SessionControl { frames: control.frames }),
        // No event of a session's.
        Kind::Promoted(_) => return None,
    })
}

fn entries_from_proto(entries: proto::Entries, host: &Host) -> Option<Event> {
    let stored: Option<Vec<Arc<StoredEntry>>> = entries
        .entries
        .into_iter()
        .map(|wire| {
            let entry = entry::decode(&wire).ok()?;
            // Bytes of its own: they wait in queues of readers (I9), which must not keep all of what came with them there.
            let wire = Bytes::copy_from_slice(&wire);
            Some(Arc::new(StoredEntry { entry, wire }))
        })
        .collect();
    let ago = host.clock.unix_ms().saturating_sub(entries.acked_ms);
    let measured = entries.acked_ms != 0 && (0..ACKED_WITHIN_MS).contains(&ago);
    let ago = Duration::from_millis(u64::try_from(ago).unwrap_or(0));
    let acked = measured.then(|| stonechat_host::monotonic().checked_sub(ago)).flatten();
    Some(Event::Entries(stored?.into(), acked))
}

fn receipts_to_proto(moved: &ReceiptsMoved) -> proto::Receipts {
    let members = moved
        .members
        .iter()
        .map(|(user, delivered, read)| proto::MemberMarkers {
            user: user.as_str().to_owned(),
            delivered: delivered.0,
            read: read.0,
        });
    proto::Receipts {
        conversation: bytes_of(&moved.conversation),
        members: members.collect(),
        delivered_to_all: moved.delivered_to_all.0,
        read_by_all: moved.read_by_all.0,
    }
}

fn receipts_from_proto(moved: proto::Receipts) -> Option<ReceiptsMoved> {
    let member = |member: &proto::MemberMarkers| {
        let user = UserId::parse(&member.user).ok()?;
        Some((user, Seq(member.delivered), Seq(member.read)))
    };
    Some(ReceiptsMoved {
        conversation: conversation_of(&moved.conversation)?,
        members: moved.members.iter().map(member).collect::<Option<_>>()?,
        delivered_to_all: Seq(moved.delivered_to_all),
        read_by_all: Seq(moved.read_by_all),
    })
}

/// Encodes what a session says, as it is kept.
pub(super) fn encode_status(record: &StatusRecord, written: UnixMillis) -> Vec<u8> {
    let record = proto::StatusRecord {
        status: status_to_proto(record.status).into(),
        last_active_ms: record.last_active.0,
        gateway: record.gateway.clone(),
        valid_until_ms: record.valid_until.0,
        written_ms: written.0,
    };
    record.encode_to_vec()
}

/// A record and when it was written; `None` when it is malformed.
pub(super) fn decode_status(bytes: &[u8]) -> Option<(StatusRecord, UnixMillis)> {
    let record = proto::StatusRecord::decode(bytes).ok()?;
    let written = UnixMillis(record.written_ms);
    let record = StatusRecord {
        status: status_from_proto(record.status)?,
        last_active: UnixMillis(record.last_active_ms),
        gateway: record.gateway,
        valid_until: UnixMillis(record.valid_until_ms),
    };
    Some((record, written))
}

/// Encodes what a node says of itself.
pub(super) fn encode_node(node: &NodeRecord) -> Vec<u8> {
    let node = proto::NodeRecord {
        name: node.name.clone(),
        address: node.address.clone(),
        core: node.core,
        hears_groups: node.hears_groups,
        hears_promoted: node.hears_promoted,
        clock_ahead_ms: node.clock.map(|clock| clock.ahead_ms),
        clock_unsure_ms: node.clock.map_or(0, |clock| clock.unsure_ms),
    };
    node.encode_to_vec()
}

/// Decodes what [`encode_node`] made.
pub(super) fn decode_node(bytes: &[u8]) -> Option<NodeRecord> {
    let node = proto::NodeRecord::decode(bytes).ok()?;
    let clock = |ahead_ms| ClockOffset {
        ahead_ms,
        unsure_ms: node.clock_unsure_ms,
    };
    Some(NodeRecord {
        name: node.name,
        address: node.address,
        core: node.core,
        hears_groups: node.hears_groups,
        hears_promoted: node.hears_promoted,
        clock: node.clock_ahead_ms.map(clock),
    })
}

fn status_to_proto(status: Status) -> v1::Status {
    match status {
        Status::Offline => v1::Status::Offline,
        Status::Away => v1::Status::Away,
        Status::Busy => v1::Status::Busy,
        Status::Online => v1::Status::Online,
    }
}

fn status_from_proto(status: i32) -> Option<Status> {
    match v1::Status::try_from(status).ok()? {
        v1::Status::Unspecified => None,
        v1::Status::Offline => Some(Status::Offline),
        v1::Status::Away => Some(Status::Away),
        v1::Status::Busy => Some(Status::Busy),
        v1::Status::Online => Some(Status::Online),
    }
}

fn bytes_of(conversation: &ConversationId) -> Bytes {
    Bytes::copy_from_slice(&conversation.0)
}

fn conversation_of(bytes: &[u8]) -> Option<ConversationId> {
    Some(ConversationId(bytes.try_into().ok()?))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "tests/codec.rs"]
mod tests;
