//! A server process on a data folder of its own: started, killed at will, started again.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use stonechat_host::{Connector, TcpConnector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

/// A start includes recovery of a large log on a loaded machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at a condition that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A look that takes longer is a no.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// A process that was killed or told to stop is gone by then.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// Where the process is to die, as `host::crash_point` reads it.
const CRASH_AT: &str = "STONECHAT_CRASH_AT";

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By a signal: killed, or aborted at a crash point.
    Signal,
}

/// A server process and its data folder. Dropping it kills the process and removes the folder.
pub struct ServerProcess {
    folder: tempfile::TempDir,
    port: u16,
    flags: Vec<String>,
    environment: Vec<(OsString, OsString)>,
    /// Most file descriptors it may have open; `None` for this process's own limit.
    descriptors: Option<u32>,
    host: String,
    /// Network namespace it runs in; `None` for this process's own.
    namespace: Option<String>,
    child: Option<Child>,
}

impl ServerProcess {
    /// Starts on a new folder and waits until it serves.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn start(flags: &[&str]) -> Self {
        let mut process = Self::prepare(flags);
        process.spawn(None);
        process.ready().await;
        process
    }

    /// A folder and a port, nothing started.
    ///
    /// # Panics
    /// There is no room for a folder.
    #[must_use]
    pub fn prepare(flags: &[&str]) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            port: free_port(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            environment: Vec::new(),
            descriptors: None,
            host: "127.0.0.1".to_owned(),
            namespace: None,
            child: None,
        }
    }

    /// Has every later start find this in its environment.
    pub fn set_env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let variable = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.environment.push(variable);
    }

    /// The same with so many file descriptors at most.
    #[must_use]
    pub fn with_descriptors(mut self, descriptors: u32) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// In a network namespace, where it has this address.
    #[must_use]
    pub fn inside(mut self, namespace: &str, host: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        host.clone_into(&mut self.host);
        self
    }

    /// Starts the process on the folder, to die at a crash point if one is named ("name" or "name:n").
    ///
    /// # Panics
    /// The binary is missing.
    pub fn spawn(&mut self, crash_at: Option<&str>) {
        let folder = self.data_folder();
        self.launch(&folder, crash_at);
    }

    /// Starts the process on another folder, or on what is no folder.
    ///
    /// # Panics
    /// The binary is missing.
    pub fn spawn_on(&mut self, folder: &Path) {
        self.launch(folder, None);
    }

    fn launch(&mut self, folder: &Path, crash_at: Option<&str>) {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("a log file");
        let mut command = self.command();
        command.arg("serve").arg("--data-folder").arg(folder);
        command.arg("--listen").arg(self.authority()).args(&self.flags);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        command.env_remove(CRASH_AT).kill_on_drop(true);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(point) = crash_at {
            command.env(CRASH_AT, point);
        }
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", binary().display())));
    }

    pub(super) fn flags(&self) -> &[String] {
        &self.flags
    }

    /// The binary, where and within what limits it is to run.
    pub(super) fn command(&self) -> Command {
        if let Some(namespace) = &self.namespace {
            // It becomes the server, so its id is the server's.
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", namespace]).arg(binary());
            return inside;
        }
        let Some(descriptors) = self.descriptors else {
            return Command::new(binary());
        };
        // A shell sets the limit of what it becomes.
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        shell.arg("-c").arg(script).arg(binary());
        shell
    }

    /// Waits until it answers that it serves.
    ///
    /// # Panics
    /// It died, or takes too long.
    pub async fn ready(&mut self) {
        let looks = async {
            while !self.serves().await {
                if let Some(exit) = self.exited() {
                    panic!(
                        "the server ended with {exit:?} instead of serving:\n{}",
                        self.log_tail()
                    );
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let came_up = tokio::time::timeout(READY_WITHIN, looks).await;
        assert!(came_up.is_ok(), "the server did not come up:\n{}", self.log_tail());
    }

    /// Waits until it serves or has ended; true when it serves.
    ///
    /// # Panics
    /// It does neither in time.
    pub async fn ready_or_gone(&mut self) -> bool {
        let looks = async {
            loop {
                if self.exited().is_some() {
                    return false;
                }
                if self.serves().await {
                    return true;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let looked = tokio::time::timeout(READY_WITHIN, looks).await;
        looked.unwrap_or_else(|_| panic!("the server neither serves nor ends:\n{}", self.log_tail()))
    }

    async fn serves(&self) -> bool {
        let answer = tokio::time::timeout(LOOK_WITHIN, self.health()).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200")))
    }

    async fn health(&self) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpConnector.connect(&self.authority()).await?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<Exit> {
        let status = self.child.as_mut()?.try_wait().expect("a child of ours")?;
        Some(status.code().map_or(Exit::Signal, Exit::Code))
    }

    /// Waits until it ended.
    ///
    /// # Panics
    /// It goes on.
    pub async fn wait(&mut self) -> Exit {
        let child = self.child.as_mut().expect("a started process");
        let ended = tokio::time::timeout(GONE_WITHIN, child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("the server goes on:\n{}", self.log_tail()));
        let status = status.expect("a child of ours");
        status.code().map_or(Exit::Signal, Exit::Code)
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// It goes on.
    pub async fn kill(&mut self) {
        let child = self.child.as_mut().expect("a started process");
        child.start_kill().expect("a child of ours");
        self.wait().await;
    }

    /// SIGKILL, then a start on the same folder.
    ///
    /// # Panics
    /// It does not come up again.
    pub async fn kill_and_restart(&mut self) {
        self.kill().await;
        self.restart(None).await;
    }

    /// Starts again on the same folder.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn restart(&mut self, crash_at: Option<&str>) {
        self.spawn(crash_at);
        self.ready().await;
    }

    /// Sends a signal by name ("TERM", "STOP", "CONT").
    ///
    /// # Panics
    /// There is no process.
    pub async fn signal(&self, name: &str) {
        let id = self.id();
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id.to_string())
            .status()
            .await;
        assert!(sent.is_ok_and(|status| status.success()), "no SIG{name} to {id}");
    }

    /// Its id, as the operating system counts.
    ///
    /// # Panics
    /// There is no process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("a running process")
    }

    /// Its memory that is in RAM (proc_pid_status(5)).
    ///
    /// # Panics
    /// There is no process, or this is no Linux.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the server's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a size") * 1024
    }

    /// Where it keeps everything.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything it ever wrote to its outputs.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// The end of that.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let from = text.len().saturating_sub(4_000);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A connection that is opened at its first use.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.endpoint().connect_lazy()
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        let uri = format!("http://{}", self.authority());
        Endpoint::from_shared(uri).expect("a valid address").tcp_nodelay(true)
    }
}

/// What no log may hold (F16), in any suite: how every JSON web token begins, and what the canary suite puts into every body.
pub const SECRETS: [&str; 2] = ["eyJ", "canary-7d1f"];

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // A test that fails already must say why, and not this.
        if std::thread::panicking() {
            return;
        }
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let leaks = log
            .lines()
            .find(|line| SECRETS.iter().any(|secret| line.contains(secret)));
        assert!(leaks.is_none(), "the log has a secret: {}", leaks.unwrap_or_default());
    }
}

/// Taken and given back: another process may take it in between, which `ready` would tell.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Cargo builds the binary beside the test that runs: `target/<profile>/deps/<test>`.
///
/// # Panics
/// It is missing.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test");
    let profile = test.parent().and_then(Path::parent).expect("a target folder");
    let binary = profile.join("stonechat-crashable");
    assert!(
        binary.exists(),
        "{} is missing: cargo build -p stonechat-tests",
        binary.display()
    );
    binary
}
