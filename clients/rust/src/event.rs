//! What the client tells the app.

use std::time::Duration;

use stonechat_proto::v1;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A session began. The welcome's conversations are those that changed; more may follow as `Conversations`.
    Connected(Box<v1::Welcome>),
    /// More rows of the conversation list that changed since the last session.
    Conversations(v1::ConversationList),
    /// The session ended, or could not begin.
    Disconnected {
        /// Why.
        reason: DisconnectReason,
        /// When the client tries again; `None` when it does not by itself: see `Client::reconnect`.
        retry: Option<Duration>,
    },
    /// An entry, in order and once per conversation. Repaired gaps come as backlog.
    Delivered {
        /// The entry.
        entry: Box<v1::Entry>,
        /// It was there before this session began, or was fetched to close a gap.
        backlog: bool,
    },
    /// Everything that was there when the session began was handed over.
    CaughtUp,
    /// An operation of the outbox is stored on the server.
    SendAccepted(v1::Appended),
    /// An operation of the outbox was refused for good and certainly not done; later ones go on.
    SendFailed {
        /// The conversation it was for.
        conversation_id: String,
        /// Its id.
        client_msg_id: String,
        /// What the server said.
        refusal: Box<v1::Refusal>,
    },
    /// Receipts of others moved.
    Receipts(v1::ReceiptsMoved),
    /// Receipts of others may have moved untold: an app that shows some asks for them again
    /// (`Client::unary().receipts().get_receipts`). The same holds after every `Connected` but the first.
    ReceiptsMissed,
    /// Own markers moved on another device.
    Markers(v1::Markers),
    /// Somebody types, or stopped.
    Typing(v1::Typing),
    /// A watched user's presence changed.
    Presence(v1::Presence),
    /// A row of the conversation list changed.
    Conversation(Box<v1::ConversationSummary>),
    /// The server's log of this conversation ends before what the app has (it was restored from an older copy):
    /// entries above `head_seq` are void, deliveries go on from there.
    Rewound {
        /// Which.
        conversation_id: String,
        /// Where the server's log ends.
        head_seq: u64,
    },
    /// The client's store could not be written; acknowledgements wait until it can.
    StoreFailed(String),
}

/// Why a session ended or could not begin.
#[derive(Debug, Clone, PartialEq)]
pub enum DisconnectReason {
    /// The server ended it and said why.
    Closed(v1::StreamClosed),
    /// The server refused the hello.
    Refused(Box<v1::Refusal>),
    /// The token was refused and no other could be had.
    BadToken(String),
    /// The connection broke or could not be made.
    Network(String),
    /// Nothing came from the server for so long that it counts as dead.
    Silent,
    /// The server said something this client does not understand.
    Protocol(String),
}

impl Event {
    /// The (conversation, seq) of a delivery.
    pub(crate) fn position(&self) -> Option<(&str, u64)> {
        match self {
            Self::Delivered { entry, .. } => Some((&entry.conversation_id, entry.seq)),
            _ => None,
        }
    }

    /// May be dropped when the app falls behind: true only of what stands for a moment.
    pub(crate) fn may_be_shed(&self) -> bool {
        matches!(self, Self::Typing(_) | Self::Presence(_))
    }

    /// Whether `newer` makes this event worthless.
    pub(crate) fn superseded_by(&self, newer: &Self) -> bool {
        match (self, newer) {
            (Self::Markers(old), Self::Markers(new)) => old.conversation_id == new.conversation_id,
            (Self::Presence(old), Self::Presence(new)) => old.user_id == new.user_id,
            (Self::Conversation(old), Self::Conversation(new)) => old.conversation_id == new.conversation_id,
            (Self::ReceiptsMissed, Self::ReceiptsMissed) => true,
            (Self::Typing(old), Self::Typing(new)) => {
                old.conversation_id == new.conversation_id && old.user_id == new.user_id
            }
            _ => false,
        }
    }
}
