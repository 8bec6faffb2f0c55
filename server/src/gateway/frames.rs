//! Server frames as bytes: each is encoded once, an entry not at all.

use bytes::{BufMut, Bytes, BytesMut};
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
pub(crate) fn encode(request_id: u64, body: v1::server_frame::Body) -> Bytes {
    let frame = v1::ServerFrame {
        request_id,
        body: Some(body),
    };
    frame.encode_to_vec().into()
}

/// A delivery around the bytes of an entry: what every stream sends is what the log holds.
pub(crate) fn delivery(entry: &Bytes, backlog: bool) -> Bytes {
    let entry_len = entry.len() as u64;
    let backlog_len = if backlog { key_len(BACKLOG_FIELD) + 1 } else { 0 };
    let delivery_len = key_len(ENTRY_FIELD) + encoded_len_varint(entry_len) + entry.len() + backlog_len;
    let mut frame = BytesMut::with_capacity(2 * key_len(DELIVERY_FIELD) + 10 + delivery_len);
    encode_key(DELIVERY_FIELD, WireType::LengthDelimited, &mut frame);
    encode_varint(delivery_len as u64, &mut frame);
    encode_key(ENTRY_FIELD, WireType::LengthDelimited, &mut frame);
    encode_varint(entry_len, &mut frame);
    frame.put_slice(entry);
    if backlog {
        encode_key(BACKLOG_FIELD, WireType::Varint, &mut frame);
        encode_varint(1, &mut frame);
    }
    frame.freeze()
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
            let made = delivery(&entry.encode_to_vec().into(), backlog);
            let body = v1::server_frame::Body::Delivery(v1::Delivery {
                entry: Some(entry),
                backlog,
            });
            assert_eq!(made, encode(0, body));
        }
    }
}
