//! A server under load, in a process of its own: started on a fresh folder, looked at through `/proc`, killed in the end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::Outcome;

/// Time for a start: recovery of a log of ten million entries reads all of it.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// Between two looks whether it serves yet.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Kernel ticks of `/proc/*/stat` in a second; fixed by the kernel's interface to user space.
const TICKS_PER_SECOND: u64 = 100;
/// Settings that take the limits of single users out of a bench of the machine.
const OPEN_LIMITS: [&str; 12] = [
    "--connections-max",
    "18500",
    "--address-connections-max",
    "0",
    "--address-connections-per-second",
    "0",
    "--address-requests-per-second",
    "0",
    "--user-requests-per-second",
    "0",
    "--session-frames-per-second",
    "100000",
];
/// Which lines the server logs, unless the caller's environment says otherwise.
const LOG_FILTER: &str = "STONECHAT_LOG_FILTER";

/// What a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) rss: u64,
}

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The binary under test.
    Stonechat,
    /// The measure.
    Bare,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) folder: PathBuf,
    /// Where its metrics are.
    operator: Option<SocketAddr>,
    child: Child,
    _kept: Option<tempfile::TempDir>,
    /// Another node of its fleet, whose usage is measured as well.
    beside: Option<Box<Server>>,
}

impl Server {
    /// With another node of its fleet.
    pub(crate) fn with_beside(mut self, other: Self) -> Self {
        self.beside = Some(Box::new(other));
        self
    }

    /// CPU of the node beside it, up to now; nothing without one.
    pub(crate) fn cpu_beside(&self) -> Outcome<Duration> {
        let usage = self.beside.as_ref().map(|other| other.usage()).transpose()?;
        Ok(usage.unwrap_or_default().cpu)
    }

    /// Starts the bare server.
    pub(crate) async fn bare() -> Outcome<Self> {
        let address = free_address().await?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "--listen", &address.to_string()]);
        Self::launch(Kind::Bare, command, [address, address], PathBuf::new(), None).await
    }

    /// Starts the binary on a new folder, with more flags.
    pub(crate) async fn stonechat(binary: &Path, flags: &[&str]) -> Outcome<Self> {
        let kept = tempfile::tempdir()?;
        let folder = kept.path().join("data");
        Self::on_folder(binary, folder, flags, Some(kept)).await
    }

    /// Starts the binary on a folder.
    pub(crate) async fn on_folder(
        binary: &Path,
        folder: PathBuf,
        flags: &[&str],
        kept: Option<tempfile::TempDir>,
    ) -> Outcome<Self> {
        let [address, operator] = free_addresses().await?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data-folder").arg(&folder);
        command
            .args(["--listen", &address.to_string()])
            .args(["--operator-listen", &operator.to_string()])
            .args(OPEN_LIMITS)
            .args(flags);
        if std::env::var_os(LOG_FILTER).is_none() {
            command.env(LOG_FILTER, "warn");
        }
        Self::launch(Kind::Stonechat, command, [address, operator], folder, kept).await
    }

    async fn launch(
        kind: Kind,
        mut command: Command,
        [address, operator]: [SocketAddr; 2],
        folder: PathBuf,
        kept: Option<tempfile::TempDir>,
    ) -> Outcome<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut server = Self {
            kind,
            address,
            folder,
            operator: (kind == Kind::Stonechat).then_some(operator),
            child,
            _kept: kept,
            beside: None,
        };
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&mut self) -> Outcome<()> {
        let started = stonechat_host::monotonic();
        while tokio::net::TcpSocket::new_v4()?.connect(self.address).await.is_err() {
            if let Some(exit) = self.child.try_wait()? {
                return Err(format!("the server ended with {exit} instead of serving").into());
            }
            if started.elapsed() > READY_WITHIN {
                return Err("the server does not come up".into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// What the process has used up to now.
    pub(crate) fn usage(&self) -> Outcome<Usage> {
        let pid = self.child.id().ok_or("the server is gone")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
        let ticks = field(11).zip(field(12)).map(|(user, system)| user + system);
        let pages = field(21).ok_or("no memory in /proc")?;
        Ok(Usage {
            cpu: Duration::from_millis(ticks.ok_or("no time in /proc")? * 1_000 / TICKS_PER_SECOND),
            rss: pages * 4_096,
        })
    }

    /// One of its counters, as it is shown to operators.
    pub(crate) async fn counter(&self, name: &str) -> Outcome<u64> {
        let mut connection = TcpStream::connect(self.operator.ok_or("a bare server counts nothing")?).await?;
        let ask = "GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n";
        connection.write_all(ask.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.ok_or_else(|| format!("no metric {name}"))?.parse()?)
    }

    /// Kills it, and gives its folder back for another start.
    pub(crate) async fn kill(mut self) -> Outcome<Option<tempfile::TempDir>> {
        self.child.kill().await?;
        Ok(self._kept.take())
    }
}

pub(crate) async fn free_address() -> Outcome<SocketAddr> {
    let [address] = free_addresses().await?;
    Ok(address)
}

/// Several, held together while they are found: asked for one by one, two may be the same.
async fn free_addresses<const N: usize>() -> Outcome<[SocketAddr; N]> {
    let mut listeners = Vec::with_capacity(N);
    for _ in 0..N {
        listeners.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let addresses = listeners.iter().map(TcpListener::local_addr);
    let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
    Ok(addresses.try_into().map_err(|_| "as many as were asked for")?)
}
