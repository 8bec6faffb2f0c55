//! A key set at an address: fetched at the start, again before it is old, and when a token names a key that is not there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use stonechat_host::{Connector, Host, Random};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::NoKeys;
use super::fetch::{Fetcher, Roots};
use super::key_set::KeySet;
use super::pace::{Pace, Timing};
use crate::auth::KeyError;
use crate::telemetry::meters::{Reload, meters};

/// Tokens with unknown keys that wait for a fetch at a time. Each holds a seat of work meanwhile, and strangers can make up any
/// number of them: a quarter of the usual seats, so that whoever comes with a known key gets through.
const WAITING_MAX: usize = 128;
/// Steps of the random spread between fetches.
const SPREAD_STEPS: u32 = 1_000;

/// The last good set.
#[derive(Clone)]
struct Known {
    keys: Arc<KeySet>,
    /// When its fetch was done.
    fetched: Instant,
    /// When the last fetch began that is over, good or not.
    tried: Instant,
}

/// What tokens and the fetching task share.
struct Shared {
    fetcher: Fetcher,
    timing: Timing,
    host: Host,
    waiting: Semaphore,
    known: watch::Sender<Known>,
    pace: Mutex<Pace>,
    /// An unknown key id changed the pace.
    asked: Notify,
}

/// The keys of an identity provider that publishes them. Dropping it ends the fetching.
pub struct JwksUrl {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl JwksUrl {
    /// Fetches the set, several times if need be, and keeps it fresh from then on. The address is operator's: it is `http`
    /// or `https`, with a host.
    ///
    /// # Errors
    /// Nothing usable came within 20 s: a node that can check no token must not look alive.
    pub async fn start(uri: Uri, connector: Arc<dyn Connector>, host: Host) -> Result<Self, KeyError> {
        Self::start_at_pace(Timing::SERVER, uri, connector, host, Roots::Machine).await
    }

    pub(in crate::auth) async fn start_at_pace(
        timing: Timing,
        uri: Uri,
        connector: Arc<dyn Connector>,
        host: Host,
        roots: Roots,
    ) -> Result<Self, KeyError> {
        let fetcher = Fetcher::new(uri, connector, roots).await?;
        if fetcher.is_plain() {
            tracing::warn!(
                url = fetcher.shown(),
                "keys come over plain http: who is on the way can forge tokens"
            );
        }
        let mut pace = Pace::new(timing, stonechat_host::monotonic());
        let (known, fresh_for) = first(&fetcher, timing).await?;
        pace.succeeded(known.tried, known.fetched, fresh_for, spread(&*host.random));
        fetched_now(&host);
        let shared = Arc::new(Shared {
            fetcher,
            timing,
            host,
            waiting: Semaphore::new(WAITING_MAX),
            known: watch::Sender::new(known),
            pace: Mutex::new(pace),
            asked: Notify::new(),
        });
        let task = tokio::spawn(Arc::clone(&shared).run()).abort_handle();
        Ok(Self { shared, task })
    }

    /// The keys to look for this id in. An id that is not there is worth one fetch, for which those who ask meanwhile wait, up to
    /// a number: strangers with made-up ids must not take the place of everybody else.
    pub(super) async fn keys_for(&self, id: Option<&str>) -> Result<Arc<KeySet>, NoKeys> {
        let keys = self.shared.keys()?;
        if id.is_none() || keys.find(id).is_some() {
            return Ok(keys);
        }
        let Some(asked) = self.shared.ask() else {
            return Ok(keys);
        };
        let _place = self.shared.waiting.try_acquire().map_err(|_| NoKeys::Crowded)?;
        let mut known = self.shared.known.subscribe();
        let answered = known.wait_for(|known| known.tried >= asked);
        // One fetch may be under way and another follow it.
        let _late = tokio::time::timeout(2 * self.shared.timing.fetch_within, answered).await;
        self.shared.keys()
    }
}

impl Drop for JwksUrl {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The first set, or why there is none.
async fn first(fetcher: &Fetcher, timing: Timing) -> Result<(Known, Option<Duration>), KeyError> {
    let give_up = stonechat_host::monotonic() + timing.start_within;
    loop {
        let tried = stonechat_host::monotonic();
        let why = match fetch(fetcher, timing.fetch_within).await {
            Ok((keys, fresh_for)) => {
                let fetched = stonechat_host::monotonic();
                return Ok((Known { keys, fetched, tried }, fresh_for));
            }
            Err(why) => why,
        };
        let url = fetcher.shown();
        if stonechat_host::monotonic() + timing.start_retry >= give_up {
            return Err(KeyError::Unfetched { url, why });
        }
        tracing::warn!(url, why, "key set not fetched yet, trying again");
        tokio::time::sleep(timing.start_retry).await;
    }
}

async fn fetch(fetcher: &Fetcher, within: Duration) -> Result<(Arc<KeySet>, Option<Duration>), String> {
    let fetched = tokio::time::timeout(within, fetcher.get()).await;
    let fetched = fetched.map_err(|_| format!("no answer within {within:?}"))??;
    Ok((Arc::new(KeySet::parse(&fetched.text)?), fetched.fresh_for))
}

fn fetched_now(host: &Host) {
    meters().jwks_fetches.inc(Reload::Used);
    meters().jwks_fetched.set(host.clock.unix_ms() / 1_000);
}

/// A part of 0..1.
fn spread(random: &dyn Random) -> f64 {
    let step = u32::try_from(random.below(SPREAD_STEPS.into())).unwrap_or_default();
    f64::from(step) / f64::from(SPREAD_STEPS)
}

impl Shared {
    fn keys(&self) -> Result<Arc<KeySet>, NoKeys> {
        let known = self.known.borrow();
        if stonechat_host::monotonic() >= known.fetched + self.timing.good_for {
            return Err(NoKeys::TooOld);
        }
        Ok(Arc::clone(&known.keys))
    }

    /// Asks for a fetch; `None` when it is too soon for one.
    fn ask(&self) -> Option<Instant> {
        let asked = self.pace().ask(stonechat_host::monotonic());
        self.asked.notify_one();
        asked
    }

    async fn run(self: Arc<Self>) {
        loop {
            self.due().await;
            self.refresh().await;
        }
    }

    async fn due(&self) {
        loop {
            let due = self.pace().due();
            tokio::select! { biased;
                () = tokio::time::sleep_until(due) => return,
                () = self.asked.notified() => {}
            }
        }
    }

    async fn refresh(&self) {
        let tried = stonechat_host::monotonic();
        let fetched = fetch(&self.fetcher, self.timing.fetch_within).await;
        let now = stonechat_host::monotonic();
        match fetched {
            Ok((keys, fresh_for)) => {
                self.pace().succeeded(tried, now, fresh_for, spread(&*self.host.random));
                fetched_now(&self.host);
                tracing::debug!(keys = keys.len(), "key set fetched");
                self.known.send_replace(Known {
                    keys,
                    fetched: now,
                    tried,
                });
            }
            Err(why) => {
                self.pace().failed(tried, now);
                meters().jwks_fetches.inc(Reload::Failed);
                let age_s = (now - self.known.borrow().fetched).as_secs();
                tracing::warn!(
                    url = self.fetcher.shown(),
                    why,
                    age_s,
                    "key set not fetched, the last good one stays in use"
                );
                self.known.send_modify(|known| known.tried = tried);
            }
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
