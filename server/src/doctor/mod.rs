//! What is wrong before it hurts: examines settings, machine and stores as a server would use them.
//!
//! Stands on the storage traits and on what the node says when it opens backends: it knows no driver. What only a driver
//! can tell (its version, its schema, its clock) comes through [`Specifics`].

mod machine;
mod ports;
mod probe;
mod settings;
mod stores;
#[cfg(test)]
mod tests;

pub use probe::{PROBE_CONVERSATION, PROBE_USER};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
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

/// What a driver tells of its service.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Version of the service.
    pub version: String,
    /// What its schema is, such as its newest migration.
    pub schema: String,
    /// Its wall clock, when it was asked, milliseconds since the Unix epoch.
    pub unix_ms: Option<i64>,
}

/// A service that is configured, asked for what no storage trait tells.
#[async_trait]
pub trait Specifics: Send + Sync {
    /// Name of the service, as its setting.
    fn name(&self) -> &str;

    /// Asks it.
    ///
    /// # Errors
    /// It cannot be reached, or refuses; in words for an operator, without passwords.
    async fn ask(&self) -> Result<Told, String>;
}

/// Examines everything that these settings name. A store that can be opened is written to: see [`PROBE_USER`].
pub async fn examine(config: &Config, host: &Host, specifics: &[Arc<dyn Specifics>]) -> Vec<Check> {
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
    for specific in specifics {
        checks.extend(stores::specifics(&**specific, host).await);
    }
    if may_open {
        checks.extend(stores::look(config, host, is_served).await);
    }
    checks
}
