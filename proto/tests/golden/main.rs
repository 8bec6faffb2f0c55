//! Golden bytes of every frame and entry: what is on the wire and on disk today must decode for ever.
//!
//! `proto/golden/<message>.<arm>.hex` is only ever added. `STONECHAT_WRITE_GOLDEN=1 cargo test -p stonechat-proto` writes
//! the missing ones and never touches one that exists.

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

#[test]
fn every_arm_has_a_golden_row() {
    assert_eq!(arms("ClientFrame"), rows(&client_frames::client_frames()));
    assert_eq!(arms("ServerFrame"), rows(&server_frames::server_frames()));
    assert_eq!(arms("Entry"), rows(&entries::entries()));
}

#[test]
fn every_golden_file_is_of_a_row() {
    let names = |message: &str, arms: Vec<&'static str>| {
        arms.into_iter()
            .map(move |arm| format!("{message}.{arm}.hex"))
            .collect::<Vec<_>>()
    };
    let mut known: BTreeSet<String> = BTreeSet::new();
    known.extend(names(
        "client_frame",
        client_frames::client_frames().iter().map(|row| row.0).collect(),
    ));
    known.extend(names(
        "server_frame",
        server_frames::server_frames().iter().map(|row| row.0).collect(),
    ));
    known.extend(names("entry", entries::entries().iter().map(|row| row.0).collect()));
    known.extend(names(
        "forward_request",
        forwards::requests().iter().map(|row| row.0).collect(),
    ));
    known.extend(names(
        "forward_response",
        forwards::responses().iter().map(|row| row.0).collect(),
    ));
    for file in fs::read_dir(folder()).expect("golden folder") {
        let name = file.expect("a file").file_name().to_string_lossy().into_owned();
        assert!(
            known.contains(&name),
            "{name} belongs to no row: rows are never taken away"
        );
    }
}

fn all_bytes() -> Vec<Vec<u8>> {
    let clients = client_frames::client_frames()
        .into_iter()
        .map(|row| row.1.encode_to_vec());
    let servers = server_frames::server_frames()
        .into_iter()
        .map(|row| row.1.encode_to_vec());
    let entries = entries::entries().into_iter().map(|row| row.1.encode_to_vec());
    clients.chain(servers).chain(entries).collect()
}

/// Decodes as every message; what decodes must encode again to something that decodes to the same.
fn decode_all(bytes: &[u8]) {
    decode_one::<ClientFrame>(bytes);
    decode_one::<ServerFrame>(bytes);
    decode_one::<Entry>(bytes);
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
        let all = all_bytes();
        let mut bytes = row.get(&all).clone();
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
