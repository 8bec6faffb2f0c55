//! The command line. One file per command; they share how to reach a server (`access`), how to print (`json`, `text`)
//! and how to fail (`failure`).

mod access;
mod admin;
mod audit;
mod chat;
mod conversations;
mod demo;
mod doctor;
mod export;
mod failure;
mod folder;
mod history;
mod import;
mod json;
mod migrate;
mod output;
mod place;
mod send;
mod serve;
mod settings;
mod tail;
mod text;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::failure::Failure;
use self::output::Output;

/// Stonechat: a chat backend in one binary.
///
/// Exit codes: 0 done; 1 refused, certainly not done; 2 bad usage; 3 outcome unknown, run it again.
#[derive(Debug, Parser)]
#[command(name = "stonechat", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    Serve(serve::ServeArgs),
    /// Examine settings, machine and stores as a server would use them
    Doctor(doctor::DoctorArgs),
    /// Compare everything that the stores keep of conversations with their logs; reads alone
    Audit(audit::AuditArgs),
    /// Show every setting with its default and the reason for it
    Settings(settings::SettingsArgs),
    /// Run a server with users and conversations to try, and say what to type next
    Demo(demo::DemoArgs),
    /// Chat in the terminal
    Chat(chat::ChatArgs),
    /// Send one message and wait until it is stored
    Send(send::SendArgs),
    /// Follow everything that is delivered to a user
    Tail(tail::TailArgs),
    /// Read a conversation's log
    History(history::HistoryArgs),
    /// List a user's conversations
    Conversations(conversations::ConversationsArgs),
    /// What an integrator's backend does: users, tokens, conversations, messages on behalf of others
    Admin(admin::AdminArgs),
    /// Mint a token with the secret of a data folder
    Token(token::TokenArgs),
    /// Load conversations from JSON Lines into a data folder
    Import(import::ImportArgs),
    /// Write all conversations of a data folder as JSON Lines
    Export(export::ExportArgs),
    /// Move everything from one store to another, as it is: from a data folder to production, and back
    Migrate(migrate::MigrateArgs),
}

/// Runs the command in the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Writes help to standard output, and what is wrong to standard error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let output = Output::new(cli.json);
    match start(cli.command, output) {
        Ok(code) => code,
        Err(failure) => failure.report(output),
    }
}

fn start(command: Command, output: Output) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot start: {error}")))?;
    runtime.block_on(dispatch(command, output))
}

async fn dispatch(command: Command, output: Output) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(args) => Box::pin(serve::run(args)).await?,
        Command::Doctor(args) => return Ok(Box::pin(doctor::run(args, output)).await),
        Command::Audit(args) => return Box::pin(audit::run(args, output)).await,
        Command::Settings(args) => settings::run(&args, output),
        Command::Demo(args) => Box::pin(demo::run(args)).await?,
        Command::Chat(args) => return Box::pin(chat::run(args, output)).await,
        Command::Send(args) => Box::pin(send::run(args, output)).await?,
        Command::Tail(args) => Box::pin(tail::run(args, output)).await?,
        Command::History(args) => Box::pin(history::run(args, output)).await?,
        Command::Conversations(args) => Box::pin(conversations::run(args, output)).await?,
        Command::Admin(args) => Box::pin(admin::run(args, output)).await?,
        Command::Token(args) => token::run(&args, output)?,
        Command::Import(args) => return Box::pin(import::run(args, output)).await,
        Command::Export(args) => Box::pin(export::run(args)).await?,
        Command::Migrate(args) => return Box::pin(migrate::run(args, output)).await,
    }
    Ok(ExitCode::SUCCESS)
}
