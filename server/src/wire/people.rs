//! Users, devices, blocks and tokens.

use stonechat_proto::{admin, v1};

use super::{fields, text};
use crate::domain::limits::{
    ADMIN_PAGE_DEFAULT, ADMIN_PAGE_MAX, TOKEN_SECONDS_DEFAULT, TOKEN_SECONDS_MAX, USERS_PER_REQUEST_MAX,
};
use crate::domain::{DeviceId, Refusal, UserId};
use crate::storage::{DeviceRecord, UserRecord};

type Result<T> = std::result::Result<T, Refusal>;

/// A token to issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// For whom.
    pub user: UserId,
    /// The device it is bound to.
    pub device: Option<DeviceId>,
    /// How long it is good.
    pub ttl_seconds: u32,
}

/// Checks which users to read.
///
/// # Errors
/// Names the field.
pub fn get_users(request: &v1::GetUsersRequest) -> Result<Vec<UserId>> {
    fields::operation("get_users", || {
        fields::users("user_ids", &request.user_ids, 1, USERS_PER_REQUEST_MAX)
    })
}

/// Checks a new name of the caller.
///
/// # Errors
/// Names the field.
pub fn update_profile(request: v1::UpdateProfileRequest) -> Result<String> {
    fields::operation("update_profile", || text::name("display_name", request.display_name))
}

/// Checks whom to block or unblock.
///
/// # Errors
/// Names the field.
pub fn set_block(request: &v1::SetBlockRequest) -> Result<(UserId, bool)> {
    fields::operation("set_block", || {
        Ok((fields::user("user_id", &request.user_id)?, request.blocked))
    })
}

/// Checks which device to remove.
///
/// # Errors
/// Names the field.
pub fn remove_device(request: &v1::RemoveDeviceRequest) -> Result<DeviceId> {
    fields::operation("remove_device", || fields::device("device_id", &request.device_id))
}

/// Checks a user to create or change.
///
/// # Errors
/// Names the field.
pub fn upsert_user(request: admin::v1::UpsertUserRequest) -> Result<(UserId, String)> {
    fields::operation("upsert_user", || {
        let user = fields::user("user_id", &request.user_id)?;
        Ok((user, text::name("display_name", request.display_name)?))
    })
}

/// Checks which user to read.
///
/// # Errors
/// Names the field.
pub fn get_user(request: &admin::v1::GetUserRequest) -> Result<UserId> {
    fields::operation("get_user", || fields::user("user_id", &request.user_id))
}

/// Checks a list request: after which user, and rows of the page.
///
/// # Errors
/// Names the field.
pub fn list_users(request: &admin::v1::ListUsersRequest) -> Result<(Option<UserId>, usize)> {
    fields::operation("list_users", || {
        let after = fields::optional(&request.after_user_id, |text| fields::user("after_user_id", text))?;
        Ok((after, fields::page(request.limit, ADMIN_PAGE_DEFAULT, ADMIN_PAGE_MAX)?))
    })
}

/// Checks whom to deactivate or bring back.
///
/// # Errors
/// Names the field.
pub fn set_deactivated(request: &admin::v1::SetUserDeactivatedRequest) -> Result<(UserId, bool)> {
    fields::operation("set_user_deactivated", || {
        Ok((fields::user("user_id", &request.user_id)?, request.deactivated))
    })
}

/// Checks whose tokens to void, and of which device.
///
/// # Errors
/// Names the field.
pub fn revoke_tokens(request: &admin::v1::RevokeTokensRequest) -> Result<(UserId, Option<DeviceId>)> {
    fields::operation("revoke_tokens", || {
        let user = fields::user("user_id", &request.user_id)?;
        let device = fields::optional(&request.device_id, |text| fields::device("device_id", text))?;
        Ok((user, device))
    })
}

/// Checks a token to issue.
///
/// # Errors
/// Names the field.
pub fn issue_token(request: &admin::v1::IssueTokenRequest) -> Result<TokenRequest> {
    fields::operation("issue_token", || {
        let asked = request.ttl_seconds;
        let ttl_seconds = if asked == 0 { TOKEN_SECONDS_DEFAULT } else { asked };
        fields::between("ttl_seconds", ttl_seconds as usize, 1, TOKEN_SECONDS_MAX as usize)?;
        Ok(TokenRequest {
            user: fields::user("user_id", &request.user_id)?,
            device: fields::optional(&request.device_id, |text| fields::device("device_id", text))?,
            ttl_seconds,
        })
    })
}

/// A user as others see them.
#[must_use]
pub fn user(record: &UserRecord) -> v1::User {
    v1::User {
        user_id: record.id.to_string(),
        display_name: record.display_name.clone(),
        deactivated: record.deactivated,
    }
}

/// Users, by id.
#[must_use]
pub fn users(records: &[UserRecord]) -> v1::UserList {
    v1::UserList {
        users: records.iter().map(user).collect(),
    }
}

/// A page of users.
#[must_use]
pub fn page(records: &[UserRecord], has_more: bool) -> admin::v1::UserPage {
    admin::v1::UserPage {
        users: records.iter().map(user).collect(),
        has_more,
    }
}

/// Whom a user has blocked.
#[must_use]
pub fn blocks(users: &[UserId]) -> v1::BlockList {
    v1::BlockList {
        user_ids: users.iter().map(UserId::to_string).collect(),
    }
}

/// A user's devices.
#[must_use]
pub fn devices(records: &[DeviceRecord]) -> v1::DeviceList {
    v1::DeviceList {
        devices: records.iter().map(device).collect(),
    }
}

fn device(record: &DeviceRecord) -> v1::Device {
    v1::Device {
        device_id: record.id.to_string(),
        created_ms: record.created.0,
        last_seen_ms: record.last_seen.0,
    }
}
