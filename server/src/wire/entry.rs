//! Entries between their domain form and `stonechat.v1.Entry`, which is also the stored form.

mod from_proto;
mod to_proto;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

pub use from_proto::{content_from_proto, entry_from_proto, kind_from_proto, member_from_proto, role_from_proto};
pub use to_proto::{content_to_proto, entry_to_proto, kind_to_proto, member_to_proto, role_to_proto};

use bytes::Bytes;
use prost::Message;
use stonechat_proto::v1;

use crate::domain::Entry;
use crate::domain::ids::IdError;

/// Bytes are not an entry that this version understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not protobuf, or not of this message.
    #[error("not an encoded entry: {0}")]
    Malformed(String),
    /// An identifier inside has the wrong form.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A field that must be set is not, or holds an unknown value.
    #[error("field {0} is missing or unknown")]
    Field(&'static str),
}

/// Encodes an entry; the same entry always gives the same bytes.
#[must_use]
pub fn encode(entry: &Entry) -> Bytes {
    entry_to_proto(entry).encode_to_vec().into()
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// See [`EntryError`].
pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
    let proto = v1::Entry::decode(bytes).map_err(|error| EntryError::Malformed(error.to_string()))?;
    entry_from_proto(proto)
}
