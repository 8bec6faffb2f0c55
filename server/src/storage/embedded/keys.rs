//! Keys of the embedded store. Each table is a prefix byte within one of three keyspaces, so that few memtables are held.
//!
//! Texts are prefixed with their length: no two keys run together, and a scan by user or device finds nobody else.

use crate::domain::{ClientMsgId, ConversationId, DeviceId, Sender, Seq, UserId};
use crate::storage::ChangeStamp;

/// Which keyspace a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// conversation, seq → entry.
    Entries = 0,
    /// Everything else of a conversation, and the store's own state.
    Index = 1,
    /// Markers and inbox of users.
    Users = 2,
}

/// Number of the newest commit, the newest durable one, and the ceiling of change stamps. The only key of its length in
/// any keyspace: the check of the journal knows it by that.
pub(super) const COMMIT: &[u8] = b"commit";
/// Random id of the store.
pub(super) const STORE_ID: &[u8] = b"store-id";

const HEAD: u8 = b'h';
const ID: u8 = b'i';
const NEWEST: u8 = b'n';
const EDIT: u8 = b'e';
/// Prefix of all rows of fan-out pending.
pub(super) const PENDING: &[u8] = b"p";
const MARKER: u8 = b'm';
const POSITION: u8 = b'd';
const SYNCED: u8 = b's';
const ROW: u8 = b'r';
const CHANGE: u8 = b'c';

/// Longest key: an id of a sender with the longest names.
const KEY_BYTES: usize = 1 + 16 + 3 * (1 + 64);

/// A key under construction.
struct Key(Vec<u8>);

impl Key {
    fn of(table: u8) -> Self {
        let mut bytes = Vec::with_capacity(KEY_BYTES);
        bytes.push(table);
        Self(bytes)
    }

    fn conversation(mut self, conversation: ConversationId) -> Self {
        self.0.extend_from_slice(&conversation.0);
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Identifiers are at most 64 bytes and never empty: length 0 is "none".
    fn text(mut self, text: &str) -> Self {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn sender(self, sender: &Sender) -> Self {
        let user = sender.user.as_ref().map_or("", UserId::as_str);
        let device = sender.device.as_ref().map_or("", DeviceId::as_str);
        self.text(user).text(device)
    }
}

pub(super) fn entry(conversation: ConversationId, seq: Seq) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&conversation.0);
    key[16..].copy_from_slice(&seq.0.to_be_bytes());
    key
}

/// The seq in a key of [`entry`].
pub(super) fn seq_of_entry(key: &[u8]) -> Option<Seq> {
    let bytes = key.get(16..)?.try_into().ok()?;
    Some(Seq(u64::from_be_bytes(bytes)))
}

pub(super) fn head(conversation: ConversationId) -> Vec<u8> {
    Key::of(HEAD).conversation(conversation).0
}

pub(super) fn id(conversation: ConversationId, sender: &Sender, id: &ClientMsgId) -> Vec<u8> {
    Key::of(ID)
        .conversation(conversation)
        .sender(sender)
        .text(id.as_str())
        .0
}

pub(super) fn newest(conversation: ConversationId, sender: &Sender) -> Vec<u8> {
    Key::of(NEWEST).conversation(conversation).sender(sender).0
}

/// Prefix of the edits of one message.
pub(super) fn edits(conversation: ConversationId, target: Seq) -> Vec<u8> {
    Key::of(EDIT).conversation(conversation).number(target.0).0
}

pub(super) fn edit(conversation: ConversationId, target: Seq, edit: Seq) -> Vec<u8> {
    Key(edits(conversation, target)).number(edit.0).0
}

/// The number at the end of a key: the edit's seq, or a change stamp.
pub(super) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn pending(conversation: ConversationId) -> Vec<u8> {
    Key::of(PENDING[0]).conversation(conversation).0
}

/// The conversation at the end of a key of [`pending`].
pub(super) fn last_conversation(key: &[u8]) -> Option<ConversationId> {
    key.last_chunk().map(|bytes| ConversationId(*bytes))
}

pub(super) fn marker(user: &UserId, conversation: ConversationId) -> Vec<u8> {
    Key::of(MARKER).text(user.as_str()).conversation(conversation).0
}

/// Prefix of everything one device acknowledged.
pub(super) fn positions(user: &UserId, device: &DeviceId) -> Vec<u8> {
    Key::of(POSITION).text(user.as_str()).text(device.as_str()).0
}

pub(super) fn position(user: &UserId, device: &DeviceId, conversation: ConversationId) -> Vec<u8> {
    Key(positions(user, device)).conversation(conversation).0
}

pub(super) fn synced(user: &UserId, device: &DeviceId) -> Vec<u8> {
    Key::of(SYNCED).text(user.as_str()).text(device.as_str()).0
}

pub(super) fn row(user: &UserId, conversation: ConversationId) -> Vec<u8> {
    Key::of(ROW).text(user.as_str()).conversation(conversation).0
}

/// Prefix of one user's changes.
pub(super) fn changes(user: &UserId) -> Vec<u8> {
    Key::of(CHANGE).text(user.as_str()).0
}

pub(super) fn change(user: &UserId, change: ChangeStamp) -> Vec<u8> {
    Key(changes(user)).number(change.0).0
}
