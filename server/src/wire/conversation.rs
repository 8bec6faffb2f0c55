//! Conversations, their members, and the caller's settings of them.

use bytes::Bytes;
use stonechat_proto::{admin, v1};

use super::entry::{kind_to_proto, member_to_proto};
use super::message::append;
use super::{content, fields, summary, text};
use crate::conversation::{AppendRequest, ConversationInfo, CreateRequest};
use crate::domain::limits::{
    ADMIN_PAGE_DEFAULT, ADMIN_PAGE_MAX, GROUP_MEMBERS_MAX, LIST_PAGE_DEFAULT, LIST_PAGE_MAX, MEMBERS_PER_CHANGE_MAX,
};
use crate::domain::{Change, ConversationId, Kind, Member, Refusal, Role, UserId};
use crate::storage::SettingsPatch;

type Result<T> = std::result::Result<T, Refusal>;

/// Checks a creation by its owner.
///
/// # Errors
/// Names the field.
pub fn create(owner: &UserId, request: v1::CreateConversationRequest) -> Result<CreateRequest> {
    fields::operation("create_conversation", || {
        let v1::CreateConversationRequest {
            client_msg_id,
            kind,
            name,
            members,
        } = request;
        parse_create(owner.clone(), &client_msg_id, kind, name, &members)
    })
}

/// Checks a creation in an owner's name.
///
/// # Errors
/// Names the field.
pub fn admin_create(request: admin::v1::CreateConversationRequest) -> Result<CreateRequest> {
    fields::operation("create_conversation", || {
        let owner = fields::user("owner_user_id", &request.owner_user_id)?;
        parse_create(
            owner,
            &request.client_msg_id,
            request.kind,
            request.name,
            &request.members,
        )
    })
}

fn parse_create(owner: UserId, id: &str, kind: i32, name: String, members: &[v1::Member]) -> Result<CreateRequest> {
    let kind = content::parse_kind(kind)?;
    Ok(CreateRequest {
        client_msg_id: fields::client_msg_id("client_msg_id", id)?,
        kind,
        name: name_for(kind, name)?,
        members: others(&owner, kind, members)?,
        owner,
        created: None,
    })
}

fn name_for(kind: Kind, name: String) -> Result<String> {
    if kind == Kind::Direct && !name.is_empty() {
        return Err(Refusal::invalid("name", "a 1:1 has no name"));
    }
    text::name("name", name)
}

/// The members besides the owner, who may be listed or not.
fn others(owner: &UserId, kind: Kind, members: &[v1::Member]) -> Result<Vec<Member>> {
    // One more than a group can hold goes on, so that the rules answer with the limit of the group, not of a list.
    let mut others = content::parse_members(members, 0, GROUP_MEMBERS_MAX + 1)?;
    others.retain(|member| member.user != *owner);
    if kind == Kind::Group {
        return Ok(others);
    }
    if others.len() != 1 {
        return Err(Refusal::invalid("members", "a 1:1 has exactly one other member"));
    }
    if others.iter().any(|member| member.role != Role::Member) {
        return Err(Refusal::invalid("members.role", "a 1:1 has no roles"));
    }
    Ok(others)
}

/// Checks which conversation to read.
///
/// # Errors
/// Names the field.
pub fn get(conversation_id: &str) -> Result<ConversationId> {
    fields::operation("get_conversation", || {
        fields::conversation("conversation_id", conversation_id)
    })
}

/// Checks a list request: cursor and rows of the page.
///
/// # Errors
/// Names the field.
pub fn list(request: v1::ListConversationsRequest) -> Result<(Bytes, usize)> {
    fields::operation("sync", || {
        let limit = fields::page(request.limit, LIST_PAGE_DEFAULT, LIST_PAGE_MAX)?;
        Ok((request.cursor, limit))
    })
}

/// Checks an integrator's list request: after which id, and rows of the page.
///
/// # Errors
/// Names the field.
pub fn admin_list(request: &admin::v1::ListConversationsRequest) -> Result<(Option<ConversationId>, usize)> {
    fields::operation("list_conversations", || {
        let after = fields::optional(&request.after_conversation_id, |text| {
            fields::conversation("after_conversation_id", text)
        })?;
        Ok((after, fields::page(request.limit, ADMIN_PAGE_DEFAULT, ADMIN_PAGE_MAX)?))
    })
}

/// Checks a change of members.
///
/// # Errors
/// Names the field.
pub fn set_members(header: Option<v1::AppendHeader>, members: &[v1::Member]) -> Result<AppendRequest> {
    fields::operation("set_members", || {
        let header = fields::header(header)?;
        let members = content::parse_members(members, 1, MEMBERS_PER_CHANGE_MAX)?;
        Ok(append(header, Change::SetMembers(members), None))
    })
}

/// Checks a removal.
///
/// # Errors
/// Names the field.
pub fn remove_member(header: Option<v1::AppendHeader>, user_id: &str) -> Result<AppendRequest> {
    fields::operation("remove_member", || {
        let header = fields::header(header)?;
        let user = fields::user("user_id", user_id)?;
        Ok(append(header, Change::RemoveMember(user), None))
    })
}

/// Checks a new name.
///
/// # Errors
/// Names the field.
pub fn rename(header: Option<v1::AppendHeader>, name: String) -> Result<AppendRequest> {
    fields::operation("rename_conversation", || {
        let header = fields::header(header)?;
        let name = text::required_name("name", name)?;
        Ok(append(header, Change::Rename(name), None))
    })
}

/// Checks a change of settings.
///
/// # Errors
/// Names the field.
pub fn settings(request: &v1::UpdateConversationSettingsRequest) -> Result<(ConversationId, SettingsPatch)> {
    fields::operation("update_conversation_settings", || {
        let muted_until = request
            .muted_until_ms
            .map(|millis| fields::optional_time("muted_until_ms", millis));
        let patch = SettingsPatch {
            muted_until: muted_until.transpose()?,
            archived: request.archived,
            unread_from: None,
        };
        Ok((
            fields::conversation("conversation_id", &request.conversation_id)?,
            patch,
        ))
    })
}

/// A conversation as its members see it.
#[must_use]
pub fn conversation(info: &ConversationInfo) -> v1::Conversation {
    v1::Conversation {
        conversation_id: info.id.to_string(),
        kind: kind_to_proto(info.kind).into(),
        name: info.name.clone(),
        members: info.members.iter().map(member_to_proto).collect(),
        head_seq: info.head.0,
        created_ms: info.created.0,
        mine: info.mine.as_ref().map(summary::summary),
        pinned_seqs: info.pins.iter().map(|seq| seq.0).collect(),
    }
}

/// A page of conversation ids.
#[must_use]
pub fn page(ids: &[ConversationId], has_more: bool) -> admin::v1::ConversationPage {
    admin::v1::ConversationPage {
        conversation_ids: ids.iter().map(ConversationId::to_string).collect(),
        has_more,
    }
}
