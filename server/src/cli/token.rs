//! `stonechat token`: mints a token with the secret of a data folder, without a server.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::access::authenticator;
use super::failure::Failure;
use super::output::Output;
use crate::config::{Config, ConfigFlags};
use crate::domain::{DeviceId, UserId};

/// Arguments of `token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// User the token is for; with scopes, name of the service
    user: String,
    /// Bind it to one device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Admin scope, such as admin.users; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How long it is good, in seconds, at most 2592000
    #[arg(long = "ttl", value_name = "SECONDS", default_value_t = 86_400)]
    ttl_seconds: u64,
    /// Data folder with the secret [default: ./stonechat-data]
    #[arg(long, value_name = "FOLDER", alias = "data")]
    data_folder: Option<String>,
    /// TOML file with the server's settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &TokenArgs, output: Output) -> Result<(), Failure> {
    let settings = Config::load(&ConfigFlags {
        config: args.config.clone(),
        data_folder: args.data_folder.clone(),
        ..ConfigFlags::default()
    })?;
    let user = UserId::parse(&args.user)?;
    let device = args.device.as_deref().map(DeviceId::parse).transpose()?;
    let scopes: BTreeSet<String> = args.scopes.iter().cloned().collect();
    let ttl = Duration::from_secs(args.ttl_seconds);
    let issued = authenticator(&settings)?.issue(&user, device.as_ref(), &scopes, ttl)?;
    output.line(
        || issued.token.expose().clone(),
        || json!({ "token": issued.token.expose(), "expires_ms": issued.expires.0 }),
    );
    Ok(())
}
