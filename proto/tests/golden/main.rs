//! Golden bytes of every frame and entry: what is on the wire and on disk today must decode for ever.
//!
//! `proto/golden/<message>.<arm>.hex` is only ever added. `STONECHAT_WRITE_GOLDEN=1 cargo test -p stonechat-proto` writes
//! the missing ones and never touches one that exists.

mod bus;
mod client_frames;
mod entries;
mod forwards;
mod parts;
mod server_frames;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use prost::Message;
use stonechat_proto::node::v1::{BusEvent, NodeRecord, StatusRecord};
use stonechat_proto::v1::{ClientFrame, Entry, ServerFrame};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<&str> = digits
        .as_bytes()
        .chunks(100)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    lines.join("\n") + "\n"
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| {
        let text: String = pair.iter().collect();
        u8::from_str_radix(&text, 16).expect("golden files hold hex digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// The committed bytes of a row; writes them when they are missing and the environment asks for it.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(format!("{name}.hex"));
    if !path.exists() && std::env::var_os("STONECHAT_WRITE_GOLDEN").is_some() {
        fs::write(&path, hex(bytes)).expect("the golden folder takes files");
    }
    let text = fs::read_to_string(&path);
    unhex(&text.unwrap_or_else(|error| panic!("{}: {error}; STONECHAT_WRITE_GOLDEN=1 writes it", path.display())))
}

fn holds<M: Message + Default + PartialEq + Debug>(message: &str, rows: Vec<(&'static str, M)>) {
    for (arm, value) in rows {
        let name = format!("{message}.{arm}");
        let bytes = value.encode_to_vec();
        let golden = golden(&name, &bytes);
        assert_eq!(hex(&bytes), hex(&golden), "{name} is encoded differently than it was");
        let decoded = M::decode(golden.as_slice());
        assert_eq!(decoded.as_ref(), Ok(&value), "{name} does not come back as it was");
    }
}

#[test]
fn client_frames_have_their_golden_bytes() {
    holds("client_frame", client_frames::client_frames());
}

#[test]
fn server_frames_have_their_golden_bytes() {
    holds("server_frame", server_frames::server_frames());
}

#[test]
fn entries_have_their_golden_bytes() {
    holds("entry", entries::entries());
}

#[test]
fn what_nodes_say_has_its_golden_bytes() {
    holds("forward_request", forwards::requests());
    holds("forward_response", forwards::responses());
    holds("bus_event", bus::events());
    holds("status_record", bus::statuses());
    holds("node_record", bus::nodes());
}

/// Arms of a message's oneof `body`, from the contract itself.
fn arms(message: &str) -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(stonechat_proto::FILE_DESCRIPTOR_SET).expect("own descriptors");
    let public = set.file.iter().filter(|file| file.package() == "stonechat.v1");
    let found = public
        .flat_map(|file| &file.message_type)
        .find(|found| found.name() == message);
    let fields = &found.unwrap_or_else(|| panic!("no message {message}")).field;
    fields
        .iter()
        .filter(|field| field.oneof_index.is_some())
        .map(|field| field.name().to_owned())
        .collect()
}

fn rows<M>(rows: &[(&'static str, M)]) -> BTreeSet<String> {
    let arm = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    rows.iter().map(|(name, _)| arm(name)).collect()
}

/// The same of what nodes tell each other, which no client sees by reflection: the oneof of a message in the text of its file.
fn arms_between_nodes(file: &str, message: &str) -> BTreeSet<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("stonechat/node/v1")
        .join(file);
    let text = fs::read_to_string(path).expect("the contract");
    let (_, of_message) = text.split_once(&format!("message {message} {{")).expect("the message");
    let (_, of_oneof) = of_message.split_once("oneof ").expect("a oneof");
    let lines = of_oneof.lines().skip(1).map(str::trim).take_while(|line| *line != "}");
    let arms = lines.filter(|line| !line.starts_with("//"));
    let name = |line: &str| line.split_whitespace().nth(1).expect("a name").to_owned();
    arms.map(name).collect()
}

#[test]
fn every_arm_has_a_golden_row() {
    assert_eq!(arms("ClientFrame"), rows(&client_frames::client_frames()));
    assert_eq!(arms("ServerFrame"), rows(&server_frames::server_frames()));
    assert_eq!(arms("Entry"), rows(&entries::entries()));
    assert_eq!(arms_between_nodes("bus.proto", "BusEvent"), rows(&bus::events()));
    assert_eq!(
        arms_between_nodes("forward.proto", "ForwardResponse"),
        rows(&forwards::responses())
    );
    // Of what the system asks for there is a row as well, which is no arm.
    let requests = rows(&forwards::requests());
    assert!(arms_between_nodes("forward.proto", "ForwardRequest").is_subset(&requests));
}

/// The name and the bytes of each row.
fn all_rows() -> Vec<(String, Vec<u8>)> {
    fn of<M: Message>(message: &str, rows: Vec<(&'static str, M)>) -> Vec<(String, Vec<u8>)> {
        let row = |(arm, value): (&str, M)| (format!("{message}.{arm}"), value.encode_to_vec());
        rows.into_iter().map(row).collect()
    }
    [
        of("client_frame", client_frames::client_frames()),
        of("server_frame", server_frames::server_frames()),
        of("entry", entries::entries()),
        of("forward_request", forwards::requests()),
        of("forward_response", forwards::responses()),
        of("bus_event", bus::events()),
        of("status_record", bus::statuses()),
        of("node_record", bus::nodes()),
    ]
    .concat()
}

#[test]
fn every_golden_file_is_of_a_row() {
    let known: BTreeSet<String> = all_rows().into_iter().map(|(name, _)| format!("{name}.hex")).collect();
    for file in fs::read_dir(folder()).expect("golden folder") {
        let name = file.expect("a file").file_name().to_string_lossy().into_owned();
        assert!(
            known.contains(&name),
            "{name} belongs to no row: rows are never taken away"
        );
    }
}

/// Decodes as every message; what decodes must encode again to something that decodes to the same.
fn decode_all(bytes: &[u8]) {
    decode_one::<ClientFrame>(bytes);
    decode_one::<ServerFrame>(bytes);
    decode_one::<Entry>(bytes);
    decode_one::<BusEvent>(bytes);
    decode_one::<StatusRecord>(bytes);
    decode_one::<NodeRecord>(bytes);
}

fn decode_one<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = M::decode(bytes) {
        assert_eq!(M::decode(value.encode_to_vec().as_slice()), Ok(value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutated_golden_bytes_never_panic(
        row in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        tail in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = row.get(&all_rows()).1.clone();
        for (place, value) in edits {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        decode_all(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        bytes.extend(tail);
        decode_all(&bytes);
    }
}
