//! The client's own source of chance (SplitMix64): from one seed, always the same numbers. Nothing secret is made from it.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// A seeded sequence of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence that is another one in every run.
    pub fn fresh() -> Self {
        // The standard library seeds each `RandomState` from the operating system's source.
        Self(RandomState::new().hash_one(std::process::id()))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included; `low` when they are the wrong way round.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = i64::from(high) - i64::from(low) + 1;
        if span <= 1 {
            return low;
        }
        let offset = self.next_u64() % span.unsigned_abs();
        // The offset is below the span, so the sum is at most `high`.
        i32::try_from(i64::from(low) + i64::try_from(offset).unwrap_or(0)).unwrap_or(high)
    }

    /// A duration from zero to `most`.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.next_u64() % (micros.saturating_add(1)))
    }

    /// So many digits and small letters.
    pub fn letters(&mut self, count: usize) -> String {
        const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        (0..count).map(|_| char::from(LETTERS[(self.next_u64() % 36) as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_seed_is_a_sequence() {
        let (mut one, mut two) = (Random::new(7), Random::new(7));
        assert_eq!(one.letters(20), two.letters(20));
        assert_ne!(Random::new(8).next_u64(), Random::new(7).next_u64());
    }

    proptest! {
        #[test]
        fn between_keeps_its_bounds(seed: u64, low: i32, high: i32) {
            let got = Random::new(seed).between(low, high);
            prop_assert!(got == low || (low..=high).contains(&got));
        }
    }
}
