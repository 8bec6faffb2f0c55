//! Where a stream's client frames come from: the stream itself, or Submit by way of the bus.

use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message;
use stonechat_proto::v1;
use tonic::{Code, Status, Streaming};

use crate::bus::{Event, Subscription};
use crate::domain::limits::FRAME_BYTES_MAX;

/// What came from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A frame of a stream.
    Frame(v1::ClientFrame),
    /// Session frames of a Submit, which answered them already. Perhaps none: then they only say that the client lives.
    Submitted(Vec<Bytes>),
    /// Something that is not a frame.
    Malformed(&'static str),
    /// The client sends no more.
    End,
    /// The client is gone.
    Gone,
}

/// Where client frames come from.
pub(super) enum Input {
    /// The stream; boxed, because it is large.
    Stream(Box<Streaming<v1::ExchangeRequest>>),
    /// Submit; nothing comes before the subscription.
    Submitted(Option<Subscription>),
}

impl Input {
    pub(super) fn stream(frames: Streaming<v1::ExchangeRequest>) -> Self {
        Self::Stream(Box::new(frames))
    }

    pub(super) fn submitted() -> Self {
        Self::Submitted(None)
    }

    /// The next thing; may be cancelled without loss.
    pub(super) async fn next(&mut self) -> Incoming {
        match self {
            Self::Stream(frames) => match frames.next().await {
                Some(Ok(request)) => frame(request.frame),
                Some(Err(status)) => failure(&status),
                None => Incoming::End,
            },
            Self::Submitted(Some(control)) => match control.next().await {
                Some(Event::Control(control)) => Incoming::Submitted(control.frames),
                Some(_) => Incoming::Submitted(Vec::new()),
                None => Incoming::Gone,
            },
            Self::Submitted(None) => std::future::pending().await,
        }
    }
}

fn frame(frame: Option<v1::ClientFrame>) -> Incoming {
    match frame {
        Some(frame) if frame.encoded_len() > FRAME_BYTES_MAX => Incoming::Malformed("a frame is larger than 64 KiB"),
        // Without a frame there is no request id either: it is answered like a frame without a body.
        frame => Incoming::Frame(frame.unwrap_or_default()),
    }
}

/// Tells a client that sent nonsense from one that is gone.
fn failure(status: &Status) -> Incoming {
    match status.code() {
        Code::OutOfRange => Incoming::Malformed("a frame is larger than 64 KiB"),
        Code::InvalidArgument | Code::Internal | Code::Unimplemented => {
            Incoming::Malformed("a frame cannot be decoded")
        }
        _ => Incoming::Gone,
    }
}
