//! Presence and typing.

use stonechat_proto::v1;

use super::{Operations, finish};
use crate::api::CallContext;
use crate::api::access::user_of;
use crate::wire::presence;

impl Operations {
    /// Sets the caller's status, for all their sessions.
    pub async fn set_status(&self, context: &CallContext, request: v1::SetStatusRequest) -> v1::SetStatusResponse {
        let result = async {
            let status = presence::set_status(request)?;
            let seen = self.presence.set_status(user_of(&context.principal)?, status).await;
            Ok(presence::presence(&seen))
        };
        finish("set_status", context, result.await)
    }

    /// Reads the presence of users.
    pub async fn get_presence(
        &self,
        context: &CallContext,
        request: v1::GetPresenceRequest,
    ) -> v1::GetPresenceResponse {
        let result = async {
            let users = presence::get_presence(&request)?;
            let seen = self.presence.visible(user_of(&context.principal)?, &users).await?;
            Ok(presence::presences(&seen))
        };
        finish("get_presence", context, result.await)
    }

    /// Says that the caller is typing.
    pub async fn set_typing(&self, context: &CallContext, request: v1::SetTypingRequest) -> v1::SetTypingResponse {
        let result = async {
            let (id, stopped) = presence::set_typing(&request)?;
            self.conversations.set_typing(&context.caller()?, id, stopped).await?;
            Ok(v1::TypingAccepted {})
        };
        finish("typing", context, result.await)
    }
}
