//! `stonechat serve`: runs a server until it is told to stop.

use clap::Args;
use stonechat_host::Host;

use super::failure::Failure;
use crate::config::{Config, ConfigFlags};
use crate::node::Node;
use crate::telemetry;

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    settings: ConfigFlags,
}

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let config = Config::load(&args.settings)?;
    let traces = config.traces();
    let _telling = telemetry::init(config.log_format, &config.log_filter, traces.as_ref())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let node = Box::pin(Node::open(&config, Host::system())).await?;
    node.run_until_signal().await?;
    Ok(())
}
