//! Values as they lie in columns: numbers as `bigint`, ids and keys as `blob`.

use scylla::value::CqlValue;

use super::CqlError;
use crate::domain::{ClientMsgId, ConversationId, DeviceId, Sender, UserId};

/// Numbers of the store stay far below 2^63: seqs by nature, stamps by their clock until the year 2109.
pub(super) fn number(number: u64) -> CqlValue {
    CqlValue::BigInt(number.cast_signed())
}

pub(super) fn signed(number: i64) -> CqlValue {
    CqlValue::BigInt(number)
}

pub(super) fn kind(kind: i8) -> CqlValue {
    CqlValue::TinyInt(kind)
}

pub(super) fn blob(bytes: &[u8]) -> CqlValue {
    CqlValue::Blob(bytes.to_vec())
}

pub(super) fn text(text: &str) -> CqlValue {
    CqlValue::Text(text.to_owned())
}

pub(super) fn conversation(id: ConversationId) -> CqlValue {
    blob(&id.0)
}

pub(super) fn list(values: impl Iterator<Item = CqlValue>) -> CqlValue {
    CqlValue::List(values.collect())
}

/// A stored number; below zero it was not written by this store.
pub(super) fn read_number(stored: i64, what: &str) -> Result<u64, CqlError> {
    u64::try_from(stored).map_err(|_| CqlError::Damaged(format!("{what} is {stored}")))
}

pub(super) fn read_conversation(bytes: &[u8]) -> Result<ConversationId, CqlError> {
    let id = bytes.try_into().map(ConversationId);
    id.map_err(|_| CqlError::Damaged(format!("a conversation id has {} bytes", bytes.len())))
}

/// Identifiers are at most 64 bytes and never empty: length 0 is "none", and no two keys run together.
fn push_text(key: &mut Vec<u8>, text: &str) {
    key.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    key.extend_from_slice(text.as_bytes());
}

pub(super) fn sender_key(sender: &Sender) -> Vec<u8> {
    let mut key = Vec::new();
    push_text(&mut key, sender.user.as_ref().map_or("", UserId::as_str));
    push_text(&mut key, sender.device.as_ref().map_or("", DeviceId::as_str));
    key
}

pub(super) fn id_key(sender: &Sender, id: &ClientMsgId) -> Vec<u8> {
    let mut key = sender_key(sender);
    push_text(&mut key, id.as_str());
    key
}
