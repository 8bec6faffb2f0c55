//! Every kind of event survives its way over Redis.

use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use stonechat_host::Host;

use super::*;
use crate::wire::entry::samples;

const ORIGIN: Origin = [7; 16];

fn there_and_back(event: &Event) -> Event {
    let host = Host::system();
    let users = [UserId::parse("bob").unwrap(), UserId::parse("cyd").unwrap()];
    let bytes = encode(event, &users, &ORIGIN, &host);
    let header = header(&bytes).expect("our own version");
    assert_eq!(header.origin, ORIGIN);
    assert_eq!(header.ordered, is_ordered(event));
    let (said, for_whom) = decode(bytes, &host).expect("our own kind");
    assert_eq!(for_whom, users);
    match said {
        Said::Event(event) => event,
        other => panic!("not an event: {other:?}"),
    }
}

#[test]
fn a_promotion_survives_the_way() {
    let users = [UserId::parse("bob").unwrap()];
    for begins in [true, false] {
        let bytes = encode_promoted(ConversationId([3; 16]), begins, &users, &ORIGIN);
        assert!(header(&bytes).is_some_and(|header| header.origin == ORIGIN && !header.ordered));
        let (said, for_whom) = decode(bytes, &Host::system()).expect("our own kind");
        assert_eq!(for_whom, users);
        let Said::Promoted {
            conversation,
            begins: back,
        } = said
        else {
            panic!("another thing was said: {said:?}");
        };
        assert_eq!((conversation, back), (ConversationId([3; 16]), begins));
    }
}

#[test]
fn events_survive_the_way() {
    let user = UserId::parse("ada").unwrap();
    let conversation = ConversationId([3; 16]);
    let device = DeviceId::parse("phone").unwrap();
    let events = [
        Event::Receipts(Arc::new(ReceiptsMoved {
            conversation,
            members: vec![(user.clone(), Seq(4), Seq(3))],
            delivered_to_all: Seq(4),
            read_by_all: Seq(2),
        })),
        Event::OwnRow(conversation),
        Event::Typing {
            conversation,
            user: user.clone(),
            stopped: true,
        },
        Event::Presence(UserPresence {
            user,
            status: Status::Busy,
            last_active: Some(UnixMillis(0)),
        }),
        Event::Replaced {
            device: device.clone(),
            stream: StreamName::default(),
            by: SessionId::parse("0f.phone").unwrap(),
        },
        Event::Revoked {
            device: Some(device),
            at: UnixMillis(9),
        },
        Event::Revoked {
            device: None,
            at: UnixMillis(9),
        },
        Event::Control(SessionControl {
            frames: vec![Bytes::from_static(b"one"), Bytes::new()],
        }),
    ];
    for event in &events {
        assert_eq!(format!("{:?}", there_and_back(event)), format!("{event:?}"));
    }
}

/// I9: an entry that waits in a reader's queue keeps its own bytes there, not the event with all its users.
#[test]
fn i9_an_entry_holds_nothing_of_its_event() {
    let host = Host::system();
    let entry = samples::entry()
        .new_tree(&mut TestRunner::deterministic())
        .unwrap()
        .current();
    let wire = entry::encode(&entry);
    let event = Event::Entries(Arc::new([Arc::new(StoredEntry { entry, wire })]), None);
    let payload = encode(&event, &[], &ORIGIN, &host);
    let Some((Said::Event(Event::Entries(entries, _)), _)) = decode(payload.clone(), &host) else {
        panic!("another event came back");
    };
    assert!(!payload.as_ptr_range().contains(&entries[0].wire.as_ptr()));
}

#[test]
fn entries_keep_their_bytes_and_the_time_of_their_ack() {
    let mut runner = TestRunner::deterministic();
    let stored: Vec<Arc<StoredEntry>> = (0..16)
        .map(|_| {
            let entry = samples::entry().new_tree(&mut runner).unwrap().current();
            let wire = entry::encode(&entry);
            Arc::new(StoredEntry { entry, wire })
        })
        .collect();
    let acked = stonechat_host::monotonic();
    let Event::Entries(back, when) = there_and_back(&Event::Entries(stored.clone().into(), Some(acked))) else {
        panic!("another event came back");
    };
    assert_eq!(back.len(), stored.len());
    for (one, other) in back.iter().zip(&stored) {
        assert_eq!((&one.entry, &one.wire), (&other.entry, &other.wire));
    }
    let when = when.expect("just now");
    assert!(when.max(acked) - when.min(acked) < Duration::from_secs(1));
    let Event::Entries(_, None) = there_and_back(&Event::Entries(stored.into(), None)) else {
        panic!("a time from nowhere");
    };
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let host = Host::system();
    let mut bytes = encode(&Event::OwnRow(ConversationId([1; 16])), &[], &ORIGIN, &host).to_vec();
    assert!(header(&bytes[..HEADER - 1]).is_none());
    // A kind of a later version: field 100, empty.
    let later = [&bytes[..HEADER], &[0xa2, 0x06, 0x00]].concat();
    assert!(header(&later).is_some());
    assert!(decode(later.into(), &host).is_none());
    assert!(decode(Bytes::new(), &host).is_none());
    bytes[0] = VERSION + 1;
    assert!(header(&bytes).is_none());
}
