//! What happened, for the journal: the changes that it has not taken yet, and those that it gives back at the start.

use std::{collections::VecDeque, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;
use proto::record::{Mail, PlayerRecord};

use super::{
    Ledger, Lsn, PendingUnit,
    facts::Fact,
    records::{Hot, Life},
    units::UnitId,
};
use crate::{items::ids_of, refusal::Refusal};

/// Bytes of changes that may wait for the journal; above it nothing more is taken.
pub(crate) const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that a change counts for beside its records.
const ENTRY_BYTES: usize = 128;

/// A record as a change made it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Logged {
    pub player: u64,
    pub record: Arc<PlayerRecord>,
    pub owner: Arc<str>,
    pub epoch: u64,
    pub version: u64,
    pub revision: u64,
    pub deleted: bool,
}

impl Logged {
    pub(super) fn of(player: u64, hot: &Hot) -> Self {
        let (record, owner, deleted) = (hot.record.clone(), hot.owner.clone(), hot.life == Life::Deleted);
        Self { player, record, owner, epoch: hot.epoch, version: hot.version, revision: hot.revision, deleted }
    }
}

/// One change, whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub lsn: Lsn,
    /// Everybody whom it is about, also those whose record it leaves as it is.
    pub players: Vec<u64>,
    pub writes: Vec<Logged>,
    pub unit: Option<UnitId>,
    /// The mail that it sends or takes, as it is after it.
    pub mail: Option<Arc<Mail>>,
    /// The fact that it is, if it is none of players.
    pub fact: Option<Arc<Fact>>,
    /// What it counts for while it waits.
    pub bytes: usize,
}

impl Entry {
    pub(crate) fn new(lsn: Lsn, players: Vec<u64>, writes: Vec<Logged>, unit: Option<UnitId>) -> Self {
        let bytes = ENTRY_BYTES + writes.iter().map(|write| ENTRY_BYTES + write.record.encoded_len()).sum::<usize>();
        Self { lsn, players, writes, unit, mail: None, fact: None, bytes }
    }

    pub(crate) fn of_fact(lsn: Lsn, fact: Arc<Fact>) -> Self {
        let bytes = ENTRY_BYTES + fact.bytes();
        Self { lsn, players: Vec::new(), writes: Vec::new(), unit: None, mail: None, fact: Some(fact), bytes }
    }

    pub(crate) fn with_mail(mut self, mail: Option<Arc<Mail>>) -> Self {
        self.bytes += mail.as_ref().map_or(0, |mail| mail.encoded_len());
        self.mail = mail;
        self
    }
}

/// Changes that the journal lacks, oldest first. Full? [`Ledger`] takes nothing more until the journal or the store has caught up.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Log {
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    pub(super) fn is_full(&self) -> bool {
        LOG_BYTES_MAX <= self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets the changes up to this one.
    pub(super) fn drop_to(&mut self, lsn: Lsn) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.lsn <= lsn) {
            self.bytes -= entry.bytes;
        }
    }

    /// Takes the oldest, at least one if there is one, of not many more than `bytes_max`.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Vec<Entry> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(entry) = self.entries.pop_front()
        {
            bytes += entry.bytes;
            taken.push(entry);
        }
        self.bytes -= bytes;
        taken
    }

    /// Gives back what [`Log::take`] took.
    pub(crate) fn give_back(&mut self, taken: Vec<Entry>) {
        for entry in taken.into_iter().rev() {
            self.bytes += entry.bytes;
            self.entries.push_front(entry);
        }
    }
}

impl Ledger {
    /// What the journal lacks.
    pub(crate) fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Bytes of changes that the journal lacks.
    pub(crate) fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Everything up to this change is safe.
    pub(crate) fn safe_to(&mut self, lsn: Lsn) {
        self.safe = self.safe.max(lsn);
    }

    /// The version up to which the player is safe for sure.
    pub(crate) fn safe_version(&self, hot: &Hot) -> u64 {
        if hot.lsn <= self.safe { hot.version } else { hot.safe_version }
    }

    /// Takes a change back that the store does not have. Changes come in their order.
    ///
    /// Refused when it does not fit what came before: then the journal is not this ledger's.
    pub(crate) fn replay(&mut self, entry: &Entry) -> Result<(), Refusal> {
        let foreign = |why: String| Refusal::Internal(format!("change {} does not fit those before it: {why}", entry.lsn));
        if entry.lsn <= self.lsn {
            return Err(foreign(format!("change {} came already", self.lsn)));
        }
        for write in &entry.writes {
            if let Some(hot) = self.records.get(write.player) {
                if write.revision <= hot.revision || write.version < hot.version || write.epoch < hot.epoch {
                    return Err(foreign(format!("player {} would go back", write.player)));
                }
                self.items.remove(write.player, &hot.items);
            }
        }
        for write in &entry.writes {
            let items: Arc<[_]> = if write.deleted { Arc::new([]) } else { ids_of(&write.record.items)?.into() };
            self.items.insert(write.player, &items);
            let mut hot = Hot::loaded(write.record.clone(), items, write.owner.clone(), write.epoch, write.version, write.revision);
            hot.life = if write.deleted { Life::Deleted } else { Life::Alive };
            (hot.lsn, hot.items_lsn) = (entry.lsn, entry.lsn);
            self.records.insert(write.player, hot);
        }
        if let Some(mail) = &entry.mail {
            self.put_mail(mail.clone(), entry.lsn)?;
        }
        if let Some(fact) = &entry.fact {
            self.keep_fact(entry.lsn, fact.clone());
        }
        self.lsn = self.lsn.max(entry.lsn);
        self.safe_to(entry.lsn);
        if let Some(unit) = entry.unit {
            self.units.remember(unit, entry.lsn);
        }
        if entry.unit.is_some() || 1 < entry.players.len() {
            self.pending.push_back(PendingUnit {
                lsn: entry.lsn,
                id: entry.unit,
                players: entry.players.clone(),
                mail: entry.mail.clone(),
            });
        }
        Ok(())
    }

    /// Numbers of changes go on above this one, which is safe.
    pub(crate) fn go_on_above(&mut self, lsn: Lsn) {
        self.lsn = self.lsn.max(lsn);
        self.safe_to(lsn);
    }

    /// A hash of all records in memory, and of the units and facts that wait for the store: equal for equal states.
    pub(crate) fn state_hash(&self) -> String {
        let mut hash = Context::new(&SHA256);
        for (player, hot) in self.records.sorted() {
            for number in [player, hot.epoch, hot.version, hot.revision, u64::from(hot.life == Life::Deleted), hot.owner.len() as u64] {
                hash.update(&number.to_le_bytes());
            }
            hash.update(hot.owner.as_bytes());
            hash.update(&hot.record.encode_length_delimited_to_vec());
        }
        for unit in &self.pending {
            hash.update(&unit.lsn.to_le_bytes());
            hash.update(&unit.id.map_or([0; 16], |id| id.0));
            unit.players.iter().for_each(|player| hash.update(&player.to_le_bytes()));
            unit.mail.iter().for_each(|mail| hash.update(&mail.encode_length_delimited_to_vec()));
        }
        for pending in &self.facts.pending {
            hash.update(&pending.lsn.to_le_bytes());
            hash.update(format!("{:?}", pending.fact).as_bytes());
        }
        hash.update(&self.lsn.to_le_bytes());
        hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(lsn: Lsn) -> Entry {
        Entry::new(lsn, vec![1], Vec::new(), None)
    }

    fn lsns(log: &Log) -> Vec<Lsn> {
        log.entries.iter().map(|entry| entry.lsn).collect()
    }

    #[test]
    fn what_is_taken_can_be_given_back_and_what_the_store_has_is_dropped() {
        let mut log = Log::default();
        (1..=4).for_each(|lsn| log.push(entry(lsn)));
        let taken = log.take(ENTRY_BYTES + 1);
        assert_eq!((taken.len(), lsns(&log), log.bytes()), (2, vec![3, 4], 2 * ENTRY_BYTES));
        log.give_back(taken);
        log.drop_to(1);
        assert_eq!((lsns(&log), log.bytes()), (vec![2, 3, 4], 3 * ENTRY_BYTES));
        assert_eq!(log.take(usize::MAX).len(), 3);
        assert!(log.is_empty() && log.bytes() == 0);
    }
}
