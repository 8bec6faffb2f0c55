//! Threats.
mod amplification;
mod enumeration;
mod raw;

/// The matrix of the authorization suite: every rpc with what a stranger gets.
#[path = "../authorization/rows.rs"]
#[allow(dead_code, reason = "its admin half is for that suite alone")]
mod rows;
