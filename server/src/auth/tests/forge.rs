//! Keys of every kind, and tokens as honest issuers and forgers make them.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{AUDIENCE, ISSUER, NOW_SECONDS};

/// Bytes before the PKCS#1 key in the PKCS#8 form of a 2,048-bit RSA key.
const RSA_2048_PKCS8_PREFIX: usize = 26;

/// A private key of an identity provider.
pub(super) struct Signer {
    pub(super) kid: &'static str,
    pub(super) algorithm: Algorithm,
    key: EncodingKey,
    /// The public key as DER, as anybody can have it.
    pub(super) public_der: Vec<u8>,
}

impl Signer {
    pub(super) fn ed25519(kid: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        let public_der = pair.public_key().as_ref().to_vec();
        let algorithm = Algorithm::EdDSA;
        Self {
            kid,
            algorithm,
            key,
            public_der,
        }
    }

    pub(super) fn es256(kid: &'static str) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        let public_der = pair.public_key().as_ref().to_vec();
        let algorithm = Algorithm::ES256;
        Self {
            kid,
            algorithm,
            key,
            public_der,
        }
    }

    pub(super) fn rs256(kid: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let key = EncodingKey::from_rsa_der(&pkcs8.as_ref()[RSA_2048_PKCS8_PREFIX..]);
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let public_der = public.as_ref().to_vec();
        let algorithm = Algorithm::RS256;
        Self {
            kid,
            algorithm,
            key,
            public_der,
        }
    }

    pub(super) fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_as(Some(self.kid), claims)
    }

    pub(super) fn sign_as(&self, kid: Option<&str>, claims: &Value) -> String {
        self.sign_with(claims, |header| header.kid = kid.map(str::to_owned))
    }

    /// With a header changed by `change`, and signed.
    pub(super) fn sign_with(&self, claims: &Value, change: impl FnOnce(&mut Header)) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.to_owned());
        change(&mut header);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

pub(super) fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// Claims of a good token, changed by `change`.
pub(super) fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": NOW_SECONDS - 10, "exp": NOW_SECONDS + 600,
    });
    change(&mut claims);
    claims
}

pub(super) fn good() -> Value {
    claims(|_| {})
}

pub(super) fn without(name: &str) -> Value {
    claims(|claims| {
        claims.as_object_mut().unwrap().remove(name);
    })
}

pub(super) fn with(name: &str, value: impl Into<Value>) -> Value {
    claims(|claims| claims[name] = value.into())
}

pub(super) fn hs256(secret: &[u8], kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// A token with any header and signature text.
pub(super) fn raw(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    format!("{}.{}.{signature}", part(header), part(claims))
}

/// HS256 over any header.
pub(super) fn hs256_raw(header: &Value, secret: &[u8], claims: &Value) -> String {
    let unsigned = raw(header, claims, "");
    let message = unsigned.trim_end_matches('.');
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", base64url(signature.as_ref()))
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(char::from(DIGITS[index as usize]));
        }
    }
    text
}
