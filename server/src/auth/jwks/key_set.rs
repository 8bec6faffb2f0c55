//! What a key set may hold: public keys for signatures, each with its one algorithm.

use std::collections::BTreeMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::auth::jwt::{KEY_ID_BYTES_MAX, VerifyingKey};

/// Keys of a set: providers publish two to four, old and new.
const KEYS_MAX: usize = 64;

/// Keys by id. A key without id is there under the empty one, and then it is the only one.
pub(super) struct KeySet(BTreeMap<String, VerifyingKey>);

impl KeySet {
    /// The key of that id; a token that names none is for the only key there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&VerifyingKey> {
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

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a set; what is no public key for signatures is left out.
    ///
    /// # Errors
    /// It is no set, or holds no key that can be used.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        parse(text)
    }
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
