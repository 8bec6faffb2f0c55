//! Tokens: none of what a stranger writes is one.

use std::cell::RefCell;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use stonechat_host::Host;
use stonechat_server::auth::{Authenticator, Jwks, JwksFile, Secret};
use stonechat_server::domain::Reason;
use stonechat_server::storage::memory::directory::MemoryDirectory;
use tokio::runtime::Runtime;

use super::bed::auth_options;
use crate::harness::base64;

/// Checks tokens of both kinds of keys.
struct Doors {
    runtime: Runtime,
    secret: Authenticator,
    key_set: Authenticator,
}

thread_local! {
    static DOORS: RefCell<Option<Doors>> = const { RefCell::new(None) };
}

impl Doors {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let directory = || Arc::new(MemoryDirectory::new());
        let secret = Secret::from_bytes([7; 32]);
        let secret = Authenticator::with_secret(secret, auth_options(), directory(), Host::system());
        let file = tempfile::NamedTempFile::new().expect("a file");
        let public = Ed25519KeyPair::generate().expect("a key");
        let public = base64(public.public_key().as_ref());
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": public }] });
        std::fs::write(file.path(), set.to_string()).expect("written");
        let keys = runtime
            .block_on(JwksFile::open(file.path().to_owned()))
            .expect("a key set");
        let key_set = Authenticator::with_key_set(Jwks::File(keys), auth_options(), directory(), Host::system());
        Self {
            runtime,
            secret,
            key_set,
        }
    }

    fn refuse(&self, authenticator: &Authenticator, token: &str) {
        match self.runtime.block_on(authenticator.verify(token)) {
            Ok(principal) => panic!("{token:?} opened the door to {principal:?}"),
            Err(refusal) => assert_eq!(refusal.reason, Reason::Unauthenticated, "{token:?}"),
        }
    }
}

fn at_the_door(check: impl FnOnce(&Doors)) {
    let doors = DOORS.take().unwrap_or_else(Doors::new);
    check(&doors);
    DOORS.set(Some(doors));
}

/// A token for the server's own secret.
pub fn secret_tokens(data: &[u8]) {
    let token = String::from_utf8_lossy(data);
    at_the_door(|doors| doors.refuse(&doors.secret, &token));
}

/// A token for a key set.
pub fn key_set_tokens(data: &[u8]) {
    let token = String::from_utf8_lossy(data);
    at_the_door(|doors| doors.refuse(&doors.key_set, &token));
}

/// Any header over claims that would be good: the header decides nothing.
pub fn token_headers(data: &[u8]) {
    let claims = json!({ "iss": "stonechat", "aud": "stonechat", "sub": "alice", "exp": 4_102_444_800_u64 });
    let claims = base64(claims.to_string().as_bytes());
    at_the_door(|doors| {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{claims}.{signature}", base64(data));
            doors.refuse(&doors.secret, &token);
            doors.refuse(&doors.key_set, &token);
        }
    });
}
