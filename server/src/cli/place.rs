//! Which conversation a command means.

use clap::Args;
use stonechat_client::v1::{Conversation, ConversationKind, CreateConversationRequest, GetConversationRequest, Member};
use stonechat_client::{RequestError, Unary, settle, v1};
use stonechat_host::Host;

use super::failure::Failure;

/// Which conversation.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(super) struct PlaceFlags {
    /// The 1:1 with this user; made when there is none
    #[arg(long, value_name = "USER")]
    with: Option<String>,
    /// The conversation with this id
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
}

impl PlaceFlags {
    /// Finds the conversation, or makes the 1:1.
    pub(super) async fn find(&self, unary: &Unary) -> Result<Conversation, Failure> {
        match (&self.with, &self.conversation) {
            (Some(peer), _) => direct(unary, peer).await,
            (None, Some(id)) => {
                let request = GetConversationRequest {
                    conversation_id: id.clone(),
                };
                let found = settle(unary.conversations().get_conversation(request).await);
                found.map_err(|error| Failure::from(error).context("no conversation"))
            }
            (None, None) => Err(Failure::usage("say where: --with USER or --conversation ID")),
        }
    }
}

async fn direct(unary: &Unary, peer: &str) -> Result<Conversation, Failure> {
    let request = CreateConversationRequest {
        client_msg_id: fresh_id(),
        kind: ConversationKind::Direct.into(),
        name: String::new(),
        members: vec![Member {
            user_id: peer.to_owned(),
            role: v1::MemberRole::Member.into(),
        }],
    };
    let made = settle(unary.conversations().create_conversation(request).await);
    made.map_err(|error| no_peer(error, peer))
}

fn no_peer(error: RequestError, peer: &str) -> Failure {
    match error.reason() {
        Some(v1::RefusalReason::NotFound) => Failure::refused(format!(
            "not done: no user {peer}; make one with `stonechat admin upsert-user {peer}`"
        )),
        _ => Failure::from(error).context(&format!("no 1:1 with {peer}")),
    }
}

/// A fresh id for a request.
pub(super) fn fresh_id() -> String {
    let bytes = Host::system().random.bytes16();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
