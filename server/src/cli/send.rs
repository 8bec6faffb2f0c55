//! `stonechat send`: one message, durable when the command ends with 0.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use stonechat_client::v1::{InitialBacklog, MessageContent, message_content};

use super::access::{SessionOptions, UserFlags};
use super::failure::Failure;
use super::output::Output;
use super::place::{PlaceFlags, fresh_id};
use super::{json, text};

/// Arguments of `send`.
#[derive(Debug, Args)]
pub(super) struct SendArgs {
    #[command(flatten)]
    who: UserFlags,
    #[command(flatten)]
    place: PlaceFlags,
    /// The text; `-` reads it from standard input
    text: String,
    /// Answer to the message with this seq
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    reply_to: u64,
    /// Id of the message; the same id never stores it twice [default: a fresh one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// How long to try, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    timeout: u64,
    /// File that keeps the message until it is stored, over restarts of this command [default: none]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

pub(super) async fn run(args: SendArgs, output: Output) -> Result<(), Failure> {
    let content = MessageContent {
        content: Some(message_content::Content::Text(read_text(&args.text)?)),
        reply_to_seq: args.reply_to,
        media: Vec::new(),
    };
    let session = args
        .who
        .session(SessionOptions {
            device: "cli-send",
            backlog: InitialBacklog::Nothing,
            state: args.state.as_ref(),
        })
        .await?;
    let conversation = args.place.find(&session.client.unary()?).await?;
    let id = args.id.unwrap_or_else(fresh_id);
    let sent = session
        .client
        .send_as(&conversation.conversation_id, &id, content)
        .await?;
    let outcome = tokio::time::timeout(Duration::from_secs(args.timeout), sent.outcome()).await;
    let unknown = || {
        Failure::unknown(format!(
            "outcome unknown: no answer in time; run it again with --id {id}"
        ))
    };
    let appended = outcome.map_err(|_| unknown())??;
    output.line(
        || {
            let again = if appended.duplicate { ", as before" } else { "" };
            format!(
                "stored as #{} at {}{again}",
                appended.seq,
                text::clock(appended.server_time_ms)
            )
        },
        || json::appended(&appended),
    );
    session.client.close().await;
    Ok(())
}

fn read_text(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    // The line end of `echo` is not part of the message.
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}
