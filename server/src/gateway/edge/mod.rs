//! The edge: what keeps strangers, and friends in too great a number, from bending the node.
//!
//! `addresses` lets a connection in or not, `io` watches its bytes (`frames` finds the floods), `connection` is what its
//! requests share, `traffic` what it carries, `calls` is the gate of every call, `body` takes in what it asks, `unproven` what strangers send,
//! `admission` is the queue in front of the work, `stream_task` the task of a stream, and its end when nobody reads. Whatever
//! is refused is counted (metric `stonechat_edge_refusals`).

mod addresses;
mod admission;
mod body;
mod calls;
mod connection;
mod deadline;
mod descriptors;
mod frames;
mod io;
mod keyed;
mod refusals;
mod shared;
mod stream_task;
mod traffic;
mod unproven;

pub use descriptors::room_for_connections;
pub use frames::check_frame_counter;
pub use refusals::{Reason, refused};

pub(super) use admission::Admitted;
pub(super) use calls::{Gate, gate};
pub(super) use connection::{Connection, Fate, Line, Requests};
pub(super) use io::Watched;
pub(super) use stream_task::{Bounded, StreamTask};
pub(super) use traffic::Counted;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Host;
use tokio::time::Instant;

use self::addresses::{Addresses, Source};
use self::admission::Admission;
use self::keyed::Keyed;
use super::limits::{OPEN_REQUESTS_BYTES_MAX, RECONNECT_SPREAD_MS, REQUESTS_BYTES_MAX, UNPROVEN_BYTES_MAX};
use crate::api::{Standing, UserRates};
use crate::config::Config;
use crate::domain::{Reason as Why, Refusal, UserId};
use crate::room::Room;

/// The limits of a node, and how far they are used.
pub struct Edge {
    addresses: Arc<Addresses>,
    users: Keyed<UserId>,
    admission: Admission,
    /// For the requests of who showed a token.
    room: Arc<Room>,
    /// For those that need none.
    open_room: Arc<Room>,
    /// For streams on which nobody showed one yet.
    unproven_room: Arc<Room>,
    connection_age: Duration,
    host: Host,
}

impl Edge {
    /// With these settings.
    #[must_use]
    pub fn new(config: &Config, host: Host) -> Arc<Self> {
        Arc::new(Self {
            addresses: Arc::new(Addresses::new(
                config.address_connections_max,
                config.address_connections_per_second,
                config.address_requests_per_second,
            )),
            users: Keyed::new(config.user_requests_per_second),
            admission: Admission::new(config.requests_at_once_max),
            room: Room::new(REQUESTS_BYTES_MAX),
            open_room: Room::new(OPEN_REQUESTS_BYTES_MAX),
            unproven_room: Room::new(UNPROVEN_BYTES_MAX),
            connection_age: config.connection_age,
            host,
        })
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Result<Arc<Connection>, Reason> {
        let now = stonechat_host::monotonic();
        let source = Source::from(peer.ip());
        let place = self
            .addresses
            .enter(source, now)
            .inspect_err(|reason| refused(*reason))?;
        Ok(Arc::new(Connection::new(
            Arc::clone(self),
            source,
            self.end_of_age(now),
            place,
        )))
    }

    /// When a connection is to end, spread over a fifth of its age, so that those of one moment do not come back at
    /// once; `None` for never.
    fn end_of_age(&self, now: Instant) -> Option<Instant> {
        let millis = u64::try_from(self.connection_age.as_millis()).unwrap_or(u64::MAX);
        let spread = Duration::from_millis(self.host.random.below(millis / 5));
        (millis > 0).then(|| now + self.connection_age * 9 / 10 + spread)
    }

    /// Waits until there is room for one more piece of work.
    ///
    /// # Errors
    /// There is none in time; not done.
    pub(super) async fn admit(&self, deadline: Instant) -> Result<Admitted<'_>, Refusal> {
        let admitted = self.admission.enter(deadline).await;
        admitted.map_err(|_| self.too_much("the node has more to do than it can; not done"))
    }

    /// What somebody hears whom the node has no place for now: to come back, not all at once.
    fn too_much(&self, message: &'static str) -> Refusal {
        let retry_after_ms = 1 + self.host.random.below(RECONNECT_SPREAD_MS);
        Refusal::not_done(Why::RateLimited { retry_after_ms }, message)
    }

    /// Counts a hello of this user.
    ///
    /// # Errors
    /// It is one too many; not done.
    pub(super) fn hello(&self, user: &UserId) -> Result<(), Refusal> {
        self.take(user).map_or(Ok(()), |standing| standing.check("user"))
    }
}

impl UserRates for Edge {
    fn take(&self, user: &UserId) -> Option<Standing> {
        let standing = self.users.take(user, stonechat_host::monotonic())?;
        if standing.retry_after.is_some() {
            refused(Reason::UserRate);
        }
        Some(standing)
    }

    fn give_back(&self, user: &UserId) {
        self.users.give_back(user, stonechat_host::monotonic());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ages lie within a tenth around the setting, and apart.
    #[tokio::test(start_paused = true)]
    async fn ages_are_spread() {
        let edge = |seconds| {
            let config = Config {
                connection_age: Duration::from_secs(seconds),
                ..Config::default()
            };
            Edge::new(&config, Host::system())
        };
        let now = stonechat_host::monotonic();
        let old = edge(1_000);
        let ages: Vec<u64> = (0..100)
            .filter_map(|_| old.end_of_age(now))
            .map(|end| (end - now).as_secs())
            .collect();
        assert_eq!(ages.len(), 100);
        assert!(ages.iter().all(|age| (900..1_100).contains(age)), "{ages:?}");
        assert!(ages.iter().max() > ages.iter().min());
        assert_eq!(edge(0).end_of_age(now), None);
    }
}
