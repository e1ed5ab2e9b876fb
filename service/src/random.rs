//! Chance from one seeded source a process: the same seed gives the same run. Not for secrets, which come from [`crate::secret`].

use std::sync::{Arc, Mutex};

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014). Cheap to clone and split.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers follow from `seed` alone.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 even bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, even to within `end` / 2^64; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the high half of 128 bits has 64")
    }

    /// The generator's state, for hashes of a world.
    pub const fn state(&self) -> u64 {
        self.0
    }
}

/// A process' source of chance, shared by its tasks.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<Rng>>);

impl Random {
    /// A source whose numbers follow from `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Rng::new(seed))))
    }

    /// 64 even bits.
    pub fn next_u64(&self) -> u64 {
        self.lock().next_u64()
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&self, end: u64) -> u64 {
        self.lock().below(end)
    }

    /// A generator of its own for one task or line.
    pub fn split(&self) -> Rng {
        Rng::new(self.next_u64())
    }

    /// `duration`, up to a half longer or shorter, so that many who wait do not come back at once.
    pub fn jitter(&self, duration: std::time::Duration) -> std::time::Duration {
        let per_mille = 500 + u32::try_from(self.below(1001)).expect("below 1001");
        duration * per_mille / 1000
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rng> {
        self.0.lock().expect("no holder of the generator panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_run() {
        let (mut one, mut two, mut other) = (Rng::new(7), Rng::new(7), Rng::new(8));
        let first: Vec<u64> = (0..4).map(|_| one.next_u64()).collect();
        assert_eq!(first, (0..4).map(|_| two.next_u64()).collect::<Vec<_>>());
        assert_ne!(first, (0..4).map(|_| other.next_u64()).collect::<Vec<_>>());
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::new(1);
        assert!((0..1000).all(|_| rng.below(6) < 6));
        assert_eq!(rng.below(0), 0);
    }
}
