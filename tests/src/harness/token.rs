//! Tokens minted by hand from the server's secret file, good ones and bad ones.

use std::fs;
use std::path::Path;

use aws_lc_rs::hmac;
use serde::Serialize;
use stonechat_host::{Clock, SystemClock};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a token says. Fields that are `None` are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Claims {
    /// Issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// The user, or the name of an integrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Expiry, seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// When it was issued, seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Scopes, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The device it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
}

impl Claims {
    /// A good token of a user for an hour.
    #[must_use]
    pub fn user(user: &str) -> Self {
        let now = SystemClock.unix_ms() / 1_000;
        Self {
            iss: Some("stonechat".to_owned()),
            aud: Some("stonechat".to_owned()),
            sub: Some(user.to_owned()),
            exp: Some(now + 3_600),
            iat: Some(now),
            scope: None,
            dev: None,
        }
    }

    /// A good token of an integrator with these scopes.
    #[must_use]
    pub fn scoped(scope: &str) -> Self {
        Self {
            scope: Some(scope.to_owned()),
            ..Self::user("integrator")
        }
    }

    /// The same, expiring so many seconds from now.
    #[must_use]
    pub fn expiring_in(mut self, seconds: i64) -> Self {
        self.exp = Some(SystemClock.unix_ms() / 1_000 + seconds);
        self
    }
}

/// Signs claims with HS256 and the secret in a data folder.
///
/// # Panics
/// The folder has no secret.
#[must_use]
pub fn mint(data_folder: &Path, claims: &Claims) -> String {
    let path = data_folder.join("secret.hs256");
    let digits = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    sign(&unhex(digits.trim()), claims)
}

fn sign(secret: &[u8], claims: &Claims) -> String {
    let body = serde_json::to_vec(claims).expect("claims are plain JSON");
    let signed = format!("{}.{}", base64(br#"{"alg":"HS256","typ":"JWT"}"#), base64(&body));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", base64(signature.as_ref()))
}

fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("the secret file holds hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Base64 for URLs without padding (RFC 4648, 5).
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let digit = (word >> (18 - 6 * place)) & 63;
            text.push(char::from(DIGITS[digit as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg");
        assert_eq!(base64(b"fo"), "Zm8");
        assert_eq!(base64(b"foo"), "Zm9v");
        assert_eq!(base64(&[0xfb, 0xff]), "-_8");
    }
}
