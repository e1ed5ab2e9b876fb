//! The state hash of a world: FNV-1a over its fields, the same on every run of one build.

use std::hash::Hasher;

/// Takes the fields of a world, in order. Not for tables that strangers can fill: FNV has no key.
#[derive(Clone, Debug)]
pub struct StateHash(u64);

impl StateHash {
    /// Nothing hashed yet.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Default for StateHash {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher for StateHash {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
