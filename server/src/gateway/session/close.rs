//! Why and how a stream ends: always by a last `StreamClosed` frame with a typed reason.

use bytes::Bytes;
use stonechat_host::Random;
use stonechat_proto::v1;

use crate::gateway::frames;
use crate::gateway::limits::RECONNECT_SPREAD_MS;

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
    /// The client broke the protocol.
    Protocol(String),
    /// The client does not read.
    SlowConsumer,
    /// Nothing from the client, or no hello.
    Idle(&'static str),
    /// The client's wish.
    Bye,
    /// A fault of the server, or of what it stands on.
    Internal(String),
    /// Too many streams, or too much of something else; the client may come back later.
    Overloaded(String),
    /// The client is gone: there is nobody to tell.
    Gone,
}

impl Close {
    /// The last frame; `None` when there is nobody to read it.
    pub(crate) fn frame(&self, random: &dyn Random) -> Option<Bytes> {
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

    /// Whether the client ended the session by its own wish.
    pub(crate) fn is_bye(&self) -> bool {
        *self == Self::Bye
    }

    /// Whether answers to requests in flight are still owed before the last frame.
    pub(crate) fn waits_for_answers(&self) -> bool {
        matches!(
            self,
            Self::Draining | Self::Bye | Self::Replaced | Self::Expired | Self::Protocol(_)
        )
    }

    fn reason(&self) -> v1::CloseReason {
        match self {
            Self::Replaced => v1::CloseReason::Replaced,
            Self::Expired => v1::CloseReason::Expired,
            Self::Credentials(_) => v1::CloseReason::Credentials,
            Self::Draining => v1::CloseReason::Draining,
            Self::Protocol(_) => v1::CloseReason::ProtocolError,
            Self::SlowConsumer => v1::CloseReason::SlowConsumer,
            Self::Idle(_) => v1::CloseReason::Idle,
            Self::Bye => v1::CloseReason::Bye,
            Self::Internal(_) | Self::Overloaded(_) | Self::Gone => v1::CloseReason::Internal,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Replaced => "a newer stream of this device and name took over".into(),
            Self::Expired => "the token expired".into(),
            Self::Draining => "this node goes down for maintenance".into(),
            Self::SlowConsumer => "the client read too slowly for too long".into(),
            Self::Idle(why) => (*why).to_owned(),
            Self::Bye => "bye".into(),
            Self::Gone => String::new(),
            Self::Credentials(why) | Self::Protocol(why) | Self::Internal(why) | Self::Overloaded(why) => why.clone(),
        }
    }

    /// Jittered where many streams end at once, so that they do not come back at once.
    fn retry_after_ms(&self, random: &dyn Random) -> u64 {
        match self {
            Self::Draining | Self::Internal(_) | Self::Overloaded(_) | Self::Protocol(_) => 1 + random.below(RECONNECT_SPREAD_MS),
            _ => 0,
        }
    }

    fn reconnect(&self) -> bool {
        match self {
            Self::Replaced | Self::Expired | Self::Credentials(_) | Self::Bye | Self::Gone => false,
            _ => true,
        }
    }
}
