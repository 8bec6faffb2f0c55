//! `stonechat settings`: what there is to set, and why its default is what it is.

use clap::Args;
use serde_json::json;

use super::output::Output;
use crate::config::{Setting, markdown, settings};

/// Arguments of `settings`.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// Print the table of docs/operations.md
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

pub(super) fn run(args: &SettingsArgs, output: Output) {
    if args.markdown {
        print!("{}", markdown());
        return;
    }
    for setting in settings() {
        output.line(|| text(&setting), || json!(setting));
    }
}

fn text(setting: &Setting) -> String {
    let Setting {
        name,
        takes,
        default,
        what,
        reason,
    } = setting;
    format!("{name} ({takes}) [{default}]\n    {what}. {reason}")
}
