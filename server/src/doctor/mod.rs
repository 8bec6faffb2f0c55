//! What is wrong before it hurts: examines settings, machine and stores as a server would use them.
//!
//! Stands on the storage traits and on what the node says when it opens backends. What only a driver can tell (its version, its
//! schema, its clock) the modules of the backends tell as facts; what they mean is said here (`services`).

mod machine;
mod ports;
mod probe;
mod services;
mod settings;
mod stores;
#[cfg(test)]
mod tests;

pub use probe::{PROBE_CONVERSATION, PROBE_USER};

use std::time::Duration;

use stonechat_host::Host;

use crate::config::Config;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but somebody should look at it.
    Warn,
    /// A server with these settings does not start, or would do harm.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was found, and what it means.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub advice: String,
    /// How long it took, where that says something.
    pub took: Option<Duration>,
}

impl Check {
    fn new(name: &str, status: Status, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status,
            found: found.into(),
            advice: advice.into(),
            took: None,
        }
    }

    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, found, "")
    }

    fn warn(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, found, advice)
    }

    /// A check that failed.
    #[must_use]
    pub fn fail(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(name, Status::Fail, found, advice)
    }

    fn took(self, took: Duration) -> Self {
        Self {
            took: Some(took),
            ..self
        }
    }
}

/// Examines everything that these settings name. A store that can be opened is written to: see [`PROBE_USER`].
pub async fn examine(config: &Config, host: &Host) -> Vec<Check> {
    let mut checks = settings::contradictions(config);
    checks.extend(settings::listeners(config));
    checks.extend(settings::certificates(config, host).await);
    checks.push(settings::keys(config, host).await);
    checks.push(machine::clock(host));
    let (folder, may_open) = machine::folder(config);
    checks.extend(folder);
    checks.push(machine::descriptors(config));
    let (ports, is_served) = ports::look(config).await;
    checks.extend(ports);
    checks.extend(services::look(config, host).await);
    if may_open {
        checks.extend(stores::look(config, host, is_served).await);
    }
    checks
}
