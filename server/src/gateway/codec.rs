//! Codecs of the session rpcs: client frames are decoded as usual, server frames arrive here as bytes.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// `ExchangeResponse.frame` and `ListenResponse.frame`.
const FRAME_FIELD: u32 = 1;
/// Bytes a stream's buffers start with: tonic's 8 KiB twice per stream would be most of an idle session's memory.
const BUFFER_BYTES: usize = 1024;
/// Bytes of small frames that are sent together.
const YIELD_BYTES: usize = 32 * 1024;

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// Decodes `Request`; encodes server frames that are bytes already.
pub(super) struct FrameCodec<Request>(PhantomData<Request>);

impl<Request> Default for FrameCodec<Request> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Request: Message + Default + 'static> Codec for FrameCodec<Request> {
    type Encode = Bytes;
    type Decode = Request;
    type Encoder = FrameEncoder;
    type Decoder = MessageDecoder<Request>;

    fn encoder(&mut self) -> Self::Encoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// Both sides by the generated code.
pub(super) struct MessageCodec<Request, Response>(PhantomData<(Request, Response)>);

impl<Request, Response> Default for MessageCodec<Request, Response> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Request, Response> Codec for MessageCodec<Request, Response>
where
    Request: Message + Default + 'static,
    Response: Message + 'static,
{
    type Encode = Response;
    type Decode = Request;
    type Encoder = MessageEncoder<Response>;
    type Decoder = MessageDecoder<Request>;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// Wraps the bytes of a `ServerFrame` in its rpc message.
pub(super) struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, frame: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        encode_key(FRAME_FIELD, WireType::LengthDelimited, buffer);
        encode_varint(frame.len() as u64, buffer);
        buffer.put(frame);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// Encodes a message by the generated code.
pub(super) struct MessageEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(buffer)
            .map_err(|_| Status::internal("the answer could not be encoded"))
    }
}

/// Decodes a message by the generated code.
pub(super) struct MessageDecoder<T>(PhantomData<T>);

impl<T: Message + Default> Decoder for MessageDecoder<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        T::decode(buffer)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("the frame cannot be decoded: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
