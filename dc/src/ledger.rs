//! The rules of player records: who owns a record, which write is taken, what has to be stored. Pure: no I/O, no clock, no tasks.
//!
//! Operations that change something ([`Ledger::claim`], [`Ledger::commit`], [`Ledger::handoff`], [`Ledger::release`],
//! [`Ledger::delete`]) end in [`Ledger::write`], the one way into the records. It numbers the change with an [`Lsn`]; an answer of class D2
//! waits until the journal, or the store, has everything up to that number. [`Ledger::batch`] is what the store lacks: all dirty records as they are at one
//! moment, so the store goes from one true state of all players to another, and never has half of a unit. [`Ledger::log`] has every change
//! that the journal lacks, and [`Ledger::replay`] takes them back from it at the start. What is no player's record is in [`facts`], what was read
//! of accounts and relations in [`known`].

pub(crate) mod facts;
pub(crate) mod known;
pub(crate) mod log;
mod lru;
mod mailboxes;
pub(crate) mod mails;
pub(crate) mod records;
pub(crate) mod sanctions;
pub(crate) mod save;
mod stored;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod units;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use proto::{
    ids::ItemId,
    internal::{CommitUnit, PlayerSave},
    record::{Mail, PlayerRecord},
};

use crate::{
    items::{ItemIndex, ids_of},
    refusal::Refusal,
    store::{PendingUnit, StoredPlayer},
};
use facts::Facts;
use known::{Account, Known, Whose};
use log::{Entry, Log, Logged};
use mailboxes::Mailboxes;
use mails::Mails;
use records::{Hot, Life, Records};
use save::Placed;
use units::{AppliedUnits, UnitId};

/// The number of a change. They rise by one; a new run goes on above all that the journal and the store know.
pub(crate) type Lsn = u64;

/// Bytes of an owner's name.
pub(crate) const OWNER_BYTES_MAX: usize = 128;
/// Bytes that a unit counts for until it is stored.
const UNIT_BYTES: usize = 128;

/// How much may be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of records that the store does not have yet; above it nothing more is taken.
    pub dirty_bytes_max: usize,
    /// Of records that could be forgotten.
    pub cache_bytes_max: usize,
    /// Mails that may wait for one player; above it none is sent to it.
    pub mail_max: usize,
}

/// A player as its owner gets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub record: Arc<PlayerRecord>,
    pub epoch: u64,
    pub version: u64,
    /// The change that made it so.
    pub lsn: Lsn,
}

/// Holders of items that no record in memory has, as the store knows them.
pub(crate) type Elsewhere = HashMap<ItemId, u64>;

/// What one operation does: all of it, or nothing.
struct Change {
    /// Everybody whom the operation is about, also those whose record it leaves as it is.
    players: Vec<u64>,
    writes: Vec<Write>,
    unit: Option<UnitId>,
    /// The mail that it sends or takes, as it is after it.
    mail: Option<Arc<Mail>>,
}

/// A record as it is after a change.
struct Write {
    player: u64,
    record: Arc<PlayerRecord>,
    items: Arc<[ItemId]>,
    owner: Arc<str>,
    epoch: u64,
    version: u64,
    life: Life,
}

impl Write {
    /// Everything as it is.
    fn keeping(player: u64, hot: &Hot) -> Self {
        let (record, items, owner) = (hot.record.clone(), hot.items.clone(), hot.owner.clone());
        Self { player, record, items, owner, epoch: hot.epoch, version: hot.version, life: hot.life }
    }
}

/// All that is known of players now.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: Limits,
    lsn: Lsn,
    records: Records,
    items: ItemIndex,
    units: AppliedUnits,
    mails: Mails,
    mailboxes: Mailboxes,
    /// Units that the store does not have yet, oldest first.
    pending: VecDeque<PendingUnit>,
    /// Changes that the journal has not taken yet.
    log: Log,
    /// The change up to which everything is safe.
    safe: Lsn,
    set_aside: usize,
    facts: Facts,
    pub known: Known,
    /// Batches that the store has taken in this run.
    batches: u64,
}

impl Ledger {
    /// Knows what the store remembers of applied units, oldest first, and nothing else yet.
    pub(crate) fn new(limits: Limits, applied: &[(UnitId, Lsn)]) -> Self {
        let mut units = AppliedUnits::default();
        applied.iter().for_each(|(unit, lsn)| units.remember(*unit, *lsn));
        let lsn = applied.last().map_or(0, |(_, lsn)| *lsn);
        let (records, items, mails, pending, log) =
            (Records::default(), ItemIndex::default(), Mails::default(), VecDeque::new(), Log::default());
        let (safe, set_aside, facts, known, batches) = (lsn, 0, Facts::default(), Known::default(), 0);
        let mailboxes = Mailboxes::default();
        Self { limits, lsn, records, items, units, mails, mailboxes, pending, log, safe, set_aside, facts, known, batches }
    }

    /// Those of the players that have to be loaded before anything can be said about them.
    pub(crate) fn missing(&self, players: &[u64]) -> Vec<u64> {
        players.iter().copied().filter(|player| self.records.get(*player).is_none()).collect()
    }

    /// Takes what the store has of a player. What is in memory is newer, and stays.
    ///
    /// Refused when the stored record breaks the rules of records.
    pub(crate) fn load(&mut self, stored: StoredPlayer) -> Result<(), Refusal> {
        let player = stored.record.player;
        if self.records.get(player).is_some() {
            return Ok(());
        }
        let items: Arc<[ItemId]> = ids_of(&stored.record.items)?.into();
        self.items.insert(player, &items);
        let (owner, record) = (stored.owner.into(), Arc::new(stored.record));
        self.records.insert(player, Hot::loaded(record, items, owner, stored.epoch, stored.version, stored.revision));
        Ok(())
    }

    /// As [`Ledger::load`], of a player whose newest record the store refused in an earlier run: it stays read-only. Its items are not
    /// counted as its own, for they may be why it was refused.
    pub(crate) fn load_set_aside(&mut self, stored: StoredPlayer, aside: StoredPlayer) {
        let player = stored.record.player;
        if self.records.get(player).is_none() {
            let (record, owner) = (Arc::new(aside.record), stored.owner.into());
            let loaded = Hot::loaded(record, Arc::new([]), owner, stored.epoch, aside.version, stored.revision);
            self.records.insert(player, Hot::set_aside(loaded));
            self.set_aside += 1;
        }
    }

    /// Forgets what is over the cache's limit: accounts and relations have a quarter of it, idle records what those leave.
    pub(crate) fn evict(&mut self) {
        self.known.evict(self.limits.cache_bytes_max / 4);
        for (player, hot) in self.records.evict(self.limits.cache_bytes_max.saturating_sub(self.known.bytes())) {
            self.items.remove(player, &hot.items);
        }
        self.evict_mails();
    }

    /// An account, if it was read, with its roles as they are now.
    pub(crate) fn account(&mut self, whose: &Whose) -> Option<Account> {
        let mut account = self.known.account(whose)?.clone();
        account.roles.retain_mut(|role| match self.records.get(role.player) {
            Some(hot) => {
                role.version = hot.version;
                hot.life != Life::Deleted
            }
            None => true,
        });
        Some(account)
    }

    /// Who has a name, if that one is in memory.
    pub(crate) fn named(&self, name_key: &str) -> Option<u64> {
        self.records.named(name_key)
    }

    /// The record in memory, whatever its life.
    pub(crate) fn peek(&self, player: u64) -> Option<&Hot> {
        self.records.get(player)
    }

    /// The record, marked as used.
    pub(crate) fn read(&mut self, player: u64) -> Result<&Hot, Refusal> {
        self.records.change(player, |_| ());
        match self.records.get(player) {
            Some(hot) if hot.life != Life::Deleted => Ok(hot),
            _ => Err(Refusal::NotFound("player")),
        }
    }

    /// Makes `owner` the owner, with the next epoch, whoever had it.
    pub(crate) fn claim(&mut self, player: u64, owner: &str) -> Result<Held, Refusal> {
        self.admit()?;
        check_owner(owner)?;
        let hot = self.writable(player)?;
        let epoch = hot.epoch.checked_add(1).ok_or_else(|| Refusal::invalid("epochs are used up"))?;
        let write = Write { owner: owner.into(), epoch, ..Write::keeping(player, hot) };
        let (record, version) = (hot.record.clone(), hot.version);
        let lsn = self.write(Change { players: vec![player], writes: vec![write], unit: None, mail: None });
        Ok(Held { record, epoch, version, lsn })
    }

    /// What a handoff left for `owner`.
    pub(crate) fn take(&mut self, player: u64, owner: &str, epoch: u64) -> Result<Held, Refusal> {
        let hot = self.read(player)?;
        if owner.is_empty() || *hot.owner != *owner || hot.epoch != epoch {
            return Err(stale_owner(player, hot));
        }
        Ok(Held { record: hot.record.clone(), epoch: hot.epoch, version: hot.version, lsn: hot.lsn })
    }

    /// Saves the players of a unit, all or none. Returns the change that has them.
    pub(crate) fn commit(&mut self, unit: &CommitUnit, elsewhere: &Elsewhere) -> Result<Lsn, Refusal> {
        let id = UnitId::parse(&unit.id)?;
        if let Some(lsn) = id.and_then(|id| self.units.applied(id)) {
            return self.is_repeated(unit).map(|()| lsn);
        }
        self.admit()?;
        let mut players = save::players_of(&unit.saves)?;
        let (mut writes, mut resent) = (Vec::new(), 0);
        for save in &unit.saves {
            match self.place(save)? {
                Placed::New(write) => writes.push(write),
                Placed::Resent(lsn) => resent = lsn.max(resent),
            }
        }
        if writes.is_empty() && id.is_none() {
            return Ok(resent);
        }
        let mail = self.mail_of(unit, id)?;
        if mail.is_some() && writes.is_empty() {
            return Err(Refusal::invalid("a unit with a mail saves anew"));
        }
        self.check_unit(&writes, mail.as_deref(), elsewhere)?;
        players
            .extend(mail.iter().flat_map(|mail| [mail.from, mail.to]).filter(|other| unit.saves.iter().all(|save| save.player != *other)));
        Ok(self.write(Change { players, writes, unit: id, mail }))
    }

    /// Whether a unit whose id was applied before is that unit: its saves are behind what there is now.
    fn is_repeated(&self, unit: &CommitUnit) -> Result<(), Refusal> {
        let behind = |save: &PlayerSave| self.records.get(save.player).is_none_or(|hot| save.version <= hot.version);
        if unit.saves.iter().all(behind) { Ok(()) } else { Err(Refusal::invalid("this id is another unit's")) }
    }

    /// The change that applied a unit; none: it was not applied.
    pub(crate) fn unit(&self, id: UnitId) -> Option<Lsn> {
        self.units.applied(id)
    }

    /// Saves, and makes `to` the owner with the next epoch. Returns it, and the change.
    pub(crate) fn handoff(&mut self, save: &PlayerSave, to: &str, elsewhere: &Elsewhere) -> Result<(u64, Lsn), Refusal> {
        check_owner(to)?;
        let epoch = save.epoch.checked_add(1).ok_or_else(|| Refusal::invalid("epochs are used up"))?;
        let hot = self.writable(save.player)?;
        if *hot.owner == *to && hot.epoch == epoch && save::is_in(save, hot) {
            return Ok((epoch, hot.lsn));
        }
        Ok((epoch, self.save_and_pass(save, to, epoch, elsewhere)?))
    }

    /// Saves, and leaves the player without an owner.
    pub(crate) fn release(&mut self, save: &PlayerSave, elsewhere: &Elsewhere) -> Result<Lsn, Refusal> {
        let hot = self.writable(save.player)?;
        if hot.owner.is_empty() && hot.epoch == save.epoch && save::is_in(save, hot) {
            return Ok(hot.lsn);
        }
        self.save_and_pass(save, "", save.epoch, elsewhere)
    }

    /// Deletes a role of the account; its name and items are gone with it.
    pub(crate) fn delete(&mut self, account: u64, player: u64) -> Result<Lsn, Refusal> {
        self.admit()?;
        let hot = self.writable(player)?;
        if hot.record.account != account {
            return Err(Refusal::NotFound("player"));
        }
        if !hot.owner.is_empty() {
            return Err(stale_owner(player, hot));
        }
        let write = Write { items: Arc::new([]), life: Life::Deleted, ..Write::keeping(player, hot) };
        self.known.role_deleted(account, player);
        Ok(self.write(Change { players: vec![player], writes: vec![write], unit: None, mail: None }))
    }

    fn save_and_pass(&mut self, save: &PlayerSave, to: &str, epoch: u64, elsewhere: &Elsewhere) -> Result<Lsn, Refusal> {
        self.admit()?;
        let write = match self.place(save)? {
            Placed::New(write) => write,
            Placed::Resent(_) => Write::keeping(save.player, self.writable(save.player)?),
        };
        let writes = vec![Write { owner: to.into(), epoch, ..write }];
        self.check_unit(&writes, None, elsewhere)?;
        Ok(self.write(Change { players: vec![save.player], writes, unit: None, mail: None }))
    }

    /// The one way into the records: whatever changes players passes here, a change at a time, whole.
    fn write(&mut self, change: Change) -> Lsn {
        self.lsn += 1;
        let lsn = self.lsn;
        for write in &change.writes {
            if let Some(hot) = self.records.get(write.player).filter(|hot| hot.items != write.items) {
                self.items.remove(write.player, &hot.items);
            }
        }
        let (safe, mut logged) = (self.safe, Vec::with_capacity(change.writes.len()));
        for write in change.writes {
            if self.records.get(write.player).is_none_or(|hot| hot.items != write.items) {
                self.items.insert(write.player, &write.items);
            }
            self.records.change(write.player, |hot| {
                if hot.lsn <= safe {
                    hot.safe_version = hot.version;
                }
                // One list of ids for both: then the items are the same too, with their numbers.
                if !Arc::ptr_eq(&hot.items, &write.items) && (hot.items != write.items || hot.record.items != write.record.items) {
                    hot.items_lsn = lsn;
                }
                (hot.record, hot.items, hot.owner) = (write.record, write.items, write.owner);
                (hot.epoch, hot.version, hot.life) = (write.epoch, write.version, write.life);
                hot.revision += 1;
                (hot.lsn, hot.as_loaded) = (lsn, false);
                logged.push(Logged::of(write.player, hot));
            });
        }
        if let Some(mail) = &change.mail {
            self.keep_mail(mail.clone(), lsn);
        }
        self.log.push(Entry::new(lsn, change.players.clone(), logged, change.unit).with_mail(change.mail.clone()));
        if let Some(unit) = change.unit {
            self.units.remember(unit, lsn);
        }
        if change.unit.is_some() || 1 < change.players.len() {
            self.pending.push_back(PendingUnit { lsn, id: change.unit, players: change.players, mail: change.mail });
        }
        lsn
    }

    /// Full? Then nothing is taken until the store has caught up; reads go on.
    fn admit(&self) -> Result<(), Refusal> {
        if self.log.is_full() {
            return Err(Refusal::Unavailable("too many changes wait for the journal; try again later".into()));
        }
        let waiting = self.dirty_bytes();
        if waiting < self.limits.dirty_bytes_max {
            return Ok(());
        }
        Err(Refusal::Unavailable(format!("{waiting} bytes of records wait for the store; try again later")))
    }

    fn writable(&self, player: u64) -> Result<&Hot, Refusal> {
        match self.records.get(player) {
            Some(hot) if hot.life == Life::Alive => Ok(hot),
            Some(hot) if hot.life == Life::SetAside => {
                Err(Refusal::Unavailable(format!("player {player} is read-only: the store refused its record; dc's log says why")))
            }
            _ => Err(Refusal::NotFound("player")),
        }
    }
}

fn check_owner(owner: &str) -> Result<(), Refusal> {
    if owner.is_empty() || OWNER_BYTES_MAX < owner.len() {
        return Err(Refusal::invalid(format!("an owner's name has 1 to {OWNER_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn stale_owner(player: u64, hot: &Hot) -> Refusal {
    Refusal::StaleOwner { player, owner: hot.owner.to_string(), epoch: hot.epoch }
}
