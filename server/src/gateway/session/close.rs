//! Why and how a stream ends: always by a last `StreamClosed` frame with a typed reason.

use stonechat_host::Random;
use stonechat_proto::v1;

use super::outgoing::Outgoing;
use crate::domain::{Reason, Refusal};
use crate::gateway::frames::{self, Frame};
use crate::gateway::limits::{CLOSE_GRACE, RECONNECT_SPREAD_MS, STREAM_LINGERS};
use crate::presence::Ending;
use crate::telemetry::meters::Ended;

/// Why a stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Close {
    /// A newer stream of the same device and name took over.
    Replaced,
    /// The token expired without a new one.
    Expired,
    /// The token was refused, the device removed or the user deactivated.
    Credentials(String),
    /// The node goes down.
    Draining,
    /// Its connection is old, and other nodes or listeners may have room.
    Old,
    /// The client broke the protocol.
    Protocol(String),
    /// The hello is none that this server takes, and will be none the next time.
    Hello(String),
    /// The client does not read.
    SlowConsumer,
    /// Nothing from the client, or no hello.
    Idle(&'static str),
    /// The client's wish.
    Bye,
    /// The client sends no more frames, without a bye.
    HalfClosed,
    /// A fault of the server, or of what it stands on.
    Internal(String),
    /// Too many streams, or too much of something else; the client may come back later.
    Overloaded(String),
    /// The client is gone: there is nobody to tell.
    Gone,
}

impl Close {
    /// The last frame; `None` when there is nobody to read it.
    pub(crate) fn frame(&self, random: &dyn Random) -> Option<Frame> {
        if *self == Self::Gone {
            return None;
        }
        let closed = v1::StreamClosed {
            reason: self.reason().into(),
            retry_after_ms: self.retry_after_ms(random),
            message: self.message(),
            endpoint: String::new(),
            reconnect: self.reconnect(),
        };
        Some(frames::encode(0, v1::server_frame::Body::Closed(closed)))
    }

    /// What presence makes of it.
    pub(crate) fn ending(&self) -> Ending {
        match self {
            Self::Bye | Self::Credentials(_) => Ending::Bye,
            Self::Replaced => Ending::Replaced,
            _ => Ending::Lost,
        }
    }

    /// How it is counted.
    pub(crate) fn label(&self) -> Ended {
        match self {
            Self::Replaced => Ended::Replaced,
            Self::Expired => Ended::Expired,
            Self::Credentials(_) => Ended::Credentials,
            Self::Draining | Self::Old => Ended::Draining,
            Self::Protocol(_) | Self::Hello(_) => Ended::Protocol,
            Self::SlowConsumer => Ended::SlowConsumer,
            Self::Idle(_) => Ended::Idle,
            Self::Bye | Self::HalfClosed => Ended::Bye,
            Self::Internal(_) => Ended::Internal,
            Self::Overloaded(_) => Ended::Overloaded,
            Self::Gone => Ended::Gone,
        }
    }

    /// Whether answers to requests in flight can still reach the client before the last frame.
    pub(crate) fn waits_for_answers(&self) -> bool {
        !matches!(self, Self::Gone | Self::SlowConsumer)
    }

    fn reason(&self) -> v1::CloseReason {
        match self {
            Self::Replaced => v1::CloseReason::Replaced,
            Self::Expired => v1::CloseReason::Expired,
            Self::Credentials(_) => v1::CloseReason::Credentials,
            Self::Draining | Self::Old => v1::CloseReason::Draining,
            Self::Protocol(_) | Self::Hello(_) => v1::CloseReason::ProtocolError,
            Self::SlowConsumer => v1::CloseReason::SlowConsumer,
            Self::Idle(_) => v1::CloseReason::Idle,
            Self::Bye | Self::HalfClosed => v1::CloseReason::Bye,
            Self::Internal(_) | Self::Overloaded(_) | Self::Gone => v1::CloseReason::Internal,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Replaced => "a newer stream of this device and name took over".into(),
            Self::Expired => "the token expired".into(),
            Self::Draining => "this node goes down for maintenance".into(),
            Self::Old => "this connection is old; open a new one".into(),
            Self::SlowConsumer => "the client read too slowly for too long".into(),
            Self::Idle(why) => (*why).to_owned(),
            Self::Bye => "bye".into(),
            Self::HalfClosed => "the client closed its side of the stream".into(),
            Self::Gone => String::new(),
            Self::Credentials(why)
            | Self::Protocol(why)
            | Self::Hello(why)
            | Self::Internal(why)
            | Self::Overloaded(why) => why.clone(),
        }
    }

    /// Jittered where many streams end at once, so that they do not come back at once.
    fn retry_after_ms(&self, random: &dyn Random) -> u64 {
        match self {
            Self::Draining | Self::Old | Self::Internal(_) | Self::Overloaded(_) | Self::Protocol(_) => {
                1 + random.below(RECONNECT_SPREAD_MS)
            }
            _ => 0,
        }
    }

    fn reconnect(&self) -> bool {
        !matches!(
            self,
            Self::Replaced
                | Self::Expired
                | Self::Credentials(_)
                | Self::Hello(_)
                | Self::Bye
                | Self::HalfClosed
                | Self::Gone
        )
    }
}

/// The last frame of a stream whose session broke: it has no way left to draw a jitter.
pub(crate) fn fault() -> Frame {
    let closed = v1::StreamClosed {
        reason: v1::CloseReason::Internal.into(),
        retry_after_ms: RECONNECT_SPREAD_MS,
        message: "a fault of the server".into(),
        endpoint: String::new(),
        reconnect: true,
    };
    frames::encode(0, v1::server_frame::Body::Closed(closed))
}

/// Ends a stream: hands over what is queued and the last frame, or forgets it when nobody reads.
pub(crate) async fn finish(out: &Outgoing, close: &Close, random: &dyn Random) {
    out.close(close.frame(random));
    if *close == Close::SlowConsumer {
        out.abandon();
    }
    if tokio::time::timeout(CLOSE_GRACE, out.drained()).await.is_err() {
        out.abandon();
    }
    // Whether its reader takes the rest or not, the stream below must not stay.
    out.end_within(STREAM_LINGERS);
}

/// What a hello ended in, short of a session.
pub(super) type Failure = (Option<Refusal>, Close);

/// A refusal of the hello, and the end that follows from it.
pub(super) fn failed(refusal: Refusal) -> Failure {
    let message = refusal.message.clone();
    let close = match refusal.reason {
        Reason::Unauthenticated | Reason::Forbidden => Close::Credentials(message),
        Reason::Invalid { .. } | Reason::Protocol => Close::Hello(message),
        Reason::LimitReached | Reason::RateLimited { .. } => Close::Overloaded(message),
        _ => Close::Internal(message),
    };
    (Some(refusal), close)
}

pub(super) fn store_failed(error: impl std::fmt::Display) -> Failure {
    tracing::warn!(%error, "a session could not be opened");
    let reason = Reason::Unavailable { retry_after_ms: 0 };
    failed(Refusal::not_done(reason, "the store cannot answer; not done"))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use stonechat_host::SeededRandom;

    use super::*;

    fn closed(close: &Close) -> v1::StreamClosed {
        let Some(Frame::Own(frame)) = close.frame(&SeededRandom::new(3)) else {
            panic!("no frame of its own: {close:?}");
        };
        match v1::ServerFrame::decode(frame).expect("a server frame").body {
            Some(v1::server_frame::Body::Closed(closed)) => closed,
            other => panic!("not closed: {other:?}"),
        }
    }

    /// I8: every end that somebody can read has a reason and words, and says whether to come back.
    #[test]
    fn i8_every_end_is_typed() {
        use v1::CloseReason as Reason;
        let text = || "why".to_owned();
        let cases = [
            (Close::Replaced, Reason::Replaced, false, false),
            (Close::Expired, Reason::Expired, false, false),
            (Close::Credentials(text()), Reason::Credentials, false, false),
            (Close::Draining, Reason::Draining, true, true),
            (Close::Old, Reason::Draining, true, true),
            (Close::Protocol(text()), Reason::ProtocolError, true, true),
            (Close::Hello(text()), Reason::ProtocolError, false, false),
            (Close::SlowConsumer, Reason::SlowConsumer, true, false),
            (Close::Idle("quiet"), Reason::Idle, true, false),
            (Close::Bye, Reason::Bye, false, false),
            (Close::Internal(text()), Reason::Internal, true, true),
            (Close::Overloaded(text()), Reason::Internal, true, true),
        ];
        for (close, reason, reconnect, waits) in cases {
            let closed = closed(&close);
            assert_eq!(closed.reason(), reason, "{close:?}");
            assert_eq!(closed.reconnect, reconnect, "{close:?}");
            assert_eq!(closed.retry_after_ms > 0, waits, "{close:?}");
            assert!(closed.retry_after_ms <= RECONNECT_SPREAD_MS);
            assert!(!closed.message.is_empty(), "{close:?}");
        }
        assert_eq!(Close::Gone.frame(&SeededRandom::new(3)), None);
    }
}
