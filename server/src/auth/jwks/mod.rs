//! The public keys of an identity provider (RFC 7517), from a file or from an address. Which key a token names is looked
//! up here and nowhere else: no `jku`, `x5u` or `jwk` of a token's header is ever followed.

mod fetch;
mod file;
mod key_set;
mod pace;
mod url;

pub use file::JwksFile;
pub use url::JwksUrl;

#[cfg(test)]
pub(super) use fetch::Roots;
#[cfg(test)]
pub(super) use pace::Timing;

use super::jwt::VerifyingKey;

/// Bytes of a key set: room for all keys with certificate chains.
const KEY_SET_BYTES_MAX: u64 = 256 * 1024;

/// Where the keys come from.
pub enum Jwks {
    /// A file, read again when it changes.
    File(JwksFile),
    /// An address, fetched again and again.
    Url(JwksUrl),
}

/// Why a token was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoKeys {
    /// The keys that were fetched last are too old to be trusted, and no newer ones could be had.
    #[error("the identity provider's keys are too old")]
    TooOld,
    /// Its key is not known, and enough others wait for a fetch that may bring it.
    #[error("its key is being fetched, and too many wait for that")]
    Crowded,
}

impl Jwks {
    /// Does `with` the key of that id; `None` when there is none.
    pub(super) async fn with_key<T>(
        &self,
        id: Option<&str>,
        with: impl FnOnce(&VerifyingKey) -> T,
    ) -> Result<Option<T>, NoKeys> {
        let keys = match self {
            Self::File(file) => file.current().await,
            Self::Url(url) => url.keys_for(id).await?,
        };
        Ok(keys.find(id).map(with))
    }
}
