//! Entries of a conversation's log, and the changes that ask for one.

use bytes::Bytes;

use super::ids::{ClientMsgId, ConversationId, CorrelationId, DeviceId, Ordinal, Seq, UnixMillis, UserId};
use super::roster::{Kind, Member};

/// Who caused an entry. (user, device) is the namespace of `client_msg_id` within the conversation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// The user; `None` for the system.
    pub user: Option<UserId>,
    /// Their device; `None` for the system and for integrators on behalf of a user.
    pub device: Option<DeviceId>,
}

/// One entry of a conversation's log: the unit of order, delivery, history and audience.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its place there.
    pub seq: Seq,
    /// Server time, never decreasing within the conversation.
    pub time: UnixMillis,
    /// How many entries up to and including this one count as unread.
    pub ordinal: Ordinal,
    /// Who caused it.
    pub sender: Sender,
    /// Id the sender chose.
    pub client_msg_id: ClientMsgId,
    /// Id of the request that caused it.
    pub correlation: CorrelationId,
    /// When the sender says it was written; never used for order.
    pub origin_time: Option<UnixMillis>,
    /// What it says.
    pub body: Body,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A message.
    Message(MessageContent),
    /// New content for an earlier message.
    Edited {
        /// The message.
        target: Seq,
        /// Its new content.
        content: MessageContent,
    },
    /// Removal of an earlier message's content.
    Redacted {
        /// The message.
        target: Seq,
        /// Reason for the others.
        reason: String,
    },
    /// A reaction of the sender.
    Reaction {
        /// The message.
        target: Seq,
        /// The reaction.
        reaction: String,
        /// True when it was taken back.
        removed: bool,
    },
    /// A pin for everybody.
    Pin {
        /// The message.
        target: Seq,
        /// False when it was unpinned.
        pinned: bool,
    },
    /// First entry of every conversation.
    Created {
        /// 1:1 or group.
        kind: Kind,
        /// Name of a group.
        name: String,
        /// Members from the start.
        members: Vec<Member>,
    },
    /// Members as they are from here on.
    Members(Vec<Member>),
    /// A membership ends here.
    Left {
        /// Who is no longer a member.
        user: UserId,
        /// True when somebody else removed them.
        removed: bool,
        /// Who became owner because the last owner left.
        promoted: Option<UserId>,
    },
    /// A new name.
    Renamed(String),
    /// What is left, at the same seq, of a message (or of an edit of it) that was redacted.
    Tombstone {
        /// The entry that redacted it.
        redacted_by: Seq,
    },
}

impl Body {
    /// Whether it counts as unread. A tombstone counts as the message did: ordinals never change.
    #[must_use]
    pub fn counts_as_unread(&self) -> bool {
        matches!(self, Self::Message(_))
    }

    /// Whether it changes who is a member or with which role.
    #[must_use]
    pub fn changes_membership(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::Members(_) | Self::Left { .. })
    }
}

/// Content of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageContent {
    /// Plain or encrypted.
    pub content: Content,
    /// The message it replies to.
    pub reply_to: Option<Seq>,
    /// Pointers to media.
    pub media: Vec<Media>,
}

/// Plain or encrypted content.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// UTF-8 text.
    Text(String),
    /// Bytes only the members' devices can read.
    Ciphertext {
        /// Name of the scheme.
        scheme: String,
        /// The bytes.
        data: Bytes,
    },
}

/// A pointer to media in object storage.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// Key or URL.
    pub uri: String,
    /// MIME type.
    pub content_type: String,
    /// Bytes; 0 when unknown.
    pub size_bytes: u64,
}

/// A change somebody asks for; accepted, it becomes one entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Send a message.
    Message(MessageContent),
    /// Edit one's own message.
    Edit {
        /// The message.
        target: Seq,
        /// Its new content.
        content: MessageContent,
    },
    /// Redact a message.
    Redact {
        /// The message.
        target: Seq,
        /// Reason for the others.
        reason: String,
    },
    /// Add or take back a reaction.
    React {
        /// The message.
        target: Seq,
        /// The reaction.
        reaction: String,
        /// True to take it back.
        remove: bool,
    },
    /// Pin or unpin a message.
    Pin {
        /// The message.
        target: Seq,
        /// True to unpin.
        unpin: bool,
    },
    /// Add members or change roles.
    SetMembers(Vec<Member>),
    /// Remove a member, or leave.
    RemoveMember(UserId),
    /// Rename a group.
    Rename(String),
}

impl Change {
    /// The earlier message it speaks of.
    #[must_use]
    pub fn target(&self) -> Option<Seq> {
        match self {
            Self::Edit { target, .. }
            | Self::Redact { target, .. }
            | Self::React { target, .. }
            | Self::Pin { target, .. } => Some(*target),
            Self::Message(_) | Self::SetMembers(_) | Self::RemoveMember(_) | Self::Rename(_) => None,
        }
    }
}
