//! Tokens and keys: who a caller is. What they may do is decided by `domain::authorization`.

use std::collections::BTreeSet;

use crate::domain::{DeviceId, UnixMillis, UserId};

/// What a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The subject: a user, or for a token with admin scopes the name of a service.
    pub user: UserId,
    /// The device the token is bound to; `None` for any device of the user.
    pub device: Option<DeviceId>,
    /// Admin scopes, such as `admin.users`; empty for a plain user.
    pub scopes: BTreeSet<String>,
    /// When it was issued; 0 when the token does not say.
    pub issued: UnixMillis,
    /// When it stops being good, leeway not included.
    pub expires: UnixMillis,
}
