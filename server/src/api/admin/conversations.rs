//! Conversations and members as the system.

use stonechat_proto::admin::v1;

use super::{Administration, acting};
use crate::api::CallContext;
use crate::api::operations::finish;
use crate::wire::conversation;

impl Administration {
    pub(in crate::api) async fn create_conversation(
        &self,
        context: &CallContext,
        request: v1::CreateConversationRequest,
    ) -> v1::CreateConversationResponse {
        let result = async {
            let request = conversation::admin_create(request)?;
            let info = self.conversations.create(&acting(context, None), request).await?;
            Ok(conversation::conversation(&info))
        };
        finish("admin.create_conversation", context, result.await)
    }

    pub(in crate::api) async fn get_conversation(
        &self,
        context: &CallContext,
        request: v1::GetConversationRequest,
    ) -> v1::GetConversationResponse {
        let result = async {
            let id = conversation::get(&request.conversation_id)?;
            let info = self.conversations.get(&acting(context, None), id).await?;
            Ok(conversation::conversation(&info))
        };
        finish("admin.get_conversation", context, result.await)
    }

    pub(in crate::api) async fn list_conversations(
        &self,
        context: &CallContext,
        request: v1::ListConversationsRequest,
    ) -> v1::ListConversationsResponse {
        let result = async {
            let (after, limit) = conversation::admin_list(&request)?;
            let (ids, has_more) = self.conversations.list_all(after, limit).await?;
            Ok(conversation::page(&ids, has_more))
        };
        finish("admin.list_conversations", context, result.await)
    }

    pub(in crate::api) async fn set_members(
        &self,
        context: &CallContext,
        request: v1::SetMembersRequest,
    ) -> v1::SetMembersResponse {
        let result = async {
            let request = conversation::set_members(request.header, &request.members)?;
            self.append(context, None, request).await
        };
        finish("admin.set_members", context, result.await)
    }

    pub(in crate::api) async fn remove_member(
        &self,
        context: &CallContext,
        request: v1::RemoveMemberRequest,
    ) -> v1::RemoveMemberResponse {
        let result = async {
            let request = conversation::remove_member(request.header, &request.user_id)?;
            self.append(context, None, request).await
        };
        finish("admin.remove_member", context, result.await)
    }

    pub(in crate::api) async fn rename_conversation(
        &self,
        context: &CallContext,
        request: v1::RenameConversationRequest,
    ) -> v1::RenameConversationResponse {
        let result = async {
            let request = conversation::rename(request.header, request.name)?;
            self.append(context, None, request).await
        };
        finish("admin.rename_conversation", context, result.await)
    }
}
