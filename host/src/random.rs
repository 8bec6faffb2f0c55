//! Randomness.

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

/// The operating system's generator, fit for secrets.
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        #[allow(clippy::disallowed_methods, reason = "this is the door")]
        let filled = getrandom::fill(buffer);
        // Without randomness no id or secret can be made: there is nothing sensible to go on with.
        assert!(filled.is_ok(), "the operating system gave no randomness");
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
