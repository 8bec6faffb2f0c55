//! The machine: its clock, its disk, its limits.

use std::io;
use std::os::unix::fs::MetadataExt;

use stonechat_host::Host;

use super::{Check, Status};
use crate::config::Config;
use crate::gateway::edge::room_for_connections;
use crate::node::other_connections;

const FOLDER: &str = "data folder";
/// Wall time before which the clock was never set: this was written later.
const CLOCK_MIN_MS: i64 = 1_735_689_600_000;
/// Free bytes below which it is worth a word: some hours of a busy node.
const FREE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes of a GiB.
const GIB: u64 = 1024 * 1024 * 1024;
/// Read, write and search for the owner.
const OWNER_ALL: u32 = 0o700;

/// Whether the clock was ever set. Servers with clocks of their own are compared where they are asked.
pub(super) fn clock(host: &Host) -> Check {
    if host.clock.unix_ms() < CLOCK_MIN_MS {
        let advice = "set the clock and keep it by NTP: tokens and times of messages depend on it";
        return Check::fail("clock", "this machine's clock is years behind", advice);
    }
    Check::ok("clock", "plausible; compared with other servers' where there are any")
}

/// The folder's checks, and whether a store in it may be opened: not by a user whose files the server could not write
/// afterwards, and not where there is none yet.
pub(super) fn folder(config: &Config) -> (Vec<Check>, bool) {
    let path = &config.data_folder;
    let shown = path.display();
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let advice = "none, if this is before the first start; else correct data_folder";
            let check = Check::warn(
                FOLDER,
                format!("{shown} is not there; the first start makes it"),
                advice,
            );
            return (vec![check], is_elsewhere(config));
        }
        Err(error) => {
            let check = Check::fail(FOLDER, format!("{shown}: {error}"), "let the server's user into it");
            return (vec![check], false);
        }
    };
    if !found.is_dir() {
        let check = Check::fail(
            FOLDER,
            format!("{shown} is not a folder"),
            "name a folder in data_folder",
        );
        return (vec![check], false);
    }
    let mine = rustix::process::geteuid().as_raw();
    if found.uid() != mine {
        let found = format!(
            "{shown} belongs to user {}, this is user {mine}: its store is not opened",
            found.uid()
        );
        let check = Check::fail(FOLDER, found, "run this and the server as the user who owns the folder");
        return (vec![check], false);
    }
    let mode = found.mode() & 0o777;
    if mode & OWNER_ALL != OWNER_ALL {
        let found = format!("{shown} has mode {mode:03o}: its owner cannot write there");
        return (vec![Check::fail(FOLDER, found, format!("chmod 700 {shown}"))], false);
    }
    let open = if mode & 0o077 == 0 {
        Check::ok(FOLDER, format!("{shown} is its owner's alone"))
    } else {
        let found = format!("{shown} has mode {mode:03o}: others may look into it");
        Check::warn(FOLDER, found, format!("chmod 700 {shown}"))
    };
    (vec![open, free(config)], true)
}

/// Whether everything is kept by services.
fn is_elsewhere(config: &Config) -> bool {
    !config.cql.is_empty() && config.postgres.is_some()
}

fn free(config: &Config) -> Check {
    let name = "disk";
    let advice = "make room, or move the folder to a larger disk: a full one refuses every message";
    match rustix::fs::statvfs(&config.data_folder) {
        Err(error) => Check::warn(
            name,
            format!("its free space cannot be told: {error}"),
            "look at it with df",
        ),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let status = if free < FREE_BYTES { Status::Warn } else { Status::Ok };
            let advice = if status == Status::Ok { "" } else { advice };
            Check::new(name, status, format!("{:.1} GiB are free", gib(free)), advice)
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB as f64
}

/// Whether as many connections fit as are allowed.
pub(super) fn descriptors(config: &Config) -> Check {
    let name = "file descriptors";
    let wanted = config.connections_max;
    let room = room_for_connections(wanted, other_connections(config));
    if room < wanted {
        let found = format!("there is room for {room} connections, connections_max is {wanted}");
        return Check::warn(
            name,
            found,
            "raise the limit (ulimit -n, LimitNOFILE), or lower connections_max",
        );
    }
    Check::ok(name, format!("room for {wanted} connections"))
}
