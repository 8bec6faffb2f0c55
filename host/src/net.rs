//! Sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{Mutex, mpsc};

/// Both ends of every pipe are here.
const PIPE_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A byte stream between two hosts.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Any byte stream.
pub type BoxedIo = Box<dyn Io>;

/// Accepts connections.
#[async_trait]
pub trait Listener: Send + Sync {
    /// The next connection and its peer's address.
    ///
    /// # Errors
    /// What the operating system says, descriptors used up among them: wait, then accept again.
    async fn accept(&self) -> io::Result<(BoxedIo, SocketAddr)>;

    /// Where it listens.
    ///
    /// # Errors
    /// What the operating system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A listener of pipes within the process: whoever holds the other end of the channel connects by sending one end of a pipe.
/// It accepts nothing more, and goes on waiting, when nobody can connect any more.
pub struct PipeListener(Mutex<mpsc::Receiver<DuplexStream>>);

impl PipeListener {
    /// Accepts what comes through the channel.
    #[must_use]
    pub fn new(pipes: mpsc::Receiver<DuplexStream>) -> Self {
        Self(Mutex::new(pipes))
    }
}

#[async_trait]
impl Listener for PipeListener {
    async fn accept(&self) -> io::Result<(BoxedIo, SocketAddr)> {
        match self.0.lock().await.recv().await {
            Some(pipe) => Ok((Box::new(pipe), PIPE_ADDRESS)),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(PIPE_ADDRESS)
    }
}

/// Opens connections.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// What the operating system says.
    async fn connect(&self, authority: &str) -> io::Result<BoxedIo>;
}

/// A listener of the machine.
pub struct TcpListener(tokio::net::TcpListener);

impl TcpListener {
    /// Binds `address` ("127.0.0.1:0" takes a free port).
    ///
    /// # Errors
    /// The address is taken, not local or malformed.
    pub async fn bind(address: &str) -> io::Result<Self> {
        #[allow(clippy::disallowed_methods, reason = "this is the door")]
        tokio::net::TcpListener::bind(address).await.map(Self)
    }
}

#[async_trait]
impl Listener for TcpListener {
    async fn accept(&self) -> io::Result<(BoxedIo, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        // Small frames must not wait for Nagle's algorithm.
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The machine's TCP.
pub struct TcpConnector;

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, authority: &str) -> io::Result<BoxedIo> {
        #[allow(clippy::disallowed_methods, reason = "this is the door")]
        let stream = tokio::net::TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
