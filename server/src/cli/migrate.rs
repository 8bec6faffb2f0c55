//! `stonechat migrate`: moves everything from one store to another, neither of which is served meanwhile.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use stonechat_host::Host;

use super::failure::Failure;
use super::folder::must_be_there;
use super::output::Output;
use crate::config::{Config, ConfigFlags};
use crate::conversation::{Backends, Conversations, Limits};
use crate::domain::UnixMillis;
use crate::node::open_backends;
use crate::transfer::{self, MigrateError, Migrated, Refused, Verify, Watch};

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// Data folder or TOML settings file of the store to read; the environment's settings do not count
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
    /// Data folder or TOML settings file of the store to write
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// What to compare afterwards
    #[arg(long, value_name = "HOW", default_value = "sample")]
    verify: VerifyFlag,
}

/// How much is compared.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum VerifyFlag {
    /// Nothing
    None,
    /// All but the middles of long logs
    Sample,
    /// Every entry
    All,
}

impl From<VerifyFlag> for Verify {
    fn from(flag: VerifyFlag) -> Self {
        match flag {
            VerifyFlag::None => Self::None,
            VerifyFlag::Sample => Self::Sample,
            VerifyFlag::All => Self::All,
        }
    }
}

pub(super) async fn run(args: MigrateArgs, output: Output) -> Result<ExitCode, Failure> {
    let (from, to) = (settings(&args.from)?, settings(&args.to)?);
    refuse_same(&from, &to)?;
    must_be_there(&from, "migrated")?;
    let host = Host::system();
    let source = open("--from", &from, &host).await?;
    let target = open("--to", &to, &host).await?;
    settle(&source, &host).await?;
    let mut shown = Shown {
        bar: ProgressBar::hidden(),
        verify: args.verify.into(),
        output,
    };
    let now = UnixMillis(host.clock.unix_ms());
    let migrated = transfer::migrate(&source, &target, args.verify.into(), now, &mut shown).await;
    shown.bar.finish_and_clear();
    let report = migrated.map_err(stopped)?;
    show(&report, output);
    Ok(ExitCode::from(u8::from(!report.is_whole())))
}

/// A file holds settings, anything else is a data folder.
fn settings(path: &Path) -> Result<Config, Failure> {
    let mut flags = ConfigFlags::default();
    if path.is_file() {
        flags.config = Some(path.to_owned());
    } else {
        flags.data_folder = Some(path.display().to_string());
    }
    // The environment would set the same for both.
    Ok(Config::load_from(&flags, |_| None)?)
}

/// Found here it is said plainly; otherwise the second one to open a folder finds it in use.
fn refuse_same(from: &Config, to: &Config) -> Result<(), Failure> {
    let (one, other) = (from.data_folder.canonicalize().ok(), to.data_folder.canonicalize().ok());
    let uses_folder = |config: &Config| config.cql.is_empty() || config.postgres.is_none();
    if one.is_some() && one == other && uses_folder(from) && uses_folder(to) {
        return Err(Failure::usage(
            "nothing migrated: --from and --to use the same data folder; give one of them another data_folder",
        ));
    }
    Ok(())
}

async fn open(flag: &str, config: &Config, host: &Host) -> Result<Backends, Failure> {
    let opened = open_backends(config, host).await;
    opened.map_err(|error| Failure::from(error).context(flag))
}

/// A crash may have left the source's inbox rows and its directory behind its logs.
async fn settle(source: &Backends, host: &Host) -> Result<(), Failure> {
    let conversations = Conversations::new(source.clone(), host.clone(), Limits::unpaced());
    conversations.recover().await?;
    conversations.drain().await;
    Ok(())
}

fn stopped(error: MigrateError) -> Failure {
    match error {
        MigrateError::Same => Failure::usage(format!("nothing migrated: {error}")),
        error => Failure::refused(format!("stopped: {error}; run the same command again to go on")),
    }
}

struct Shown {
    bar: ProgressBar,
    verify: Verify,
    output: Output,
}

impl Watch for Shown {
    fn begin(&mut self, conversations: u64) {
        if !io::stderr().is_terminal() {
            return;
        }
        let passes = if self.verify == Verify::None { 1 } else { 2 };
        let bar = ProgressBar::new(conversations * passes);
        let form = "{wide_bar} {pos} of {len} conversations copied and compared, {eta} left";
        // Without its own look the bar has the default one.
        self.bar = match ProgressStyle::with_template(form) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
    }

    fn conversation(&mut self) {
        self.bar.inc(1);
    }

    fn refused(&mut self, refused: &Refused) {
        let output = self.output;
        self.bar.suspend(|| {
            output.line(|| format!("{}: {}", refused.what, refused.why), || as_json(refused));
        });
    }
}

fn as_json(refused: &Refused) -> Value {
    json!({ "what": refused.what, "why": refused.why })
}

fn show(report: &Migrated, output: Output) {
    output.line(|| text(report), || json!({ "report": numbers(report) }));
}

fn text(report: &Migrated) -> String {
    let Migrated {
        users,
        devices,
        blocks,
        conversations,
        entries,
        known,
        markers,
        rows,
        settings,
        positions,
        compared,
        refused,
        differences,
    } = report;
    format!(
        "{conversations} conversations: {entries} entries written, {known} there from before\n\
         {users} users, {devices} devices, {blocks} blocks, {markers} markers, {rows} inbox rows, {settings} settings, \
         {positions} positions written\n\
         {compared} entries compared, {} differences, {} refused",
        differences.len(),
        refused.len()
    )
}

fn numbers(report: &Migrated) -> Value {
    json!({
        "users": report.users, "devices": report.devices, "blocks": report.blocks,
        "conversations": report.conversations, "entries": report.entries, "known": report.known,
        "markers": report.markers, "rows": report.rows, "settings": report.settings, "positions": report.positions,
        "compared": report.compared,
        "refused": report.refused.iter().map(as_json).collect::<Vec<_>>(),
        "differences": report.differences.iter().map(as_json).collect::<Vec<_>>(),
    })
}
