//! Services that a test starts for itself, to do harm to them: three Cassandra nodes, a Postgres, and a cluster of Redis. By the
//! scripts that start the shared ones, so one test at a time on one machine.

use std::path::PathBuf;

use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard};

/// The folder of the scripts.
fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name)
}

/// Runs a script and returns what it printed.
async fn run(name: &str, arguments: &[&str]) -> String {
    let done = Command::new(script(name)).args(arguments).output().await;
    let done = done.unwrap_or_else(|error| panic!("scripts/{name}: {error}"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "scripts/{name} {arguments:?}: {said}");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Ends a service when the test is over, whatever came of it.
fn stop(name: &str, arguments: &[&str]) {
    let done = std::process::Command::new(script(name)).args(arguments).output();
    if !done.is_ok_and(|done| done.status.success()) {
        println!("scripts/{name} {arguments:?} failed");
    }
}

/// Three Cassandra nodes that somebody started for several suites, one after the other.
const RING: &str = "STONECHAT_TEST_CQL_RING";

/// Three Cassandra nodes. Dropping it stops them, unless somebody else started them.
pub struct Ring {
    /// `host:port` of each, with commas.
    pub contact_points: String,
    is_own: bool,
}

impl Ring {
    /// Starts them, empty: some 25 s on a quiet machine; or takes those that `STONECHAT_TEST_CQL_RING` names.
    ///
    /// # Panics
    /// They do not come up.
    pub async fn start() -> Self {
        match std::env::var(RING) {
            Ok(contact_points) if !contact_points.is_empty() => Self {
                contact_points,
                is_own: false,
            },
            _ => Self {
                contact_points: run("cassandra", &["ring", "start"]).await,
                is_own: true,
            },
        }
    }

    /// SIGKILL to one, 1 to 3.
    ///
    /// # Panics
    /// It does not run.
    pub async fn kill(&self, node: u8) {
        self.tell("kill", node).await;
    }

    /// SIGSTOP: it neither answers nor hangs up.
    ///
    /// # Panics
    /// It does not run.
    pub async fn pause(&self, node: u8) {
        self.tell("pause", node).await;
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// It does not run.
    pub async fn resume(&self, node: u8) {
        self.tell("resume", node).await;
    }

    /// Starts a killed one again, on what it has.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn revive(&self, node: u8) {
        self.tell("revive", node).await;
    }

    async fn tell(&self, what: &str, node: u8) {
        run("cassandra", &["ring", what, &node.to_string()]).await;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.is_own {
            stop("cassandra", &["ring", "stop"]);
        }
    }
}

/// A Postgres server. Dropping it stops it.
pub struct OwnPostgres {
    /// Its address.
    pub url: String,
}

impl OwnPostgres {
    /// Starts it.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn start() -> Self {
        Self {
            url: run("postgres", &["spare", "start"]).await,
        }
    }

    /// SIGKILL to all of it at once.
    ///
    /// # Panics
    /// It does not run.
    pub async fn kill(&self) {
        run("postgres", &["spare", "kill"]).await;
    }

    /// Starts it again, on what it has.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn revive(&self) {
        run("postgres", &["spare", "start"]).await;
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        stop("postgres", &["spare", "stop"]);
    }
}

/// Tests of one suite take turns at the cluster of Redis.
static REDIS_TURN: Mutex<()> = Mutex::const_new(());

/// Three nodes of a Redis cluster, 1 to 3. Dropping it stops them.
pub struct OwnRedisCluster {
    /// The address of each, with commas.
    pub addresses: String,
    _turn: MutexGuard<'static, ()>,
}

impl OwnRedisCluster {
    /// Starts them, empty, once no other test of this process has them.
    ///
    /// # Panics
    /// They do not come up.
    pub async fn start() -> Self {
        let turn = REDIS_TURN.lock().await;
        Self {
            addresses: run("redis", &["spare", "start"]).await,
            _turn: turn,
        }
    }

    /// SIGKILL to one.
    ///
    /// # Panics
    /// It does not run.
    pub async fn kill(&self, node: u8) {
        self.tell("kill", node).await;
    }

    /// Starts a killed one again, with the slots it had and nothing in them; waits until the cluster is whole.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn revive(&self, node: u8) {
        self.tell("revive", node).await;
    }

    /// It forgets everything, and goes on.
    ///
    /// # Panics
    /// It does not.
    pub async fn forget(&self, node: u8) {
        self.tell("forget", node).await;
    }

    /// A fourth server keeps a copy of it, and takes its place should it die.
    ///
    /// # Panics
    /// The copy is not whole in time.
    pub async fn shadow(&self, node: u8) {
        self.tell("shadow", node).await;
    }

    /// The two others take over the slots of one that is dead, empty.
    ///
    /// # Panics
    /// They do not.
    pub async fn share(&self, node: u8) {
        self.tell("share", node).await;
    }

    /// All slots of a node that are in use move to another, key after key, one slot after the other.
    ///
    /// # Panics
    /// They do not.
    pub async fn empty(&self, node: u8, other: u8) {
        run("redis", &["spare", "empty", &node.to_string(), &other.to_string()]).await;
    }

    async fn tell(&self, what: &str, node: u8) {
        run("redis", &["spare", what, &node.to_string()]).await;
    }
}

impl Drop for OwnRedisCluster {
    fn drop(&mut self) {
        stop("redis", &["spare", "stop"]);
    }
}
