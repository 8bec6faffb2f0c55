//! What nodes tell each other over Redis: nodes of two releases share one while they are replaced, and what is kept there
//! outlives those who wrote it.

use prost::Message;
use stonechat_proto::node::v1::bus_event::Event;
use stonechat_proto::node::v1::{
    BusEvent, Control, Entries, MemberMarkers, NodeRecord, OwnRow, Presence, Promoted, Receipts, Replaced, Revoked,
    StatusRecord, Typing,
};
use stonechat_proto::v1::entry::Body;
use stonechat_proto::v1::{ClientFrame, Status};

use crate::{client_frames, entries, parts};

fn conversation() -> prost::bytes::Bytes {
    vec![0x6f; 16].into()
}

fn told(event: Event) -> BusEvent {
    BusEvent {
        event: Some(event),
        users: Vec::new(),
    }
}

fn new_entries() -> Entries {
    let stored = |body: Body| entries::entry(body).encode_to_vec().into();
    Entries {
        entries: parts::text().map(Body::Message).map(stored).into_iter().collect(),
        acked_ms: 1_764_000_000_123,
    }
}

fn receipts() -> Receipts {
    Receipts {
        conversation: conversation(),
        members: vec![MemberMarkers {
            user: "bob".to_owned(),
            delivered: 18,
            read: 17,
        }],
        delivered_to_all: 16,
        read_by_all: 15,
    }
}

fn control() -> Control {
    let frames = client_frames::client_frames();
    let frame = |(_, frame): &(&str, ClientFrame)| frame.encode_to_vec().into();
    Control {
        frames: frames.iter().take(2).map(frame).collect(),
    }
}

/// Name of the arm (and of a variant after a dot), and the value.
pub(crate) fn events() -> Vec<(&'static str, BusEvent)> {
    let typing = Typing {
        conversation: conversation(),
        user: "bob".to_owned(),
        stopped: true,
    };
    let presence = Presence {
        user: "bob".to_owned(),
        status: Status::Away.into(),
        last_active_ms: Some(1_764_000_000_000),
    };
    let replaced = Replaced {
        device: "phone".to_owned(),
        stream: "push".to_owned(),
        by: "0f.phone:1".to_owned(),
    };
    let revoked = |device: Option<&str>| Revoked {
        device: device.map(str::to_owned),
        at_ms: 1_764_000_000_123,
    };
    let row = OwnRow {
        conversation: conversation(),
    };
    let at_once = BusEvent {
        users: vec!["alice".to_owned(), "bob".to_owned()],
        ..told(Event::Entries(new_entries()))
    };
    let promoted = BusEvent {
        users: vec!["alice".to_owned(), "bob".to_owned()],
        ..told(Event::Promoted(Promoted {
            conversation: conversation(),
            begins: true,
        }))
    };
    vec![
        ("promoted", promoted),
        ("entries", told(Event::Entries(new_entries()))),
        ("entries.of_large_group", at_once),
        ("receipts", told(Event::Receipts(receipts()))),
        ("own_row", told(Event::OwnRow(row))),
        ("typing", told(Event::Typing(typing))),
        ("presence", told(Event::Presence(presence))),
        ("replaced", told(Event::Replaced(replaced))),
        ("revoked", told(Event::Revoked(revoked(Some("phone"))))),
        ("revoked.all_devices", told(Event::Revoked(revoked(None)))),
        ("control", told(Event::Control(control()))),
    ]
}

/// What sessions say of their users, as it is kept.
pub(crate) fn statuses() -> Vec<(&'static str, StatusRecord)> {
    let of_session = StatusRecord {
        status: Status::Online.into(),
        last_active_ms: 1_764_000_000_000,
        gateway: "node-1".to_owned(),
        valid_until_ms: 1_764_000_060_000,
        written_ms: 1_764_000_000_123,
    };
    let chosen = StatusRecord {
        status: Status::Busy.into(),
        gateway: String::new(),
        ..of_session
    };
    vec![("of_session", of_session), ("chosen", chosen)]
}

/// What nodes say of themselves, as it is kept.
pub(crate) fn nodes() -> Vec<(&'static str, NodeRecord)> {
    let whole = NodeRecord {
        name: "node-1".to_owned(),
        address: "10.0.0.1:7402".to_owned(),
        core: true,
        hears_groups: true,
        clock_ahead_ms: Some(-12),
        clock_unsure_ms: 3,
        hears_promoted: false,
    };
    let without_clock = NodeRecord {
        clock_ahead_ms: None,
        clock_unsure_ms: 0,
        ..whole.clone()
    };
    let hears_promoted = NodeRecord {
        hears_promoted: true,
        ..whole.clone()
    };
    vec![
        ("whole", whole),
        ("without_clock", without_clock),
        ("hears_promoted", hears_promoted),
    ]
}
