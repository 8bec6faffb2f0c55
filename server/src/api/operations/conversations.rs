//! Conversations, their members, and the caller's view of them.

use stonechat_proto::v1;

use super::{Operations, finish};
use crate::api::CallContext;
use crate::api::access::user_of;
use crate::wire::{conversation, summary};

impl Operations {
    /// Creates a group, or finds or creates a 1:1.
    pub async fn create_conversation(
        &self,
        context: &CallContext,
        request: v1::CreateConversationRequest,
    ) -> v1::CreateConversationResponse {
        let result = async {
            let request = conversation::create(user_of(&context.principal)?, request)?;
            let info = self.conversations.create(&context.caller()?, request).await?;
            Ok(conversation::conversation(&info))
        };
        finish("create_conversation", context, result.await)
    }

    /// Reads one conversation.
    pub async fn get_conversation(
        &self,
        context: &CallContext,
        request: v1::GetConversationRequest,
    ) -> v1::GetConversationResponse {
        let result = async {
            let id = conversation::get(&request.conversation_id)?;
            let info = self.conversations.get(&context.caller()?, id).await?;
            Ok(conversation::conversation(&info))
        };
        finish("get_conversation", context, result.await)
    }

    /// Lists the caller's conversations that changed.
    pub async fn list_conversations(
        &self,
        context: &CallContext,
        request: v1::ListConversationsRequest,
    ) -> v1::ListConversationsResponse {
        let result = async {
            let (cursor, limit) = conversation::list(request)?;
            let page = self.conversations.list(&context.caller()?, &cursor, limit).await?;
            Ok(summary::list(page))
        };
        finish("sync", context, result.await)
    }

    /// Adds members or changes roles.
    pub async fn set_members(&self, context: &CallContext, request: v1::SetMembersRequest) -> v1::SetMembersResponse {
        let result = async {
            let request = conversation::set_members(request.header, &request.members)?;
            self.append(context, request).await
        };
        finish("set_members", context, result.await)
    }

    /// Removes a member, or leaves.
    pub async fn remove_member(
        &self,
        context: &CallContext,
        request: v1::RemoveMemberRequest,
    ) -> v1::RemoveMemberResponse {
        let result = async {
            let request = conversation::remove_member(request.header, &request.user_id)?;
            self.append(context, request).await
        };
        finish("remove_member", context, result.await)
    }

    /// Renames a group.
    pub async fn rename_conversation(
        &self,
        context: &CallContext,
        request: v1::RenameConversationRequest,
    ) -> v1::RenameConversationResponse {
        let result = async {
            let request = conversation::rename(request.header, request.name)?;
            self.append(context, request).await
        };
        finish("rename_conversation", context, result.await)
    }

    /// Mutes or archives a conversation.
    pub async fn update_conversation_settings(
        &self,
        context: &CallContext,
        request: v1::UpdateConversationSettingsRequest,
    ) -> v1::UpdateConversationSettingsResponse {
        let result = async {
            let (id, patch) = conversation::settings(&request)?;
            let row = self
                .conversations
                .update_settings(&context.caller()?, id, patch)
                .await?;
            Ok(summary::summary(&row))
        };
        finish("update_conversation_settings", context, result.await)
    }
}
