//! Tokens and keys: who a caller is. What they may do is decided by `domain::authorization`.

use std::collections::BTreeSet;

use crate::domain::{DeviceId, Reason, Refusal, UnixMillis, UserId};

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

/// Verifies and issues tokens. Until keys are configured it knows nobody.
pub struct Authenticator;

impl Authenticator {
    /// Who the bearer of this token is.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub async fn verify(&self, _token: &str) -> Result<Principal, Refusal> {
        Err(Refusal::not_done(Reason::Unauthenticated, "no keys are configured"))
    }

    /// A token of the server's own, and when it expires.
    ///
    /// # Errors
    /// No key of the server's own is configured.
    pub fn issue(
        &self,
        _user: &UserId,
        _device: Option<&DeviceId>,
        _ttl: std::time::Duration,
    ) -> Result<(String, UnixMillis), Refusal> {
        Err(Refusal::not_done(Reason::Protocol, "no keys are configured"))
    }
}
