//! The stores: opened as a server opens them, then used once.

use std::time::Duration;

use stonechat_host::Host;

use super::{Check, Specifics, probe};
use crate::config::Config;
use crate::node::{StartError, open_backends};
use crate::storage::embedded::OpenError;

const STORES: &str = "stores";
/// Time for opening everything: an embedded store of many gigabytes reads its journal, a service far away is reached or not.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// How far another clock may be off: less than the times of two messages that people tell apart.
const CLOCK_OFF_MS: i64 = 1_000;
/// How far it may be off before tokens and leases are wrong.
const CLOCK_OFF_MAX_MS: i64 = 30_000;

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
        StartError::Contradiction(_) => "set what is named, or take the other away",
        _ => "see that the service answers from this machine, with this user and password",
    };
    Check::fail(STORES, error.to_string(), advice)
}

/// What only a driver can tell.
pub(super) async fn specifics(service: &dyn Specifics, host: &Host) -> Vec<Check> {
    let name = service.name();
    let (begun, before) = (stonechat_host::monotonic(), host.clock.unix_ms());
    let told = match tokio::time::timeout(OPEN_WITHIN, service.ask()).await {
        Ok(Ok(told)) => told,
        Ok(Err(why)) => return vec![Check::fail(name, why, "see that it answers from this machine")],
        Err(_) => return vec![Check::fail(name, "no answer", "see that it answers from this machine")],
    };
    let took = begun.elapsed();
    let mut checks = vec![Check::ok(name, format!("version {}, schema {}", told.version, told.schema)).took(took)];
    if let Some(theirs) = told.unix_ms {
        // It looked at its clock somewhere on the way there and back.
        let off = i64::midpoint(before, host.clock.unix_ms()) - theirs;
        checks.push(clock_off(name, off));
    }
    checks
}

fn clock_off(name: &str, off: i64) -> Check {
    let check = format!("clock of {name}");
    let found = format!(
        "this machine's is {} ms {}",
        off.abs(),
        if off < 0 { "behind" } else { "ahead" }
    );
    let advice = "keep both by NTP";
    if off.abs() < CLOCK_OFF_MS {
        Check::ok(&check, found)
    } else if off.abs() < CLOCK_OFF_MAX_MS {
        Check::warn(&check, found, advice)
    } else {
        Check::fail(&check, found, advice)
    }
}
