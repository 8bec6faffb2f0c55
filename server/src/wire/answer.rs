//! The shape all answers share: a value, or a refusal.

use stonechat_proto::{admin, v1};

use super::refusal;
use crate::domain::Refusal;

/// An answer message with `oneof outcome { value, refusal }`.
pub trait Answer: Sized {
    /// What it holds when the request was accepted.
    type Value;

    /// The request was accepted.
    fn done(value: Self::Value) -> Self;
    /// It was not.
    fn refused(refusal: v1::Refusal) -> Self;
    /// The refusal, when it is one.
    fn refusal(&self) -> Option<&v1::Refusal>;
}

/// Builds the answer of a result.
pub fn answer<A: Answer>(result: Result<A::Value, Refusal>) -> A {
    match result {
        Ok(value) => A::done(value),
        Err(refused) => A::refused(refusal::to_proto(&refused)),
    }
}

macro_rules! answers {
    ($($package:path { $($response:ident, $module:ident: $arm:ident($value:ty);)* })*) => {$($(
        const _: () = {
            use $package as package;

            impl Answer for package::$response {
                type Value = $value;

                fn done(value: Self::Value) -> Self {
                    Self { outcome: Some(package::$module::Outcome::$arm(value)) }
                }

                fn refused(refusal: v1::Refusal) -> Self {
                    Self { outcome: Some(package::$module::Outcome::Refusal(refusal)) }
                }

                fn refusal(&self) -> Option<&v1::Refusal> {
                    match &self.outcome {
                        Some(package::$module::Outcome::Refusal(refusal)) => Some(refusal),
                        _ => None,
                    }
                }
            }
        };
    )*)*};
}

answers! {
    stonechat_proto::v1 {
        SendResponse, send_response: Appended(v1::Appended);
        EditResponse, edit_response: Appended(v1::Appended);
        RedactResponse, redact_response: Appended(v1::Appended);
        ReactResponse, react_response: Appended(v1::Appended);
        PinResponse, pin_response: Appended(v1::Appended);
        GetHistoryResponse, get_history_response: Page(v1::HistoryPage);
        MarkDeliveredResponse, mark_delivered_response: Markers(v1::Markers);
        MarkReadResponse, mark_read_response: Markers(v1::Markers);
        MarkUnreadResponse, mark_unread_response: Markers(v1::Markers);
        GetReceiptsResponse, get_receipts_response: Receipts(v1::Receipts);
        CreateConversationResponse, create_conversation_response: Conversation(v1::Conversation);
        GetConversationResponse, get_conversation_response: Conversation(v1::Conversation);
        ListConversationsResponse, list_conversations_response: List(v1::ConversationList);
        SetMembersResponse, set_members_response: Appended(v1::Appended);
        RemoveMemberResponse, remove_member_response: Appended(v1::Appended);
        RenameConversationResponse, rename_conversation_response: Appended(v1::Appended);
        UpdateConversationSettingsResponse, update_conversation_settings_response: Conversation(v1::ConversationSummary);
        GetUsersResponse, get_users_response: Users(v1::UserList);
        UpdateProfileResponse, update_profile_response: User(v1::User);
        SetBlockResponse, set_block_response: Blocks(v1::BlockList);
        ListBlocksResponse, list_blocks_response: Blocks(v1::BlockList);
        ListDevicesResponse, list_devices_response: Devices(v1::DeviceList);
        RemoveDeviceResponse, remove_device_response: Devices(v1::DeviceList);
        SetStatusResponse, set_status_response: Presence(v1::Presence);
        GetPresenceResponse, get_presence_response: Presences(v1::PresenceList);
        SetTypingResponse, set_typing_response: Accepted(v1::TypingAccepted);
    }
    stonechat_proto::admin::v1 {
        CreateConversationResponse, create_conversation_response: Conversation(v1::Conversation);
        GetConversationResponse, get_conversation_response: Conversation(v1::Conversation);
        ListConversationsResponse, list_conversations_response: Page(admin::v1::ConversationPage);
        SetMembersResponse, set_members_response: Appended(v1::Appended);
        RemoveMemberResponse, remove_member_response: Appended(v1::Appended);
        RenameConversationResponse, rename_conversation_response: Appended(v1::Appended);
        SendResponse, send_response: Appended(v1::Appended);
        EditResponse, edit_response: Appended(v1::Appended);
        RedactResponse, redact_response: Appended(v1::Appended);
        ReactResponse, react_response: Appended(v1::Appended);
        GetHistoryResponse, get_history_response: Page(v1::HistoryPage);
        MarkReadResponse, mark_read_response: Markers(v1::Markers);
        UpsertUserResponse, upsert_user_response: User(v1::User);
        GetUserResponse, get_user_response: User(v1::User);
        ListUsersResponse, list_users_response: Page(admin::v1::UserPage);
        SetUserDeactivatedResponse, set_user_deactivated_response: User(v1::User);
        RevokeTokensResponse, revoke_tokens_response: Revoked(admin::v1::RevokedTokens);
        IssueTokenResponse, issue_token_response: Token(admin::v1::IssuedToken);
    }
}
