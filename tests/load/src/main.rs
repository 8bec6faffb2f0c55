//! Load bench: one command, scenarios by name, the server side by side with a bare tonic server in the same run.
#![allow(
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench measures the machine itself, from outside of any simulation; its figures are floats"
)]

mod bare;
mod codec;
mod counted;
mod link;
mod population;
mod process;
mod report;
mod scenario;
mod services;
mod store;
mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use scenario::{ALL, Context};

/// The bare server is measured with the allocator of the real one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

/// Drives a server with many streams, and a bare tonic server with the same bytes.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Own>,
    /// Scenarios to run; all when none is named.
    scenarios: Vec<String>,
    /// The server's binary.
    #[arg(long, default_value = "target/release/stonechat")]
    server: PathBuf,
    /// Small sizes: shows that everything runs, not how fast.
    #[arg(long)]
    small: bool,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Entries of the log that `history` reads.
    #[arg(long, default_value_t = 10_000_000)]
    entries: u64,
    /// Seconds of `slow`.
    #[arg(long, default_value_t = 600)]
    slow_seconds: u64,
    /// Folder for report.json and report.html.
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Own {
    /// Serves as the bare server; the bench starts it by itself.
    #[command(hide = true)]
    Bare {
        #[arg(long)]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Outcome<()> {
    if let Some(Own::Bare { listen }) = arguments.command {
        return codec::serve(listen).await;
    }
    let unknown = |name: &&String| !ALL.iter().any(|(known, _)| known == name);
    if let Some(name) = arguments.scenarios.iter().find(unknown) {
        let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("no scenario {name}; there are {}", names.join(", ")).into());
    }
    let mut context = Context {
        binary: arguments.server,
        small: arguments.small,
        entries: arguments.entries,
        slow_seconds: arguments.slow_seconds,
        report: report::Report::default(),
    };
    for (name, scenario) in ALL {
        if arguments.scenarios.is_empty() || arguments.scenarios.iter().any(|wanted| wanted == name) {
            eprintln!("{name} …");
            scenario(&mut context)
                .await
                .map_err(|error| format!("{name}: {error}"))?;
        }
    }
    context.report.write(&arguments.out)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&context.report)?);
    } else {
        println!("{}", context.report.table());
        println!("plots: {}", arguments.out.join("report.html").display());
    }
    Ok(())
}
