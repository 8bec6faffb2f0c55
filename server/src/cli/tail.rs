//! `stonechat tail`: follows everything that is delivered to a user.

use std::path::PathBuf;

use clap::Args;
use stonechat_client::Event;
use stonechat_client::v1::InitialBacklog;

use super::access::{SessionOptions, UserFlags, no_session};
use super::failure::Failure;
use super::output::Output;
use super::{json, text};

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    who: UserFlags,
    /// Begin with everything the user may read, instead of with now
    #[arg(long)]
    backlog: bool,
    /// End after so many deliveries [default: never]
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// File that keeps how far this command got, to go on from there [default: none]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

pub(super) async fn run(args: TailArgs, output: Output) -> Result<(), Failure> {
    let backlog = if args.backlog {
        InitialBacklog::Everything
    } else {
        InitialBacklog::Nothing
    };
    let mut session = args
        .who
        .session(SessionOptions {
            device: "cli-tail",
            backlog,
            state: args.state.as_ref(),
        })
        .await?;
    output.note(&format!(
        "following the deliveries of {}; end with ctrl-c",
        session.user
    ));
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            event = session.events.next() => event,
        };
        let Some(event) = event else { break };
        left -= u64::from(matches!(event, Event::Delivered { .. }));
        show(&event, output);
        if let Event::Disconnected { reason, retry: None } = &event {
            return Err(no_session(reason));
        }
    }
    // Confirms the last delivery that was printed.
    let confirmed = std::time::Duration::from_millis(100);
    let _ = tokio::time::timeout(confirmed, session.events.next()).await;
    session.client.close().await;
    Ok(())
}

fn show(event: &Event, output: Output) {
    if output.json() {
        output.line(String::new, || json::event(event));
        return;
    }
    match event {
        Event::Delivered { entry, .. } => output.note(&format!("{} {}", entry.conversation_id, text::entry(entry))),
        Event::Disconnected { reason, retry: Some(_) } => {
            output.note(&format!("* {}; trying again", text::disconnect(reason)));
        }
        Event::Connected(_) => output.note("* connected"),
        Event::Rewound {
            conversation_id,
            head_seq,
        } => {
            output.note(&format!("* the server's log of {conversation_id} ends at #{head_seq}"));
        }
        _ => {}
    }
}
