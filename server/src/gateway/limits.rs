//! Bounds of the gateway, each with its reason.

use std::time::Duration;

use crate::domain::limits::FRAME_BYTES_MAX;

// Connections.

/// Streams one HTTP/2 connection may have open; hyper sets no limit by itself.
pub const HTTP2_STREAMS_MAX: u32 = 64;
/// Streams that were reset before they were looked at (CVE-2023-44487); h2's own default, set so that it stays.
pub const PENDING_ACCEPT_RESETS_MAX: usize = 20;
/// Bytes of one HTTP/2 frame: the least that the protocol allows for.
pub const HTTP2_FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of request headers: a token of 4 KiB and what browsers add.
pub const HEADER_LIST_BYTES_MAX: u32 = 8 * 1024;
/// Resets that the peer's own errors may cause on one connection (CVE-2025-8671).
pub const LOCAL_ERROR_RESETS_MAX: usize = 200;
/// Bytes hyper may buffer per stream for a reader that does not read; its default of 400 KiB is a session's whole memory
/// many times over.
pub const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an HTTP/1 head, and of its read buffer.
pub const HTTP1_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes a client may send ahead on one stream: the largest frame twice, so that one waits while one is handled.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// Bytes a client may send ahead on one connection, over all its streams.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// A connection that says nothing for this long is pinged.
pub const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
/// A peer that does not answer such a ping within this is gone.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the first bytes of a connection, and for the head of an HTTP/1 request.
pub const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(5);
/// Bytes after which a peer has shown that it speaks HTTP: the length of the HTTP/2 preface.
pub const FIRST_BYTES: usize = 24;
/// Time until the first request of an HTTP/2 connection: clients connect because they have something to ask.
pub const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// A connection that carried something, and then nothing for so long, is told to leave: a client that asks now and then opens
/// the next one in a round trip or two, and a place that nobody uses is one that somebody needs.
pub const IDLE_WITHIN: Duration = Duration::from_secs(120);
/// How long such a connection may take to leave.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept, doubled up to the longest: descriptors come back as connections end.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause after failed accepts.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long calls and streams may go on once their connection is old and was told to leave: above any unary call's
/// deadline.
pub const CONNECTION_GRACE: Duration = Duration::from_secs(60);
/// Refused requests above those that passed, on one connection: more is no client that heeds its answers.
pub const REFUSALS_MAX: u32 = 1_000;
/// Requests over HTTP/2 on one connection that did not reach the service, above what those that did make good for. Those on
/// their way count too, so what an honest client may have is 64, and 20 that it took back; but before it knows how many
/// streams may be open, a client may open as many as it likes: most 100, some proxies 1,024.
pub const UNREACHED_REQUESTS_MAX: u16 = 1_024;

// Calls.

/// Entries of metadata in a request: a call of ours has a dozen, a browser's twenty.
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Bytes of a unary request: the largest message, and the five bytes that go before it.
pub const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX + WRAPPER_BYTES + 5;
/// Bytes of unary requests that are being taken in or wait for a seat, over all connections: a thousand of the largest.
/// Those of who is worked on are bounded by the seats.
pub const REQUESTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The same for requests that anybody may make without a token: a name each, so that most need nothing of it.
pub const OPEN_REQUESTS_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of all connections on which nobody has shown a good token, while streams are open there: their windows let a MiB through
/// on each, and there may be as many as descriptors.
pub const UNPROVEN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The first bytes of such a connection, for which there is always room: a head and a hello with the largest token, twice.
pub const UNPROVEN_BYTES_FREE: usize = 16 * 1024;
/// The first bytes of a request, for which there is always room: its stream costs more than these, and most requests are
/// not longer.
pub const REQUEST_BYTES_FREE: usize = 1024;
/// Time for the whole of a unary request to come: the largest, over a line of 64 kbit/s.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for a unary call, whatever its caller says: every wait inside has a shorter bound of its own.
pub const UNARY_WITHIN: Duration = Duration::from_secs(30);
/// Time a reader has to take the answer of a unary call: half a MiB on a slow line.
pub const RESPONSE_WITHIN: Duration = Duration::from_secs(30);
/// Time that a reader has for what is left of its stream once its session ended.
pub const STREAM_LINGERS: Duration = Duration::from_secs(30);
/// Calls and hellos that wait for their turn: what a node does in a few seconds, at some 1 KiB each.
pub const ADMISSION_QUEUE_MAX: usize = 4_096;
/// How long they wait: an answer that comes later finds its caller gone or trying again.
pub const ADMISSION_WITHIN: Duration = Duration::from_secs(2);

// Sessions.

/// Sessions of one user on one node: devices times named streams, generously. More is a leak or an attack.
pub const SESSIONS_PER_USER_MAX: usize = 64;
/// Time for the hello (wire contract).
pub const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Time for everything from hello to welcome: a store that takes longer is in trouble.
pub const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Heartbeat asked of the client (wire contract).
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// Without any client frame for this long the peer is gone (wire contract).
pub const SILENCE: Duration = Duration::from_secs(45);
/// How long after a token's expiry its stream lives on: the leeway of token checks.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(5);
/// How often a node looks for revoked tokens in the directory. Streams end within 5 s of a revocation also when the bus
/// lost the word of it.
pub const REVOCATIONS_EVERY: Duration = Duration::from_secs(2);
/// How far back each look goes: over the time that a hello may take, and over what clocks of nodes are apart.
pub const REVOCATIONS_WINDOW: Duration = Duration::from_secs(120);
/// Revocations read at a time.
pub const REVOCATIONS_PAGE: usize = 1_000;
/// Pages of one look; the next look goes on where it ended.
pub const REVOCATIONS_PAGES_MAX: usize = 64;
/// A full queue that does not move for this long belongs to a reader that does not read.
pub const SLOW_CONSUMER_AFTER: Duration = Duration::from_secs(30);
/// How often a session compares its user's inbox with what it sent, at the latest: with the read itself it keeps
/// everything visible within 15 s of a lost event (I5).
pub const HEAL_EVERY: Duration = Duration::from_secs(10);
/// How often presence is told that the session lives: three times within its validity of 60 s.
pub const PRESENCE_ALIVE_EVERY: Duration = Duration::from_secs(20);
/// Time a closing stream has to hand over what is queued before it is forgotten.
pub const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Time that answers to requests in flight have once a stream is to end.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Pause after the store could not answer a session's read.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How far reconnects are spread when a node drains or fails: below the 5 s in which clients shall be back (F17).
pub const RECONNECT_SPREAD_MS: u64 = 4_000;

// What a session keeps.

/// Requests of a stream that may be unanswered (wire contract): above it client frames wait in HTTP/2's window.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;
/// Requests among them whose answers may be large (history, sync): bounds what answers can add to the queue.
pub const LARGE_REQUESTS_IN_FLIGHT_MAX: usize = 2;
/// Refused appends of a stream whose place is kept until they come again: four times what may be in flight, some 30 KiB.
pub const REFUSED_APPENDS_MAX: usize = 256;
/// Bytes of requests in flight: four of the largest frames, or 64 of the usual ones.
pub const REQUEST_BYTES_IN_FLIGHT_MAX: usize = 256 * 1024;
/// Frames in the outgoing queue above which nothing is added but answers already owed: two windows.
pub const QUEUE_FRAMES_MAX: usize = 512;
/// Bytes in the outgoing queue above which nothing is added but answers already owed. With those (64 small ones and 2
/// pages of 512 KiB) a stalled stream costs at most about 3 MiB.
pub const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Rows of the inbox read at a time.
pub const INBOX_PAGE: usize = 500;
/// Conversations with something to send that a session remembers: the positions of one hello, or two inbox pages. What
/// does not fit is found again in the inbox.
pub const PULLS_MAX: usize = 1_000;
/// Conversations a session keeps positions of; those with nothing open are forgotten first and read again when needed.
pub const TRACKS_MAX: usize = 2_048;
/// Reads of conversations at a time: hides the latency of a remote store without keeping it busy for one session.
pub const READS_AT_A_TIME: usize = 4;
/// Entries of one such read.
pub const READ_ENTRIES_MAX: usize = 64;
/// Bytes of one such read.
pub const READ_BYTES_MAX: usize = 128 * 1024;
/// Conversations whose acks are made durable by one write: as many as the window has deliveries.
pub const ACKS_AT_A_TIME: usize = 256;
/// Conversations whose changed own row or moved receipts wait to be sent; above it the client is told to resync.
pub const NOTICES_MAX: usize = 512;
/// Members in one receipts event (wire contract).
pub const RECEIPT_MEMBERS_MAX: usize = 50;
/// Heads in a pong (wire contract).
pub const PONG_HEADS_MAX: usize = 32;
/// A watched user's presence is sent at most this often.
pub const PRESENCE_EVERY: Duration = Duration::from_millis(500);
/// How often all watched presences are read again: finds those whose gateway died without a word.
pub const PRESENCE_REREAD_EVERY: Duration = Duration::from_secs(30);
/// How soon they are read again once a hint says that it matters: hints come in bursts.
pub const PRESENCE_REREAD_SOON: Duration = Duration::from_secs(1);
/// Pages of the inbox that a hello with `INITIAL_BACKLOG_NOTHING` may set positions for: 100,000 conversations.
pub const NOTHING_PAGES_MAX: usize = 200;

// Resume tokens.

/// How long a resume token is good after its stream ended (wire contract).
pub const RESUME_WITHIN: Duration = Duration::from_secs(300);
/// Resume tokens of ended streams that a node keeps; the oldest go first, and their clients start as new.
pub const RESUMES_MAX: usize = 20_000;
/// Bytes of a resume token.
pub const RESUME_TOKEN_BYTES: usize = 32;

// Submit.

/// Bytes that wrap a client frame in its rpc message, above the frame itself.
pub const WRAPPER_BYTES: usize = 16;
