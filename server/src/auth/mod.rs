//! Tokens and keys: who a caller is. What they may do is decided by `domain::authorization`.

mod authenticator;
mod jwks;
mod jwt;
mod secret;

#[cfg(test)]
mod tests;

pub use authenticator::{AuthOptions, Authenticator, IssuedToken, TOKEN_BYTES_MAX, TOKEN_TTL_MAX};
pub use jwks::{Jwks, JwksFile, JwksUrl};
pub use secret::Secret;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

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

/// Keys cannot be used: do not serve.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("key file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Others than its owner may read or write the secret.
    #[error("key file {path} has mode {mode:03o}: others may read it; set 600, or delete it to void all tokens")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its content is not what it should be.
    #[error("key file {path} is malformed: {why}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it; never its content.
        why: String,
    },
    /// Nothing usable could be fetched.
    #[error("key set {url} could not be fetched: {why}; without keys no token can be checked")]
    Unfetched {
        /// From where, without the query.
        url: String,
        /// The last try's trouble.
        why: String,
    },
}

impl KeyError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }

    fn malformed(path: &Path, why: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}
