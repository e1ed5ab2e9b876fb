//! The records in memory: which of them the store does not have yet, and which may be forgotten.
//!
//! Every record is in one of three places: *dirty* (the store has an older one), *idle* (the store has it; forgotten, least recently used
//! first, when idle records take more than the cache's bytes), or *set aside* (the store refused it; stays).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use prost::Message;
use proto::{ids::ItemId, names, record::PlayerRecord};

use super::Lsn;

/// Bytes that a record counts for beside its encoded length: its strings, maps and counters.
const RECORD_BYTES: usize = 256;
/// Idle records that stay whatever the limit says, so that a record which was just loaded is still there when it is used.
const IDLE_MIN: usize = 256;

/// What holds for a record in memory beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It can be read and written.
    Alive,
    /// Its account deleted it; it is as good as gone.
    Deleted,
    /// The store refused it: it can be read, and nothing more is taken for it.
    SetAside,
}

/// A record in memory.
#[derive(Clone, Debug)]
pub(crate) struct Hot {
    pub record: Arc<PlayerRecord>,
    /// Ids of its items, sorted.
    pub items: Arc<[ItemId]>,
    /// Who may write it; empty: nobody.
    pub owner: Arc<str>,
    pub epoch: u64,
    pub version: u64,
    /// Rises with every change, those of the owner included.
    pub revision: u64,
    pub life: Life,
    /// Nothing was written since it came from the store.
    pub as_loaded: bool,
    /// The last change, and the last change of its items, in this run; 0: none.
    pub lsn: Lsn,
    pub items_lsn: Lsn,
    /// The change up to which the store has it.
    pub stored_lsn: Lsn,
    /// A version that is safe, if the newest is not.
    pub safe_version: u64,
    used: u64,
    bytes: usize,
}

impl Hot {
    /// As the store has it.
    pub(crate) fn loaded(
        record: Arc<PlayerRecord>,
        items: Arc<[ItemId]>,
        owner: Arc<str>,
        epoch: u64,
        version: u64,
        revision: u64,
    ) -> Self {
        let (lsn, items_lsn, stored_lsn, used, bytes) = (0, 0, 0, 0, 0);
        let (life, as_loaded, safe_version) = (Life::Alive, true, version);
        Self { record, items, owner, epoch, version, revision, life, as_loaded, lsn, items_lsn, stored_lsn, safe_version, used, bytes }
    }

    /// The same, read-only.
    pub(crate) fn set_aside(self) -> Self {
        Self { life: Life::SetAside, ..self }
    }

    fn is_dirty(&self) -> bool {
        self.stored_lsn < self.lsn && self.life != Life::SetAside
    }

    fn weigh(&mut self) {
        self.bytes = RECORD_BYTES + self.record.encoded_len() + self.items.len() * size_of::<ItemId>();
    }
}

/// The records in memory.
#[derive(Debug, Default)]
pub(crate) struct Records {
    hot: HashMap<u64, Hot>,
    /// Who has which name, by its key.
    names: HashMap<String, u64>,
    dirty: BTreeSet<u64>,
    dirty_bytes: usize,
    /// By last use.
    idle: BTreeMap<u64, u64>,
    idle_bytes: usize,
    uses: u64,
}

impl Records {
    pub(crate) fn get(&self, player: u64) -> Option<&Hot> {
        self.hot.get(&player)
    }

    pub(crate) fn named(&self, name_key: &str) -> Option<u64> {
        let living = |player: &u64| self.hot.get(player).is_some_and(|hot| hot.life != Life::Deleted);
        self.names.get(name_key).copied().filter(living)
    }

    pub(crate) fn len(&self) -> usize {
        self.hot.len()
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// The dirty records, in the order of their players.
    pub(crate) fn dirty(&self) -> impl ExactSizeIterator<Item = (u64, &Hot)> {
        self.dirty.iter().map(|player| (*player, &self.hot[player]))
    }

    /// All of them, in the order of their players.
    pub(crate) fn sorted(&self) -> BTreeMap<u64, &Hot> {
        self.hot.iter().map(|(player, hot)| (*player, hot)).collect()
    }

    /// Takes a record, in place of the one that there is.
    pub(crate) fn insert(&mut self, player: u64, hot: Hot) {
        if self.hot.contains_key(&player) {
            return self.change(player, |known| *known = Hot { used: known.used, ..hot });
        }
        if hot.life != Life::Deleted {
            self.names.insert(names::player_key(&hot.record.name), player);
        }
        self.hot.insert(player, hot);
        self.list(player);
    }

    /// Changes a record, or only notes that it was used.
    pub(crate) fn change(&mut self, player: u64, change: impl FnOnce(&mut Hot)) {
        let Some(hot) = self.hot.get_mut(&player) else { return };
        if !hot.is_dirty() {
            self.unlist(player);
            if let Some(hot) = self.hot.get_mut(&player) {
                change(hot);
            }
            return self.list(player);
        }
        let before = hot.bytes;
        change(hot);
        hot.weigh();
        self.dirty_bytes = self.dirty_bytes - before + hot.bytes;
        // What waits and is saved anew, as most are, stays where it is.
        if !hot.is_dirty() {
            self.unlist(player);
            self.list(player);
        }
    }

    pub(crate) fn remove(&mut self, player: u64) -> Option<Hot> {
        self.unlist(player);
        let gone = self.hot.remove(&player)?;
        let key = names::player_key(&gone.record.name);
        if self.names.get(&key) == Some(&player) {
            self.names.remove(&key);
        }
        Some(gone)
    }

    /// Forgets the idle records that are over the limit; returns them.
    pub(crate) fn evict(&mut self, bytes_max: usize) -> Vec<(u64, Hot)> {
        let mut gone = Vec::new();
        while bytes_max < self.idle_bytes && IDLE_MIN < self.idle.len() {
            let (_, &player) = self.idle.first_key_value().expect("it has more than IDLE_MIN");
            gone.extend(self.remove(player).map(|hot| (player, hot)));
        }
        gone
    }

    fn unlist(&mut self, player: u64) {
        let Some(hot) = self.hot.get(&player) else { return };
        if self.dirty.remove(&player) {
            self.dirty_bytes -= hot.bytes;
        } else if self.idle.remove(&hot.used).is_some() {
            self.idle_bytes -= hot.bytes;
        }
    }

    fn list(&mut self, player: u64) {
        let Some(hot) = self.hot.get_mut(&player) else { return };
        self.uses += 1;
        hot.used = self.uses;
        hot.weigh();
        if hot.is_dirty() {
            self.dirty.insert(player);
            self.dirty_bytes += hot.bytes;
        } else if hot.life != Life::SetAside {
            self.idle.insert(hot.used, player);
            self.idle_bytes += hot.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot() -> Hot {
        Hot::loaded(Arc::default(), Arc::new([]), "".into(), 0, 1, 1)
    }

    #[test]
    fn what_waits_and_is_saved_anew_counts_once_with_its_newest_size() {
        let mut records = Records::default();
        records.insert(1, hot());
        let named = |bytes: usize| Arc::new(PlayerRecord { name: "n".repeat(bytes), ..PlayerRecord::default() });
        records.change(1, |hot| (hot.lsn, hot.record) = (1, named(50)));
        records.change(1, |hot| (hot.lsn, hot.record) = (2, named(10)));
        assert_eq!((records.dirty_bytes(), records.dirty().len()), (RECORD_BYTES + named(10).encoded_len(), 1));
        records.insert(1, Hot { lsn: 3, record: named(20), ..hot() });
        assert_eq!((records.dirty_bytes(), records.dirty().len()), (RECORD_BYTES + named(20).encoded_len(), 1));
        records.change(1, |hot| hot.stored_lsn = 3);
        assert_eq!((records.dirty_bytes(), records.dirty().len()), (0, 0));
        assert!(records.remove(1).is_some() && records.idle.is_empty() && records.idle_bytes == 0);
    }

    #[test]
    fn the_least_recently_used_go_first_and_dirty_ones_stay() {
        let mut records = Records::default();
        let end = IDLE_MIN as u64 + 4;
        for player in 0..end {
            records.insert(player, hot());
        }
        records.change(0, |_| ());
        records.change(1, |hot| hot.lsn = 1);
        assert_eq!(records.dirty_bytes(), RECORD_BYTES);
        let gone: Vec<u64> = records.evict(0).into_iter().map(|(player, _)| player).collect();
        assert_eq!(gone, [2, 3, 4], "1 is dirty, 0 was just used, and IDLE_MIN stay");
        records.change(1, |hot| hot.stored_lsn = 1);
        assert_eq!(records.dirty_bytes(), 0);
    }
}
