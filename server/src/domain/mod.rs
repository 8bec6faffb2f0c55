//! Pure values and rules: no async, no I/O, no clock.

pub mod authorization;
pub mod clock;
pub mod entry;
pub mod ids;
pub mod limits;
pub mod markers;
pub mod payload;
pub mod refusal;
pub mod roster;

pub use clock::ClockOffset;
pub use entry::{Body, Change, Content, Entry, Media, MessageContent, Sender};
pub use ids::{
    ClientMsgId, ConversationId, CorrelationId, DeviceId, Epoch, Ordinal, Seq, SessionId, StreamName, UnixMillis,
    UserId,
};
pub use markers::{Counted, MarkerSet};
pub use refusal::{Effect, Reason, Refusal};
pub use roster::{Kind, Member, Role, Roster, Span};
