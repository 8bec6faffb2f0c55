//! What goes wrong right now, and how often it did.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::dice::Dice;
use super::setup::{Faults, PerMille};

/// How often what happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, name: &'static str, more: u64) {
        *self.0.entry(name).or_default() += more;
    }

    /// How often; 0 for never.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds up.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add(name, *count);
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (name, count) in &self.0 {
            write!(f, "{between}{count} {name}")?;
            between = ", ";
        }
        Ok(())
    }
}

/// A store that answers nothing but errors for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Log,
    Markers,
    Directory,
}

struct Now {
    faults: Faults,
    out: Option<Store>,
    counts: Counts,
}

/// Shared by everything that can go wrong.
#[derive(Clone)]
pub(super) struct Weather {
    now: Arc<Mutex<Now>>,
    pub(super) dice: Dice,
}

impl Weather {
    pub(super) fn new(faults: Faults, dice: Dice) -> Self {
        let now = Now {
            faults,
            out: None,
            counts: Counts::default(),
        };
        Self {
            now: Arc::new(Mutex::new(now)),
            dice,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> Faults {
        self.lock().faults
    }

    /// Changes what goes wrong from now on.
    pub(super) fn set(&self, faults: Faults) {
        let mut now = self.lock();
        now.faults = faults;
        now.out = None;
    }

    /// One store is out until it is said to be back.
    pub(super) fn set_out(&self, store: Option<Store>) {
        self.lock().out = store;
    }

    pub(super) fn is_out(&self, store: Store) -> bool {
        self.lock().out == Some(store)
    }

    pub(super) fn count(&self, name: &'static str) {
        self.lock().counts.add(name, 1);
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// Whether it goes wrong this time; counted under `name` when it does.
    pub(super) fn strikes(&self, chance: PerMille, name: &'static str) -> bool {
        let strikes = self.dice.chance(chance);
        if strikes {
            self.count(name);
        }
        strikes
    }

    /// A wait of up to `max`, when it strikes.
    pub(super) async fn delay(&self, chance: PerMille, name: &'static str, max: Duration) {
        if self.strikes(chance, name) {
            tokio::time::sleep(self.dice.millis(max)).await;
        }
    }
}
