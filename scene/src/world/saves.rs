//! Whom a tick marked for saving, and who must be saved together.

use std::collections::BTreeMap;

use proto::{Frame, ids::PlayerId, record::PlayerRecord};

use super::input::{Class, SaveUnit};

/// The marks of one tick.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    classes: BTreeMap<PlayerId, Class>,
    ties: Vec<(PlayerId, PlayerId)>,
    held: Vec<(PlayerId, Frame)>,
    gone: BTreeMap<PlayerId, PlayerRecord>,
}

impl Marks {
    /// The player is to be saved at least so safely.
    pub fn save(&mut self, player: PlayerId, class: Class) {
        let marked = self.classes.entry(player).or_insert(class);
        *marked = class.max(*marked);
    }

    /// The two are saved in one commit, synced.
    pub fn tie(&mut self, one: PlayerId, two: PlayerId) {
        self.save(one, Class::D2);
        self.save(two, Class::D2);
        self.ties.push((one, two));
    }

    /// The frame waits for the save of this tick, which becomes a synced one.
    pub fn hold(&mut self, player: PlayerId, frame: Frame) {
        self.save(player, Class::D2);
        self.held.push((player, frame));
    }

    /// The player left in this tick: if it is marked, this is what is saved.
    pub fn went(&mut self, record: PlayerRecord) {
        let player = PlayerId(record.player);
        if self.classes.contains_key(&player) {
            self.gone.insert(player, record);
        }
    }

    /// The saves, and no mark is left. `record` gives what a player is now.
    pub fn take(&mut self, record: impl Fn(PlayerId) -> Option<PlayerRecord>) -> Vec<SaveUnit> {
        let marks = std::mem::take(self);
        let roots = roots(&marks.classes, &marks.ties);
        let mut units: BTreeMap<PlayerId, SaveUnit> = BTreeMap::new();
        for (player, class) in &marks.classes {
            let Some(saved) = marks.gone.get(player).cloned().or_else(|| record(*player)) else { continue };
            let unit = units.entry(roots[player]).or_insert(SaveUnit { class: *class, records: Vec::new(), held: Vec::new() });
            unit.class = unit.class.max(*class);
            unit.records.push(saved);
        }
        for (player, frame) in marks.held {
            if let Some(unit) = units.get_mut(&roots[&player]) {
                unit.held.push((player, frame));
            }
        }
        units.into_values().collect()
    }
}

/// For each marked player the one that stands for all who are tied to it.
fn roots(classes: &BTreeMap<PlayerId, Class>, ties: &[(PlayerId, PlayerId)]) -> BTreeMap<PlayerId, PlayerId> {
    let mut parents: BTreeMap<PlayerId, PlayerId> = classes.keys().map(|player| (*player, *player)).collect();
    for (one, two) in ties {
        let (one, two) = (root(&parents, *one), root(&parents, *two));
        parents.insert(one.max(two), one.min(two));
    }
    classes.keys().map(|player| (*player, root(&parents, *player))).collect()
}

fn root(parents: &BTreeMap<PlayerId, PlayerId>, mut player: PlayerId) -> PlayerId {
    while parents[&player] != player {
        player = parents[&player];
    }
    player
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(player: PlayerId) -> Option<PlayerRecord> {
        Some(PlayerRecord { player: player.0, ..PlayerRecord::default() })
    }

    #[test]
    fn ties_join_whoever_they_reach() {
        let mut marks = Marks::default();
        marks.save(PlayerId(9), Class::D0);
        marks.tie(PlayerId(1), PlayerId(2));
        marks.tie(PlayerId(4), PlayerId(3));
        marks.tie(PlayerId(2), PlayerId(4));
        let frame = Frame::from_body(1, 0, &[]);
        marks.hold(PlayerId(3), frame.clone());
        let units = marks.take(record);
        let players: Vec<Vec<u64>> = units.iter().map(|unit| unit.records.iter().map(|record| record.player).collect()).collect();
        assert_eq!(players, [vec![1, 2, 3, 4], vec![9]]);
        assert_eq!(units[0].held, [(PlayerId(3), frame)]);
        assert_eq!((units[0].class, units[1].class), (Class::D2, Class::D0));
        assert!(marks.take(record).is_empty());
    }

    #[test]
    fn who_leaves_in_the_tick_of_its_deal_is_saved_with_it() {
        let mut marks = Marks::default();
        marks.tie(PlayerId(1), PlayerId(2));
        marks.went(PlayerRecord { player: 2, coins: 7, ..PlayerRecord::default() });
        let units = marks.take(|player| if player.0 == 2 { None } else { record(player) });
        assert_eq!(units[0].records.len(), 2);
        assert_eq!(units[0].records[1].coins, 7);
    }
}
