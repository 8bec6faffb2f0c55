//! Client frames, from their bytes through the state machine of a session.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use stonechat_proto::v1;
use stonechat_proto::v1::CloseReason;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;

use super::bed::{Bed, on_a_node};
use super::golden::ROOM;
use crate::harness::Raw;

/// Id of the bye that ends a script; no frame of a script should use it.
const BYE: u64 = u64::MAX;
/// Frames of a script.
const FRAMES_MAX: usize = 64;

/// Encodes frames as [`session`] reads them: whether a hello goes before them, then each with its length.
#[must_use]
pub fn script(hello: bool, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut data = vec![u8::from(hello)];
    for frame in frames {
        let length = u16::try_from(frame.len()).unwrap_or(u16::MAX);
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(&frame[..usize::from(length)]);
    }
    data
}

fn read_script(data: &[u8]) -> (bool, Vec<&[u8]>) {
    let (hello, mut rest) = data
        .split_first()
        .map_or((true, data), |(first, rest)| (first % 2 == 1, rest));
    let mut frames = Vec::new();
    while frames.len() < FRAMES_MAX {
        let Some((length, after)) = rest.split_first_chunk::<2>() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (frame, after) = after.split_at(length);
        frames.push(frame);
        rest = after;
    }
    (hello, frames)
}

/// Frames on a stream: every one that is a frame is answered, or the stream ends with a typed reason that is not a fault
/// of the server (I8); and nobody else notices.
///
/// Gives the reason it ended for.
///
/// # Panics
/// One of these does not hold.
pub fn session(data: &[u8]) -> CloseReason {
    let (hello, frames) = read_script(data);
    let mut reason = CloseReason::Unspecified;
    on_a_node(async |bed| {
        let frames: Vec<Vec<u8>> = frames.iter().map(|frame| in_the_room(frame, &bed.room)).collect();
        let (answered, closed) = play(bed, hello, &frames).await;
        judge(hello, &frames, &answered, &closed);
        reason = closed.reason();
        let (answered, closed) = play(bed, true, &[]).await;
        assert!(
            answered.contains(&BYE) && closed.reason() == CloseReason::Bye,
            "{closed:?}"
        );
    });
    reason
}

/// Golden frames speak of a conversation that is none; the one here takes its place.
fn in_the_room(frame: &[u8], room: &str) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let named = |at: &usize| frame[*at..].starts_with(ROOM.as_bytes());
    let places: Vec<usize> = (0..frame.len()).filter(named).collect();
    for at in places {
        frame[at..at + ROOM.len()].copy_from_slice(room.as_bytes());
    }
    frame
}

/// A message of Exchange that holds these bytes as its frame.
fn wrapped(frame: &[u8]) -> Bytes {
    let mut message = Vec::new();
    encode_key(1, WireType::LengthDelimited, &mut message);
    encode_varint(frame.len() as u64, &mut message);
    message.extend_from_slice(frame);
    message.into()
}

fn frame(request_id: u64, body: Asked) -> Vec<u8> {
    v1::ClientFrame {
        request_id,
        body: Some(body),
    }
    .encode_to_vec()
}

/// Sends frames and a bye; gives the ids that were answered and the last frame.
async fn play(bed: &Bed, hello: bool, frames: &[Vec<u8>]) -> (BTreeSet<u64>, v1::StreamClosed) {
    let greeting = v1::Hello {
        token: bed.token("alice"),
        device_id: "fuzz".to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        initial_backlog: v1::InitialBacklog::Nothing.into(),
        ..v1::Hello::default()
    };
    let greeting = hello.then(|| wrapped(&frame(0, Asked::Hello(greeting))));
    let sent = greeting
        .into_iter()
        .chain(frames.iter().map(|frame| wrapped(frame)))
        .chain(std::iter::once(wrapped(&frame(BYE, Asked::Bye(v1::Bye {})))))
        .collect::<Vec<Bytes>>();
    // The client's side stays open: what ends the stream is the server.
    let sent = tokio_stream::StreamExt::chain(tokio_stream::iter(sent), tokio_stream::pending());
    let mut client = tonic::client::Grpc::new(bed.channel().await);
    client.ready().await.expect("a connection");
    let path = "/stonechat.v1.SessionService/Exchange".parse().expect("a path");
    let answer = client.streaming(tonic::Request::new(sent), path, Raw).await;
    let mut answers = answer.expect("a stream").into_inner();
    let (mut answered, mut last) = (BTreeSet::new(), None);
    while let Some(message) = answers.message().await.expect("no status ends a session") {
        let answer = v1::ExchangeResponse::decode(message).expect("an answer");
        let frame = answer.frame.expect("a frame");
        answered.insert(frame.request_id);
        last = frame.body;
    }
    match last {
        Some(Seen::Closed(closed)) => (answered, closed),
        other => panic!("the stream ended without a reason: {other:?}"),
    }
}

fn judge(hello: bool, frames: &[Vec<u8>], answered: &BTreeSet<u64>, closed: &v1::StreamClosed) {
    let expected = [CloseReason::Bye, CloseReason::ProtocolError, CloseReason::Credentials];
    assert!(expected.contains(&closed.reason()), "{closed:?}");
    if !hello || closed.reason() != CloseReason::Bye {
        return;
    }
    for frame in frames {
        let frame = v1::ClientFrame::decode(frame.as_slice()).expect("what is no frame ends the stream");
        if matches!(frame.body, Some(Asked::Bye(_))) {
            return;
        }
        let told = frame.request_id == 0 || answered.contains(&frame.request_id);
        assert!(told, "request {} was not answered: {frame:?}", frame.request_id);
    }
}
