//! The user's rate before the guard: what is above it costs nothing, and what is not the user's is not counted.

use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::gateway::edge::Edge;
use crate::storage::Directory;

/// Calls of a user that pass at once when one a second is the rate.
const BURST: usize = 10;

struct Door {
    directory: Arc<MemoryDirectory>,
    authenticator: Arc<Authenticator>,
    guarded: Guarded<Server>,
}

/// A guard that lets each user call once a second.
fn door() -> Door {
    let config = Config {
        user_requests_per_second: 1,
        ..Config::default()
    };
    let directory = Arc::new(MemoryDirectory::new());
    let authenticator = authenticator(directory.clone());
    let rates = Edge::new(&config, Host::system());
    Door {
        guarded: Guard::new(authenticator.clone(), rates, Host::system()).wrap(server()),
        directory,
        authenticator,
    }
}

impl Door {
    fn token(&self, device: Option<&DeviceId>) -> String {
        let ann = UserId::parse("ann").unwrap();
        let hour = Duration::from_hours(1);
        let issued = self.authenticator.issue(&ann, device, &BTreeSet::new(), hour);
        issued.unwrap().token.expose().clone()
    }

    /// Whoever passes hears that the message cannot be read.
    async fn call(&self, token: &str) -> Response<Body> {
        let mut call = request(REMOVE, 2, &[0x0a, 0x05]);
        let bearer = format!("Bearer {token}").parse().unwrap();
        call.headers_mut().insert("authorization", bearer);
        self.guarded.clone().oneshot(call).await.unwrap()
    }
}

/// I9: the directory is asked about who calls only when their rate allows the call.
#[tokio::test(start_paused = true)]
async fn i9_a_call_above_the_rate_asks_the_directory_nothing() {
    let door = door();
    let phone = DeviceId::parse("phone").unwrap();
    let token = door.token(Some(&phone));
    for _ in 0..BURST {
        assert_eq!(status(&door.call(&token).await).code(), Code::InvalidArgument);
    }
    let asked = door.directory.asked_who();
    assert!(asked > 0, "who passes is looked at");
    for _ in 0..BURST {
        let answer = door.call(&token).await;
        assert_eq!(status(&answer).code(), Code::ResourceExhausted);
        assert_eq!(answer.headers()[RATE_REMAINING_METADATA], "0");
    }
    assert_eq!(door.directory.asked_who(), asked);
}

/// Whoever has a token that was withdrawn neither uses up the rate of the user whose it was, nor hears how they stand.
#[tokio::test(start_paused = true)]
async fn a_withdrawn_token_does_not_use_up_the_rate() {
    let door = door();
    let (ann, phone) = (UserId::parse("ann").unwrap(), DeviceId::parse("phone").unwrap());
    let stolen = door.token(Some(&phone));
    door.directory.ensure_user(&ann, UnixMillis(0)).await.unwrap();
    let removed = door.directory.remove_device(&ann, &phone, UnixMillis(i64::MAX));
    removed.await.unwrap();
    for _ in 0..10 * BURST {
        let answer = door.call(&stolen).await;
        assert_eq!(status(&answer).code(), Code::Unauthenticated);
        assert!(!answer.headers().contains_key(RATE_REMAINING_METADATA));
    }
    let own = door.token(None);
    for left in (0..BURST).rev() {
        let answer = door.call(&own).await;
        assert_eq!(status(&answer).code(), Code::InvalidArgument);
        assert_eq!(answer.headers()[RATE_REMAINING_METADATA], left.to_string().as_str());
    }
    assert_eq!(status(&door.call(&own).await).code(), Code::ResourceExhausted);
}
