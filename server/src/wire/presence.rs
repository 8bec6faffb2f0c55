//! Presence and typing.

use stonechat_proto::v1;

use super::fields;
use crate::bus::{Status, UserPresence};
use crate::domain::limits::WATCHED_USERS_MAX;
use crate::domain::{ConversationId, Refusal, UserId};

type Result<T> = std::result::Result<T, Refusal>;

/// Checks a status.
///
/// # Errors
/// Names the field.
pub fn set_status(request: v1::SetStatusRequest) -> Result<Status> {
    fields::operation("set_status", || {
        Ok(match fields::known("status", request.status)? {
            v1::Status::Unspecified | v1::Status::Online => Status::Online,
            v1::Status::Away => Status::Away,
            v1::Status::Busy => Status::Busy,
            v1::Status::Offline => Status::Offline,
        })
    })
}

/// Checks whose presence is asked for.
///
/// # Errors
/// Names the field.
pub fn get_presence(request: &v1::GetPresenceRequest) -> Result<Vec<UserId>> {
    fields::operation("get_presence", || {
        fields::users("user_ids", &request.user_ids, 1, WATCHED_USERS_MAX)
    })
}

/// Checks whom to watch, and whether to forget all others first.
///
/// # Errors
/// Names the field.
pub fn watch(request: &v1::WatchPresence) -> Result<(Vec<UserId>, bool)> {
    fields::operation("watch_presence", || {
        let users = fields::users("user_ids", &request.user_ids, 0, WATCHED_USERS_MAX)?;
        Ok((users, request.replace))
    })
}

/// Checks whom to watch no longer; empty for all.
///
/// # Errors
/// Names the field.
pub fn unwatch(request: &v1::UnwatchPresence) -> Result<Vec<UserId>> {
    fields::operation("unwatch_presence", || {
        fields::users("user_ids", &request.user_ids, 0, WATCHED_USERS_MAX)
    })
}

/// Checks typing: where, and whether it stopped.
///
/// # Errors
/// Names the field.
pub fn set_typing(request: &v1::SetTypingRequest) -> Result<(ConversationId, bool)> {
    fields::operation("typing", || {
        let conversation = fields::conversation("conversation_id", &request.conversation_id)?;
        Ok((conversation, request.stopped))
    })
}

/// Presence of one user.
#[must_use]
pub fn presence(presence: &UserPresence) -> v1::Presence {
    let status = match presence.status {
        Status::Offline => v1::Status::Offline,
        Status::Away => v1::Status::Away,
        Status::Busy => v1::Status::Busy,
        Status::Online => v1::Status::Online,
    };
    v1::Presence {
        user_id: presence.user.to_string(),
        status: status.into(),
        last_active_ms: fields::millis(presence.last_active),
    }
}

/// Presence of several users, in order.
#[must_use]
pub fn presences(presences: &[UserPresence]) -> v1::PresenceList {
    v1::PresenceList {
        presences: presences.iter().map(presence).collect(),
    }
}

/// The event that somebody types, or stopped.
#[must_use]
pub fn typing(conversation: ConversationId, user: &UserId, stopped: bool) -> v1::Typing {
    v1::Typing {
        conversation_id: conversation.to_string(),
        user_id: user.to_string(),
        stopped,
    }
}
