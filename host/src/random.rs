//! Randomness.

use std::cell::RefCell;
use std::sync::Mutex;

/// A source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `buffer`.
    fn fill(&self, buffer: &mut [u8]);

    /// A random number in `0..bound`; 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        // 128 random bits over at most 64: the bias is below 2^-64.
        let wide = u128::from_le_bytes(bytes) % u128::from(bound.max(1));
        u64::try_from(wide).unwrap_or(0)
    }

    /// 16 random bytes, for ids and tokens.
    fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }
}

/// Bytes asked of the operating system at once: the call costs more than the bytes, and every message draws 16.
const BLOCK_BYTES: usize = 512;

/// Bytes that nobody has drawn yet are behind `used`; those before it are zero.
struct Block {
    bytes: [u8; BLOCK_BYTES],
    used: usize,
}

impl Block {
    const EMPTY: Self = Self {
        bytes: [0; BLOCK_BYTES],
        used: BLOCK_BYTES,
    };

    fn take(&mut self, buffer: &mut [u8]) {
        if buffer.len() > BLOCK_BYTES - self.used {
            ask_system(&mut self.bytes);
            self.used = 0;
        }
        let taken = &mut self.bytes[self.used..self.used + buffer.len()];
        buffer.copy_from_slice(taken);
        taken.fill(0);
        self.used += buffer.len();
    }
}

thread_local! {
    static BLOCK: RefCell<Block> = const { RefCell::new(Block::EMPTY) };
}

fn ask_system(buffer: &mut [u8]) {
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    let filled = getrandom::fill(buffer);
    // Without randomness no id or secret can be made: there is nothing sensible to go on with.
    assert!(filled.is_ok(), "the operating system gave no randomness");
}

/// The operating system's generator, fit for secrets.
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        if buffer.len() > BLOCK_BYTES {
            return ask_system(buffer);
        }
        // A thread that is ending has no block any more.
        let done = BLOCK.try_with(|block| block.borrow_mut().take(buffer));
        if done.is_err() {
            ask_system(buffer);
        }
    }
}

/// A generator that repeats for one seed (SplitMix64, Steele et al., OOPSLA 2014). For simulation only.
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{BLOCK_BYTES, Random, SystemRandom};

    /// Drawn in pieces of all sizes, over many blocks: no piece is seen twice, and none is left as it was.
    #[test]
    fn the_systems_bytes_are_given_out_once() {
        let mut seen = BTreeSet::new();
        for _ in 0..10_000 {
            assert!(seen.insert(SystemRandom.bytes16()));
        }
        for size in [17, 33, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES] {
            let mut bytes = vec![0; size];
            SystemRandom.fill(&mut bytes);
            let (words, _) = bytes.as_chunks::<16>();
            assert!(words.iter().all(|word| seen.insert(*word)), "{size}");
        }
    }
}
