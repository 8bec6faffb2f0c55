//! HTTP/2 by hand: frames as bytes, so that a test can send what no client would.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// Bytes of a frame header.
const HEAD_BYTES: usize = 9;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A setting in a SETTINGS frame.
pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A header as a literal that is not indexed (RFC 7541, 6.2.2).
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

/// A string without Huffman coding.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = integer(text.len());
    bytes.extend(text.as_bytes());
    bytes
}

/// An integer with a prefix of 7 bits (RFC 7541, 5.1).
fn integer(value: usize) -> Vec<u8> {
    let Some(mut rest) = value.checked_sub(127) else {
        return vec![u8::try_from(value).expect("below 127")];
    };
    let mut bytes = vec![127];
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("7 bits") | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("7 bits"));
    bytes
}

/// The headers of a call, and more.
pub(crate) fn call(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "node"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    own.iter()
        .chain(more)
        .flat_map(|(name, value)| header(name, value))
        .collect()
}

/// What came back over a connection so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Settings of the server, by id.
    pub(crate) settings: Vec<(u16, u32)>,
    /// Frames by kind.
    pub(crate) frames: [u64; 16],
    /// Streams that the server ended, by an end or a reset.
    pub(crate) ended: BTreeSet<u32>,
    /// The headers of its first answer, encoded.
    pub(crate) first_headers: Option<Vec<u8>>,
    /// Streams that it reset, with the code.
    pub(crate) resets: Vec<(u32, u32)>,
    /// What the server's pings carry, those that are no answers.
    pub(crate) pings: Vec<[u8; 8]>,
    /// Code and words of a GOAWAY.
    pub(crate) goaway: Option<(u32, String)>,
    /// The connection is over.
    pub(crate) closed: bool,
}

/// A connection of which every byte is the test's; what comes back is read beside it.
pub(crate) struct Wire {
    writer: OwnedWriteHalf,
    seen: Arc<Mutex<Seen>>,
    changed: watch::Receiver<u64>,
    reader: JoinHandle<()>,
}

impl Wire {
    /// Connects from a loopback address.
    pub(crate) async fn connect(authority: &str, from: Ipv4Addr) -> io::Result<Self> {
        Ok(Self::over(connect(authority, from).await?))
    }

    /// Connects and greets as HTTP/2 does.
    pub(crate) async fn greet(authority: &str, from: Ipv4Addr, settings: &[u8]) -> io::Result<Self> {
        let mut wire = Self::connect(authority, from).await?;
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, settings), &frame(SETTINGS, ACK, 0, &[])].concat();
        wire.write(&hello).await?;
        Ok(wire)
    }

    fn over(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (news, changed) = watch::channel(0);
        let reader = tokio::spawn(read(reader, Arc::clone(&seen), news));
        Self {
            writer,
            seen,
            changed,
            reader,
        }
    }

    /// Fails once the server has closed.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.seen().closed {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.writer.write_all(bytes).await
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds of what came back, or the connection is over; false when it is over without.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Seen) -> bool) -> bool {
        loop {
            {
                let seen = self.seen();
                if holds(&seen) || seen.closed {
                    return holds(&seen);
                }
            }
            if self.changed.changed().await.is_err() {
                return holds(&self.seen());
            }
        }
    }

    /// Answers every ping until the server has closed.
    pub(crate) async fn answer_pings(&mut self) {
        let mut answered = 0;
        while self.until(|seen| seen.pings.len() > answered).await {
            let ping = self.seen().pings[answered];
            answered += 1;
            if self.write(&frame(PING, ACK, 0, &ping)).await.is_err() {
                return;
            }
        }
    }

    /// Waits until the server has closed.
    pub(crate) async fn closed(&mut self) {
        self.until(|seen| seen.closed).await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A TCP connection from one of this machine's own addresses.
pub(crate) async fn connect(authority: &str, from: Ipv4Addr) -> io::Result<TcpStream> {
    let to: SocketAddr = authority.parse().map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Notes what comes until the end.
async fn read(mut reader: OwnedReadHalf, seen: Arc<Mutex<Seen>>, news: watch::Sender<u64>) {
    let mut bytes = Vec::new();
    loop {
        let more = reader.read_buf(&mut bytes).await;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = take_frames(&bytes, &mut seen);
        bytes.drain(..taken);
        seen.closed = !more.is_ok_and(|count| count > 0);
        let closed = seen.closed;
        drop(seen);
        news.send_modify(|version| *version += 1);
        if closed {
            return;
        }
    }
}

/// Notes every whole frame; returns their bytes.
fn take_frames(bytes: &[u8], seen: &mut Seen) -> usize {
    let mut at = 0;
    while let Some([a, b, c, kind, flags, stream @ ..]) = bytes[at..].first_chunk::<HEAD_BYTES>() {
        let end = at + HEAD_BYTES + usize::from(*a) * 65_536 + usize::from(*b) * 256 + usize::from(*c);
        let Some(payload) = bytes.get(at + HEAD_BYTES..end) else {
            return at;
        };
        note(*kind, *flags, u32::from_be_bytes(*stream), payload, seen);
        at = end;
    }
    at
}

fn note(kind: u8, flags: u8, stream: u32, payload: &[u8], seen: &mut Seen) {
    seen.frames[usize::from(kind.min(15))] += 1;
    let word = |at: usize| {
        let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    if kind == HEADERS {
        seen.first_headers.get_or_insert_with(|| payload.to_vec());
    }
    match kind {
        DATA | HEADERS if flags & END_STREAM != 0 => drop(seen.ended.insert(stream)),
        RST_STREAM => {
            seen.ended.insert(stream);
            seen.resets.push((stream, word(0)));
        }
        SETTINGS if flags & ACK == 0 => {
            for setting in payload.chunks_exact(6) {
                let id = u16::from_be_bytes([setting[0], setting[1]]);
                let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                seen.settings.push((id, value));
            }
        }
        PING if flags & ACK == 0 => seen.pings.extend(payload.first_chunk::<8>()),
        GOAWAY => {
            let words = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
            seen.goaway = Some((word(4), words));
        }
        _ => {}
    }
}

#[test]
fn frames_and_headers_are_those_of_the_rfcs() {
    assert_eq!(frame(PING, ACK, 1, &[7]), [0, 0, 1, 6, 1, 0, 0, 0, 1, 7]);
    assert_eq!(header("a", "bc"), [0, 1, b'a', 2, b'b', b'c']);
    assert_eq!(integer(127), [127, 0]);
    assert_eq!(
        integer(1_337 + 96),
        [127, 154, 10],
        "RFC 7541, C.1.2, with a longer prefix"
    );
}
