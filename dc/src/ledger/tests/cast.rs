//! Who plays in the models: scenes, and players with coins and an item each, of which none may be lost or doubled.

use std::ops::{Range, RangeInclusive};

use proto::record::PlayerRecord;

use super::record;
use crate::ledger::records::Hot;

pub(crate) const SCENES: usize = 3;
pub(crate) const PLAYERS: u64 = 4;
pub(crate) const COINS: u64 = 100;

/// Strategies for a scene and for a player.
pub(crate) fn anybody() -> (Range<usize>, RangeInclusive<u64>) {
    (0..SCENES, 1..=PLAYERS)
}

/// Player n has item n.
pub(crate) fn players() -> Vec<PlayerRecord> {
    (1..=PLAYERS).map(|player| record(player, COINS, &[player as u8])).collect()
}

pub(crate) fn name(scene: usize) -> String {
    format!("scene-{scene}/1")
}

/// A player in a model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Truth {
    pub owner: String,
    pub epoch: u64,
    pub version: u64,
    pub record: PlayerRecord,
}

impl Truth {
    pub(crate) fn of(hot: &Hot) -> Self {
        Self { owner: hot.owner.to_string(), epoch: hot.epoch, version: hot.version, record: (*hot.record).clone() }
    }
}

pub(crate) fn conserved<'a>(records: impl Iterator<Item = &'a PlayerRecord>) {
    let (mut coins, mut items) = (0, Vec::new());
    for record in records {
        coins += record.coins;
        items.extend(record.items.iter().map(|item| item.id[0]));
    }
    items.sort_unstable();
    assert_eq!(coins, COINS * PLAYERS, "coins were made or lost");
    assert_eq!(items, (1..=PLAYERS as u8).collect::<Vec<_>>(), "items were made, lost or doubled");
}
