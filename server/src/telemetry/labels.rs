//! The values that labels of metrics may have.

use super::instruments::Label;
use crate::domain::Reason;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident, $key:literal { $($(#[$of:meta])* $variant:ident = $text:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum $name {
                $($(#[$of])* $variant,)*
            }

            impl Label for $name {
                const KEY: &'static str = $key;
                const VALUES: &'static [&'static str] = &[$($text),*];

                fn index(self) -> usize {
                    self as usize
                }
            }
        )*
    };
}

labels! {
    /// What became of an append.
    Outcome, "outcome" {
        /// It has a seq now.
        Stored = "stored",
        /// It was stored before.
        Duplicate = "duplicate",
        /// It is certainly not stored.
        Refused = "refused",
        /// Nobody knows: the client asks again.
        Unknown = "unknown",
    }

    /// Why a request was refused, as in `stonechat.v1.RefusalReason`.
    Refused, "reason" {
        /// Malformed.
        Invalid = "invalid",
        /// No good token.
        Unauthenticated = "unauthenticated",
        /// Not allowed.
        Forbidden = "forbidden",
        /// Absent or hidden.
        NotFound = "not_found",
        /// The id had another payload.
        ClientMsgIdReused = "client_msg_id_reused",
        /// The predecessor is not the newest.
        OutOfOrder = "out_of_order",
        /// Above the head.
        BeyondHead = "beyond_head",
        /// Older than what is kept.
        CursorExpired = "cursor_expired",
        /// The cursor is of another store.
        ResyncRequired = "resync_required",
        /// Too much.
        RateLimited = "rate_limited",
        /// A limit of the object.
        LimitReached = "limit_reached",
        /// Not now.
        Unavailable = "unavailable",
        /// A fault of the server.
        Internal = "internal",
        /// Exists with other content.
        AlreadyExists = "already_exists",
        /// Against the protocol.
        Protocol = "protocol",
        /// One of the two blocked the other.
        Blocked = "blocked",
    }

    /// Why a token was not accepted.
    AuthFailure, "reason" {
        /// There was none.
        NoToken = "no_token",
        /// It cannot be read.
        Malformed = "malformed",
        /// Its signature or algorithm is wrong.
        Signature = "signature",
        /// No key of that id.
        UnknownKey = "unknown_key",
        /// For another issuer or audience, or a claim is missing.
        Claims = "claims",
        /// Its time is over, or to come.
        Time = "time",
        /// The user is unknown or deactivated, or the device removed.
        Revoked = "revoked",
        /// The directory could not say.
        Unavailable = "unavailable",
    }

    /// What gave way under load.
    Shed, "what" {
        /// A conversation's queue was full.
        ConversationQueue = "conversation_queue",
        /// A conversation was at its rate.
        ConversationRate = "conversation_rate",
        /// Too many conversations were active.
        ConversationsLoaded = "conversations_loaded",
        /// A write, because the disk has no room.
        Disk = "disk",
        /// Typing, because a stream's queue was half full.
        Typing = "typing",
    }

    /// Why the edge refused something, or ended it.
    Turned, "reason" {
        /// A connection: its address opens too many too fast.
        ConnectionRate = "connection_rate",
        /// A connection: its address has too many open.
        AddressConnections = "address_connections",
        /// A connection: there are as many as may be.
        Full = "full",
        /// A connection of another node: there are as many as may be.
        NodeConnections = "node_connections",
        /// A connection: it did not say in time what it wants.
        Silent = "silent",
        /// A connection: it had asked, and then carried nothing for long.
        Idle = "idle",
        /// A connection: a flood of frames that ask for work and carry nothing.
        FrameFlood = "frame_flood",
        /// A connection: a flood of requests that HTTP/2 answers by itself, too large, malformed, or too many at once.
        RequestFlood = "request_flood",
        /// A connection: nobody on it showed a good token, and there is no room for what it sends.
        UnprovenBytes = "unproven_bytes",
        /// A connection: it went on asking after a great many refusals.
        Persistent = "persistent",
        /// A request: its address asks too fast.
        AddressRate = "address_rate",
        /// A request: its user asks too fast.
        UserRate = "user_rate",
        /// A request or a hello: the node has more to do than it can.
        Overloaded = "overloaded",
        /// A request: the node takes in as many bytes of requests as it may.
        RequestBytes = "request_bytes",
        /// A request: not answered within its deadline.
        Deadline = "deadline",
        /// A request: too many metadata entries.
        Metadata = "metadata",
        /// A request: a page of an origin that is not listed.
        Origin = "origin",
        /// A request: its content type is not that of gRPC.
        ContentType = "content_type",
        /// A stream: no hello in time.
        NoHello = "no_hello",
        /// A stream: its reader did not take what was left to send.
        StuckStream = "stuck_stream",
    }

    /// Why a client was told to read everything again.
    Resync, "cause" {
        /// Events for its stream were lost: it read too slowly.
        EventsLost = "events_lost",
        /// Its cursor was of another store.
        Cursor = "cursor",
    }

    /// Why a stream ended, as in `stonechat.v1.CloseReason`.
    Ended, "reason" {
        /// A newer stream of the device.
        Replaced = "replaced",
        /// The token expired.
        Expired = "expired",
        /// The token was refused or withdrawn.
        Credentials = "credentials",
        /// This node went down.
        Draining = "draining",
        /// The client broke the protocol.
        Protocol = "protocol",
        /// The client did not read.
        SlowConsumer = "slow_consumer",
        /// Nothing came from the client.
        Idle = "idle",
        /// The client's wish.
        Bye = "bye",
        /// A fault of the server.
        Internal = "internal",
        /// Too much of something.
        Overloaded = "overloaded",
        /// The client was gone.
        Gone = "gone",
    }

    /// What a delivery is.
    Delivery, "kind" {
        /// News.
        Live = "live",
        /// What came while the device was away.
        Backlog = "backlog",
    }

    /// What is asked.
    Service, "of" {
        /// The CQL servers.
        Cql = "cql",
        /// The directory's database, SQLite among them.
        Sql = "sql",
        /// Redis.
        Redis = "redis",
    }

    /// Where something is published.
    Published, "to" {
        /// On a topic of one user or session.
        Topic = "topic",
        /// Once for many users, to every gateway.
        Gateways = "gateways",
        /// Once for a busy large group, to the gateways that have a member of it.
        Conversation = "conversation",
        /// To every gateway: that a conversation has a channel of its own.
        Promotion = "promotion",
    }

    /// Why a TLS handshake failed.
    Handshake, "reason" {
        /// It took too long.
        Deadline = "deadline",
        /// The peer or its certificate was refused, or it gave up.
        Refused = "refused",
    }

    /// A port that may be encrypted.
    Port, "port" {
        /// For devices, browsers and integrators.
        Public = "public",
        /// For operators.
        Operator = "operator",
        /// For other nodes.
        Nodes = "nodes",
    }

    /// What a look at changed certificate files gave, or a fetch of keys.
    Reload, "outcome" {
        /// The new ones are in use.
        Used = "used",
        /// They cannot be used, the old ones stay.
        Failed = "failed",
    }
}

impl From<&Reason> for Refused {
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::Invalid { .. } => Self::Invalid,
            Reason::Unauthenticated => Self::Unauthenticated,
            Reason::Forbidden => Self::Forbidden,
            Reason::NotFound => Self::NotFound,
            Reason::ClientMsgIdReused { .. } => Self::ClientMsgIdReused,
            Reason::OutOfOrder { .. } => Self::OutOfOrder,
            Reason::BeyondHead { .. } => Self::BeyondHead,
            Reason::CursorExpired { .. } => Self::CursorExpired,
            Reason::ResyncRequired => Self::ResyncRequired,
            Reason::RateLimited { .. } => Self::RateLimited,
            Reason::LimitReached => Self::LimitReached,
            Reason::Unavailable { .. } => Self::Unavailable,
            Reason::Internal => Self::Internal,
            Reason::AlreadyExists => Self::AlreadyExists,
            Reason::Protocol => Self::Protocol,
            Reason::Blocked => Self::Blocked,
        }
    }
}
