//! `stonechat import`: loads conversations from JSON Lines into a data folder that no server uses.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use stonechat_host::Host;

use super::failure::Failure;
use super::output::Output;
use crate::config::{Config, ConfigFlags};
use crate::conversation::{Conversations, Limits};
use crate::domain::Refusal;
use crate::node::Grounds;
use crate::transfer::{self, ImportError, Progress, Report};

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file; `-` reads standard input
    file: PathBuf,
    #[command(flatten)]
    folder: FolderFlags,
}

/// Which data folder.
#[derive(Debug, Args)]
pub(super) struct FolderFlags {
    /// Data folder; no server may be using it [default: ./stonechat-data]
    #[arg(long, value_name = "FOLDER", alias = "data")]
    data_folder: Option<String>,
    /// TOML file with the server's settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FolderFlags {
    pub(super) fn settings(&self) -> Result<Config, Failure> {
        let flags = ConfigFlags {
            config: self.config.clone(),
            data_folder: self.data_folder.clone(),
            ..ConfigFlags::default()
        };
        Ok(Config::load(&flags)?)
    }
}

pub(super) async fn run(args: ImportArgs, output: Output) -> Result<ExitCode, Failure> {
    let settings = args.folder.settings()?;
    let (input, bytes) = open(&args.file)?;
    let host = Host::system();
    let backends = Grounds::open(&settings, &host).await?.backends;
    let conversations = Conversations::new(backends.clone(), host.clone(), Limits::unpaced());
    conversations.recover().await?;
    let mut shown = Shown {
        bar: bar(bytes),
        output,
    };
    let imported = transfer::import(&conversations, &backends, &host, input, &mut shown).await;
    shown.bar.finish_and_clear();
    let report = imported.map_err(stopped)?;
    show(&report, output);
    Ok(if report.refused > 0 {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// The input, and how long it is when that is known.
fn open(path: &PathBuf) -> Result<(Box<dyn BufRead + Send>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let refused = |error: io::Error| Failure::refused(format!("nothing imported: {}: {error}", path.display()));
    let file = File::open(path).map_err(refused)?;
    let bytes = file.metadata().map_err(refused)?.len();
    Ok((Box::new(BufReader::new(file)), Some(bytes)))
}

fn stopped(error: ImportError) -> Failure {
    Failure::unknown(error.to_string())
}

/// A bar on standard error, for people only.
fn bar(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, form) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {bytes_per_sec}"),
    };
    // Without its own look the bar has the default one.
    match ProgressStyle::with_template(form) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

struct Shown {
    bar: ProgressBar,
    output: Output,
}

impl Progress for Shown {
    fn read(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn refused(&mut self, line: u64, refusal: &Refusal) {
        let output = self.output;
        self.bar.suspend(|| {
            output.line(
                || format!("line {line} refused: {}", refusal.message),
                || json!({ "line": line, "refused": refusal.message }),
            );
        });
    }
}

fn show(report: &Report, output: Output) {
    output.line(
        || {
            format!(
                "{} lines: {} stored, {} known from before, {} refused",
                report.lines, report.stored, report.known, report.refused
            )
        },
        || {
            json!({ "report": {
                "lines": report.lines, "stored": report.stored, "known": report.known, "refused": report.refused,
            } })
        },
    );
}
