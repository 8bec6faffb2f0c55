//! Backends in memory: deterministic, without threads or files, for simulation. Nothing outlives the
//! last handle; a simulated restart keeps the handle, as a disk would be kept.

pub mod directory;
mod log;
mod markers;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use stonechat_host::Host;

/// A store in memory. Unbounded by intent: a simulation ends.
pub struct MemoryStore {
    store_id: [u8; 16],
    log: Mutex<log::Logs>,
    markers: Mutex<markers::Registers>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(host: &Host) -> Self {
        Self {
            store_id: host.random.bytes16(),
            log: Mutex::default(),
            markers: Mutex::default(),
        }
    }

    fn logs(&self) -> MutexGuard<'_, log::Logs> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registers(&self) -> MutexGuard<'_, markers::Registers> {
        self.markers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
