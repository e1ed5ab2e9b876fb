//! Scenes claim, save, trade, hand over and release in random order, while the journal is written, synced and checkpointed, the store takes
//! batches, the disk is full now and then, and the power fails. After each failure dc is where a sequential model was after some change:
//! none that was safe is missing (I1), coins and items are conserved (I2), the owner and epoch are the model's and stale ones are refused
//! (I3), no version is lower than what was safe or than the store's (I5), and two recoveries find the same (I6).

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proto::internal::{CallFaultCode, CommitUnit, PlayerSave};

use super::*;
use crate::ledger::{
    Elsewhere, Ledger,
    tests::{Disk as Store, LIMITS, record},
};

const PLAYERS: u64 = 4;
const SCENES: usize = 3;
const COINS: u64 = 100;
const SEGMENT_BYTES: u64 = 1500;

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim {
        scene: usize,
        player: u64,
    },
    Walk {
        player: u64,
    },
    Trade {
        from: u64,
        to: u64,
        coins: u64,
        item: bool,
    },
    Handoff {
        player: u64,
        to: usize,
    },
    Release {
        player: u64,
    },
    /// A former owner saves.
    Stale {
        player: u64,
    },
    Write,
    Sync,
    Store,
    Full(bool),
    Crash {
        torn: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (scene, player) = (0..SCENES, 1..=PLAYERS);
    prop_oneof![
        4 => (scene.clone(), player.clone()).prop_map(|(scene, player)| Step::Claim { scene, player }),
        4 => player.clone().prop_map(|player| Step::Walk { player }),
        8 => (player.clone(), player.clone(), 0..COINS, any::<bool>()).prop_map(|(from, to, coins, item)| Step::Trade { from, to, coins, item }),
        3 => (player.clone(), scene).prop_map(|(player, to)| Step::Handoff { player, to }),
        1 => player.clone().prop_map(|player| Step::Release { player }),
        1 => player.prop_map(|player| Step::Stale { player }),
        4 => Just(Step::Write),
        4 => Just(Step::Sync),
        2 => Just(Step::Store),
        1 => any::<bool>().prop_map(Step::Full),
        3 => (0usize..=8).prop_map(|torn| Step::Crash { torn }),
    ]
}

/// A player in the model.
#[derive(Clone, Debug, PartialEq)]
struct Truth {
    owner: String,
    epoch: u64,
    version: u64,
    record: PlayerRecord,
}

type Truths = BTreeMap<u64, Truth>;

struct World {
    disk: Memory,
    store: Store,
    applied: Lsn,
    ledger: Ledger,
    journal: Journal,
    /// What is so after each change.
    history: BTreeMap<Lsn, Truths>,
    /// The change up to which somebody could have been told that it is safe.
    safe: Lsn,
    next_unit: u64,
}

impl World {
    fn new() -> Self {
        let store = Store::with_players((1..=PLAYERS).map(|player| record(player, COINS, &[player as u8])).collect());
        let disk = Memory::default();
        let (ledger, journal) = recover(&disk, &store, 0).unwrap();
        let history = BTreeMap::from([(0, truths(&ledger))]);
        Self { disk, store, applied: 0, ledger, journal, history, safe: 0, next_unit: 0 }
    }

    fn truth(&self) -> &Truths {
        self.history.last_key_value().unwrap().1
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Claim { scene, player } => {
                let held = self.ledger.claim(player, &name(scene)).unwrap();
                self.changed(held.lsn, |truths| {
                    let truth = truths.get_mut(&player).unwrap();
                    (truth.owner, truth.epoch) = (name(scene), truth.epoch + 1);
                });
            }
            Step::Walk { player } => {
                let Some(save) = self.next_save(player, |record| record.seen_ms += 1) else { return };
                let unit = CommitUnit { saves: vec![save.clone()], ..CommitUnit::default() };
                let lsn = self.ledger.commit(&unit, &Elsewhere::new()).unwrap();
                self.changed(lsn, |truths| apply(truths, &save));
            }
            Step::Trade { from, to, coins, item } => self.trade(from, to, coins, item),
            Step::Handoff { player, to } => {
                let Some(save) = self.next_save(player, |record| record.line += 1) else { return };
                let (epoch, lsn) = self.ledger.handoff(&save, &name(to), &Elsewhere::new()).unwrap();
                self.changed(lsn, |truths| {
                    apply(truths, &save);
                    let truth = truths.get_mut(&player).unwrap();
                    (truth.owner, truth.epoch) = (name(to), epoch);
                });
            }
            Step::Release { player } => {
                let Some(save) = self.next_save(player, |record| record.hp += 1) else { return };
                let lsn = self.ledger.release(&save, &Elsewhere::new()).unwrap();
                self.changed(lsn, |truths| {
                    apply(truths, &save);
                    truths.get_mut(&player).unwrap().owner.clear();
                });
            }
            Step::Stale { player } => {
                let Some(mut save) = self.next_save(player, |record| record.coins += 1) else { return };
                save.epoch -= 1;
                let unit = CommitUnit { saves: vec![save], ..CommitUnit::default() };
                assert_eq!(self.ledger.commit(&unit, &Elsewhere::new()).unwrap_err().code(), CallFaultCode::CallStaleOwner);
            }
            Step::Write => _ = self.write(),
            Step::Sync => self.sync(),
            Step::Store => self.flush(),
            Step::Full(full) => self.disk.fill(full),
            Step::Crash { torn } => self.crash(torn),
        }
        assert_eq!(&truths(&self.ledger), self.truth());
    }

    fn changed(&mut self, lsn: Lsn, change: impl FnOnce(&mut Truths)) {
        let mut truths = self.truth().clone();
        change(&mut truths);
        conserved(truths.values().map(|truth| &truth.record));
        assert_eq!(self.history.insert(lsn, truths), None, "numbers rise");
    }

    fn next_save(&self, player: u64, change: impl FnOnce(&mut PlayerRecord)) -> Option<PlayerSave> {
        let Truth { owner, epoch, version, mut record } = self.truth()[&player].clone();
        change(&mut record);
        (!owner.is_empty()).then(|| PlayerSave { player, owner, epoch, version: version + 1, record: Some(record) })
    }

    fn trade(&mut self, from: u64, to: u64, coins: u64, item: bool) {
        let truth = self.truth();
        let coins = coins.min(truth[&from].record.coins);
        let given = truth[&from].record.items.last().cloned().filter(|_| item);
        let give = |record: &mut PlayerRecord| {
            record.coins -= coins;
            given.iter().for_each(|_| _ = record.items.pop());
        };
        let take = |record: &mut PlayerRecord| {
            record.coins += coins;
            record.items.extend(given.clone());
        };
        let (Some(giver), Some(taker)) = (self.next_save(from, give), self.next_save(to, take)) else { return };
        if from == to {
            return;
        }
        self.next_unit += 1;
        let id = u128::from(self.next_unit).to_be_bytes().to_vec().into();
        let unit = CommitUnit { id, saves: vec![giver.clone(), taker.clone()], ..CommitUnit::default() };
        let lsn = self.ledger.commit(&unit, &Elsewhere::new()).unwrap();
        self.changed(lsn, |truths| [&giver, &taker].into_iter().for_each(|save| apply(truths, save)));
        assert_eq!(self.ledger.commit(&unit, &Elsewhere::new()), Ok(lsn), "done twice is done once");
    }

    /// As the journal's thread does it.
    fn write(&mut self) -> bool {
        let mut entries = self.ledger.log().take(usize::MAX);
        if entries.is_empty() {
            return true;
        }
        let written = self.journal.append(&entries).is_ok();
        if !written {
            entries.retain(|entry| self.applied < entry.lsn);
            self.ledger.log().give_back(entries);
        }
        written
    }

    fn sync(&mut self) {
        if self.write() {
            self.journal.sync();
            self.safe = self.ledger.lsn();
        }
    }

    /// As the writer does it: the journal first, unless its disk is full.
    fn flush(&mut self) {
        self.sync();
        if self.ledger.is_dirty() {
            self.store.flush(&mut self.ledger);
        }
        (self.applied, self.safe) = (self.ledger.lsn(), self.ledger.lsn());
        self.journal.checkpoint(self.applied);
    }

    fn crash(&mut self, torn: usize) {
        self.disk.crash(torn);
        let twin = self.disk.copy();
        let (ledger, journal) = recover(&self.disk, &self.store, self.applied).unwrap_or_else(|_| {
            self.disk.fill(false); // no room for a new segment
            recover(&self.disk, &self.store, self.applied).unwrap()
        });
        let lsn = ledger.lsn();
        assert!(self.safe <= lsn, "change {} was safe, the recovery ends at {lsn}", self.safe);
        assert_eq!(Some(&truths(&ledger)), self.history.get(&lsn), "no state that there was");
        for (player, truth) in truths(&ledger) {
            let (safe, stored) = (&self.history[&self.safe][&player], &self.store.players[&player]);
            assert!(
                safe.version <= truth.version && safe.epoch <= truth.epoch && stored.version <= truth.version,
                "player {player} went back"
            );
        }
        let hash = ledger.state_hash();
        for disk in [&twin, &self.disk.copy()] {
            assert_eq!(recover(disk, &self.store, self.applied).unwrap().0.state_hash(), hash, "the second recovery differs");
        }
        self.history.split_off(&(lsn + 1));
        (self.ledger, self.journal, self.safe) = (ledger, journal, lsn);
    }
}

fn recover(disk: &Memory, store: &Store, applied: Lsn) -> anyhow::Result<(Ledger, Journal)> {
    let mut ledger = Ledger::new(LIMITS, &store.units);
    let journal = open_on(Box::new(disk.clone()), SEGMENT_BYTES, applied, Rng::new(1), |entry| Ok(ledger.replay(entry)?))?;
    ledger.go_on_above(journal.last().max(applied));
    store.players.values().for_each(|stored| ledger.load(stored.clone()).unwrap());
    Ok((ledger, journal))
}

fn truths(ledger: &Ledger) -> Truths {
    let truth = |player| {
        let hot = ledger.peek(player).unwrap();
        Truth { owner: hot.owner.to_string(), epoch: hot.epoch, version: hot.version, record: (*hot.record).clone() }
    };
    (1..=PLAYERS).map(|player| (player, truth(player))).collect()
}

fn apply(truths: &mut Truths, save: &PlayerSave) {
    let truth = truths.get_mut(&save.player).unwrap();
    (truth.version, truth.record) = (save.version, save.record.clone().unwrap());
}

fn conserved<'a>(records: impl Iterator<Item = &'a PlayerRecord>) {
    let (mut coins, mut items) = (0, Vec::new());
    for record in records {
        coins += record.coins;
        items.extend(record.items.iter().map(|item| item.id[0]));
    }
    items.sort_unstable();
    assert_eq!(coins, COINS * PLAYERS, "coins were made or lost");
    assert_eq!(items, (1..=PLAYERS as u8).collect::<Vec<_>>(), "items were made, lost or doubled");
}

fn name(scene: usize) -> String {
    format!("scene-{scene}/1")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_leaves_a_state_that_there_was_and_nothing_safe_is_missing(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.disk.fill(false);
        world.flush();
        world.crash(0);
        conserved(world.store.players.values().map(|stored| &stored.record));
    }
}
