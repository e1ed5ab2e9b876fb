//! What was read and may be forgotten: the least recently used first, when all of it takes more than its bytes. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Entries that stay whatever the limit says, so that what was just read is still there when it is used.
const KEPT_MIN: usize = 256;

/// Values by key, each with its last use and its bytes.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    kept: HashMap<K, Kept<V>>,
    /// By last use.
    order: BTreeMap<u64, K>,
    uses: u64,
    bytes: usize,
    weigh: fn(&V) -> usize,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    used: u64,
    bytes: usize,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// `weigh`: what a value counts for.
    pub(super) fn new(weigh: fn(&V) -> usize) -> Self {
        Self { kept: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0, weigh }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The value, marked as used.
    pub(super) fn get(&mut self, key: K) -> Option<&V> {
        self.change(key, |_| ());
        self.kept.get(&key).map(|kept| &kept.value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(key);
        let (used, bytes) = (self.next_use(), (self.weigh)(&value));
        self.bytes += bytes;
        self.order.insert(used, key);
        self.kept.insert(key, Kept { value, used, bytes });
    }

    /// Changes a value that is there, which counts as a use.
    pub(super) fn change(&mut self, key: K, change: impl FnOnce(&mut V)) {
        let used = self.next_use();
        let Some(kept) = self.kept.get_mut(&key) else { return };
        change(&mut kept.value);
        let before = std::mem::replace(&mut kept.bytes, (self.weigh)(&kept.value));
        self.bytes = self.bytes + kept.bytes - before;
        self.order.remove(&kept.used);
        kept.used = used;
        self.order.insert(used, key);
    }

    /// Changes all values, which is no use of them.
    pub(super) fn change_all(&mut self, mut change: impl FnMut(&mut V)) {
        for kept in self.kept.values_mut() {
            change(&mut kept.value);
            let before = std::mem::replace(&mut kept.bytes, (self.weigh)(&kept.value));
            self.bytes = self.bytes + kept.bytes - before;
        }
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let gone = self.kept.remove(&key)?;
        self.order.remove(&gone.used);
        self.bytes -= gone.bytes;
        Some(gone.value)
    }

    /// Forgets what is over the limit; returns it.
    pub(super) fn evict(&mut self, bytes_max: usize) -> Vec<V> {
        let mut gone = Vec::new();
        while bytes_max < self.bytes && KEPT_MIN < self.kept.len() {
            let (_, &oldest) = self.order.first_key_value().expect("it has more than KEPT_MIN");
            gone.extend(self.remove(oldest));
        }
        gone
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first_and_bytes_are_those_of_what_is_there() {
        let mut lru: Lru<usize, Vec<u8>> = Lru::new(Vec::len);
        (0..KEPT_MIN + 3).for_each(|key| lru.insert(key, vec![7; 10]));
        lru.get(0);
        lru.change(1, |value| value.truncate(4));
        lru.insert(2, vec![8; 20]);
        assert_eq!(lru.bytes(), (KEPT_MIN + 1) * 10 + 4 + 20);
        assert_eq!(lru.evict(0).len(), 3);
        assert!([0, 1, 2].into_iter().all(|key| lru.get(key).is_some()) && lru.get(3).is_none(), "0, 1 and 2 were used since");
        lru.change_all(Vec::clear);
        assert_eq!((lru.bytes(), lru.evict(0).len()), (0, 0));
        assert_eq!((lru.remove(0), lru.remove(0)), (Some(Vec::new()), None));
    }
}
