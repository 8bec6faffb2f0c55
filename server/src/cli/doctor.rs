//! `stonechat doctor`: examines what a server with these settings would stand on.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use stonechat_host::Host;

use super::output::Output;
use crate::config::{Config, ConfigFlags};
use crate::doctor::{Check, Status, examine};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    settings: ConfigFlags,
}

pub(super) async fn run(args: DoctorArgs, output: Output) -> ExitCode {
    let checks = match Config::load(&args.settings) {
        Ok(config) => examine(&config, &Host::system()).await,
        Err(error) => vec![Check::fail(
            "settings",
            error.to_string(),
            "correct it where it says; `stonechat settings` lists what there is",
        )],
    };
    for check in &checks {
        output.line(|| text(check, output), || json(check));
    }
    let failed = checks.iter().filter(|check| check.status == Status::Fail).count();
    let warned = checks.iter().filter(|check| check.status == Status::Warn).count();
    output.note(&format!(
        "{} checks, {failed} failed, {warned} to look at",
        checks.len()
    ));
    ExitCode::from(u8::from(failed > 0))
}

fn text(check: &Check, output: Output) -> String {
    let (color, status) = match check.status {
        Status::Ok => ("32", "ok  "),
        Status::Warn => ("33", "warn"),
        Status::Fail => ("31", "FAIL"),
    };
    let took = check.took.map(|took| format!(" ({} ms)", took.as_millis()));
    let advice = if check.advice.is_empty() {
        String::new()
    } else {
        format!("\n      → {}", check.advice)
    };
    format!(
        "{}  {}: {}{}{advice}",
        output.paint(color, status),
        check.name,
        check.found,
        took.unwrap_or_default()
    )
}

fn json(check: &Check) -> serde_json::Value {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Fail => "fail",
    };
    json!({
        "check": check.name, "status": status, "found": check.found, "advice": check.advice,
        "took_ms": check.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
    })
}
