//! Messages as the system or on behalf of a member.

use clap::Subcommand;
use stonechat_client::admin::v1::{
    EditRequest, GetHistoryRequest, MarkReadRequest, ReactRequest, RedactRequest, SendRequest,
};
use stonechat_client::v1::Appended;
use stonechat_client::{Unary, settle, text_content, v1};

use super::conversations::header;
use crate::cli::failure::Failure;
use crate::cli::history::{self, PartFlags};
use crate::cli::output::Output;
use crate::cli::{json, text};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Send a message
    Send {
        /// Id of the conversation
        conversation: String,
        /// The text
        text: String,
        /// Member to speak as [default: the system]
        #[arg(long = "as", value_name = "USER", default_value = "")]
        user: String,
        /// Id of the message; the same id never stores it twice [default: a fresh one]
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// Replace the content of a message, as its sender
    Edit {
        /// Id of the conversation
        conversation: String,
        /// Seq of the message
        seq: u64,
        /// The new text
        text: String,
        /// Sender of the message [default: the system]
        #[arg(long = "as", value_name = "USER", default_value = "")]
        user: String,
    },
    /// Remove the content of a message
    Redact {
        /// Id of the conversation
        conversation: String,
        /// Seq of the message
        seq: u64,
        /// Reason for the others
        #[arg(long, default_value = "")]
        reason: String,
        /// Member to act as [default: the system]
        #[arg(long = "as", value_name = "USER", default_value = "")]
        user: String,
    },
    /// React to a message on behalf of a member
    React {
        /// Id of the conversation
        conversation: String,
        /// Seq of the message
        seq: u64,
        /// The reaction
        reaction: String,
        /// Member who reacts
        #[arg(long = "as", value_name = "USER")]
        user: String,
        /// Take it back
        #[arg(long)]
        remove: bool,
    },
    /// Read a conversation's log
    History {
        /// Id of the conversation
        conversation: String,
        #[command(flatten)]
        part: PartFlags,
    },
    /// Move a member's read marker
    MarkRead {
        /// Id of the conversation
        conversation: String,
        /// Whose
        user: String,
        /// Up to here
        seq: u64,
        /// Keep it from the other members
        #[arg(long)]
        private: bool,
    },
}

pub(super) async fn run(unary: &Unary, action: Action, output: Output) -> Result<(), Failure> {
    let mut service = unary.admin_messages();
    let appended = match action {
        Action::History { conversation, part } => {
            let query = Some(part.request(&conversation));
            history::show(&settle(service.get_history(GetHistoryRequest { query }).await)?, output);
            return Ok(());
        }
        Action::MarkRead {
            conversation,
            user,
            seq,
            private,
        } => return mark_read(unary, conversation, user, seq, private, output).await,
        Action::Send {
            conversation,
            text,
            user,
            id,
        } => settle(service.send(sending(conversation, &text, user, id)).await)?,
        Action::Edit {
            conversation,
            seq,
            text,
            user,
        } => {
            let request = EditRequest {
                header: Some(header(conversation)),
                on_behalf_of: user,
                target_seq: seq,
                content: Some(text_content(&text)),
                origin_time_ms: 0,
            };
            settle(service.edit(request).await)?
        }
        Action::Redact {
            conversation,
            seq,
            reason,
            user,
        } => {
            let request = RedactRequest {
                header: Some(header(conversation)),
                on_behalf_of: user,
                target_seq: seq,
                reason,
            };
            settle(service.redact(request).await)?
        }
        Action::React {
            conversation,
            seq,
            reaction,
            user,
            remove,
        } => {
            let request = ReactRequest {
                header: Some(header(conversation)),
                on_behalf_of: user,
                target_seq: seq,
                reaction,
                remove,
                origin_time_ms: 0,
            };
            settle(service.react(request).await)?
        }
    };
    show_appended(&appended, output);
    Ok(())
}

fn sending(conversation: String, text: &str, on_behalf_of: String, id: Option<String>) -> SendRequest {
    let mut header = header(conversation);
    if let Some(id) = id {
        header.client_msg_id = id;
    }
    SendRequest {
        header: Some(header),
        on_behalf_of,
        content: Some(text_content(text)),
        origin_time_ms: 0,
    }
}

async fn mark_read(
    unary: &Unary,
    conversation_id: String,
    user_id: String,
    seq: u64,
    private: bool,
    output: Output,
) -> Result<(), Failure> {
    let mark = v1::MarkReadRequest {
        conversation_id,
        seq,
        private,
    };
    let request = MarkReadRequest {
        user_id,
        mark: Some(mark),
    };
    let markers = settle(unary.admin_messages().mark_read(request).await)?;
    output.line(
        || format!("read up to #{}, {} unread", markers.read_seq, markers.unread_count),
        || json::markers(&markers),
    );
    Ok(())
}

pub(super) fn show_appended(appended: &Appended, output: Output) {
    output.line(
        || {
            format!(
                "stored as #{} at {}",
                appended.seq,
                text::clock(appended.server_time_ms)
            )
        },
        || json::appended(appended),
    );
}
