//! JSON Web Tokens: signature, required claims and times. The algorithm is the key's, never the token's choice.

use std::sync::Arc;

use aws_lc_rs::digest;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::domain::UnixMillis;

/// How far this clock and the issuer's may be apart.
const LEEWAY_MS: i64 = 5_000;
/// Bytes of a key id: the longest in use are thumbprints of 64 hex digits.
pub(super) const KEY_ID_BYTES_MAX: usize = 128;

/// Why a token is worth nothing, for its sender. Never holds a part of the token.
pub(super) type Flaw = &'static str;

/// What this server wants to read in a token.
pub(super) struct Expected {
    pub(super) issuer: String,
    pub(super) audience: String,
}

/// Tokens of one key whose signature is known to be good, about 300 bytes each: as many as a node has people who call.
const KNOWN_MAX: usize = 65_536;

/// SHA-256 of a whole token.
type Fingerprint = [u8; 32];

/// A key and the one algorithm it may be used with.
pub(super) struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
    /// Claims of tokens that were checked before: a browser sends its token with each call, and a signature costs more than
    /// what most calls ask for. Goes with the key, so a key that is withdrawn takes them along.
    known: Cache<Fingerprint, Arc<Claims>>,
}

impl VerifyingKey {
    pub(super) fn of_secret(secret: &Secret) -> Self {
        Self::new(Algorithm::HS256, DecodingKey::from_secret(secret.bytes()))
    }

    pub(super) fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        Self {
            algorithm,
            key,
            known: Cache::new(KNOWN_MAX),
        }
    }
}

/// Claims that count. Times are in seconds since the Unix epoch and may have fractions (RFC 7519, 2).
#[derive(Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    exp: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<f64>,
    /// The device the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dev: Option<String>,
    /// Scopes, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<String>,
}

#[derive(Serialize)]
struct Signed<'a> {
    iss: &'a str,
    aud: &'a str,
    #[serde(flatten)]
    claims: &'a Claims,
}

impl Claims {
    pub(super) fn new(sub: String, issued: UnixMillis, expires: UnixMillis) -> Self {
        Self {
            sub,
            exp: to_seconds(expires),
            nbf: None,
            iat: Some(to_seconds(issued)),
            dev: None,
            scope: None,
        }
    }

    /// Whether the token is good now, by this server's clock.
    pub(super) fn check_times(&self, now: UnixMillis) -> Result<(), Flaw> {
        if now.0 >= self.expires().0.saturating_add(LEEWAY_MS) {
            return Err("the token has expired");
        }
        if self
            .nbf
            .is_some_and(|from| now.0 < to_millis(from).0.saturating_sub(LEEWAY_MS))
        {
            return Err("the token is not good yet");
        }
        Ok(())
    }

    pub(super) fn expires(&self) -> UnixMillis {
        to_millis(self.exp)
    }

    /// When it was issued; 0 when it does not say, or claims a time to come: that proves nothing about an earlier one.
    pub(super) fn issued(&self, now: UnixMillis) -> UnixMillis {
        let issued = self.iat.map(to_millis).unwrap_or_default();
        if issued.0 > now.0.saturating_add(LEEWAY_MS) {
            return UnixMillis::default();
        }
        issued
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "saturates, and what saturates is far from any real time"
)]
fn to_millis(seconds: f64) -> UnixMillis {
    UnixMillis((seconds * 1_000.0).round() as i64)
}

#[allow(clippy::cast_precision_loss, reason = "exact below 2^53 ms, in the year 287,396")]
fn to_seconds(time: UnixMillis) -> f64 {
    time.0 as f64 / 1_000.0
}

/// The key a token names. Nothing else of its header is used: not the algorithm, and no address to fetch a key from.
pub(super) fn key_id(token: &str) -> Result<Option<String>, Flaw> {
    let header = jsonwebtoken::decode_header(token).map_err(|error| flaw(&error))?;
    if header.crit.is_some() {
        // RFC 7515, 4.1.11: who does not understand an extension must refuse the token.
        return Err("the token demands an extension that is not supported");
    }
    match header.kid {
        Some(id) if id.len() > KEY_ID_BYTES_MAX => Err("the token's key id is too long"),
        id => Ok(id),
    }
}

/// Checks signature, issuer and audience, and that all required claims are there. Times are left to `check_times`: the
/// library would read the machine's clock, and what was good once may have expired.
pub(super) fn verify(token: &str, key: &VerifyingKey, expected: &Expected) -> Result<Arc<Claims>, Flaw> {
    let print = fingerprint(token);
    if let Some(claims) = key.known.get(&print) {
        return Ok(claims);
    }
    let claims = Arc::new(checked(token, key, expected)?);
    key.known.insert(print, Arc::clone(&claims));
    Ok(claims)
}

fn fingerprint(token: &str) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let mut print = Fingerprint::default();
    print.copy_from_slice(digest.as_ref());
    print
}

fn checked(token: &str, key: &VerifyingKey, expected: &Expected) -> Result<Claims, Flaw> {
    let mut validation = Validation::new(key.algorithm);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation.set_audience(&[&expected.audience]);
    validation.set_issuer(&[&expected.issuer]);
    validation.validate_exp = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.key, &validation);
    Ok(decoded.map_err(|error| flaw(&error))?.claims)
}

pub(super) fn sign(claims: &Claims, secret: &Secret, expected: &Expected) -> Result<String, Flaw> {
    let signed = Signed {
        iss: &expected.issuer,
        aud: &expected.audience,
        claims,
    };
    let key = EncodingKey::from_secret(secret.bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &signed, &key).map_err(|_| "the token could not be signed")
}

/// The library's texts may quote what they could not parse, so none of them is passed on.
fn flaw(error: &Error) -> Flaw {
    match error.kind() {
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "the token is not signed as its key demands",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks exp, aud, iss or sub",
        ErrorKind::Json(_) => "the token is malformed, or its sub or exp is missing",
        _ => "the token is malformed",
    }
}
