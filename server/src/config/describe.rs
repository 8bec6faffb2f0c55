//! What there is to set, as the flags say it: one source for help, table and tests.

use clap::{Args, Command};

use super::ConfigFlags;

/// What stands before the default in a flag's help.
const DEFAULT_MARK: &str = " [default: ";
/// The flag that names the file, which is no setting of it.
const FILE_FLAG: &str = "config";

/// A setting and its documentation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// Its name in a file.
    pub name: String,
    /// What it takes: its unit, or the kind of text.
    pub takes: String,
    /// What it is when nobody sets it.
    pub default: String,
    /// What it sets.
    pub what: String,
    /// Why the default is what it is; empty when nobody said.
    pub reason: String,
}

/// Every setting, in the order of the help.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let command = ConfigFlags::augment_args(Command::new("settings"));
    let flags = command.get_arguments().filter(|flag| flag.get_id() != FILE_FLAG);
    flags.map(setting).collect()
}

fn setting(flag: &clap::Arg) -> Setting {
    let what = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let long = flag.get_long_help().map(ToString::to_string).unwrap_or_default();
    let (what, default) = what.split_once(DEFAULT_MARK).unwrap_or((&what, ""));
    let reason = long.split_once("\n\n").map_or("", |(_, reason)| reason);
    let takes = flag.get_value_names().and_then(<[_]>::first);
    Setting {
        name: flag.get_id().to_string(),
        takes: takes.map(|name| name.to_lowercase()).unwrap_or_default(),
        default: default.trim_end_matches(']').to_owned(),
        what: what.to_owned(),
        reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// All settings as rows of a Markdown table, with its head.
#[must_use]
pub fn markdown() -> String {
    let head = "| setting | takes | default | what it sets | why that default |\n|---|---|---|---|---|\n".to_owned();
    settings().iter().fold(head, |table, setting| table + &row(setting))
}

fn row(setting: &Setting) -> String {
    let Setting {
        name,
        takes,
        default,
        what,
        reason,
    } = setting;
    format!("| `{name}` | {takes} | {default} | {what} | {reason} |\n")
}
