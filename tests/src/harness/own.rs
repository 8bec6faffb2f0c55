//! Services that a test starts for itself, to do harm to them: three Cassandra nodes, and a Postgres. By the scripts that start
//! the shared ones, so one test at a time on one machine.

use std::path::PathBuf;

use tokio::process::Command;

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

/// Three Cassandra nodes. Dropping it stops them.
pub struct Ring {
    /// `host:port` of each, with commas.
    pub contact_points: String,
}

impl Ring {
    /// Starts them, empty: some 25 s on a quiet machine.
    ///
    /// # Panics
    /// They do not come up.
    pub async fn start() -> Self {
        Self {
            contact_points: run("cassandra", &["ring", "start"]).await,
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
        stop("cassandra", &["ring", "stop"]);
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
