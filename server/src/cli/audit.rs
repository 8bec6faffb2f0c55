//! `stonechat audit`: compares everything that the stores keep of conversations with their logs.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use stonechat_host::Host;

use super::failure::Failure;
use super::folder::must_be_there;
use super::output::Output;
use crate::audit::{Audited, Part, audit};
use crate::config::{Config, ConfigFlags};
use crate::domain::{ConversationId, UnixMillis};
use crate::node::open_backends;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Looks at one part of all conversations, as 2/7: every one of them is in one part. With today/7 at the one whose turn it
    /// is, so that a run each day has looked at all of them after seven
    #[arg(long, value_name = "K/N", default_value = "1/1", value_parser = part)]
    part: Asked,
    /// Conversations at a time: more is sooner done, and asks more of the stores
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    at_once: u16,
    #[command(flatten)]
    settings: ConfigFlags,
}

/// Which part was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Part(Part),
    /// Of so many, another one each day.
    Today(u8),
}

impl Asked {
    fn part(self, now: UnixMillis) -> Part {
        match self {
            Self::Part(part) => part,
            Self::Today(of) => {
                let day = now.0.div_euclid(DAY_MS).rem_euclid(i64::from(of));
                let number = u8::try_from(day + 1).unwrap_or(1);
                Part { number, of }
            }
        }
    }
}

fn part(text: &str) -> Result<Asked, String> {
    let asked = text.split_once('/').and_then(|(which, of)| {
        let of = of.parse().ok().filter(|of| *of > 0)?;
        if which == "today" {
            return Some(Asked::Today(of));
        }
        let number = which.parse().ok().filter(|number| (1..=of).contains(number))?;
        Some(Asked::Part(Part { number, of }))
    });
    asked.ok_or_else(|| "two numbers up to 255 as 2/7, the first not above the second, or as today/7".to_owned())
}

pub(super) async fn run(args: AuditArgs, output: Output) -> Result<ExitCode, Failure> {
    let config = Config::load(&args.settings)?;
    must_be_there(&config, "audited")?;
    let host = Host::system();
    let part = args.part.part(UnixMillis(host.clock.unix_ms()));
    let backends = open_backends(&config, &host).await?;
    let mut tell = |conversation, why: &str| show(conversation, why, output);
    let audited = audit(&backends, part, usize::from(args.at_once), &mut tell).await;
    let audited = audited.map_err(|error| Failure::refused(format!("the audit is incomplete: {error}")))?;
    output.line(|| text(&audited), || json!({ "report": numbers(&audited) }));
    Ok(ExitCode::from(u8::from(audited.contradictions > 0)))
}

fn show(conversation: ConversationId, why: &str, output: Output) {
    output.line(
        || format!("conversation {conversation}: {why}"),
        || json!({ "conversation": conversation.to_string(), "why": why }),
    );
}

fn text(audited: &Audited) -> String {
    let Audited {
        conversations,
        entries,
        pending,
        contradictions,
    } = audited;
    format!(
        "{conversations} conversations, {entries} entries: {contradictions} contradictions, {pending} with members who are \
         still to be told"
    )
}

fn numbers(audited: &Audited) -> serde_json::Value {
    json!({
        "conversations": audited.conversations, "entries": audited.entries, "pending": audited.pending,
        "contradictions": audited.contradictions,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_run_each_day_takes_every_part_in_turn() {
        let asked = part("today/7").unwrap();
        let parts: BTreeSet<u8> = (20_000..20_007)
            .map(|day| asked.part(UnixMillis(day * DAY_MS + 5)).number)
            .collect();
        assert_eq!(parts, (1..=7).collect());
        assert_eq!(part("2/7"), Ok(Asked::Part(Part { number: 2, of: 7 })));
        for wrong in ["", "7", "0/7", "8/7", "1/0", "today/0", "1/256", "tomorrow/7"] {
            assert!(part(wrong).is_err(), "{wrong}");
        }
    }
}
