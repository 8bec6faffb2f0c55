//! The frame headers of an HTTP/2 connection, read as they pass, and the floods that no HTTP library ends.
//!
//! What costs the server work and carries nothing (PING, SETTINGS, PRIORITY, RST_STREAM, WINDOW_UPDATE, empty DATA …)
//! draws on an allowance. Time refills it; so do frames of data, in either direction, because clients answer data with
//! window updates and measure round trips by pings.
//!
//! What opens a stream draws on nothing, because requests have limits of their own. But those begin where a request reaches
//! the service, and HTTP/2 answers some by itself: headers that are too large, malformed ones, streams above the limit. So
//! what was opened is compared with what got there.

use tokio::time::Instant;

use crate::gateway::limits::UNREACHED_REQUESTS_MAX;

/// What a client says first over HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame header.
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;

/// Control frames at once: every stream of a connection reset, twice, and what a client starts with.
pub(in crate::gateway) const CONTROL_BURST: u32 = 200;
/// Control frames a second that come back by themselves. With the burst, what comes faster than 250 a second ends within
/// one second, and what comes slower than 50 never does; a client's keep-alive is one in 10 s or fewer.
pub(in crate::gateway) const CONTROL_PER_SECOND: u32 = 50;
/// Control frames that one frame of data sent to the client allows for: window updates of stream and connection, and the
/// ping by which it measures the round trip.
const EARNED_BY_DATA_SENT: u32 = 3;
/// The same for one that the client sent: some clients send a message's length as a frame of its own before it.
const EARNED_BY_DATA_RECEIVED: u32 = 1;
/// Most control frames that data can save up: what a client may still answer after a burst. As a flood it costs some 15 ms.
const CONTROL_SAVED_MAX: u32 = 4_096;
/// Frames of data below this carry nothing to speak of: a message of one byte a frame is a flood. The shortest frame of a session
/// takes two, behind the five that gRPC puts before each.
const DATA_BYTES_MIN: u32 = 7;
/// Bytes of a control frame that cost as much as one more frame.
const CONTROL_BYTES: u32 = 256;
/// Each request that reaches the service makes good for itself, and for one more that did not: who is mostly understood is
/// not cut off for what went wrong over days.
const MADE_GOOD_BY_REACHING: u16 = 2;

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// Bytes that follow it.
    length: u32,
    kind: u8,
    flags: u8,
    /// The stream it is for.
    stream: u32,
}

impl Head {
    fn parse(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            // The first bit means nothing (RFC 9113, 4.1).
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        }
    }

    fn is(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// A frame of data with something in it. Padding may hide that there is nothing, and no client of gRPC pads.
    fn carries_data(self) -> bool {
        self.kind == DATA && self.length >= DATA_BYTES_MIN && !self.is(PADDED)
    }

    /// The end of a request, by trailers or by data that may be empty.
    fn ends_request(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.is(END_STREAM) && !self.is(PADDED)
    }

    /// What it draws on the allowance when nothing makes it free.
    fn cost(self) -> u32 {
        1 + self.length / CONTROL_BYTES
    }
}

/// Finds the frame headers in bytes that come in pieces.
#[derive(Debug, Default)]
struct Heads {
    /// Bytes of the frame under way that are still to come.
    body: u32,
    partial: [u8; HEAD_BYTES],
    have: u8,
}

impl Heads {
    fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(Head)) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let skipped = bytes.len().min(self.body as usize);
                bytes = &bytes[skipped..];
                self.body -= u32::try_from(skipped).unwrap_or(self.body);
                continue;
            }
            let have = usize::from(self.have);
            let taken = bytes.len().min(HEAD_BYTES - have);
            self.partial[have..have + taken].copy_from_slice(&bytes[..taken]);
            self.have += u8::try_from(taken).unwrap_or(0);
            bytes = &bytes[taken..];
            if usize::from(self.have) == HEAD_BYTES {
                let head = Head::parse(self.partial);
                (self.have, self.body) = (0, head.length);
                each(head);
            }
        }
    }
}

/// Why the connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// Too many frames that carry nothing.
    Frames,
    /// Too many requests that do not reach the service.
    Requests,
}

/// Control frames that a client may still send.
#[derive(Debug)]
struct Allowance {
    left: u32,
    refilled: Instant,
}

impl Allowance {
    fn earn(&mut self, frames: u32) {
        let earned = self.left.saturating_add(frames).min(CONTROL_SAVED_MAX);
        self.left = self.left.max(earned);
    }

    /// Looks at the clock only when nothing is left.
    fn spend(&mut self, cost: u32, now: impl FnOnce() -> Instant) -> Result<(), Flood> {
        if self.left < cost {
            self.refill(now());
        }
        self.left = self.left.checked_sub(cost).ok_or(Flood::Frames)?;
        Ok(())
    }

    fn refill(&mut self, now: Instant) {
        let millis = now.saturating_duration_since(self.refilled).as_millis();
        let earned = u32::try_from(millis * u128::from(CONTROL_PER_SECOND) / 1_000).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(CONTROL_BURST).max(self.left);
        self.refilled = now;
    }
}

/// The requests of a client, as its frames tell of them.
#[derive(Debug, Default)]
struct Opened {
    /// The stream that was opened last: their numbers only rise (RFC 9113, 5.1.1).
    newest: u32,
    /// Those whose end may still come. It counts as far as so many may be open before the client knows how many may be.
    unended: u16,
    /// Those that did not reach the service, above what those that did make good for.
    unreached: u16,
}

impl Opened {
    /// Whether this frame opens a stream; a second one with headers is trailers.
    fn opens(&self, head: Head) -> bool {
        head.kind == HEADERS && head.stream > self.newest
    }

    fn open(&mut self, head: Head) -> Result<(), Flood> {
        self.newest = head.stream;
        if !head.is(END_STREAM) {
            self.unended = (self.unended + 1).min(UNREACHED_REQUESTS_MAX);
        }
        self.unreached = self.unreached.saturating_add(1);
        if self.unreached > UNREACHED_REQUESTS_MAX {
            return Err(Flood::Requests);
        }
        Ok(())
    }

    /// Whether a request is there that this frame may end.
    fn end(&mut self, head: Head) -> bool {
        let ends = head.ends_request() && self.unended > 0;
        self.unended -= u16::from(ends);
        ends
    }

    fn reached(&mut self, requests: u32) {
        let requests = u16::try_from(requests).unwrap_or(u16::MAX);
        let made_good = requests.saturating_mul(MADE_GOOD_BY_REACHING);
        self.unreached = self.unreached.saturating_sub(made_good);
    }
}

/// What a connection speaks, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// So many bytes of the preface came.
    Unknown(u8),
    Http2,
    Http1,
}

/// The frames of one connection. It is small, because every idle connection has one.
#[derive(Debug)]
pub(super) struct Frames {
    speaks: Speaks,
    received: Heads,
    sent: Heads,
    allowance: Allowance,
    opened: Opened,
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            speaks: Speaks::Unknown(0),
            received: Heads::default(),
            sent: Heads::default(),
            allowance: Allowance {
                left: CONTROL_BURST,
                refilled: now,
            },
            opened: Opened::default(),
        }
    }

    /// So many requests reached the service since that was last said.
    pub(super) fn reached(&mut self, requests: u32) {
        self.opened.reached(requests);
    }

    /// Bytes came from the client.
    pub(super) fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        let frames = self.after_preface(bytes);
        if self.speaks != Speaks::Http2 {
            return Ok(());
        }
        let (allowance, opened, mut counted) = (&mut self.allowance, &mut self.opened, Ok(()));
        self.received.read(frames, |head| {
            if counted.is_ok() {
                counted = count(head, allowance, opened, &now);
            }
        });
        counted
    }

    /// Bytes went to the client.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        if self.speaks == Speaks::Http2 {
            let allowance = &mut self.allowance;
            self.sent.read(bytes, |head| {
                if head.kind == DATA && head.length > 0 {
                    allowance.earn(EARNED_BY_DATA_SENT);
                }
            });
        }
    }

    /// What is left of the bytes once the preface is passed.
    fn after_preface<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Speaks::Unknown(known) = self.speaks else {
            return bytes;
        };
        let wanted = &PREFACE[usize::from(known)..];
        let length = bytes.len().min(wanted.len());
        self.speaks = if bytes[..length] != wanted[..length] {
            Speaks::Http1
        } else if length == wanted.len() {
            Speaks::Http2
        } else {
            Speaks::Unknown(known + u8::try_from(length).unwrap_or(0))
        };
        &bytes[length..]
    }
}

/// Counts a frame from the client.
fn count(
    head: Head,
    allowance: &mut Allowance,
    opened: &mut Opened,
    now: impl FnOnce() -> Instant,
) -> Result<(), Flood> {
    if opened.opens(head) {
        return opened.open(head);
    }
    let ends = opened.end(head);
    if head.carries_data() {
        allowance.earn(EARNED_BY_DATA_RECEIVED);
        return Ok(());
    }
    if ends {
        Ok(())
    } else {
        allowance.spend(head.cost(), now)
    }
}

/// What must hold of the frame counter for any bytes in any pieces: the body of a property test and of a fuzz target.
/// The first byte says how long the pieces are, the rest is what a client sends.
///
/// # Errors
/// What does not hold.
pub fn check_frame_counter(input: &[u8]) -> Result<(), String> {
    let Some((piece, bytes)) = input.split_first() else {
        return Ok(());
    };
    let expected = heads_of(bytes);
    let (mut heads, mut found) = (Heads::default(), Vec::new());
    for piece in bytes.chunks(usize::from(*piece).max(1)) {
        heads.read(piece, |head| found.push(head));
    }
    if found != expected {
        return Err(format!("in pieces {found:?}, as a whole {expected:?}"));
    }
    check_allowance(bytes, usize::from(*piece).max(1), &expected)
}

/// Frame headers of bytes that are there as a whole.
fn heads_of(bytes: &[u8]) -> Vec<Head> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk::<HEAD_BYTES>) {
        let head = Head::parse(*head);
        found.push(head);
        at += HEAD_BYTES + head.length as usize;
    }
    found
}

/// While time stands still and no request reaches the service, a client is struck exactly when it sent more control frames
/// than the burst and what its data earned, or opened more streams than may be.
fn check_allowance(bytes: &[u8], piece: usize, heads: &[Head]) -> Result<(), String> {
    let now = stonechat_host::monotonic();
    let mut frames = Frames::new(now);
    let greeted = frames.received(PREFACE, || now);
    let struck = bytes
        .chunks(piece)
        .find_map(|piece| frames.received(piece, || now).err());
    let over = first_over(heads);
    if greeted.is_ok() && struck == over {
        return Ok(());
    }
    Err(format!("struck: {struck:?}, over: {over:?}"))
}

/// The same rule in another shape: by all that came so far.
fn first_over(heads: &[Head]) -> Option<Flood> {
    let (mut opened, mut unended, mut left) = (0_u32, 0_u32, CONTROL_BURST);
    let mut newest = 0;
    for head in heads {
        let ends = matches!(head.kind, DATA | HEADERS) && head.flags & (END_STREAM | PADDED) == END_STREAM;
        if head.kind == HEADERS && head.stream > newest {
            (newest, opened) = (head.stream, opened + 1);
            unended += u32::from(head.flags & END_STREAM == 0);
            if opened > u32::from(UNREACHED_REQUESTS_MAX) {
                return Some(Flood::Requests);
            }
            continue;
        }
        let free = ends && unended > 0;
        unended -= u32::from(free);
        if head.carries_data() {
            left = left.max((left + EARNED_BY_DATA_RECEIVED).min(CONTROL_SAVED_MAX));
        } else if !free && head.cost() > left {
            return Some(Flood::Frames);
        } else if !free {
            left -= head.cost();
        }
    }
    None
}

#[cfg(test)]
mod tests;
