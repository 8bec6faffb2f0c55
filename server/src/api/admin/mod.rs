//! The admin services: the same rules, as the system or on behalf of a user. The guard has checked the scope.

mod conversations;
mod messages;
mod users;

use std::sync::Arc;

use stonechat_proto::admin::v1;
use tonic::{Request, Response, Status};

use super::CallContext;
use super::public::{admitted, reply};
use crate::auth::Authenticator;
use crate::conversation::{AppendRequest, Caller, Conversations, People};
use crate::domain::authorization::Actor;
use crate::domain::{Refusal, UserId};
use crate::wire;

/// Every admin service.
#[derive(Clone)]
pub(super) struct Administration {
    conversations: Conversations,
    people: People,
    authenticator: Arc<Authenticator>,
}

impl Administration {
    pub(super) fn new(conversations: Conversations, people: People, authenticator: Arc<Authenticator>) -> Self {
        Self {
            conversations,
            people,
            authenticator,
        }
    }

    async fn append(
        &self,
        context: &CallContext,
        on_behalf_of: Option<UserId>,
        request: AppendRequest,
    ) -> Result<stonechat_proto::v1::Appended, Refusal> {
        let caller = acting(context, on_behalf_of);
        let appended = self.conversations.append(&caller, request).await?;
        Ok(wire::message::appended(&appended))
    }
}

/// The integrator as the system, or in a user's name, whose rights then bind them. Neither has a device.
fn acting(context: &CallContext, on_behalf_of: Option<UserId>) -> Caller {
    Caller {
        actor: on_behalf_of.map_or(Actor::System, Actor::User),
        device: None,
        correlation: context.correlation,
    }
}

macro_rules! service {
    ($module:ident::$service:ident { $($rpc:ident: $request:ident => $response:ident;)* }) => {
        #[tonic::async_trait]
        impl v1::$module::$service for Administration {
            $(async fn $rpc(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                let (context, request) = admitted(request)?;
                reply(self.$rpc(&context, request).await)
            })*
        }
    };
}

service!(user_admin_service_server::UserAdminService {
    upsert_user: UpsertUserRequest => UpsertUserResponse;
    get_user: GetUserRequest => GetUserResponse;
    list_users: ListUsersRequest => ListUsersResponse;
    set_user_deactivated: SetUserDeactivatedRequest => SetUserDeactivatedResponse;
    revoke_tokens: RevokeTokensRequest => RevokeTokensResponse;
});
service!(token_admin_service_server::TokenAdminService {
    issue_token: IssueTokenRequest => IssueTokenResponse;
});
service!(conversation_admin_service_server::ConversationAdminService {
    create_conversation: CreateConversationRequest => CreateConversationResponse;
    get_conversation: GetConversationRequest => GetConversationResponse;
    list_conversations: ListConversationsRequest => ListConversationsResponse;
    set_members: SetMembersRequest => SetMembersResponse;
    remove_member: RemoveMemberRequest => RemoveMemberResponse;
    rename_conversation: RenameConversationRequest => RenameConversationResponse;
});
service!(message_admin_service_server::MessageAdminService {
    send: SendRequest => SendResponse;
    edit: EditRequest => EditResponse;
    redact: RedactRequest => RedactResponse;
    react: ReactRequest => ReactResponse;
    get_history: GetHistoryRequest => GetHistoryResponse;
    mark_read: MarkReadRequest => MarkReadResponse;
});
