//! The stores: opened as a server opens them, then used once.

use std::time::Duration;

use stonechat_host::Host;

use super::{Check, probe, services};
use crate::config::Config;
use crate::node::{StartError, open_backends};
use crate::storage::cql::CqlError;
use crate::storage::embedded::OpenError;

const STORES: &str = "stores";
/// Time for opening everything: an embedded store of many gigabytes reads its journal, a service far away is reached or not.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// Opens what the settings name, and uses it once.
pub(super) async fn look(config: &Config, host: &Host, is_served: bool) -> Vec<Check> {
    let begun = stonechat_host::monotonic();
    let opened = tokio::time::timeout(OPEN_WITHIN, open_backends(config, host)).await;
    match opened {
        Err(_) => {
            let found = format!("not open within {} s", OPEN_WITHIN.as_secs());
            vec![Check::fail(
                STORES,
                found,
                "see that the services answer from this machine",
            )]
        }
        Ok(Err(error)) => vec![refused(&error, is_served)],
        Ok(Ok(backends)) => {
            let mut checks = vec![Check::ok(STORES, "opened as a server opens them").took(begun.elapsed())];
            checks.extend(probe::run(&backends, host).await);
            checks
        }
    }
}

fn refused(error: &StartError, is_served: bool) -> Check {
    let advice = match error {
        StartError::Store(OpenError::InUse(_)) if is_served => {
            let found = format!("{error}: the server that runs; the store was not tried");
            return Check::warn(STORES, found, "stop the server to have its store examined too");
        }
        StartError::Store(OpenError::InUse(_)) => {
            "another command or server holds it: stop that one, or wait until it ends"
        }
        StartError::Store(OpenError::NotWritable { .. }) => {
            "let the server's user write there (chown, chmod 700, mount rw)"
        }
        StartError::Store(OpenError::NotAStore { .. }) => "name an empty folder or one of Stonechat in data_folder",
        StartError::Store(OpenError::NewerFormat { .. }) => "start the newer version that wrote it",
        StartError::Store(OpenError::Damaged { .. }) => "restore the folder from a copy; nothing was repaired or cut",
        StartError::Store(OpenError::Unavailable { .. }) => "see what the operating system says",
        StartError::Directory { .. } => "restore directory.sqlite from a copy, or see what it says",
        StartError::Cql(CqlError::Misfit(misfit)) => {
            return Check::fail(STORES, error.to_string(), services::amends(misfit));
        }
        StartError::Contradiction(_) => "set what is named, or take the other away",
        _ => "see that the service answers from this machine, with this user and password",
    };
    Check::fail(STORES, error.to_string(), advice)
}
