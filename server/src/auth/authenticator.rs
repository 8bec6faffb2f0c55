//! From a token to who sent it, and from a user to a token.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Host;

use super::jwt::{self, Claims, Expected, Flaw, VerifyingKey};
use super::{Jwks, Principal, Secret};
use crate::domain::{DeviceId, Reason, Refusal, UnixMillis, UserId};
use crate::storage::Directory;
use crate::telemetry::Redacted;
use crate::telemetry::meters::{AuthFailure, meters};

/// Bytes of a token: it must fit, with the other headers, into the 8 KiB that a request's header list may have.
pub const TOKEN_BYTES_MAX: usize = 7 * 1024;
/// Longest life of a token issued here.
pub const TOKEN_TTL_MAX: Duration = Duration::from_hours(30 * 24);
/// What admin scopes begin with; others, such as a provider's `openid`, mean nothing here.
const ADMIN_SCOPE_PREFIX: &str = "admin.";
/// When to try again while the directory does not answer: it gives up a lock after 2 s.
const RETRY_AFTER_MS: u64 = 1_000;

/// What tokens must say.
#[derive(Debug, Clone)]
pub struct AuthOptions {
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// Refuse tokens without admin scopes of users that the directory does not know. Off where users are created at
    /// their first hello.
    pub require_known_users: bool,
}

/// A token issued here.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The bearer token.
    pub token: Redacted<String>,
    /// When it stops being good.
    pub expires: UnixMillis,
}

enum Keys {
    Secret { secret: Secret, key: Box<VerifyingKey> },
    Set(Jwks),
}

/// Checks tokens, and issues them when the key is the server's own.
pub struct Authenticator {
    keys: Keys,
    expected: Expected,
    require_known_users: bool,
    directory: Arc<dyn Directory>,
    host: Host,
}

impl Authenticator {
    /// Tokens are issued here, signed with the server's secret (HS256).
    #[must_use]
    pub fn with_secret(secret: Secret, options: AuthOptions, directory: Arc<dyn Directory>, host: Host) -> Self {
        let key = Box::new(VerifyingKey::of_secret(&secret));
        Self::new(Keys::Secret { secret, key }, options, directory, host)
    }

    /// Tokens are issued by an identity provider, signed with a key of its set.
    #[must_use]
    pub fn with_key_set(keys: Jwks, options: AuthOptions, directory: Arc<dyn Directory>, host: Host) -> Self {
        Self::new(Keys::Set(keys), options, directory, host)
    }

    fn new(keys: Keys, options: AuthOptions, directory: Arc<dyn Directory>, host: Host) -> Self {
        Self {
            keys,
            expected: Expected {
                issuer: options.issuer,
                audience: options.audience,
            },
            require_known_users: options.require_known_users,
            directory,
            host,
        }
    }

    /// Who sent this token (I11: what is not proved is refused).
    ///
    /// # Errors
    /// `Unauthenticated` when it proves nothing, `Unavailable` when the directory cannot say whether it was revoked, no
    /// key set could be fetched for a day, or too many wait for one.
    pub async fn verify(&self, token: &str) -> Result<Principal, Refusal> {
        let principal = self.prove(token).await?;
        self.check_again(&principal, principal.device.as_ref()).await?;
        Ok(principal)
    }

    /// Who sent this token, by itself: no store is asked, so it counts only once [`Self::check_again`] has looked whether it
    /// was revoked.
    ///
    /// # Errors
    /// `Unauthenticated` when it proves nothing, `Unavailable` when there is no key to check it with.
    pub async fn prove(&self, token: &str) -> Result<Principal, Refusal> {
        let claims = self.signed_claims(token).await?;
        let now = self.now();
        let checked = claims.check_times(now).and_then(|()| principal(&claims, now));
        checked.map_err(unauthenticated)
    }

    /// Whether a verified token counts for a device that it is not bound to, but that its bearer says they are on: a device
    /// that was removed does not come back with a token of before.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn check_device(&self, principal: &Principal, device: &DeviceId) -> Result<(), Refusal> {
        match principal.device {
            Some(_) => Ok(()),
            None => self.check_removed(principal, device).await,
        }
    }

    /// Whether a token that was proved still counts, on this device: it may have been revoked since.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn check_again(&self, principal: &Principal, device: Option<&DeviceId>) -> Result<(), Refusal> {
        self.check_user(principal).await?;
        match device {
            Some(device) => self.check_removed(principal, device).await,
            None => Ok(()),
        }
    }

    /// A token for a user, good for `ttl` from now.
    ///
    /// # Errors
    /// `Forbidden` when an identity provider issues the tokens, `Invalid` when the ttl is 0 or over 30 days.
    pub fn issue(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        scopes: &BTreeSet<String>,
        ttl: Duration,
    ) -> Result<IssuedToken, Refusal> {
        let Keys::Secret { secret, .. } = &self.keys else {
            return Err(Refusal::forbidden(
                "no token issued: the identity provider of the key set does that",
            ));
        };
        let now = self.now();
        let expires = expiry(now, ttl)?;
        let mut claims = Claims::new(user.to_string(), now, expires);
        claims.dev = device.map(ToString::to_string);
        claims.scope = scope_claim(scopes)?;
        let token =
            jwt::sign(&claims, secret, &self.expected).map_err(|flaw| Refusal::not_done(Reason::Internal, flaw))?;
        Ok(IssuedToken {
            token: Redacted::new(token),
            expires,
        })
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.host.clock.unix_ms())
    }

    async fn signed_claims(&self, token: &str) -> Result<Arc<Claims>, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(unauthenticated("the token is longer than 7 KiB"));
        }
        let id = jwt::key_id(token).map_err(unauthenticated)?;
        let verify = |key: &VerifyingKey| jwt::verify(token, key, &self.expected);
        let claims = match &self.keys {
            Keys::Secret { key, .. } => verify(key),
            Keys::Set(keys) => {
                let verified = keys.with_key(id.as_deref(), verify).await;
                let verified = verified.map_err(unavailable)?;
                verified.unwrap_or(Err("the token is signed with an unknown key"))
            }
        };
        claims.map_err(unauthenticated)
    }

    async fn check_user(&self, principal: &Principal) -> Result<(), Refusal> {
        let ids = std::slice::from_ref(&principal.user);
        let found = self.directory.users(ids).await.map_err(unavailable)?;
        match found.first() {
            Some(user) if user.deactivated => Err(withdrawn("the user is deactivated")),
            Some(user) if user.tokens_revoked.is_some_and(|revoked| principal.issued <= revoked) => {
                Err(withdrawn("the user's tokens were revoked after it was issued"))
            }
            None if self.require_known_users && principal.scopes.is_empty() => Err(withdrawn("the user is not known")),
            _ => Ok(()),
        }
    }

    async fn check_removed(&self, principal: &Principal, device: &DeviceId) -> Result<(), Refusal> {
        let removed = self.directory.device_removed_at(&principal.user, device).await;
        match removed.map_err(unavailable)? {
            Some(removed) if principal.issued <= removed => {
                Err(withdrawn("the device was removed after the token was issued"))
            }
            _ => Ok(()),
        }
    }
}

/// How a flaw of the token itself is counted.
pub(super) fn cause(why: &str) -> AuthFailure {
    match why {
        "the token's signature is wrong" | "the token is not signed as its key demands" => AuthFailure::Signature,
        "the token is signed with an unknown key" => AuthFailure::UnknownKey,
        "the token has expired" | "the token is not good yet" => AuthFailure::Time,
        "the token is of another issuer"
        | "the token is for another audience"
        | "the token lacks exp, aud, iss or sub" => AuthFailure::Claims,
        _ => AuthFailure::Malformed,
    }
}

fn unauthenticated(why: Flaw) -> Refusal {
    meters().auth_failures.inc(cause(why));
    Refusal::not_done(Reason::Unauthenticated, why)
}

/// There is no flaw in the token, but its user or device is no longer let in.
fn withdrawn(why: &'static str) -> Refusal {
    meters().auth_failures.inc(AuthFailure::Revoked);
    Refusal::not_done(Reason::Unauthenticated, why)
}

fn unavailable(error: impl Display) -> Refusal {
    meters().auth_failures.inc(AuthFailure::Unavailable);
    let reason = Reason::Unavailable {
        retry_after_ms: RETRY_AFTER_MS,
    };
    Refusal::not_done(reason, format!("the token was not checked: {error}"))
}

fn principal(claims: &Claims, now: UnixMillis) -> Result<Principal, Flaw> {
    let user = UserId::parse(&claims.sub).map_err(|_| "the token's sub is not a user id")?;
    let device = claims.dev.as_deref().map(DeviceId::parse).transpose();
    let scopes = claims.scope.as_deref().unwrap_or_default().split(' ');
    Ok(Principal {
        user,
        device: device.map_err(|_| "the token's dev is not a device id")?,
        scopes: scopes
            .filter(|scope| scope.starts_with(ADMIN_SCOPE_PREFIX))
            .map(str::to_owned)
            .collect(),
        issued: claims.issued(now),
        expires: claims.expires(),
    })
}

fn expiry(now: UnixMillis, ttl: Duration) -> Result<UnixMillis, Refusal> {
    if ttl.is_zero() || ttl > TOKEN_TTL_MAX {
        return Err(Refusal::invalid(
            "ttl_seconds",
            "no token issued: it may last 1 s to 30 days",
        ));
    }
    let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    Ok(UnixMillis(now.0.saturating_add(ttl)))
}

/// A scope with a space in it would be read as two.
fn scope_claim(scopes: &BTreeSet<String>) -> Result<Option<String>, Refusal> {
    let is_scope = |scope: &String| {
        let byte_allowed = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_');
        scope.starts_with(ADMIN_SCOPE_PREFIX) && scope.bytes().all(byte_allowed)
    };
    if !scopes.iter().all(is_scope) {
        return Err(Refusal::invalid(
            "scopes",
            "no token issued: a scope is admin. and letters of a-z, . and _",
        ));
    }
    let joined: Vec<&str> = scopes.iter().map(String::as_str).collect();
    Ok((!joined.is_empty()).then(|| joined.join(" ")))
}
