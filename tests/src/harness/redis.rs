//! A Redis of a test's own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stonechat_host::{Connector, TcpConnector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authority::Authority;
use super::process::free_port;

/// Between two looks at a condition that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A Redis that was started answers by then.
const REDIS_WITHIN: Duration = Duration::from_secs(20);

/// A Redis that a test may kill. Dropping it kills it.
pub struct Redis {
    port: u16,
    encrypted: Option<Encrypted>,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

/// Its port for TLS, beside the plain one by which a test sees that it answers.
struct Encrypted {
    port: u16,
    flags: Vec<String>,
}

impl Encrypted {
    fn new(authority: &Authority) -> Self {
        let port = free_port();
        let (certificate, key) = authority.service("redis");
        let flags = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", certificate.display().to_string()),
            ("--tls-key-file", key.display().to_string()),
            ("--tls-ca-cert-file", authority.file().display().to_string()),
            ("--tls-auth-clients", "yes".to_owned()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        Self {
            port,
            flags: flags.collect(),
        }
    }
}

impl Redis {
    /// With an authority it is reached over TLS, by who has a certificate of it.
    pub(super) async fn start(authority: Option<&Authority>) -> Self {
        let mut redis = Self {
            port: free_port(),
            encrypted: authority.map(Encrypted::new),
            folder: tempfile::tempdir().expect("a temporary folder"),
            child: None,
        };
        redis.restart().await;
        redis
    }

    /// Starts it again, empty.
    ///
    /// # Panics
    /// It is not installed, or does not answer.
    pub async fn restart(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(self.folder.path())
            .args(self.encrypted.iter().flat_map(|encrypted| &encrypted.flags))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is installed"));
        let answers = async {
            while !self.answers().await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let came_up = tokio::time::timeout(REDIS_WITHIN, answers).await;
        assert!(came_up.is_ok(), "redis does not answer");
    }

    /// Whether it answers a command with this.
    async fn says(&self, command: &str, wanted: &str) -> bool {
        let Ok(mut io) = TcpConnector.connect(&format!("127.0.0.1:{}", self.port)).await else {
            return false;
        };
        let mut answer = vec![0; wanted.len()];
        let asked = io.write_all(format!("{command}\r\n").as_bytes()).await.is_ok();
        asked && io.read_exact(&mut answer).await.is_ok() && answer == wanted.as_bytes()
    }

    async fn answers(&self) -> bool {
        self.says("PING", "+PONG").await
    }

    /// It forgets everything, and goes on.
    ///
    /// # Panics
    /// It does not.
    pub async fn forget(&self) {
        assert!(self.says("FLUSHALL", "+OK").await, "redis forgets nothing");
    }

    /// It closes every connection that subscribed to something, and goes on.
    ///
    /// # Panics
    /// It does not.
    pub async fn cut_subscribers(&self) {
        assert!(self.says("CLIENT KILL TYPE pubsub", ":").await, "redis cuts nobody");
    }

    /// SIGKILL: everything it knew is gone.
    ///
    /// # Panics
    /// It was not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running redis");
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
    }

    /// Where it is reached.
    pub(super) fn authority(&self) -> String {
        let port = self.encrypted.as_ref().map_or(self.port, |encrypted| encrypted.port);
        format!("127.0.0.1:{port}")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
