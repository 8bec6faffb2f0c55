//! A set of public keys (RFC 7517) in a file, read again when it changes.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::KeyError;
use super::jwt::{KEY_ID_BYTES_MAX, VerifyingKey};

/// Bytes of the file: room for all keys with certificate chains.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Keys of a set: providers publish two to four, old and new.
const KEYS_MAX: usize = 64;
/// How often the file's time is looked at, however many tokens name unknown keys.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keys by id. A key without id is there under the empty one, and then it is the only one.
struct KeySet(BTreeMap<String, VerifyingKey>);

impl KeySet {
    /// The key of that id; a token that names none is for the only key there is.
    fn find(&self, id: Option<&str>) -> Option<&VerifyingKey> {
        let only = if self.0.len() == 1 {
            self.0.values().next()
        } else {
            None
        };
        match id {
            Some(id) => self.0.get(id),
            None => only,
        }
    }
}

/// What tells that a file was changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<SystemTime>, u64);

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.modified().ok(), metadata.len())
    }
}

struct Loaded {
    keys: Arc<KeySet>,
    stamp: Stamp,
    look_next: Instant,
}

/// The keys of an identity provider.
pub struct JwksFile {
    path: PathBuf,
    look_every: Duration,
    loaded: Mutex<Loaded>,
}

impl JwksFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, is malformed, or holds no key of EdDSA (Ed25519), ES256 or RS256.
    pub async fn open(path: PathBuf) -> Result<Self, KeyError> {
        Self::open_and_look_every(LOOK_EVERY, path).await
    }

    pub(super) async fn open_and_look_every(look_every: Duration, path: PathBuf) -> Result<Self, KeyError> {
        let (keys, stamp) = read(&path).await?;
        let look_next = stonechat_host::monotonic() + look_every;
        let loaded = Mutex::new(Loaded { keys, stamp, look_next });
        Ok(Self {
            path,
            look_every,
            loaded,
        })
    }

    /// Does `with` the key of that id, if there is one.
    pub(super) async fn with_key<T>(&self, id: Option<&str>, with: impl FnOnce(&VerifyingKey) -> T) -> Option<T> {
        let keys = self.current().await;
        keys.find(id).map(with)
    }

    /// The keys of the file as it is now, or the last good ones when it cannot be used.
    async fn current(&self) -> Arc<KeySet> {
        if let Some(known) = self.time_to_look()
            && let Err(error) = self.look(known).await
        {
            tracing::warn!(%error, "key set not read again, the last good one stays in use");
        }
        Arc::clone(&self.loaded().keys)
    }

    /// The stamp of what is loaded, for one caller in each interval.
    fn time_to_look(&self) -> Option<Stamp> {
        let now = stonechat_host::monotonic();
        let mut loaded = self.loaded();
        if now < loaded.look_next {
            return None;
        }
        loaded.look_next = now + self.look_every;
        Some(loaded.stamp)
    }

    async fn look(&self, known: Stamp) -> Result<(), KeyError> {
        let metadata = tokio::fs::metadata(&self.path).await;
        if Stamp::of(&metadata.map_err(KeyError::file(&self.path))?) == known {
            return Ok(());
        }
        let (keys, stamp) = read(&self.path).await?;
        tracing::info!(path = %self.path.display(), keys = keys.0.len(), "key set read again");
        let mut loaded = self.loaded();
        loaded.keys = keys;
        loaded.stamp = stamp;
        Ok(())
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(path: &Path) -> Result<(Arc<KeySet>, Stamp), KeyError> {
    let (text, stamp) = read_text(path).await.map_err(KeyError::file(path))?;
    let keys = parse(&text).map_err(|why| KeyError::malformed(path, why))?;
    Ok((Arc::new(keys), stamp))
}

async fn read_text(path: &Path) -> io::Result<(String, Stamp)> {
    let file = tokio::fs::File::open(path).await?;
    // Before the content: a change while reading is then seen at the next look.
    let stamp = Stamp::of(&file.metadata().await?);
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).await?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 256 KiB"));
    }
    Ok((text, stamp))
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

fn parse(text: &str) -> Result<KeySet, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| format!("no key set: {error}"))?;
    if document.keys.len() > KEYS_MAX {
        return Err(format!("more than {KEYS_MAX} keys"));
    }
    let mut keys = BTreeMap::new();
    for (position, value) in document.keys.into_iter().enumerate() {
        let jwk: Jwk = serde_json::from_value(value).map_err(|_| format!("key {position} is malformed"))?;
        let id = jwk.common.key_id.clone().unwrap_or_default();
        let Some(key) = usable(&jwk).map_err(|why| format!("key {position}: {why}"))? else {
            tracing::warn!(
                position,
                "key left out: not a public key of EdDSA, ES256 or RS256 for signatures"
            );
            continue;
        };
        if keys.insert(id, key).is_some() {
            return Err(format!("key {position} has the id of another key"));
        }
    }
    check_ids(&keys)?;
    Ok(KeySet(keys))
}

fn check_ids(keys: &BTreeMap<String, VerifyingKey>) -> Result<(), String> {
    if keys.is_empty() {
        return Err("no public key of EdDSA, ES256 or RS256".to_owned());
    }
    if keys.len() > 1 && keys.contains_key("") {
        return Err("a key without id must be the only one".to_owned());
    }
    match keys.keys().any(|id| id.len() > KEY_ID_BYTES_MAX) {
        true => Err(format!("a key id is longer than {KEY_ID_BYTES_MAX} bytes")),
        false => Ok(()),
    }
}

/// The key with its one algorithm; `None` for a key that is for something else, a shared secret among them.
fn usable(jwk: &Jwk) -> Result<Option<VerifyingKey>, String> {
    let (algorithm, names) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return Ok(None),
    };
    let for_signatures = matches!(&jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    if !for_signatures || jwk.common.key_algorithm.is_some_and(|named| named != names) {
        return Ok(None);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "its parameters are not base64url".to_owned())?;
    Ok(Some(VerifyingKey::new(algorithm, key)))
}
