//! Conversations and members.

use clap::Subcommand;
use serde_json::json;
use stonechat_client::admin::v1::{
    CreateConversationRequest, GetConversationRequest, ListConversationsRequest, RemoveMemberRequest,
    RenameConversationRequest, SetMembersRequest,
};
use stonechat_client::v1::{AppendHeader, Conversation, ConversationKind, Member, MemberRole};
use stonechat_client::{Unary, settle};

use super::messages::show_appended;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::place::fresh_id;
use crate::cli::{json, text};

/// Conversations asked for at a time: the contract's bound.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Create a group, or find or create the 1:1 of a pair
    CreateConversation {
        /// Who owns it; for a 1:1, one of the two
        #[arg(long, value_name = "USER")]
        owner: String,
        /// The other one of a 1:1
        #[arg(long, value_name = "USER", conflicts_with_all = ["name", "members"])]
        with: Option<String>,
        /// Name of a group
        #[arg(long, default_value = "")]
        name: String,
        /// Member of a group, as USER or USER:admin or USER:owner; may be repeated
        #[arg(long = "member", value_name = "USER")]
        members: Vec<String>,
        /// Id of this request: the same one finds the same conversation [default: a fresh one]
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// Show one conversation with its members
    GetConversation {
        /// Id of the conversation
        conversation: String,
    },
    /// List the ids of all conversations
    ListConversations,
    /// Add members or change their roles
    SetMembers {
        /// Id of the conversation
        conversation: String,
        /// As USER or USER:admin or USER:owner
        #[arg(required = true)]
        members: Vec<String>,
    },
    /// Remove a member
    RemoveMember {
        /// Id of the conversation
        conversation: String,
        /// Who goes
        user: String,
    },
    /// Rename a group
    Rename {
        /// Id of the conversation
        conversation: String,
        /// The new name
        name: String,
    },
}

pub(super) async fn run(unary: &Unary, action: Action, output: Output) -> Result<(), Failure> {
    let mut service = unary.admin_conversations();
    match action {
        Action::CreateConversation {
            owner,
            with,
            name,
            members,
            id,
        } => {
            let request = creation(owner, with, name, &members, id)?;
            show(&settle(service.create_conversation(request).await)?, output);
        }
        Action::GetConversation { conversation } => {
            let request = GetConversationRequest {
                conversation_id: conversation,
            };
            show(&settle(service.get_conversation(request).await)?, output);
        }
        Action::ListConversations => list(unary, output).await?,
        Action::SetMembers { conversation, members } => {
            let members = members.iter().map(|text| member(text)).collect::<Result<_, _>>()?;
            let header = Some(header(conversation));
            let request = SetMembersRequest { header, members };
            show_appended(&settle(service.set_members(request).await)?, output);
        }
        Action::RemoveMember { conversation, user } => {
            let request = RemoveMemberRequest {
                header: Some(header(conversation)),
                user_id: user,
            };
            show_appended(&settle(service.remove_member(request).await)?, output);
        }
        Action::Rename { conversation, name } => {
            let header = Some(header(conversation));
            let request = RenameConversationRequest { header, name };
            show_appended(&settle(service.rename_conversation(request).await)?, output);
        }
    }
    Ok(())
}

/// A header with a fresh id.
pub(super) fn header(conversation_id: String) -> AppendHeader {
    AppendHeader {
        conversation_id,
        client_msg_id: fresh_id(),
        ..AppendHeader::default()
    }
}

fn creation(
    owner_user_id: String,
    with: Option<String>,
    name: String,
    members: &[String],
    id: Option<String>,
) -> Result<CreateConversationRequest, Failure> {
    let kind = if with.is_some() {
        ConversationKind::Direct
    } else {
        ConversationKind::Group
    };
    let others = with.iter().chain(members).map(|text| member(text));
    Ok(CreateConversationRequest {
        client_msg_id: id.unwrap_or_else(fresh_id),
        owner_user_id,
        kind: kind.into(),
        name,
        members: others.collect::<Result<_, _>>()?,
    })
}

fn member(text: &str) -> Result<Member, Failure> {
    let (user, role) = text.split_once(':').unwrap_or((text, "member"));
    let role = match role {
        "member" => MemberRole::Member,
        "admin" => MemberRole::Admin,
        "owner" => MemberRole::Owner,
        _ => {
            return Err(Failure::usage(format!(
                "\"{role}\" is no role; there are member, admin and owner"
            )));
        }
    };
    Ok(Member {
        user_id: user.to_owned(),
        role: role.into(),
    })
}

async fn list(unary: &Unary, output: Output) -> Result<(), Failure> {
    let mut after_conversation_id = String::new();
    loop {
        let request = ListConversationsRequest {
            after_conversation_id: after_conversation_id.clone(),
            limit: PAGE,
        };
        let page = settle(unary.admin_conversations().list_conversations(request).await)?;
        for id in &page.conversation_ids {
            output.line(|| id.clone(), || json!({ "conversation_id": id }));
        }
        match page.conversation_ids.last() {
            Some(last) if page.has_more => last.clone_into(&mut after_conversation_id),
            _ => return Ok(()),
        }
    }
}

fn show(conversation: &Conversation, output: Output) {
    output.line(
        || {
            format!(
                "{}  {} {}  head #{}  {}",
                conversation.conversation_id,
                json::kind(conversation.kind()),
                text::safe(&conversation.name),
                conversation.head_seq,
                text::members(&conversation.members),
            )
        },
        || json::conversation(conversation),
    );
}
