//! Whether all that is kept follows from the logs, as `stonechat audit` sees it.

use std::path::Path;

use super::fleet::Fleet;
use super::process::ServerProcess;

/// What an audit said, and whether it found nothing.
pub struct Audited {
    /// Everything is as the logs have it.
    pub whole: bool,
    /// Its output.
    pub said: String,
}

impl Audited {
    fn assert_whole(self) {
        assert!(self.whole, "{}", self.said);
        println!("{}", self.said.trim());
    }
}

impl ServerProcess {
    /// Audits with the settings of this server, and this folder.
    ///
    /// # Panics
    /// The binary is missing.
    pub async fn audit_of(&self, folder: &Path) -> Audited {
        let mut command = self.command();
        command.arg("audit").arg("--data-folder").arg(folder).args(self.flags());
        let output = command.output().await.expect("the binary");
        let out = String::from_utf8_lossy(&output.stdout);
        Audited {
            whole: output.status.success(),
            said: format!("{out}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Kills it and audits what it leaves behind.
    ///
    /// # Panics
    /// That contradicts itself.
    pub async fn kill_and_audit(&mut self) {
        self.kill().await;
        self.audit_of(&self.data_folder()).await.assert_whole();
    }
}

impl Fleet {
    /// Audits the stores that the nodes are at work on.
    ///
    /// # Panics
    /// There is no room for a folder.
    pub async fn audit(&self) -> Audited {
        let folder = tempfile::tempdir().expect("a temporary folder");
        self.nodes[0].server.audit_of(folder.path()).await
    }

    /// The same.
    ///
    /// # Panics
    /// They contradict themselves.
    pub async fn assert_whole(&self) {
        self.audit().await.assert_whole();
    }
}
