//! Chance, from the seed alone.

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::{Random, SeededRandom};

use super::setup::PerMille;

/// One stream of chance; clones draw from the same stream.
#[derive(Clone)]
pub(super) struct Dice(Arc<SeededRandom>);

impl Dice {
    /// The stream of a part of a run.
    pub(super) fn new(seed: u64, part: u64) -> Self {
        Self(Arc::new(SeededRandom::new(
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03),
        )))
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// An index into something of this length.
    pub(super) fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True this often.
    pub(super) fn chance(&self, chance: PerMille) -> bool {
        chance.0 > 0 && self.below(1_000) < u64::from(chance.0)
    }

    /// Up to `max`, in whole milliseconds: finer than that simulated time does not go.
    pub(super) fn millis(&self, max: Duration) -> Duration {
        let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.below(max.saturating_add(1)))
    }
}
