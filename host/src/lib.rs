//! Time, randomness and sockets: the only door to them, so that a simulation can own them.
//!
//! Nothing else in the workspace reads the wall clock, draws randomness or opens a socket; clippy's
//! `disallowed-methods` holds it. Timers go through `tokio::time`, which a simulation can pause.

mod clock;
mod crash;
mod file;
mod net;
mod random;
mod sabotage;

pub use clock::{Clock, ManualClock, ShiftedClock, SystemClock};
pub use crash::crash_point;
pub use file::FileStamp;
pub use net::{BoxedIo, Connector, Io, Listener, PipeListener, TcpConnector, TcpListener};
pub use random::{Random, SeededRandom, SystemRandom};
#[cfg(feature = "sabotage")]
pub use sabotage::without;
pub use sabotage::{linger, rule_holds};

use std::sync::Arc;

/// What a node or client gets from the machine it runs on. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Host {
    /// The real machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        }
    }
}

/// Monotonic time; a simulation moves it.
#[must_use]
pub fn monotonic() -> tokio::time::Instant {
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    tokio::time::Instant::now()
}
