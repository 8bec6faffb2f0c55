//! The fuzz targets as property tests: arbitrary bytes, and golden frames with a few changes. `PROPTEST_CASES` takes more.

mod targets;

/// The stand-in for the macro that the targets in `fuzz/` call.
extern crate self as libfuzzer_sys;

use proptest::prelude::*;
use proptest::sample::Index;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_tests::fuzz;

/// Cases of targets that are a few parsers.
const CHEAP: u32 = 512;
/// Cases of targets that take a whole node.
const DEAR: u32 = 64;

fn cases(default: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(default),
        // A failure is repeated by its input, which is printed.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn any_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

/// What happens to bytes on their way.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (any::<Index>(), 1..=255_u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, more)| Change::Insert(at, more)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Flip(at, bits) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend_from_slice(&part);
            }
        }
    }
}

/// A text or a message with up to a few changes; often none.
fn changed(originals: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(originals), prop::collection::vec(change(), 0..4)).prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => changed(fuzz::client_frames()), 1 => any_bytes(200)]
}

/// Golden frames wrapped and unwrapped: what several parsers begin to read.
fn messages() -> Vec<Vec<u8>> {
    use prost::Message;
    let frames = fuzz::client_frames();
    let mut messages = frames.clone();
    for bytes in &frames {
        let frame = v1::ClientFrame::decode(bytes.as_slice()).expect("golden");
        match frame.body.clone() {
            Some(Asked::Hello(hello)) => messages.push(hello.encode_to_vec()),
            Some(Asked::Send(send)) => messages.push(send.encode_to_vec()),
            Some(Asked::History(history)) => messages.push(history.encode_to_vec()),
            Some(Asked::WatchPresence(watch)) => messages.push(watch.encode_to_vec()),
            _ => {}
        }
        let submit = v1::SubmitRequest {
            session_id: "session".to_owned(),
            frames: vec![frame.clone()],
        };
        messages.push(submit.encode_to_vec());
        messages.push(v1::ExchangeRequest { frame: Some(frame) }.encode_to_vec());
    }
    messages
}

proptest! {
    #![proptest_config(cases(DEAR))]

    /// I8: client frame → session state machine.
    #[test]
    fn sessions_take_any_frames(hello in prop::bool::weighted(0.9), frames in prop::collection::vec(frame(), 0..12)) {
        fuzz::session(&fuzz::script(hello, &frames));
    }

    #[test]
    fn sessions_take_any_script(script in any_bytes(600)) {
        fuzz::session(&script);
    }

    #[test]
    fn web_requests_may_be_framed_any_way(first in any::<u8>(), flag in any::<u8>(), length in any::<u32>(), body in changed(messages())) {
        // Right, and wrong in its flag or its length.
        let right = u32::try_from(body.len()).expect("short");
        for (flag, length) in [(0, right), (flag, right), (0, length), (0x80, right)] {
            let framed = [&[first, flag][..], &length.to_be_bytes(), &body].concat();
            fuzz::web_framing(&framed);
        }
    }

    #[test]
    fn web_bodies_may_be_any_bytes(body in any_bytes(300)) {
        fuzz::web_framing(&body);
    }

    #[test]
    fn cursors_are_good_as_they_were_written_only(data in any_bytes(40)) {
        fuzz::cursors(&data);
    }

    /// I2: lines of an import.
    #[test]
    fn imports_take_any_lines(lines in prop_oneof![file(), prop::collection::vec(line(), 0..12)], end in any::<bool>()) {
        let mut file = lines.join(&b'\n');
        if end {
            file.push(b'\n');
        }
        fuzz::import_lines(&file);
    }
}

proptest! {
    #![proptest_config(cases(CHEAP))]

    #[test]
    fn decoders_take_any_bytes(data in prop_oneof![changed(messages()), any_bytes(400)]) {
        fuzz::frames(&data);
    }

    #[test]
    fn checks_take_whatever_decodes(data in prop_oneof![changed(messages()), any_bytes(400)]) {
        fuzz::validation(&data);
    }

    #[test]
    fn no_bytes_are_a_token(data in prop_oneof![any_bytes(300), changed(tokens())]) {
        fuzz::secret_tokens(&data);
        fuzz::key_set_tokens(&data);
    }

    #[test]
    fn no_header_makes_a_token_good(header in prop_oneof![any_bytes(200), changed(headers())]) {
        fuzz::token_headers(&header);
    }

    #[test]
    fn journals_may_hold_any_bytes(data in any_bytes(2_000)) {
        fuzz::journal(&data);
    }
}

/// A file that is right.
const LINES: [&str; 12] = [
    r#"{"type":"user","id":"ann","name":"Ann"}"#,
    r#"{"type":"user","id":"bob"}"#,
    r#"{"type":"user","id":"cem","deactivated":true}"#,
    r#"{"type":"conversation","id":"c1","kind":"group","name":"Crew","user":"ann","members":[{"user":"bob","role":"member"}]}"#,
    r#"{"type":"message","id":"m1","conversation":"c1","user":"ann","text":"hello","time":1700000000000}"#,
    r#"{"type":"edit","id":"e1","conversation":"c1","user":"ann","target":{"id":"m1","user":"ann"},"text":"hello!"}"#,
    r#"{"type":"reaction","id":"r1","conversation":"c1","user":"bob","target":{"id":"m1","user":"ann"},"reaction":"+1"}"#,
    r#"{"type":"redaction","id":"x1","conversation":"c1","user":"ann","target":{"id":"m1","user":"ann"},"reason":"typo"}"#,
    r#"{"type":"members","id":"s1","conversation":"c1","members":[{"user":"cem","role":"admin"}]}"#,
    r#"{"type":"left","id":"l1","conversation":"c1","member":"bob"}"#,
    r#"{"type":"renamed","id":"n1","conversation":"c1","name":"Crew 2"}"#,
    "",
];

fn lines() -> Vec<Vec<u8>> {
    LINES.map(|line| line.as_bytes().to_vec()).to_vec()
}

/// The whole file, with changes in some of its lines.
fn file() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let line = |line: Vec<u8>| prop_oneof![6 => Just(line.clone()), 1 => changed(vec![line])];
    lines().into_iter().map(line).collect::<Vec<_>>()
}

/// A line by itself, right or wrong.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => changed(lines()), 1 => any_bytes(200)]
}

/// The file that is changed is right to begin with: else only refusals would be tried.
#[test]
fn the_unchanged_file_is_stored_and_the_unchanged_frames_are_answered() {
    let report = fuzz::import_lines(&lines().join(&b'\n'));
    assert_eq!((report.stored, report.refused), (11, 0), "{report:?}");
    // Of these three a stream ends.
    let ends = |bytes: &Vec<u8>| {
        let frame = <v1::ClientFrame as prost::Message>::decode(bytes.as_slice()).expect("golden");
        matches!(frame.body, Some(Asked::Hello(_) | Asked::Ack(_) | Asked::Bye(_)))
    };
    let mut frames = fuzz::client_frames();
    frames.retain(|bytes| !ends(bytes));
    assert!(frames.len() > 15, "{}", frames.len());
    assert_eq!(fuzz::session(&fuzz::script(true, &frames)), v1::CloseReason::Bye);
}

/// Tokens whose signature is of nobody.
fn tokens() -> Vec<Vec<u8>> {
    let claims = r#"{"iss":"stonechat","aud":"stonechat","sub":"alice","exp":4102444800}"#;
    let part = |text: &str| stonechat_tests::harness::base64(text.as_bytes());
    let token = |header: &Vec<u8>| {
        let header = stonechat_tests::harness::base64(header);
        format!("{header}.{}.{}", part(claims), part("no signature of 32 bytes is this")).into_bytes()
    };
    headers().iter().map(token).collect()
}

fn headers() -> Vec<Vec<u8>> {
    let headers = [
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"EdDSA","kid":"k"}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"HS256","kid":"../../../../dev/null","jku":"http://127.0.0.1:1/"}"#,
        r#"{"alg":"RS256","jwk":{"kty":"oct","k":"AA"},"crit":["b64"],"b64":false}"#,
    ];
    headers.map(|header| header.as_bytes().to_vec()).to_vec()
}
