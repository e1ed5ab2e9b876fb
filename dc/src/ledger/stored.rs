//! What the store has and lacks: the next batch, and what becomes of it.

use std::collections::HashSet;

use super::{
    Ledger, Lsn, UNIT_BYTES,
    records::{Hot, Life},
};
use crate::store::{Batch, Row};

impl Ledger {
    /// Bytes of what the store does not have yet.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.records.dirty_bytes() + self.pending.len() * UNIT_BYTES + self.mails.dirty_bytes() + self.facts.pending_bytes
    }

    /// At so many dirty bytes nothing more is taken.
    pub(crate) fn dirty_bytes_max(&self) -> usize {
        self.limits.dirty_bytes_max
    }

    /// The newest change.
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether more than half of what may wait does.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.limits.dirty_bytes_max / 2 < self.dirty_bytes()
    }

    /// Records that the store does not have as they are now.
    pub(crate) fn dirty_records(&self) -> usize {
        self.records.dirty().len()
    }

    /// Whether the store lacks anything.
    pub(crate) fn is_dirty(&self) -> bool {
        0 < self.dirty_records() || !self.pending.is_empty() || !self.facts.pending.is_empty()
    }

    /// Records in memory.
    pub(crate) fn hot_records(&self) -> usize {
        self.records.len()
    }

    /// Records that the store refused in this run.
    pub(crate) fn set_aside_records(&self) -> usize {
        self.set_aside
    }

    /// All that the store lacks, as it is now.
    pub(crate) fn batch(&self) -> Batch {
        let (rows, units) = (self.records.dirty().map(|(player, hot)| row(player, hot)).collect(), self.pending.iter().cloned().collect());
        let (facts, numbers, units_floor) = (self.facts.pending.iter().cloned().collect(), self.facts.numbers, self.units.floor());
        Batch { lsn: self.lsn, now_ms: 0, rows, units, units_floor, facts, numbers, commands: Vec::new() }
    }

    /// How many batches the store has taken: what was read of it while this stayed the same lacks nothing but what is pending.
    pub(crate) fn batches(&self) -> u64 {
        self.batches
    }

    /// Makes players whose rows the store refused read-only. The rows are what was saved of them since the batch was taken: the store has to
    /// put them aside too, before the journal may forget them.
    pub(crate) fn put_aside(&mut self, batch: &Batch, refused: &HashSet<u64>) -> Batch {
        let mut late = Batch { now_ms: batch.now_ms, ..Batch::default() };
        for refused in batch.rows.iter().filter(|row| refused.contains(&row.player)) {
            self.records.change(refused.player, |hot| hot.life = Life::SetAside);
            self.set_aside += 1;
            late.rows.extend(self.records.get(refused.player).filter(|hot| refused.lsn < hot.lsn).map(|hot| row(refused.player, hot)));
        }
        late
    }

    /// The store has the batch, but for the players that it refused, who were put aside. What the journal still lacks of it, it need not have any more.
    pub(crate) fn stored(&mut self, batch: &Batch, refused: &HashSet<u64>) {
        self.batches += 1;
        self.facts.stored(batch.lsn);
        self.mails_stored(batch, refused);
        self.log.drop_to(batch.lsn);
        self.safe_to(batch.lsn);
        for row in batch.rows.iter().filter(|row| !refused.contains(&row.player)) {
            self.known.stored(row);
            self.records.change(row.player, |hot| hot.stored_lsn = row.lsn);
            if row.deleted {
                self.records.remove(row.player);
            }
        }
        while self.pending.front().is_some_and(|unit| unit.lsn <= batch.lsn) {
            let unit = self.pending.pop_front().expect("it has a front");
            if unit.players.iter().any(|player| refused.contains(player)) {
                unit.id.inspect(|id| self.units.forget(*id));
            }
        }
    }
}

/// A record as the store takes it.
fn row(player: u64, hot: &Hot) -> Row {
    Row {
        player,
        record: hot.record.clone(),
        owner: hot.owner.clone(),
        epoch: hot.epoch,
        version: hot.version,
        revision: hot.revision,
        lsn: hot.lsn,
        items_changed: hot.stored_lsn < hot.items_lsn,
        deleted: hot.life == Life::Deleted,
    }
}
