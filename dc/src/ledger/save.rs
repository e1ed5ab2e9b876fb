//! Which saves are taken: the right owner and epoch, the next version, and a record that keeps the rules.

use std::{collections::HashSet, sync::Arc};

use prost::Message;
use proto::{
    ids::ItemId,
    internal::PlayerSave,
    record::{Mail, PlayerRecord},
};

use super::{
    Elsewhere, Ledger, Lsn, Write,
    mails::IN_THE_MAIL,
    records::{Hot, Life},
    stale_owner,
};
use crate::{
    items::{ItemIndex, ItemsChange, ids_of},
    refusal::Refusal,
};

/// Encoded bytes of a record.
pub(crate) const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Coins of a player, and of all players of a unit together: what a signed column of 64 bits holds.
pub(crate) const COINS_MAX: u64 = i64::MAX as u64;

/// Where a save stands.
pub(super) enum Placed {
    /// It is the next one.
    New(Write),
    /// The record is as the save says already, since this change.
    Resent(Lsn),
}

/// Whether the record is exactly what the save would make it.
pub(super) fn is_in(save: &PlayerSave, hot: &Hot) -> bool {
    save.version == hot.version && save.record.as_ref() == Some(&*hot.record)
}

/// The players of a unit, which is about at least one, and about each once.
pub(super) fn players_of(saves: &[PlayerSave]) -> Result<Vec<u64>, Refusal> {
    if let [save] = saves {
        return Ok(vec![save.player]);
    }
    let players: Vec<u64> = saves.iter().map(|save| save.player).collect();
    let distinct: HashSet<&u64> = players.iter().collect();
    match distinct.len() {
        0 => Err(Refusal::invalid("a unit without saves")),
        count if count < players.len() => Err(Refusal::invalid("a player is there twice in one unit")),
        _ => Ok(players),
    }
}

/// Whether a record may be kept; returns its items' ids.
pub(crate) fn check_record(record: &PlayerRecord) -> Result<Vec<ItemId>, Refusal> {
    check_limits(record)?;
    ids_of(&record.items)
}

fn check_limits(record: &PlayerRecord) -> Result<(), Refusal> {
    let bytes = record.encoded_len();
    if RECORD_BYTES_MAX < bytes {
        return Err(Refusal::invalid(format!("a record of {bytes} bytes; {RECORD_BYTES_MAX} at the most")));
    }
    if COINS_MAX < record.coins {
        return Err(Refusal::invalid(format!("{} coins; {COINS_MAX} at the most", record.coins)));
    }
    Ok(())
}

impl Ledger {
    pub(super) fn place(&self, save: &PlayerSave) -> Result<Placed, Refusal> {
        let hot = self.writable(save.player)?;
        if save.owner.is_empty() || *save.owner != *hot.owner || save.epoch != hot.epoch {
            return Err(stale_owner(save.player, hot));
        }
        if is_in(save, hot) {
            return Ok(Placed::Resent(hot.lsn));
        }
        if !is_next(save.version, hot) {
            return Err(Refusal::StaleVersion { player: save.player, version: hot.version });
        }
        let record = save.record.as_ref().ok_or_else(|| Refusal::invalid("a save without a record"))?;
        let same = &*hot.record;
        if record.player != save.player || record.account != same.account || record.name != same.name {
            return Err(Refusal::invalid(format!("player {}'s number, account and name can't be saved anew", save.player)));
        }
        // Most saves leave the items as they are: then the list of their ids is shared, and need not be compared again.
        let items = match record.items == same.items {
            true => check_limits(record).map(|()| hot.items.clone())?,
            false => check_record(record)?.into(),
        };
        let (record, owner, version) = (Arc::new(record.clone()), hot.owner.clone(), save.version);
        Ok(Placed::New(Write { player: save.player, record, items, owner, epoch: hot.epoch, version, life: Life::Alive }))
    }

    /// What holds for the players of a unit together.
    pub(super) fn check_unit(&self, writes: &[Write], mail: Option<&Mail>, elsewhere: &Elsewhere) -> Result<(), Refusal> {
        let mut coins = 0u64;
        let in_the_mail = mail.map(|mail| ids_of(&mail.items)).transpose()?.unwrap_or_default();
        let mut changes = Vec::with_capacity(writes.len());
        for write in writes {
            coins = coins.checked_add(write.record.coins).filter(|coins| *coins <= COINS_MAX).ok_or_else(|| {
                Refusal::invalid(format!("more than {COINS_MAX} coins in one unit")) // a sum that a store could not hold
            })?;
            let before = &self.writable(write.player)?.items;
            changes.push(ItemsChange { player: write.player, before, after: &write.items });
        }
        let taken = mail.is_some_and(|mail| mail.taken_ms != 0);
        let (before, after) = if taken { (&in_the_mail[..], &[][..]) } else { (&[][..], &in_the_mail[..]) };
        changes.push(ItemsChange { player: IN_THE_MAIL, before, after });
        ItemIndex::check(&changes, |item| self.holder(item, elsewhere))
    }

    /// Items of the saves that no record in memory has: the store has to be asked who holds them.
    pub(crate) fn unknown_items<'a>(&self, saves: impl Iterator<Item = &'a PlayerSave>) -> Vec<ItemId> {
        let mut unknown = Vec::new();
        for save in saves {
            let Some(record) = &save.record else { continue };
            let own = self.records.get(save.player).map_or(&[][..], |hot| &hot.items);
            let items = record.items.iter().filter_map(|item| ItemId::from_bytes(&item.id));
            unknown.extend(items.filter(|item| own.binary_search(item).is_err() && self.items.holder(*item).is_none()));
        }
        unknown
    }

    /// Of a player in memory only memory knows the items: what the store says of it is old.
    fn holder(&self, item: ItemId, elsewhere: &Elsewhere) -> Option<u64> {
        let cold = || elsewhere.get(&item).copied().filter(|player| self.peek(*player).is_none());
        self.items.holder(item).or_else(cold)
    }
}

/// Versions go up by one. The first save after the record came from the store may be further on: a dc that was killed has answered saves of
/// class D0 that the store never got, and their writer, still the owner, goes on from there.
fn is_next(version: u64, hot: &Hot) -> bool {
    let follows = hot.version.checked_add(1) == Some(version);
    i64::try_from(version).is_ok() && (follows || hot.as_loaded && hot.version < version)
}
