//! Three scenes, of which some believe what is no longer so, claim, save, trade, hand off, release and repeat themselves in random order,
//! while dc flushes and is killed. After every step the ledger is where a plain sequential model is, coins and items are conserved (I2),
//! nobody but the owner has written (I3), and no version went back (I5; [`Disk::flush`] checks it for the store).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use proto::{
    client::Position,
    internal::{CallFaultCode, CommitUnit, PlayerSave},
    record::PlayerRecord,
};

use super::{
    Disk,
    cast::{COINS, PLAYERS, SCENES, Truth, anybody, conserved, name, players},
    record,
};
use crate::{
    ledger::{Elsewhere, Ledger},
    refusal::Refusal,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim { scene: usize, player: u64 },
    Walk { scene: usize, player: u64 },
    Trade { scene: usize, from: u64, to: u64, coins: u64, item: bool, with_id: bool },
    Steal { scene: usize, player: u64, item: u8 },
    Handoff { scene: usize, player: u64, to: usize },
    Release { scene: usize, player: u64 },
    Resend { scene: usize, back: usize },
    Flush,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let (scene, player) = anybody();
    prop_oneof![
        3 => (scene.clone(), player.clone()).prop_map(|(scene, player)| Step::Claim { scene, player }),
        4 => (scene.clone(), player.clone()).prop_map(|(scene, player)| Step::Walk { scene, player }),
        6 => (scene.clone(), player.clone(), player.clone(), 0..COINS, any::<(bool, bool)>())
            .prop_map(|(scene, from, to, coins, (item, with_id))| Step::Trade { scene, from, to, coins, item, with_id }),
        1 => (scene.clone(), player.clone(), 1..=PLAYERS as u8).prop_map(|(scene, player, item)| Step::Steal { scene, player, item }),
        2 => (scene.clone(), player.clone(), scene.clone()).prop_map(|(scene, player, to)| Step::Handoff { scene, player, to }),
        1 => (scene.clone(), player).prop_map(|(scene, player)| Step::Release { scene, player }),
        3 => (scene, 0usize..6).prop_map(|(scene, back)| Step::Resend { scene, back }),
        1 => Just(Step::Flush),
        1 => Just(Step::Kill),
    ]
}

/// What a scene asked.
#[derive(Clone, Debug)]
enum Asked {
    Commit(CommitUnit),
    Handoff(PlayerSave, String),
    Release(PlayerSave),
}

/// What a scene believes of a player that it had once.
#[derive(Clone, Debug)]
struct Belief {
    epoch: u64,
    version: u64,
    record: PlayerRecord,
}

struct Zone {
    disk: Disk,
    ledger: Ledger,
    truth: BTreeMap<u64, Truth>,
    /// Players that were not written since they were loaded.
    as_loaded: BTreeSet<u64>,
    done: HashSet<Vec<u8>>,
    beliefs: Vec<BTreeMap<u64, Belief>>,
    asked: Vec<Vec<Asked>>,
    next_unit: u64,
}

impl Zone {
    fn new() -> Self {
        let disk = Disk::with_players(players());
        let (ledger, beliefs, asked) = (disk.start(), vec![BTreeMap::new(); SCENES], vec![Vec::new(); SCENES]);
        let (truth, as_loaded, done) = (BTreeMap::new(), BTreeSet::new(), HashSet::new());
        let mut zone = Self { disk, ledger, truth, as_loaded, done, beliefs, asked, next_unit: 0 };
        zone.know_only_the_disk();
        zone
    }

    fn know_only_the_disk(&mut self) {
        self.truth.clear();
        for (player, stored) in &self.disk.players {
            let (owner, record) = (stored.owner.clone(), stored.record.clone());
            self.truth.insert(*player, Truth { owner, epoch: stored.epoch, version: stored.version, record });
        }
        self.as_loaded = self.truth.keys().copied().collect();
        self.done = self.disk.units.iter().map(|(unit, _)| unit.0.to_vec()).collect();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Claim { scene, player } => self.claim(scene, player),
            Step::Walk { scene, player } => {
                let Some(mut save) = self.next_save(scene, player) else { return };
                let x = i32::try_from(save.version).unwrap();
                save.record.as_mut().unwrap().position = Some(Position { x, y: 0 });
                self.ask(scene, Asked::Commit(CommitUnit { id: Default::default(), saves: vec![save], ..CommitUnit::default() }), false);
            }
            Step::Trade { scene, from, to, coins, item, with_id } => self.trade(scene, from, to, coins, item, with_id),
            Step::Steal { scene, player, item } => {
                let Some(mut save) = self.next_save(scene, player) else { return };
                let loot = record(0, 0, &[item]).items;
                save.record.as_mut().unwrap().items.extend(loot);
                self.ask(scene, Asked::Commit(CommitUnit { id: Default::default(), saves: vec![save], ..CommitUnit::default() }), true);
            }
            Step::Handoff { scene, player, to } => {
                let Some(save) = self.next_save(scene, player) else { return };
                self.ask(scene, Asked::Handoff(save, name(to)), true);
                self.take(to, player);
            }
            Step::Release { scene, player } => {
                let Some(save) = self.next_save(scene, player) else { return };
                self.ask(scene, Asked::Release(save), true);
            }
            Step::Resend { scene, back } => {
                let Some(index) = self.asked[scene].len().checked_sub(back + 1) else { return };
                self.ask(scene, self.asked[scene][index].clone(), true);
            }
            Step::Flush => self.disk.flush(&mut self.ledger),
            Step::Kill => {
                self.ledger = self.disk.start();
                self.know_only_the_disk();
            }
        }
        self.check();
    }

    fn claim(&mut self, scene: usize, player: u64) {
        let held = self.ledger.claim(player, &name(scene)).unwrap();
        let truth = self.truth.get_mut(&player).unwrap();
        (truth.owner, truth.epoch) = (name(scene), truth.epoch + 1);
        assert_eq!((held.epoch, held.version, &*held.record), (truth.epoch, truth.version, &truth.record));
        self.as_loaded.remove(&player);
        self.beliefs[scene].insert(player, Belief { epoch: held.epoch, version: held.version, record: (*held.record).clone() });
        self.disk.flush(&mut self.ledger); // a claim is durable when answered
    }

    fn take(&mut self, scene: usize, player: u64) {
        let truth = &self.truth[&player];
        if let Ok(held) = self.ledger.take(player, &name(scene), truth.epoch) {
            assert_eq!(truth.owner, name(scene));
            self.beliefs[scene].insert(player, Belief { epoch: held.epoch, version: held.version, record: (*held.record).clone() });
        }
    }

    fn trade(&mut self, scene: usize, from: u64, to: u64, coins: u64, item: bool, with_id: bool) {
        let (Some(mut give), Some(mut get)) = (self.next_save(scene, from), self.next_save(scene, to)) else { return };
        if from == to {
            return;
        }
        let (giver, getter) = (give.record.as_mut().unwrap(), get.record.as_mut().unwrap());
        let coins = coins.min(giver.coins);
        giver.coins -= coins;
        getter.coins += coins;
        if item {
            getter.items.extend(giver.items.pop());
        }
        self.next_unit += 1;
        let id = if with_id { u128::from(self.next_unit).to_be_bytes().to_vec() } else { Vec::new() };
        self.ask(scene, Asked::Commit(CommitUnit { id: id.into(), saves: vec![give, get], ..CommitUnit::default() }), true);
    }

    /// The next save of a player, by what the scene believes.
    fn next_save(&self, scene: usize, player: u64) -> Option<PlayerSave> {
        let belief = self.beliefs[scene].get(&player)?;
        let (epoch, version, record) = (belief.epoch, belief.version + 1, Some(belief.record.clone()));
        Some(PlayerSave { player, owner: name(scene), epoch, version, record })
    }

    /// Asks the ledger and the model, which must agree. What is of class D2 is on the disk when it is answered.
    fn ask(&mut self, scene: usize, asked: Asked, durable: bool) {
        let (expected, answer) = match &asked {
            Asked::Commit(unit) => (self.expect_unit(unit), self.ledger.commit(unit, &Elsewhere::new()).map(drop)),
            Asked::Handoff(save, to) => {
                let expected = self.expect_pass(save, to, save.epoch + 1);
                (expected, self.ledger.handoff(save, to, &Elsewhere::new()).map(|(epoch, _)| assert_eq!(epoch, save.epoch + 1)))
            }
            Asked::Release(save) => (self.expect_pass(save, "", save.epoch), self.ledger.release(save, &Elsewhere::new()).map(drop)),
        };
        assert_eq!(answer.as_ref().err().map(Refusal::code), expected.err(), "{asked:?}: {answer:?}");
        if answer.is_ok() {
            self.believe(scene, &asked);
            if durable {
                self.disk.flush(&mut self.ledger);
            }
        }
        self.asked[scene].push(asked);
    }

    /// The scene goes on from what was applied, if that is not older than what it believes.
    fn believe(&mut self, scene: usize, asked: &Asked) {
        let saves = match asked {
            Asked::Commit(unit) => unit.saves.as_slice(),
            Asked::Handoff(save, _) | Asked::Release(save) => std::slice::from_ref(save),
        };
        for save in saves {
            let belief = self.beliefs[scene].get_mut(&save.player).unwrap();
            if belief.epoch == save.epoch && belief.version < save.version {
                (belief.version, belief.record) = (save.version, save.record.clone().unwrap());
            }
        }
    }

    fn expect_unit(&mut self, unit: &CommitUnit) -> Result<(), CallFaultCode> {
        if self.done.contains(&unit.id[..]) {
            return Ok(());
        }
        let mut after = self.truth.clone();
        for save in &unit.saves {
            self.expect_save(save)?;
            let truth = after.get_mut(&save.player).unwrap();
            (truth.version, truth.record) = (save.version, save.record.clone().unwrap());
        }
        let changed = after != self.truth;
        let items: Vec<_> = after.values().flat_map(|truth| &truth.record.items).map(|item| &item.id).collect();
        if items.len() != items.iter().collect::<HashSet<_>>().len() {
            return Err(CallFaultCode::CallInvalid);
        }
        if changed {
            for save in unit.saves.iter().filter(|save| self.truth[&save.player] != after[&save.player]) {
                self.as_loaded.remove(&save.player);
            }
        }
        self.truth = after;
        if !unit.id.is_empty() {
            self.done.insert(unit.id.to_vec());
        }
        Ok(())
    }

    fn expect_save(&self, save: &PlayerSave) -> Result<(), CallFaultCode> {
        let truth = &self.truth[&save.player];
        let resent = save.version == truth.version && save.record.as_ref() == Some(&truth.record);
        let further = self.as_loaded.contains(&save.player) && truth.version < save.version;
        if (save.owner.as_str(), save.epoch) != (truth.owner.as_str(), truth.epoch) {
            Err(CallFaultCode::CallStaleOwner)
        } else if resent || further || save.version == truth.version + 1 {
            Ok(())
        } else {
            Err(CallFaultCode::CallStaleVersion)
        }
    }

    fn expect_pass(&mut self, save: &PlayerSave, to: &str, epoch: u64) -> Result<(), CallFaultCode> {
        let passed = Truth { owner: to.into(), epoch, version: save.version, record: save.record.clone().unwrap() };
        if self.truth[&save.player] != passed {
            self.expect_save(save)?;
            self.as_loaded.remove(&save.player);
            self.truth.insert(save.player, passed);
        }
        Ok(())
    }

    fn check(&self) {
        for (player, truth) in &self.truth {
            assert_eq!(&Truth::of(self.ledger.peek(*player).unwrap()), truth, "player {player}");
        }
        conserved(self.truth.values().map(|truth| &truth.record));
        conserved(self.disk.players.values().map(|stored| &stored.record));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        let mut zone = Zone::new();
        for step in steps {
            zone.step(step);
        }
        zone.disk.flush(&mut zone.ledger);
        zone.check();
    }
}
