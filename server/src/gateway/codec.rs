//! Codecs of the session rpcs: client frames are decoded as usual, server frames arrive here as bytes.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field};
use stonechat_proto::v1;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::frames::Frame;
use crate::api::status_of;
use crate::domain::Refusal;
use crate::domain::limits::SUBMIT_FRAMES_MAX;

/// `ExchangeResponse.frame` and `ListenResponse.frame`.
const FRAME_FIELD: u32 = 1;
/// Bytes a stream's buffers start with: tonic's 8 KiB twice per stream would be most of an idle session's memory.
const BUFFER_BYTES: usize = 1024;
/// Bytes of small frames that are sent together.
const YIELD_BYTES: usize = 32 * 1024;

/// What clients send on the session rpcs.
pub(super) trait FromClient: Message + Default + 'static {
    /// A list at its top whose empty elements take two bytes on the wire and hundreds in memory: its field, its name, and how
    /// many elements it may have. What has more is not decoded.
    const LIST: Option<(u32, &'static str, usize)> = None;
}

impl FromClient for v1::ExchangeRequest {}
impl FromClient for v1::ListenRequest {}
impl FromClient for v1::SubmitRequest {
    const LIST: Option<(u32, &'static str, usize)> = Some((2, "submit.frames", SUBMIT_FRAMES_MAX));
}

/// Decodes a message, unless a list in it is too long.
pub(super) fn decode<T: FromClient>(buffer: &mut impl Buf) -> Result<T, Status> {
    let checked = T::LIST.map_or(Ok(()), |(list, name, max)| check_list(buffer.chunk(), list, name, max));
    checked.map_err(|refusal| status_of(&refusal))?;
    T::decode(buffer).map_err(|error| Status::invalid_argument(format!("the frame cannot be decoded: {error}")))
}

fn check_list(message: &[u8], list: u32, name: &'static str, max: usize) -> Result<(), Refusal> {
    match elements(message, list) {
        count if count > max => Err(Refusal::invalid(name, format!("must be 1 to {max}, not {count}"))),
        _ => Ok(()),
    }
}

/// Elements of a list of messages at the top of a message, as far as it can be read.
fn elements(mut message: &[u8], list: u32) -> usize {
    let mut count = 0;
    while let Ok((field, wire_type)) = decode_key(&mut message) {
        count += usize::from(field == list);
        if skip_field(wire_type, field, &mut message, DecodeContext::default()).is_err() {
            break;
        }
    }
    count
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// Decodes `Request`; writes the frames of a stream's queue.
pub(super) struct FrameCodec<Request>(PhantomData<Request>);

impl<Request> Default for FrameCodec<Request> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Request: FromClient> Codec for FrameCodec<Request> {
    type Encode = Frame;
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
    Request: FromClient,
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

/// Wraps a `ServerFrame` in its rpc message.
pub(super) struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        encode_key(FRAME_FIELD, WireType::LengthDelimited, buffer);
        encode_varint(frame.len() as u64, buffer);
        frame.encode(buffer);
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

/// Decodes what clients send.
pub(super) struct MessageDecoder<T>(PhantomData<T>);

impl<T: FromClient> Decoder for MessageDecoder<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        decode(buffer).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
