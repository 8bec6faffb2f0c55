//! What survives a restart of the app: the outbox, how far each conversation was stored, the list cursor.

mod file;
mod memory;

pub use file::FileStore;
pub use memory::MemoryStore;

use std::collections::BTreeMap;

use async_trait::async_trait;
use prost::Message;
use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::{AppendHeader, ClientFrame};

/// Bytes of a client frame: the contract's bound.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// What the request id, the predecessor's id and the frames around may add.
const FRAME_OVERHEAD_BYTES: usize = 128;

/// The store could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Nothing of what was to be written is there, now or after a restart.
    #[error("the client's store was not written: {0}")]
    NotWritten(String),
    /// It may or may not be there after a restart.
    #[error("the client's store may not have been written: {0}")]
    Unknown(String),
    /// The store cannot be read.
    #[error("the client's store cannot be read: {0}")]
    Unreadable(String),
}

/// An operation of the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedOperation {
    body: Body,
}

impl QueuedOperation {
    /// Takes a frame that appends (send, edit, redact, react, pin) and has a header; `None` for any other.
    #[must_use]
    pub fn new(body: Body) -> Option<Self> {
        header_of(&body).is_some().then_some(Self { body })
    }

    /// Where it goes.
    #[must_use]
    pub fn conversation_id(&self) -> &str {
        header_of(&self.body).map_or("", |header| &header.conversation_id)
    }

    /// Its id, the same on every try.
    #[must_use]
    pub fn client_msg_id(&self) -> &str {
        header_of(&self.body).map_or("", |header| &header.client_msg_id)
    }

    /// The frame's body, to follow directly after `previous` (empty for no condition).
    #[must_use]
    pub fn body_after(&self, previous: &str) -> Body {
        let mut body = self.body.clone();
        if let Some(header) = header_of_mut(&mut body) {
            previous.clone_into(&mut header.previous_client_msg_id);
        }
        body
    }

    /// Whether its frame would be larger than the server takes: sending it would end the stream, again and again.
    pub(crate) fn is_too_large(&self) -> bool {
        self.encode().len() + FRAME_OVERHEAD_BYTES > FRAME_BYTES_MAX
    }

    /// As bytes, for stores.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let frame = ClientFrame {
            request_id: 0,
            body: Some(self.body.clone()),
        };
        frame.encode_to_vec()
    }

    /// From bytes of `encode`; `None` when they are something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        ClientFrame::decode(bytes).ok()?.body.and_then(Self::new)
    }
}

fn header_of(body: &Body) -> Option<&AppendHeader> {
    match body {
        Body::Send(request) => request.header.as_ref(),
        Body::Edit(request) => request.header.as_ref(),
        Body::Redact(request) => request.header.as_ref(),
        Body::React(request) => request.header.as_ref(),
        Body::Pin(request) => request.header.as_ref(),
        _ => None,
    }
}

fn header_of_mut(body: &mut Body) -> Option<&mut AppendHeader> {
    match body {
        Body::Send(request) => request.header.as_mut(),
        Body::Edit(request) => request.header.as_mut(),
        Body::Redact(request) => request.header.as_mut(),
        Body::React(request) => request.header.as_mut(),
        Body::Pin(request) => request.header.as_mut(),
        _ => None,
    }
}

/// One change to remember.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An operation was taken.
    Queued(QueuedOperation),
    /// It is done: stored on the server, or refused for good.
    Finished {
        /// The conversation it was for; empty in records of older versions, which did not say: then it is the oldest of
        /// that id.
        conversation_id: String,
        /// Its id, which is unique within the conversation only.
        client_msg_id: String,
    },
    /// The app has stored the conversation up to here. It may go down: see `Event::Rewound`.
    Position {
        /// The conversation.
        conversation_id: String,
        /// Its newest entry that the app has stored, with all before it; 0 for none.
        seq: u64,
    },
    /// The app has stored the conversation list up to here.
    Cursor(Vec<u8>),
}

/// Everything a store remembers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// Unfinished operations in the order they were taken.
    pub outbox: Vec<QueuedOperation>,
    /// Up to where the app has stored each conversation.
    pub positions: BTreeMap<String, u64>,
    /// Up to where the app has stored the list; empty for nothing.
    pub cursor: Vec<u8>,
}

impl Stored {
    /// Takes in a change.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Queued(operation) => self.outbox.push(operation),
            Record::Finished {
                conversation_id,
                client_msg_id,
            } => {
                let is_it = |op: &QueuedOperation| {
                    let here = conversation_id.is_empty() || op.conversation_id() == conversation_id;
                    here && op.client_msg_id() == client_msg_id
                };
                // The finished one is nearly always the oldest.
                if let Some(at) = self.outbox.iter().position(is_it) {
                    self.outbox.remove(at);
                }
            }
            Record::Position { conversation_id, seq } => {
                self.positions.insert(conversation_id, seq);
            }
            Record::Cursor(cursor) => self.cursor = cursor,
        }
    }
}

/// What survives a restart of the app.
#[async_trait]
pub trait ClientStore: Send + Sync {
    /// Everything remembered.
    ///
    /// # Errors
    /// The store is damaged, locked by another process or cannot be read.
    async fn load(&self) -> Result<Stored, StoreError>;

    /// Remembers changes, all of them or none, in order. When it returns they are as durable as the store promises.
    ///
    /// # Errors
    /// The store cannot be written; the error says whether the changes may be there after a restart.
    async fn append(&self, records: &[Record]) -> Result<(), StoreError>;
}
