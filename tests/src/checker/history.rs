//! What clients did and saw: events with monotonic times, one JSON line each, so that several processes can write one
//! history.

use std::fmt;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub String);

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name!(
    /// A conversation.
    Conversation
);
name!(
    /// A user; empty for the system.
    User
);
name!(
    /// A device; empty for integrators.
    Device
);
name!(
    /// A `client_msg_id`.
    MessageId
);
number!(
    /// Position in a conversation; 0 is before the first.
    Seq
);
number!(
    /// One try of one operation; unique in a history.
    OpId
);
number!(
    /// One stream of a device; unique in a history.
    SessionRef
);
number!(
    /// Microseconds on a clock that never goes back and is shared by every writer of the history.
    Moment
);
number!(
    /// FNV-1a of an entry's encoded body: tells bodies apart without keeping them.
    BodyHash
);

impl BodyHash {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

/// What a message is known by for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageKey {
    /// Where.
    pub conversation: Conversation,
    /// Sender.
    pub user: User,
    /// Their device.
    pub device: Device,
    /// The id they chose.
    pub id: MessageId,
}

impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.conversation, self.user, self.device, self.id)
    }
}

/// An entry as a reader saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Where it lay.
    pub seq: Seq,
    /// Its identity.
    pub key: MessageKey,
    /// Its body; `None` for a tombstone.
    pub body: Option<BodyHash>,
}

/// What a new device asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Backlog {
    /// Everything the user may read.
    #[default]
    Everything,
    /// Nothing older than hello.
    Nothing,
}

/// Where a stream's deliveries start, as its hello asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Start {
    /// For conversations where the device has nothing.
    pub backlog: Backlog,
    /// The device lost its data.
    pub forget: bool,
    /// Explicit positions, which override what was acknowledged.
    pub positions: Vec<(Conversation, Seq)>,
}

/// Which registers an observation shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Register {
    /// The user's own markers, private reads included.
    Own,
    /// What the other members see.
    Public,
}

/// Values of a user's markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MarkerValues {
    /// Delivered up to here.
    pub delivered: Seq,
    /// Read up to here.
    pub read: Seq,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants' fields are the types above, named after them")]
pub enum What {
    /// Welcome arrived.
    SessionOpened {
        session: SessionRef,
        user: User,
        device: Device,
        start: Start,
    },
    /// The stream ended, by bye or otherwise.
    SessionClosed { session: SessionRef, bye: bool },
    /// The client stopped reading or acknowledging on purpose.
    ReaderPaused { session: SessionRef },
    /// It goes on.
    ReaderResumed { session: SessionRef },
    /// A try of an append left. Order is promised within a lane: a stream, or one caller's sequence of unary calls.
    SendInvoked {
        op: OpId,
        key: MessageKey,
        lane: String,
        body: BodyHash,
    },
    /// The try left on this stream, which orders those that name no predecessor by when their messages first came.
    SendInLine {
        op: OpId,
        session: SessionRef,
        /// It named its predecessor, and so has an order of its own.
        named: bool,
    },
    /// It was acknowledged.
    SendAcked { op: OpId, seq: Seq },
    /// It was refused as certainly not done.
    SendFailed { op: OpId },
    /// Its refusal asks for another try: the stream keeps its place.
    SendHeld { op: OpId },
    /// Its outcome is unknown: an answer saying so, or no answer.
    SendUnknown { op: OpId },
    /// An added or removed member was acknowledged at this seq.
    MembershipAcked {
        conversation: Conversation,
        user: User,
        joined: bool,
        seq: Seq,
    },
    /// An entry arrived on a stream.
    Delivered { session: SessionRef, entry: Sighting },
    /// The client acknowledged deliveries of a conversation.
    DeliveryAcked {
        session: SessionRef,
        conversation: Conversation,
        seq: Seq,
    },
    /// A page of history arrived.
    PageRead { user: User, entries: Vec<Sighting> },
    /// A head was read; `invoked` is when the request left.
    HeadRead {
        user: User,
        conversation: Conversation,
        invoked: Moment,
        head: Seq,
        /// A row of a list told it, not the conversation itself.
        listed: bool,
    },
    /// The user asks to move markers to this seq; with a device, that one's position too.
    MarkInvoked {
        user: User,
        device: Option<Device>,
        conversation: Conversation,
        seq: Seq,
    },
    /// Markers were read, or answered to a mark; `invoked` is when the request left.
    MarkersRead {
        subject: User,
        conversation: Conversation,
        register: Register,
        invoked: Moment,
        values: MarkerValues,
    },
    /// Markers arrived unasked on a stream.
    MarkersPushed {
        session: SessionRef,
        subject: User,
        conversation: Conversation,
        register: Register,
        values: MarkerValues,
    },
    /// Something else about a conversation arrived on a stream (typing, a list row).
    Noticed {
        session: SessionRef,
        conversation: Conversation,
    },
    /// The client showed a sign of life.
    Heartbeat { session: SessionRef },
    /// The user asked to look offline, or not any more.
    LooksOffline { user: User, offline: bool },
    /// Presence of a user was read; `invoked` is when the request left.
    PresenceRead {
        subject: User,
        invoked: Moment,
        online: bool,
    },
    /// Presence of a user arrived unasked.
    PresencePushed { subject: User, online: bool },
    /// The observers stopped looking.
    Ended,
}

/// Something that happened, and when it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What all clients did and saw, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The events.
    pub events: Vec<Event>,
}

impl History {
    /// Adds an event.
    pub fn push(&mut self, at: Moment, what: What) {
        self.events.push(Event { at, what });
    }

    /// Writes one JSON line per event.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        for event in &self.events {
            serde_json::to_writer(&mut *out, event)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Adds the events of another writer. A last line without a line end was cut by a kill and is left out.
    ///
    /// # Errors
    /// What the reader says, or a line that is no event.
    pub fn read_lines(&mut self, from: &mut dyn BufRead) -> io::Result<()> {
        let mut line = String::new();
        while from.read_line(&mut line)? > 0 {
            if line.ends_with('\n') {
                self.events.push(serde_json::from_str(&line)?);
            }
            line.clear();
        }
        Ok(())
    }
}
