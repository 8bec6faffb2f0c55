//! Answers with a `oneof outcome`, as results.

use stonechat_proto::{admin::v1 as admin, v1};

use crate::error::RequestError;

/// An answer whose outcome is either what was asked for or a refusal.
pub trait Answer {
    /// What was asked for.
    type Value;

    /// The outcome.
    ///
    /// # Errors
    /// The refusal; or, with an unknown outcome, an answer that says nothing.
    fn into_result(self) -> Result<Self::Value, RequestError>;
}

/// The outcome of a unary call.
///
/// # Errors
/// The refusal, in the answer or in the status.
pub fn settle<A: Answer>(response: Result<tonic::Response<A>, tonic::Status>) -> Result<A::Value, RequestError> {
    response?.into_inner().into_result()
}

macro_rules! answers {
    ($($package:ident :: $module:ident :: $response:ident => $arm:ident($value:ty);)*) => {
        $(
            impl Answer for $package::$response {
                type Value = $value;

                fn into_result(self) -> Result<$value, RequestError> {
                    match self.outcome {
                        Some($package::$module::Outcome::$arm(value)) => Ok(value),
                        Some($package::$module::Outcome::Refusal(refusal)) => Err(refusal.into()),
                        None => Err(RequestError::Unknown("the answer says nothing".to_owned())),
                    }
                }
            }
        )*
    };
}

answers! {
    v1::send_response::SendResponse => Appended(v1::Appended);
    v1::edit_response::EditResponse => Appended(v1::Appended);
    v1::redact_response::RedactResponse => Appended(v1::Appended);
    v1::react_response::ReactResponse => Appended(v1::Appended);
    v1::pin_response::PinResponse => Appended(v1::Appended);
    v1::get_history_response::GetHistoryResponse => Page(v1::HistoryPage);
    v1::mark_delivered_response::MarkDeliveredResponse => Markers(v1::Markers);
    v1::mark_read_response::MarkReadResponse => Markers(v1::Markers);
    v1::mark_unread_response::MarkUnreadResponse => Markers(v1::Markers);
    v1::get_receipts_response::GetReceiptsResponse => Receipts(v1::Receipts);
    v1::create_conversation_response::CreateConversationResponse => Conversation(v1::Conversation);
    v1::get_conversation_response::GetConversationResponse => Conversation(v1::Conversation);
    v1::list_conversations_response::ListConversationsResponse => List(v1::ConversationList);
    v1::set_members_response::SetMembersResponse => Appended(v1::Appended);
    v1::remove_member_response::RemoveMemberResponse => Appended(v1::Appended);
    v1::rename_conversation_response::RenameConversationResponse => Appended(v1::Appended);
    v1::update_conversation_settings_response::UpdateConversationSettingsResponse => Conversation(v1::ConversationSummary);
    v1::get_users_response::GetUsersResponse => Users(v1::UserList);
    v1::update_profile_response::UpdateProfileResponse => User(v1::User);
    v1::set_block_response::SetBlockResponse => Blocks(v1::BlockList);
    v1::list_blocks_response::ListBlocksResponse => Blocks(v1::BlockList);
    v1::list_devices_response::ListDevicesResponse => Devices(v1::DeviceList);
    v1::remove_device_response::RemoveDeviceResponse => Devices(v1::DeviceList);
    v1::set_status_response::SetStatusResponse => Presence(v1::Presence);
    v1::get_presence_response::GetPresenceResponse => Presences(v1::PresenceList);
    v1::set_typing_response::SetTypingResponse => Accepted(v1::TypingAccepted);
    admin::create_conversation_response::CreateConversationResponse => Conversation(v1::Conversation);
    admin::get_conversation_response::GetConversationResponse => Conversation(v1::Conversation);
    admin::list_conversations_response::ListConversationsResponse => Page(admin::ConversationPage);
    admin::set_members_response::SetMembersResponse => Appended(v1::Appended);
    admin::remove_member_response::RemoveMemberResponse => Appended(v1::Appended);
    admin::rename_conversation_response::RenameConversationResponse => Appended(v1::Appended);
    admin::send_response::SendResponse => Appended(v1::Appended);
    admin::edit_response::EditResponse => Appended(v1::Appended);
    admin::redact_response::RedactResponse => Appended(v1::Appended);
    admin::react_response::ReactResponse => Appended(v1::Appended);
    admin::get_history_response::GetHistoryResponse => Page(v1::HistoryPage);
    admin::mark_read_response::MarkReadResponse => Markers(v1::Markers);
    admin::issue_token_response::IssueTokenResponse => Token(admin::IssuedToken);
    admin::upsert_user_response::UpsertUserResponse => User(v1::User);
    admin::get_user_response::GetUserResponse => User(v1::User);
    admin::list_users_response::ListUsersResponse => Page(admin::UserPage);
    admin::revoke_tokens_response::RevokeTokensResponse => Revoked(admin::RevokedTokens);
    admin::set_user_deactivated_response::SetUserDeactivatedResponse => User(v1::User);
}
