//! `stonechat conversations`: a user's list.

use clap::Args;
use stonechat_client::settle;
use stonechat_client::v1::ListConversationsRequest;

use super::access::UserFlags;
use super::failure::Failure;
use super::output::Output;
use super::{json, text};

/// Rows asked for at a time: the contract's bound.
const PAGE: u32 = 500;

/// Arguments of `conversations`.
#[derive(Debug, Args)]
pub(super) struct ConversationsArgs {
    #[command(flatten)]
    who: UserFlags,
}

pub(super) async fn run(args: ConversationsArgs, output: Output) -> Result<(), Failure> {
    let unary = args.who.unary("cli-conversations").await?;
    let mut cursor = bytes::Bytes::new();
    let mut rows = Vec::new();
    loop {
        let request = ListConversationsRequest { cursor, limit: PAGE };
        let list = settle(unary.conversations().list_conversations(request).await)?;
        rows.extend(list.conversations);
        if !list.has_more {
            break;
        }
        cursor = list.next_cursor;
    }
    // Newest activity last, where the prompt is.
    rows.sort_by_key(|row| row.activity_ms);
    for row in &rows {
        output.line(|| text::summary(row), || json::summary(row));
    }
    if rows.is_empty() {
        output.note("no conversations yet");
    }
    Ok(())
}
