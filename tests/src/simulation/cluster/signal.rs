//! A value that many tasks wait on, and that wakes them in the order in which they came. (`tokio::sync::watch` wakes them
//! in an order drawn from the operating system's randomness: a run would not repeat.)

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(super) struct Signal<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Signal<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> T {
        *self.lock()
    }

    pub(super) fn change(&self, change: impl FnOnce(T) -> T) {
        let mut value = self.lock();
        *value = change(*value);
        self.changed.notify_waiters();
    }

    /// Returns once the value is so; at once when it is.
    pub(super) async fn wait_for(&self, is_so: impl Fn(T) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self.get()) {
                return;
            }
            changed.await;
        }
    }
}
