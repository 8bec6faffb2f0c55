//! `stonechat admin`: what an integrator's backend does, by unary calls.

mod conversations;
mod messages;
mod users;

use clap::{Args, Subcommand};

use super::access::ServerFlags;
use super::failure::Failure;
use super::output::Output;

/// Arguments of `admin`.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    #[command(flatten)]
    Users(users::Action),
    #[command(flatten)]
    Conversations(conversations::Action),
    #[command(flatten)]
    Messages(messages::Action),
}

pub(super) async fn run(args: AdminArgs, output: Output) -> Result<(), Failure> {
    let unary = args.server.admin().await?;
    match args.action {
        Action::Users(action) => users::run(&unary, action, output).await,
        Action::Conversations(action) => conversations::run(&unary, action, output).await,
        Action::Messages(action) => messages::run(&unary, action, output).await,
    }
}
