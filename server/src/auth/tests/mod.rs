//! Tokens good and bad, revocation, and key files.

mod files;
mod forge;
mod provider;
mod revocation;
mod table;
mod url;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::{Host, ManualClock, SeededRandom};

use super::{AuthOptions, Authenticator, Jwks, JwksFile, Secret};
use crate::domain::{DeviceId, Reason, Refusal, UnixMillis, UserId};
use crate::storage::Directory;
use crate::storage::memory::directory::MemoryDirectory;

const NOW_SECONDS: i64 = 1_700_000_000;
const NOW: UnixMillis = UnixMillis(NOW_SECONDS * 1_000);
const ISSUER: &str = "stonechat";
const AUDIENCE: &str = "apps";
const SECRET: [u8; 32] = [42; 32];

/// A clock to set, an empty directory, and what an authenticator needs.
struct Edge {
    clock: Arc<ManualClock>,
    directory: Arc<dyn Directory>,
    options: AuthOptions,
}

impl Edge {
    fn new() -> Self {
        Self {
            clock: Arc::new(ManualClock::new(NOW.0)),
            directory: Arc::new(MemoryDirectory::new()),
            options: AuthOptions {
                issuer: ISSUER.to_owned(),
                audience: AUDIENCE.to_owned(),
                require_known_users: false,
            },
        }
    }

    fn host(&self) -> Host {
        Host {
            clock: Arc::<ManualClock>::clone(&self.clock),
            random: Arc::new(SeededRandom::new(1)),
        }
    }

    fn with_secret(&self) -> Authenticator {
        let secret = Secret::from_bytes(SECRET);
        Authenticator::with_secret(secret, self.options.clone(), Arc::clone(&self.directory), self.host())
    }

    async fn with_key_set(&self, path: &Path) -> Authenticator {
        self.with_key_set_looking_every(Duration::from_secs(1), path).await
    }

    async fn with_key_set_looking_every(&self, look_every: Duration, path: &Path) -> Authenticator {
        let file = JwksFile::open_and_look_every(look_every, path.to_owned())
            .await
            .unwrap();
        Authenticator::with_key_set(
            Jwks::File(file),
            self.options.clone(),
            Arc::clone(&self.directory),
            self.host(),
        )
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn refusal<T>(result: Result<T, Refusal>) -> Refusal {
    match result {
        Err(refusal) => refusal,
        Ok(_) => panic!("it was accepted"),
    }
}

/// The text of an `Unauthenticated`.
fn unauthenticated<T>(result: Result<T, Refusal>) -> String {
    let refusal = refusal(result);
    assert_eq!(refusal.reason, Reason::Unauthenticated, "{refusal}");
    refusal.message
}
