//! The way of one device to one node, free of the bench: for clients that live beside the test.

use tonic::transport::Endpoint;

use super::bench::Bench;
use super::recorder::Recorder;
use super::session::{Acks, Hello, Opening, RawSession};

/// The way of one device to one node. Cheap enough to clone.
#[derive(Clone)]
pub struct Door {
    endpoint: Endpoint,
    hello: Hello,
    user: String,
    recorder: Recorder,
}

impl Door {
    /// To this node, for a device that takes everything.
    #[must_use]
    pub fn to(bench: &Bench, user: &str, device: &str) -> Self {
        Self {
            endpoint: bench.server.endpoint(),
            hello: bench.hello(user, device),
            user: user.to_owned(),
            recorder: bench.recorder.clone(),
        }
    }

    /// Opens a stream on a connection of its own; waits for nothing.
    pub async fn open(&self) -> RawSession {
        let opening = Opening {
            hello: self.hello.clone(),
            user: self.user.clone(),
            acks: Acks::Each,
        };
        RawSession::open(self.endpoint.connect_lazy(), &self.recorder, opening).await
    }
}
