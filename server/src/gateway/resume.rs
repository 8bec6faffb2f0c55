//! Resume tokens: what a broken stream goes on with. On this node only: a hello elsewhere starts as new, and loses
//! nothing but its watched users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use stonechat_host::Random;
use tokio::time::Instant;

use super::limits::{RESUME_TOKEN_BYTES, RESUME_WITHIN, RESUMES_MAX};
use crate::bus::Status;
use crate::domain::{DeviceId, StreamName, UserId};

/// Which stream a token is bound to.
pub(super) type StreamKey = (UserId, DeviceId, StreamName);

/// What goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Users whose presence the stream watched.
    pub(super) watched: BTreeSet<UserId>,
    /// What the user had chosen to show.
    pub(super) status: Option<Status>,
}

struct Slot {
    token: [u8; RESUME_TOKEN_BYTES],
    carried: Carried,
    /// `None` while the stream lives.
    expires: Option<Instant>,
}

/// The tokens of this node: those of live streams, bounded by the streams, and `RESUMES_MAX` of ended ones.
#[derive(Default)]
pub(super) struct Resumes(Mutex<BTreeMap<StreamKey, Slot>>);

impl Resumes {
    /// Takes what a token stands for, once; `None` when it is wrong, used, too old or of another stream. A stream
    /// that still lives may be resumed too: its end is not known here when its network broke.
    pub(super) fn take(&self, key: &StreamKey, token: &[u8]) -> Option<Carried> {
        let mut slots = self.lock();
        let slot = slots.get(key)?;
        let fresh = slot.expires.is_none_or(|expires| stonechat_host::monotonic() < expires);
        // Also on a wrong token the slot stays: guessing must not log anybody out of their own resumption.
        let equal = aws_lc_rs::constant_time::verify_slices_are_equal(&slot.token, token).is_ok();
        if !(fresh && equal) {
            return None;
        }
        slots.remove(key).map(|slot| slot.carried)
    }

    /// A new token of a stream; the one before is worth nothing now.
    pub(super) fn issue(&self, key: &StreamKey, random: &dyn Random) -> Bytes {
        let mut token = [0; RESUME_TOKEN_BYTES];
        random.fill(&mut token);
        let slot = Slot {
            token,
            carried: Carried::default(),
            expires: None,
        };
        self.lock().insert(key.clone(), slot);
        Bytes::copy_from_slice(&token)
    }

    /// What the stream of this token watches now.
    pub(super) fn carry(&self, key: &StreamKey, token: &[u8], change: impl FnOnce(&mut Carried)) {
        if let Some(slot) = self.lock().get_mut(key).filter(|slot| slot.token == token) {
            change(&mut slot.carried);
        }
    }

    /// The stream of this token ended: it is good for a while. `keep` is false when there is nothing to go on with.
    pub(super) fn ended(&self, key: &StreamKey, token: &[u8], keep: bool) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(key).filter(|slot| slot.token == token) else {
            return;
        };
        let now = stonechat_host::monotonic();
        slot.expires = Some(now + RESUME_WITHIN);
        if !keep {
            slots.remove(key);
        }
        if slots.len() > RESUMES_MAX {
            sweep(&mut slots, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamKey, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets expired tokens, and the older half of those of ended streams when there are still too many.
fn sweep(slots: &mut BTreeMap<StreamKey, Slot>, now: Instant) {
    slots.retain(|_, slot| slot.expires.is_none_or(|expires| now < expires));
    let mut ended: Vec<Instant> = slots.values().filter_map(|slot| slot.expires).collect();
    if ended.len() > RESUMES_MAX {
        ended.sort_unstable();
        let middle = ended[ended.len() / 2];
        slots.retain(|_, slot| slot.expires.is_none_or(|expires| expires > middle));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stonechat_host::SeededRandom;

    use super::*;

    fn key(user: &str, stream: &str) -> StreamKey {
        let user = UserId::parse(user).expect("a user");
        let stream = StreamName::parse(stream).expect("a stream");
        (user, DeviceId::parse("phone").expect("a device"), stream)
    }

    /// P13: single use, bound to user, device and stream, good for five minutes after the end.
    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_once_for_its_own_stream_and_not_for_ever() {
        let (resumes, random) = (Resumes::default(), SeededRandom::new(1));
        let mine = key("alice", "");
        let token = resumes.issue(&mine, &random);
        assert_eq!(resumes.take(&key("bob", ""), &token), None);
        assert_eq!(resumes.take(&key("alice", "push"), &token), None);
        assert_eq!(resumes.take(&mine, b"guess"), None);
        assert!(resumes.take(&mine, &token).is_some());
        assert_eq!(resumes.take(&mine, &token), None);

        let token = resumes.issue(&mine, &random);
        resumes.ended(&mine, &token, true);
        tokio::time::advance(RESUME_WITHIN + Duration::from_secs(1)).await;
        assert_eq!(resumes.take(&mine, &token), None);
    }

    /// The end of a replaced stream must not touch the token of the one that took over.
    #[tokio::test(start_paused = true)]
    async fn a_late_end_leaves_the_newer_token_alone() {
        let (resumes, random) = (Resumes::default(), SeededRandom::new(1));
        let mine = key("alice", "");
        let old = resumes.issue(&mine, &random);
        let new = resumes.issue(&mine, &random);
        resumes.ended(&mine, &old, false);
        tokio::time::advance(RESUME_WITHIN * 2).await;
        assert!(resumes.take(&mine, &new).is_some());
    }

    /// I9: tokens of ended streams are bounded.
    #[tokio::test(start_paused = true)]
    async fn ended_tokens_are_bounded() {
        let (resumes, random) = (Resumes::default(), SeededRandom::new(1));
        for number in 0..RESUMES_MAX + 10 {
            let key = key(&format!("user{number}"), "");
            let token = resumes.issue(&key, &random);
            resumes.ended(&key, &token, true);
            tokio::time::advance(Duration::from_micros(1)).await;
        }
        assert!(resumes.lock().len() <= RESUMES_MAX);
    }
}
