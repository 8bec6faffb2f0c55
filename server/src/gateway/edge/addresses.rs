//! What one source address may take: connections a second, open connections, requests a second.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::keyed::Keyed;
use super::refusals::Reason;
use crate::api::Standing;

/// Whom limits by address are kept for: an address of IPv4, or a /64 of IPv6, which is one customer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gateway) struct Source([u8; 16]);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => {
                let mut bytes = address.octets();
                bytes[8..].fill(0);
                Self(bytes)
            }
        }
    }
}

/// The limits of every source address, and what each has taken.
pub(super) struct Addresses {
    connections: Keyed<Source>,
    requests: Keyed<Source>,
    open_max: usize,
    /// Open connections; without addresses that have none, so there are at most as many as connections.
    open: Mutex<BTreeMap<Source, usize>>,
}

/// An open connection counts as long as this lives.
pub(in crate::gateway) struct Place {
    addresses: Arc<Addresses>,
    source: Source,
}

impl Addresses {
    /// 0 is no limit, for each.
    pub(super) fn new(open_max: usize, connections_per_second: u32, requests_per_second: u32) -> Self {
        Self {
            connections: Keyed::new(connections_per_second),
            requests: Keyed::new(requests_per_second),
            open_max,
            open: Mutex::default(),
        }
    }

    /// A place for one more connection.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn enter(self: &Arc<Self>, source: Source, now: Instant) -> Result<Place, Reason> {
        let over = |standing: Standing| standing.retry_after.is_some();
        if self.connections.take(&source, now).is_some_and(over) {
            return Err(Reason::ConnectionRate);
        }
        let mut open = self.open();
        let taken = open.entry(source).or_default();
        if self.open_max > 0 && *taken >= self.open_max {
            return Err(Reason::AddressConnections);
        }
        *taken += 1;
        Ok(Place {
            addresses: Arc::clone(self),
            source,
        })
    }

    /// Counts a request; `None` when there is no limit.
    pub(super) fn request(&self, source: Source, now: Instant) -> Option<Standing> {
        self.requests.take(&source, now)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Source, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.addresses.open();
        if let Some(taken) = open.get_mut(&self.source) {
            *taken -= 1;
            if *taken == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn a_customer_is_one_source() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    /// I9: one address cannot take every place, and places come back.
    #[test]
    fn i9_open_connections_of_an_address_are_bounded() {
        let now = stonechat_host::monotonic();
        let addresses = Arc::new(Addresses::new(2, 0, 0));
        let one = source("192.0.2.1");
        let mut places: Vec<_> = (0..2).map(|_| addresses.enter(one, now)).collect();
        assert!(places.iter().all(Result::is_ok));
        assert_eq!(addresses.enter(one, now).err(), Some(Reason::AddressConnections));
        assert!(addresses.enter(source("192.0.2.2"), now).is_ok());
        places.pop();
        assert!(addresses.enter(one, now).is_ok());
        drop(places);
        assert!(addresses.open().is_empty());
    }

    #[test]
    fn an_address_that_opens_too_fast_is_refused() {
        let now = stonechat_host::monotonic();
        let addresses = Arc::new(Addresses::new(0, 1, 0));
        let one = source("192.0.2.1");
        let entered = (0..20).filter(|_| addresses.enter(one, now).is_ok()).count();
        assert_eq!(entered, super::super::keyed::BURST_SECONDS as usize);
        assert_eq!(addresses.enter(one, now).err(), Some(Reason::ConnectionRate));
        assert!(addresses.enter(one, now + Duration::from_secs(1)).is_ok());
        assert_eq!(addresses.request(one, now), None);
    }
}
