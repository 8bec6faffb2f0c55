//! Server frames on their way out: an answer is encoded once, an entry not at all.

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use stonechat_proto::v1;

/// `ServerFrame.delivery`.
const DELIVERY_FIELD: u32 = 40;
/// `Delivery.entry`.
const ENTRY_FIELD: u32 = 1;
/// `Delivery.backlog`.
const BACKLOG_FIELD: u32 = 2;

/// A frame that answers a request, or with `request_id` 0 one that the server sends of its own accord.
pub(crate) fn encode(request_id: u64, body: v1::server_frame::Body) -> Frame {
    let frame = v1::ServerFrame {
        request_id,
        body: Some(body),
    };
    Frame::Own(frame.encode_to_vec().into())
}

/// A server frame in a stream's queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// Encoded for this stream alone.
    Own(Bytes),
    /// A delivery. Until it is written to its connection it is a handle on the bytes of the log, which all streams share, so
    /// what readers have not read yet costs its bytes once, not once per reader.
    Delivery {
        /// `stonechat.v1.Entry`, as it lies in the log.
        entry: Bytes,
        /// It was there before the stream was.
        backlog: bool,
    },
}

impl Frame {
    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Own(frame) => frame.len(),
            Self::Delivery { entry, backlog } => {
                let delivery_len = delivery_len(entry, *backlog);
                key_len(DELIVERY_FIELD) + encoded_len_varint(delivery_len as u64) + delivery_len
            }
        }
    }

    /// Writes what the generated code would write.
    pub(crate) fn encode(self, buffer: &mut impl BufMut) {
        match self {
            Self::Own(frame) => buffer.put(frame),
            Self::Delivery { entry, backlog } => {
                encode_key(DELIVERY_FIELD, WireType::LengthDelimited, buffer);
                encode_varint(delivery_len(&entry, backlog) as u64, buffer);
                encode_key(ENTRY_FIELD, WireType::LengthDelimited, buffer);
                encode_varint(entry.len() as u64, buffer);
                buffer.put(entry);
                if backlog {
                    encode_key(BACKLOG_FIELD, WireType::Varint, buffer);
                    encode_varint(1, buffer);
                }
            }
        }
    }
}

/// Bytes of a `Delivery` around an entry.
fn delivery_len(entry: &Bytes, backlog: bool) -> usize {
    let backlog_len = if backlog { key_len(BACKLOG_FIELD) + 1 } else { 0 };
    key_len(ENTRY_FIELD) + encoded_len_varint(entry.len() as u64) + entry.len() + backlog_len
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hand-made bytes are exactly what the generated code writes and reads.
    #[test]
    fn a_delivery_is_what_the_generated_code_would_write() {
        for (text_len, backlog) in [(0, false), (1, true), (200, false), (20_000, true)] {
            let entry = v1::Entry {
                conversation_id: "c".into(),
                seq: 7,
                body: Some(v1::entry::Body::Renamed(v1::ConversationRenamed {
                    name: "n".repeat(text_len),
                })),
                ..Default::default()
            };
            let made = Frame::Delivery {
                entry: entry.encode_to_vec().into(),
                backlog,
            };
            let mut written = Vec::new();
            let len = made.len();
            made.encode(&mut written);
            let body = v1::server_frame::Body::Delivery(v1::Delivery {
                entry: Some(entry),
                backlog,
            });
            assert_eq!(len, written.len());
            assert_eq!(Frame::Own(written.into()), encode(0, body));
        }
    }
}
