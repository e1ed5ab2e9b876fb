//! What to save next and what an answer of dc means: the pure half of the saver.
//!
//! Marked players wait in units: whoever was tied to somebody since the last commit is in one unit with it, with its newest record.
//! One commit is under way at a time. Each of its units keeps its versions and bytes until dc says what became of it, however often
//! it has to be sent; newer marks of its players wait behind it. Messages held for a unit are given out when dc has applied it.
//!
//! Bounds: one record a player waits and one is under way; [`HELD_MAX`] messages wait for a unit.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use proto::{
    Frame,
    internal::{CallFaultCode, Commit, CommitUnit, Committed, Durability, PlayerSave},
    record::PlayerRecord,
};

use crate::world::{Class, SaveUnit};

/// Saves in one commit.
const SAVES_MAX: usize = 512;
/// Bytes of records in one commit, well below what a call may have.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// Messages that wait for one unit, a player of it. Full? The oldest goes: what is held tells states, and the newest tells all of it.
const HELD_MAX: usize = 64;

/// A player's place in the order of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The owner's epoch.
    pub epoch: u64,
    /// The version that was written last.
    pub version: u64,
}

/// What came of a commit, for the shell to act on.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// To be delivered now, in this order.
    pub deliver: Vec<(u64, Frame)>,
    /// Not ours any more, or tied to one that is not: to be dropped at once.
    pub lost: Vec<u64>,
    /// Saved for the first time since they are here.
    pub first: Vec<u64>,
    /// Why units were refused; for the log.
    pub refused: Vec<String>,
    /// Some units have to be sent again.
    pub again: bool,
}

/// Who is dirty and what is under way.
#[derive(Debug)]
pub struct Plan {
    owner: String,
    players: BTreeMap<u64, Standing>,
    waiting: BTreeMap<u64, Waiting>,
    unit_of: BTreeMap<u64, u64>,
    sent: Vec<Sent>,
    under_way: bool,
    units_made: u64,
}

#[derive(Debug)]
struct Standing {
    stamp: Stamp,
    saved: bool,
}

#[derive(Debug)]
struct Waiting {
    class: Class,
    records: BTreeMap<u64, PlayerRecord>,
    held: Vec<(u64, Frame)>,
}

#[derive(Debug)]
struct Sent {
    class: Class,
    unit: CommitUnit,
    held: Vec<(u64, Frame)>,
}

impl Plan {
    /// A plan whose saves are `owner`'s.
    pub fn new(owner: String) -> Self {
        Self {
            owner,
            players: BTreeMap::new(),
            waiting: BTreeMap::new(),
            unit_of: BTreeMap::new(),
            sent: Vec::new(),
            under_way: false,
            units_made: 0,
        }
    }

    /// The player's saves are ours from here on.
    pub fn add(&mut self, player: u64, stamp: Stamp) {
        self.players.insert(player, Standing { stamp, saved: false });
    }

    /// Takes the marks of a tick. Returns whom a tie to somebody who is not ours any more costs its place.
    pub fn mark(&mut self, unit: SaveUnit) -> Vec<u64> {
        let strangers = unit.records.iter().any(|record| !self.players.contains_key(&record.player));
        if strangers {
            return unit.records.iter().flat_map(|record| self.lose(record.player)).collect();
        }
        let joined: BTreeSet<u64> = unit.records.iter().filter_map(|record| self.unit_of.get(&record.player).copied()).collect();
        self.units_made += 1;
        let number = joined.first().copied().unwrap_or(self.units_made);
        let mut whole = Waiting { class: unit.class, records: BTreeMap::new(), held: Vec::new() };
        for old in joined.into_iter().filter_map(|joined| self.waiting.remove(&joined)) {
            whole.class = whole.class.max(old.class);
            whole.records.extend(old.records);
            whole.held.extend(old.held);
        }
        whole.records.extend(unit.records.into_iter().map(|record| (record.player, record)));
        whole.held.extend(unit.held.into_iter().map(|(player, frame)| (player.0, frame)));
        whole.bound();
        self.unit_of.extend(whole.records.keys().map(|player| (*player, number)));
        self.waiting.insert(number, whole);
        Vec::new()
    }

    /// The next commit, if there is something to save and no commit is under way.
    pub fn next(&mut self) -> Option<Commit> {
        if self.under_way {
            return None;
        }
        self.send_waiting();
        if self.sent.is_empty() {
            return None;
        }
        self.under_way = true;
        let class = self.sent.iter().map(|sent| sent.class).max().unwrap_or(Class::D0);
        let durability = match class {
            Class::D0 => Durability::D0,
            Class::D2 => Durability::D2,
        };
        Some(Commit { units: self.sent.iter().map(|sent| sent.unit.clone()).collect(), durability: durability.into() })
    }

    /// Takes the answer to the commit under way; `None`: what became of it is not known.
    pub fn answered(&mut self, answer: Option<Committed>) -> Outcome {
        self.under_way = false;
        let mut outcome = Outcome { again: true, ..Outcome::default() };
        let Some(answer) = answer.filter(|answer| answer.units.len() == self.sent.len()) else { return outcome };
        let (reached, mut again) = (answer.durability(), Vec::new());
        for (sent, result) in std::mem::take(&mut self.sent).into_iter().zip(answer.units) {
            match result.refused() {
                CallFaultCode::Unspecified if sent.reached(reached) => self.applied(sent, &mut outcome),
                CallFaultCode::Unspecified => again.push(sent),
                code => {
                    outcome.refused.push(format!("{}: {}", code.as_str_name(), result.text));
                    if is_final(code) {
                        outcome.lost.extend(sent.unit.saves.iter().map(|save| save.player));
                    } else {
                        again.push(sent);
                    }
                }
            }
        }
        outcome.again = !again.is_empty();
        self.sent = again;
        let lost: BTreeSet<u64> = std::mem::take(&mut outcome.lost).into_iter().flat_map(|player| self.lose(player)).collect();
        outcome.deliver.retain(|(player, _)| !lost.contains(player));
        outcome.lost = lost.into_iter().collect();
        outcome
    }

    /// Gives a player up without a save; with it everybody whose state hangs together with what it did not save. They are returned.
    pub fn lose(&mut self, player: u64) -> Vec<u64> {
        let mut lost = Vec::new();
        let mut found = vec![player];
        while let Some(player) = found.pop() {
            if self.players.remove(&player).is_none() {
                continue;
            }
            lost.push(player);
            let Some(unit) = self.unit_of.get(&player).and_then(|number| self.waiting.remove(number)) else { continue };
            for tied in unit.records.keys() {
                self.unit_of.remove(tied);
                found.push(*tied);
            }
        }
        lost
    }

    /// Takes a player out when nothing of it waits or is under way: where it stands.
    pub fn take_out(&mut self, player: u64) -> Option<Stamp> {
        if self.unit_of.contains_key(&player) || self.is_sent(player) {
            return None;
        }
        self.players.remove(&player).map(|standing| standing.stamp)
    }

    /// Whether the player's saves are ours.
    pub fn has(&self, player: u64) -> bool {
        self.players.contains_key(&player)
    }

    /// Players with something that dc has not acknowledged.
    pub fn dirty(&self) -> usize {
        self.unit_of.len() + self.sent.iter().map(|sent| sent.unit.saves.len()).sum::<usize>()
    }

    fn is_sent(&self, player: u64) -> bool {
        self.sent.iter().any(|sent| sent.unit.saves.iter().any(|save| save.player == player))
    }

    /// Moves waiting units to the commit, the synced ones first, as far as there is room and none of their players is in it already.
    fn send_waiting(&mut self) {
        let mut busy: BTreeSet<u64> = self.sent.iter().flat_map(|sent| sent.unit.saves.iter().map(|save| save.player)).collect();
        let mut bytes: usize = self.sent.iter().map(|sent| sent.unit.encoded_len()).sum();
        let mut order: Vec<(Class, u64)> = self.waiting.iter().map(|(number, unit)| (unit.class, *number)).collect();
        order.sort_by_key(|(class, number)| (std::cmp::Reverse(*class), *number));
        for (_, number) in order {
            let Some(unit) = self.waiting.get(&number) else { continue };
            let more: usize = unit.records.values().map(|record| record.encoded_len() + 64).sum();
            let full = SAVES_MAX < busy.len() + unit.records.len() || BYTES_MAX < bytes + more;
            if unit.records.keys().any(|player| busy.contains(player)) || (full && !busy.is_empty()) {
                continue;
            }
            busy.extend(unit.records.keys());
            bytes += more;
            self.send(number);
        }
    }

    fn send(&mut self, number: u64) {
        let Some(unit) = self.waiting.remove(&number) else { return };
        let mut saves = Vec::with_capacity(unit.records.len());
        for (player, record) in unit.records {
            self.unit_of.remove(&player);
            let Some(standing) = self.players.get_mut(&player) else { continue };
            standing.stamp.version += 1;
            let Stamp { epoch, version } = standing.stamp;
            saves.push(PlayerSave { player, owner: self.owner.clone(), epoch, version, record: Some(record) });
        }
        let unit_out = CommitUnit { id: bytes::Bytes::new(), saves, ..CommitUnit::default() };
        self.sent.push(Sent { class: unit.class, unit: unit_out, held: unit.held });
    }

    fn applied(&mut self, sent: Sent, outcome: &mut Outcome) {
        for save in &sent.unit.saves {
            if let Some(standing) = self.players.get_mut(&save.player)
                && !std::mem::replace(&mut standing.saved, true)
            {
                outcome.first.push(save.player);
            }
        }
        outcome.deliver.extend(sent.held);
    }
}

/// Whether dc will never take the unit: its players have another owner, or their state here can't be (an item that is elsewhere).
/// What dc has is the truth then.
pub fn is_final(code: CallFaultCode) -> bool {
    use CallFaultCode::{CallInvalid, CallNotFound, CallStaleOwner, CallStaleVersion};
    matches!(code, CallStaleOwner | CallStaleVersion | CallNotFound | CallInvalid)
}

impl Sent {
    fn reached(&self, durability: Durability) -> bool {
        self.class == Class::D0 || durability == Durability::D2
    }
}

impl Waiting {
    fn bound(&mut self) {
        let max = HELD_MAX * self.records.len();
        if max < self.held.len() {
            self.held.drain(..self.held.len() - max);
        }
    }
}
