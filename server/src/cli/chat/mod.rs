//! `stonechat chat`: a two-way chat in the terminal. One line in, one line out; works with pipes too.

mod command;
mod input;
mod read_marker;
mod room;
mod ticks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use stonechat_client::v1::InitialBacklog;

use self::command::Command;
use self::input::Input;
use self::room::{Flow, Room};
use super::access::{Session, SessionOptions, UserFlags};
use super::failure::Failure;
use super::output::Output;
use super::place::PlaceFlags;

/// After the input ended, what was typed last has so long to be stored.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// Arguments of `chat`.
#[derive(Debug, Args)]
pub(super) struct ChatArgs {
    #[command(flatten)]
    who: UserFlags,
    #[command(flatten)]
    place: PlaceFlags,
    /// Entries of the past to show, 0 to 200
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    history: u32,
    /// Do not mark as read what is shown; /read does it
    #[arg(long)]
    no_auto_read: bool,
    /// File that keeps unsent messages over restarts of this command [default: none]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

pub(super) async fn run(args: ChatArgs, output: Output) -> Result<ExitCode, Failure> {
    let options = SessionOptions {
        device: "cli-chat",
        backlog: InitialBacklog::Nothing,
        state: args.state.as_ref(),
    };
    let session = args.who.session(options).await?;
    let conversation = args.place.find(&session.client.unary()?).await?;
    let Session {
        client,
        mut events,
        user,
        device,
    } = session;
    let mut room = Room::enter(client, conversation, user, device, !args.no_auto_read, output);
    room.open(args.history).await?;
    let mut input = Input::start()?;
    let flow = loop {
        let flow = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Flow::Leave,
            event = events.next() => match event {
                Some(event) => room.on_event(&event).await?,
                None => Flow::Leave,
            },
            line = input.next() => match line {
                Some(line) => room.obey(Command::parse(&line)).await?,
                None => Flow::LastWords,
            },
        };
        if flow != Flow::Stay {
            break flow;
        }
    };
    if flow == Flow::LastWords {
        let settled = async {
            while room.has_unsettled() {
                match events.next().await {
                    Some(event) => drop(room.on_event(&event).await?),
                    None => break,
                }
            }
            Ok::<(), Failure>(())
        };
        // Time out, and the exit code says that the outcome is unknown.
        if let Ok(result) = tokio::time::timeout(LAST_WORDS, settled).await {
            result?;
        }
    }
    room.leave().await
}
