//! What nodes said before and what newer ones will say: golden bytes are understood for ever, and what is not known is ignored, or
//! taken for lost and read from the log (I5), but never guessed, and takes nothing else along (I8).

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use stonechat_host::Host;
use stonechat_proto::node::v1 as proto;

use super::groups::acquainted;
use super::{each_redis, listening, next, next_number, numbered, record, session, until, user};
use crate::bus::redis::codec::Said;
use crate::bus::redis::names::Key;
use crate::bus::redis::{RedisBus, codec};
use crate::bus::{Bus, Event, Topic};

/// A field that no message has, of an empty message.
const LATER_FIELD: [u8; 3] = [0xa2, 0x06, 0x00];
/// Header of an event of another node: version, flags, the name of its bus.
const HEADER: [u8; 18] = [1, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];

/// The golden bytes of these messages, by name.
fn golden(message: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/golden");
    let files = std::fs::read_dir(folder).expect("the golden files");
    let mut found = Vec::new();
    for path in files.map(|file| file.expect("readable").path()) {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if name.starts_with(&format!("{message}.")) {
            let digits: String = std::fs::read_to_string(&path)
                .expect("readable")
                .split_whitespace()
                .collect();
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
            found.push((name, (0..digits.len()).step_by(2).map(byte).collect()));
        }
    }
    found
}

fn payload(body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&HEADER[..]);
    bytes.put_slice(body);
    bytes.freeze()
}

/// What is said, without when it was acknowledged: that is by the clock of who says it.
fn unmeasured(body: &[u8]) -> proto::BusEvent {
    let mut event = proto::BusEvent::decode(body).expect("an event");
    if let Some(proto::bus_event::Event::Entries(entries)) = &mut event.event {
        entries.acked_ms = 0;
    }
    event
}

/// A release understands what the one before said, and says it the same way, also when a newer one says more beside it.
#[test]
fn golden_events_are_understood_and_said_alike() {
    let host = Host::system();
    let events = golden("bus_event");
    assert!(events.len() >= 10, "{events:?}");
    for (name, golden) in events {
        for said in [golden.clone(), [&golden[..], &LATER_FIELD[..]].concat()] {
            let (event, users) = codec::decode(payload(&said), &host).unwrap_or_else(|| panic!("{name}"));
            let mut header = HEADER;
            let origin = header[2..].try_into().expect("16 bytes");
            let again = match event {
                Said::Event(event) => {
                    header[1] = u8::from(codec::is_ordered(&event));
                    codec::encode(&event, &users, &origin, &host)
                }
                Said::Promoted { conversation, begins } => {
                    codec::encode_promoted(conversation, begins, &users, &origin)
                }
            };
            assert_eq!(again[..HEADER.len()], header, "{name}");
            assert_eq!(unmeasured(&again[HEADER.len()..]), unmeasured(&golden), "{name}");
        }
    }
}

/// The same of what is kept in Redis, where a later version of it may lie as well.
#[test]
fn golden_records_are_understood_and_kept_alike() {
    let statuses = golden("status_record");
    let nodes = golden("node_record");
    assert!(statuses.len() >= 2 && nodes.len() >= 2);
    for (name, golden) in statuses {
        let (record, written) = codec::decode_status(&golden).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(codec::encode_status(&record, written), golden, "{name}");
        let newer = [&golden[..], &LATER_FIELD[..]].concat();
        assert_eq!(codec::decode_status(&newer), Some((record, written)), "{name}");
    }
    for (name, golden) in nodes {
        let node = codec::decode_node(&golden).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(codec::encode_node(&node), golden, "{name}");
        let newer = [&golden[..], &LATER_FIELD[..]].concat();
        assert_eq!(codec::decode_node(&newer), Some(node), "{name}");
    }
}

proptest! {
    #[test]
    fn mutated_golden_bytes_never_panic(
        row in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let all = [golden("bus_event"), golden("status_record"), golden("node_record")].concat();
        let mut bytes = payload(&row.get(&all).1).to_vec();
        for (place, value) in edits {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = codec::header(&bytes);
        let _ = codec::decode_status(&bytes);
        let _ = codec::decode_node(&bytes);
        let _ = codec::decode(bytes.into(), &Host::system());
    }
}

/// What a newer node may say that this one does not know: another header, another kind of event, an entry or a status of another
/// kind, and less than a header.
fn unknown() -> Vec<Bytes> {
    let mut other_header = HEADER;
    other_header[0] = 2;
    let of_entry = proto::BusEvent {
        event: Some(proto::bus_event::Event::Entries(proto::Entries {
            entries: vec![Bytes::from_static(&LATER_FIELD)],
            acked_ms: 0,
        })),
        users: Vec::new(),
    };
    let of_status = proto::BusEvent {
        event: Some(proto::bus_event::Event::Presence(proto::Presence {
            user: "bob".to_owned(),
            status: 99,
            last_active_ms: None,
        })),
        users: Vec::new(),
    };
    vec![
        Bytes::copy_from_slice(&other_header),
        payload(&LATER_FIELD),
        payload(&of_entry.encode_to_vec()),
        payload(&of_status.encode_to_vec()),
        payload(&[]),
        Bytes::new(),
    ]
}

/// I5, I8: who listens is told that something is lost, once for each, and hears what comes next.
#[tokio::test]
async fn i5_what_a_newer_node_says_is_taken_for_lost() {
    for options in each_redis() {
        let (here, there) = (listening(&options).await, listening(&options).await);
        let topics = [
            Topic::User(user("ada")),
            Topic::Presence(user("ada")),
            Topic::Session(session("s1")),
        ];
        for topic in topics {
            let mut subscription = there.subscribe(topic.clone()).await;
            for (number, payload) in (0..).zip(unknown()) {
                let heard = here.fleet.publish(std::slice::from_ref(&topic), &payload).await;
                assert_eq!(heard, [Some(1)], "{payload:?}");
                assert!(matches!(next(&mut subscription).await, Event::Lost), "{payload:?}");
                assert!(subscription.take_lagged(), "{payload:?}");
                assert_eq!(here.publish(&topic, numbered(number)).await, 1);
                assert_eq!(next_number(&mut subscription).await, number);
            }
        }
    }
}

/// I5: on a channel of all gateways it may have been for anybody.
#[tokio::test]
async fn i5_what_a_newer_node_says_to_all_gateways_is_lost_for_each_user() {
    for options in each_redis() {
        let (here, there) = acquainted(&options).await;
        let mut subscriptions = Vec::new();
        for name in ["ada", "bob"] {
            subscriptions.push(there.subscribe(Topic::User(user(name))).await);
        }
        let heard = here.fleet.publish(&[Topic::Gateways(3)], &payload(&LATER_FIELD)).await;
        assert_eq!(heard, [Some(1)]);
        for subscription in &mut subscriptions {
            assert!(matches!(next(subscription).await, Event::Lost));
            assert!(subscription.take_lagged());
        }
    }
}

/// Writes what a newer node would keep.
async fn keep(bus: &RedisBus, key: &Key, command: &[&str], value: &[u8]) {
    let (verb, middle) = command.split_first().expect("a verb");
    let add = |commands: &mut redis::Pipeline, key: &str| {
        commands.cmd(verb).arg(key).arg(middle).arg(value);
    };
    bus.ask(key, add).await.expect("an answer");
}

/// A record that nobody here understands hides no other, of the same user or of another node.
#[tokio::test]
async fn what_a_newer_node_keeps_hides_nothing_else() {
    for options in each_redis() {
        let (here, there) = acquainted(&options).await;
        let ada = user("ada");
        here.set_status(&ada, &session("s1"), record("g1")).await;
        let names = &here.fleet.names;
        let later = proto::StatusRecord {
            status: 99,
            ..proto::StatusRecord::default()
        };
        keep(&here, &names.statuses(&ada), &["HSET", "s2"], &later.encode_to_vec()).await;
        keep(&here, &names.statuses(&ada), &["HSET", "s3"], b"\xff").await;
        keep(&here, &names.node("newer"), &["SET"], b"\xff").await;
        keep(&here, &names.nodes(), &["SADD"], b"newer").await;
        until("both are known", || async {
            there.nodes().await.is_some_and(|nodes| nodes.len() == 2)
        })
        .await;
        let records = there.statuses(std::slice::from_ref(&ada)).await;
        assert_eq!(records[0].len(), 1, "{records:?}");
        assert_eq!(records[0][0].gateway, "g1");
    }
}
