//! Sockets and clock of the simulation.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stonechat_host::{BoxedIo, Clock, Connector, Host, Listener, SeededRandom};

/// Listens on a simulated host.
pub(super) struct SimListener(turmoil::net::TcpListener);

impl SimListener {
    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        turmoil::net::TcpListener::bind(("0.0.0.0", port)).await.map(Self)
    }
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&self) -> io::Result<(BoxedIo, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Box::new(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Connects between simulated hosts.
pub(super) struct SimConnector;

#[async_trait]
impl Connector for SimConnector {
    async fn connect(&self, authority: &str) -> io::Result<BoxedIo> {
        Ok(Box::new(turmoil::net::TcpStream::connect(authority).await?))
    }
}

/// Wall time at the start of every run, and outside of runs.
pub(super) const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Simulated wall time.
struct SimClock;

impl Clock for SimClock {
    fn unix_ms(&self) -> i64 {
        let since = turmoil::since_epoch().unwrap_or(EPOCH);
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The machine of a simulated host: its randomness follows from the seed.
pub(super) fn host(seed: u64) -> Host {
    Host {
        clock: Arc::new(SimClock),
        random: Arc::new(SeededRandom::new(seed)),
    }
}
