//! Bounds of the product, each with its reason. Bounds of a single queue or loop stand beside it.

/// Members of a group: receipts and fan-out are sized for it.
pub const GROUP_MEMBERS_MAX: usize = 500;
/// Members changed by one entry: keeps the entry below the frame limit.
pub const MEMBERS_PER_CHANGE_MAX: usize = 100;
/// Bytes of a client frame; also tonic's decode limit on every public service.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a message text: four such messages fit one group-commit batch of 64 KiB.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a ciphertext: a text of the largest size, encrypted, padded and with per-message keys.
pub const CIPHERTEXT_BYTES_MAX: usize = 32 * 1024;
/// Characters of a display or group name.
pub const NAME_CHARS_MAX: usize = 128;
/// Media references of one message.
pub const MEDIA_MAX: usize = 16;
/// Bytes of a media reference's URI.
pub const MEDIA_URI_BYTES_MAX: usize = 2_048;
/// Bytes of a MIME type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// Bytes of a reaction: the longest ZWJ emoji sequences are below 40.
pub const REACTION_BYTES_MAX: usize = 64;
/// Bytes of a redaction's reason.
pub const REASON_BYTES_MAX: usize = 256;
/// Deliveries a session may leave unacknowledged (P18).
pub const WINDOW_MAX: u32 = 256;
/// Entries of a history page, and of a page when nothing was asked.
pub const HISTORY_PAGE_MAX: u32 = 200;
/// Entries of a history page when the request does not say.
pub const HISTORY_PAGE_DEFAULT: u32 = 50;
/// Bytes of a history page: below the 4 MiB that gRPC clients decode by default, with room for many pages in flight.
pub const HISTORY_PAGE_BYTES_MAX: usize = 512 * 1024;
/// Rows of a conversation list page.
pub const LIST_PAGE_MAX: u32 = 500;
/// Rows of a conversation list page when the request does not say.
pub const LIST_PAGE_DEFAULT: u32 = 100;
/// Users whose presence one session may watch: one screen of a large list.
pub const WATCHED_USERS_MAX: usize = 200;
/// Explicit positions in a hello.
pub const HELLO_POSITIONS_MAX: usize = 1_000;
/// Messages that may be pinned in a conversation: each node that has it loaded keeps their seqs, 8 KiB of them.
pub const PINS_MAX: usize = 1_000;
/// The newest pinned messages, which a conversation shows.
pub const PINS_SHOWN_MAX: usize = 100;
/// Users of one read of profiles: those of one screen of a large list.
pub const USERS_PER_REQUEST_MAX: usize = 200;
/// Rows of an integrator's list page.
pub const ADMIN_PAGE_MAX: u32 = 500;
/// Rows of an integrator's list page when the request does not say.
pub const ADMIN_PAGE_DEFAULT: u32 = 100;
/// Seconds a token of the server's own lives: long enough for a device that is used monthly.
pub const TOKEN_SECONDS_MAX: u32 = 2_592_000;
/// Seconds a token lives when the request does not say.
pub const TOKEN_SECONDS_DEFAULT: u32 = 86_400;
/// Client frames of one Submit: a browser's burst between two round trips.
pub const SUBMIT_FRAMES_MAX: usize = 64;
/// Characters of an app's name and version.
pub const CLIENT_NAME_CHARS_MAX: usize = 64;
/// Characters of the name of an encryption scheme.
pub const SCHEME_CHARS_MAX: usize = 64;
/// Devices that a directory keeps of one user, removed ones included: a browser that is a new device every day for years.
pub const DEVICES_MAX: usize = 1_000;
/// Milliseconds after which a removal may be forgotten to make room for a new device: three lives of the longest token of
/// the server's own.
pub const REMOVAL_KEPT_MS: i64 = 3 * TOKEN_SECONDS_MAX as i64 * 1_000;
/// Users whom one user may have blocked: the answer that lists them stays below a frame.
pub const BLOCKS_MAX: usize = 900;
/// Largest seq that is told apart: what lies above is beyond every head alike, and stores keep signed 64 bit.
pub const SEQ_MAX: u64 = i64::MAX as u64;
