//! What goes to the store in one transaction. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use prost::Message;
use proto::record::{Mail, PlayerRecord};

use crate::ledger::{
    Lsn,
    facts::{Numbers, PendingFact},
    units::UnitId,
};

/// The newest of a player.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub player: u64,
    pub record: Arc<PlayerRecord>,
    pub owner: Arc<str>,
    pub epoch: u64,
    pub version: u64,
    pub revision: u64,
    /// The change that made it so.
    pub lsn: Lsn,
    /// The store has other items of it.
    pub items_changed: bool,
    /// It goes to the deleted players, and its items and relations are gone.
    pub deleted: bool,
}

/// A unit that ties players together, or has an id to be remembered, or both.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingUnit {
    pub lsn: Lsn,
    pub id: Option<UnitId>,
    pub players: Vec<u64>,
    /// The mail that the unit sends or takes, as it is after it.
    pub mail: Option<Arc<Mail>>,
}

/// What only the store can do, as it alone knows all names: carried out by it, in the order of the batch, after the facts.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::enum_variant_names, reason = "the names of the calls")]
pub(crate) enum Command {
    AccountCreate { name: String, password_hash: String },
    RoleCreate { record: PlayerRecord, roles_max: u32 },
    GmAccountCreate { name: String, password_hash: String, role: String },
}

impl Command {
    /// What it counts for while it waits.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Command::AccountCreate { name, password_hash } => name.len() + password_hash.len(),
            Command::RoleCreate { record, .. } => record.encoded_len(),
            Command::GmAccountCreate { name, password_hash, role } => name.len() + password_hash.len() + role.len(),
        };
        size_of::<Command>() + content
    }
}

/// What a command that was carried out brings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// Nothing to tell.
    Done,
    /// The number that the store gave.
    Number(u64),
}

/// What goes to the store in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    /// A store that has it has every change up to this one: its `applied_lsn`. 0, in a part of a batch: the rest is still missing, so
    /// `applied_lsn` stays as it is.
    pub lsn: Lsn,
    /// When it was made, Unix milliseconds.
    pub now_ms: i64,
    pub rows: Vec<Row>,
    pub units: Vec<PendingUnit>,
    /// Units of changes before this one need not be remembered.
    pub units_floor: Lsn,
    /// In their order, after the rows and units.
    pub facts: Vec<PendingFact>,
    /// The numbers that facts have been given up to here.
    pub numbers: Numbers,
    pub commands: Vec<Command>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.units.is_empty() && self.facts.is_empty() && self.commands.is_empty()
    }

    /// The rows and units in the smallest parts that may be stored apart: players that a unit ties together stay together.
    pub(crate) fn parts(&self) -> Vec<Batch> {
        let mut ties = Ties::default();
        for unit in &self.units {
            for pair in unit.players.windows(2) {
                ties.tie(pair[0], pair[1]);
            }
        }
        // A mail that was sent and taken: its items have to leave the one before they come to the other.
        let mut by_mail: HashMap<&[u8], u64> = HashMap::new();
        for unit in &self.units {
            let (Some(mail), Some(&player)) = (&unit.mail, unit.players.first()) else { continue };
            if let Some(other) = by_mail.insert(&mail.id, player) {
                ties.tie(other, player);
            }
        }
        let empty = || Batch { now_ms: self.now_ms, units_floor: self.units_floor, ..Batch::default() };
        let mut parts: BTreeMap<u64, Batch> = BTreeMap::new();
        for row in &self.rows {
            parts.entry(ties.root(row.player)).or_insert_with(empty).rows.push(row.clone());
        }
        for unit in &self.units {
            let root = unit.players.first().map_or(0, |player| ties.root(*player));
            parts.entry(root).or_insert_with(empty).units.push(unit.clone());
        }
        parts.into_values().collect()
    }
}

/// Which players are tied, directly or through others.
#[derive(Default)]
struct Ties(HashMap<u64, u64>);

impl Ties {
    fn root(&mut self, player: u64) -> u64 {
        let mut root = player;
        while let Some(&above) = self.0.get(&root) {
            root = above;
        }
        if root != player {
            self.0.insert(player, root); // the next walk from here is one step
        }
        root
    }

    fn tie(&mut self, one: u64, other: u64) {
        let (one, other) = (self.root(one), self.root(other));
        if one != other {
            self.0.insert(one, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(player: u64) -> Row {
        let (record, owner) = (Arc::default(), "".into());
        Row { player, record, owner, epoch: 0, version: 0, revision: 0, lsn: 0, items_changed: false, deleted: false }
    }

    #[test]
    fn players_that_units_tie_together_stay_together() {
        let unit = |players: &[u64]| PendingUnit { lsn: 1, id: None, players: players.to_vec(), mail: None };
        let batch = Batch { rows: (1..=6).map(row).collect(), units: vec![unit(&[1, 4]), unit(&[2]), unit(&[4, 5])], ..Batch::default() };
        let mut parts: Vec<Vec<u64>> = batch.parts().iter().map(|part| part.rows.iter().map(|row| row.player).collect()).collect();
        parts.sort();
        assert_eq!(parts, [vec![1, 4, 5], vec![2], vec![3], vec![6]]);
        assert_eq!(batch.parts().iter().map(|part| part.units.len()).sum::<usize>(), 3);
    }

    #[test]
    fn the_sender_and_the_taker_of_a_mail_stay_together() {
        let unit = |player| PendingUnit { lsn: 1, id: None, players: vec![player], mail: Some(Arc::default()) };
        let batch = Batch { rows: (1..=3).map(row).collect(), units: vec![unit(1), unit(3)], ..Batch::default() };
        let parts: Vec<usize> = batch.parts().iter().map(|part| part.rows.len()).collect();
        assert!(parts == [2, 1] || parts == [1, 2], "{parts:?}");
    }
}
