//! What the counter finds, whom it strikes, and whom never.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 0x1;

fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
    frame_of(1, kind, flags, length)
}

/// The same for another stream than the first.
fn frame_of(stream: u32, kind: u8, flags: u8, length: u8) -> Vec<u8> {
    let mut frame = vec![0, 0, length, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.resize(HEAD_BYTES + usize::from(length), 0);
    frame
}

struct Client {
    frames: Frames,
    now: Instant,
}

impl Client {
    fn new() -> Self {
        let now = stonechat_host::monotonic();
        let mut frames = Frames::new(now);
        frames.received(PREFACE, || now).expect("a preface");
        Self { frames, now }
    }

    /// Opens a stream; its request reaches the service, or not.
    fn opens(&mut self, number: u32, flags: u8, reaches: bool) -> Result<(), Flood> {
        let opened = self.sends(&frame_of(2 * number + 1, HEADERS, flags, 90));
        self.frames.reached(u32::from(reaches));
        opened
    }

    fn sends(&mut self, frame: &[u8]) -> Result<(), Flood> {
        let now = self.now;
        self.frames.received(frame, || now)
    }

    /// How many of these, at so many a second, until it is struck; `None` after a minute.
    fn struck_after(&mut self, frame: &[u8], per_second: u32) -> Option<u32> {
        let started = self.now;
        (1..=60 * per_second).find(|sent| {
            self.now = started + Duration::from_secs(1) * *sent / per_second;
            self.sends(frame).is_err()
        })
    }
}

/// I8: frames of a session, however small, are for the session to slow down and to answer.
#[test]
fn i8_the_smallest_frames_of_a_session_are_no_flood() {
    assert_eq!(Client::new().struck_after(&frame(DATA, 0, 7), 10_000), None);
    assert!(Client::new().struck_after(&frame(DATA, 0, 6), 10_000).is_some());
}

/// F13: every kind of flood ends within a second, at any rate that is one.
#[test]
fn f13_a_flood_is_struck_within_a_second() {
    let floods = [
        ("ping", frame(PING, 0, 8)),
        ("ping ack", frame(PING, ACK, 8)),
        ("settings", frame(SETTINGS, 0, 0)),
        ("settings ack", frame(SETTINGS, ACK, 0)),
        ("priority", frame(PRIORITY, 0, 5)),
        ("reset", frame(RST_STREAM, 0, 4)),
        ("window update", frame(WINDOW_UPDATE, 0, 4)),
        ("empty data", frame(DATA, 0, 0)),
        ("padded data", frame(DATA, PADDED, 200)),
        ("padded end", frame(DATA, PADDED | END_STREAM, 200)),
        ("data of a byte", frame(DATA, 0, 1)),
        ("continuation", frame(9, 0, 0)),
        ("trailers", frame(HEADERS, 0, 0)),
        ("empty ends", frame(DATA, END_STREAM, 0)),
        ("trailers that end", frame(HEADERS, END_STREAM, 0)),
        ("unknown", frame(77, 0, 0)),
    ];
    for (name, flood) in floods {
        for per_second in [251, 1_000, 300_000] {
            let mut client = Client::new();
            client.opens(0, 0, true).expect("one stream");
            let struck = client.struck_after(&flood, per_second);
            assert!(
                struck.is_some_and(|sent| sent <= per_second),
                "{name} at {per_second}/s: {struck:?}"
            );
        }
    }
}

/// F13: large control frames cost by their bytes.
#[test]
fn f13_large_control_frames_cost_more() {
    let large = [&[0, 0x40, 0, SETTINGS, 0, 0, 0, 0, 0][..], &[0; 16 * 1024]].concat();
    let struck = Client::new().struck_after(&large, 10);
    assert!(struck.is_some_and(|sent| sent <= 10), "{struck:?}");
}

/// F13: what honest clients do is never struck.
#[test]
fn f13_honest_clients_are_never_struck() {
    let mut client = Client::new();
    for _ in 0..24 * 120 {
        client.now += Duration::from_secs(30);
        assert_eq!(
            client.sends(&frame(PING, 0, 8)),
            Ok(()),
            "a keep-alive every 30 s, for a day"
        );
    }
    assert_eq!(
        Client::new().struck_after(&frame(PING, 0, 8), CONTROL_PER_SECOND - 1),
        None
    );
    // All streams are cancelled at once, again and again.
    let mut client = Client::new();
    for _ in 0..100 {
        client.now += Duration::from_secs(2);
        assert!((0..64).all(|_| client.sends(&frame(RST_STREAM, 0, 4)).is_ok()));
    }
    // A thousand deliveries, each answered by window updates and a ping, in no time at all.
    let mut client = Client::new();
    for _ in 0..1_000 {
        client.frames.sent(&frame(DATA, 0, 40));
        for answer in [
            frame(WINDOW_UPDATE, 0, 4),
            frame(WINDOW_UPDATE, 0, 4),
            frame(PING, 0, 8),
        ] {
            assert_eq!(client.sends(&answer), Ok(()));
        }
    }
    // Unary calls whose end is a frame of its own, empty or of trailers, and messages whose length is one.
    let mut client = Client::new();
    for number in 0..10_000 {
        assert_eq!(client.opens(number, 0, true), Ok(()));
        let stream = 2 * number + 1;
        let end = if number % 2 == 0 { DATA } else { HEADERS };
        for part in [
            frame_of(stream, DATA, 0, 5),
            frame_of(stream, DATA, 0, 40),
            frame_of(stream, end, END_STREAM, 0),
        ] {
            assert_eq!(client.sends(&part), Ok(()));
        }
    }
}

/// F13: what HTTP/2 answers by itself is bounded, at any pace.
#[test]
fn f13_requests_that_are_none_are_struck() {
    let most = u32::from(UNREACHED_REQUESTS_MAX);
    for flags in [0, END_STREAM, PADDED] {
        let mut client = Client::new();
        for number in 0..most {
            client.now += Duration::from_secs(1);
            assert_eq!(client.opens(number, flags, false), Ok(()), "{number}");
        }
        assert_eq!(client.opens(most, flags, false), Err(Flood::Requests));
    }
    // Some calls between them that are none help as far as these are as many.
    let mut client = Client::new();
    let struck = (0..).find(|number| client.opens(*number, END_STREAM, number % 4 == 0).is_err());
    assert!(struck.is_some_and(|number| number < 3 * most), "{struck:?}");
}

/// F13: who is understood is never struck for what was not: opened before it knew how many streams may be, or too large now
/// and then.
#[test]
fn f13_requests_that_reach_the_service_make_good() {
    let mut client = Client::new();
    let most = u32::from(UNREACHED_REQUESTS_MAX);
    assert!(
        (0..most).all(|number| client.opens(number, 0, false).is_ok()),
        "at once"
    );
    client.frames.reached(64);
    for number in most..100 * most {
        assert_eq!(client.opens(number, END_STREAM, number % 2 == 0), Ok(()), "{number}");
    }
    // All streams at once, none of which arrived yet, again and again.
    let mut client = Client::new();
    for round in 0..1_000 {
        assert!((0..84).all(|number| client.opens(84 * round + number, 0, false).is_ok()));
        client.frames.reached(84);
    }
}

/// What data earned is bounded: a client cannot save up for a long flood.
#[test]
fn f13_savings_are_bounded() {
    let mut client = Client::new();
    for _ in 0..100_000 {
        client.frames.sent(&frame(DATA, 0, 40));
    }
    let pings = (0..).take_while(|_| client.sends(&frame(PING, 0, 8)).is_ok()).count();
    assert_eq!(pings, CONTROL_SAVED_MAX as usize);
}

/// HTTP/1 is not counted, whatever its bytes look like.
#[test]
fn other_protocols_are_passed_over() {
    let now = stonechat_host::monotonic();
    let mut frames = Frames::new(now);
    assert_eq!(frames.received(b"PRI", || now), Ok(()));
    assert_eq!(frames.received(b"OR * HTTP/1.1\r\n", || now), Ok(()));
    for _ in 0..10_000 {
        assert_eq!(frames.received(&frame(PING, 0, 8), || now), Ok(()));
    }
}

/// Idle connections are many.
#[test]
fn the_counter_is_small() {
    assert!(size_of::<Frames>() <= 72, "{}", size_of::<Frames>());
}

/// Frames of every kind, mostly short.
fn stream_of_frames() -> impl Strategy<Value = Vec<u8>> {
    let parts = (0..200u32, 0..12u8, any::<u8>(), 0..64u8);
    let frame = parts.prop_map(|(stream, kind, flags, length)| frame_of(stream, kind, flags, length));
    prop::collection::vec(frame, 0..400).prop_map(|frames| frames.concat())
}

proptest! {
    /// F13: frames are found and struck alike, in whatever pieces they come; arbitrary bytes do no harm.
    #[test]
    fn f13_pieces_do_not_matter(piece in any::<u8>(), frames in stream_of_frames(), junk in prop::collection::vec(any::<u8>(), 0..200)) {
        let well_formed = [&[piece][..], &frames, &junk].concat();
        prop_assert_eq!(check_frame_counter(&well_formed), Ok(()));
        prop_assert_eq!(check_frame_counter(&junk), Ok(()));
    }

    /// The preface is found in whatever pieces it comes.
    #[test]
    fn f13_a_split_preface_is_one(cut in 0..=PREFACE.len()) {
        let now = stonechat_host::monotonic();
        let mut frames = Frames::new(now);
        let whole = [&PREFACE[..], &frame(PING, 0, 8).repeat(CONTROL_BURST as usize + 1)].concat();
        prop_assert_eq!(frames.received(&whole[..cut], || now), Ok(()));
        prop_assert_eq!(frames.received(&whole[cut..], || now), Err(Flood::Frames));
    }
}
