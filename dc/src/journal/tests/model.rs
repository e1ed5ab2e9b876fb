//! Scenes claim, save, trade, hand over and release, GMs write the audit log and sanctions, players befriend and block each other, in random
//! order, while the journal is written, synced and checkpointed, the store takes
//! batches, the disk is full now and then, and the power fails. After each failure dc is where a sequential model was after some change:
//! none that was safe is missing (I1), coins and items are conserved (I2), the owner and epoch are the model's and stale ones are refused
//! (I3), no version is lower than what was safe or than the store's (I5), and two recoveries find the same (I6).

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proto::internal::{AuditOutcome, AuditRecord, CallFaultCode, CommitUnit, PlayerSave, Relation, Sanction, SanctionKind};

use super::*;
use crate::ledger::{
    Elsewhere, Ledger,
    tests::{
        Disk as Store, LIMITS,
        cast::{COINS, PLAYERS, Truth, anybody, conserved, name, players},
        people::People,
    },
};

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
    Audit,
    /// What came of one of the last commands.
    Outcome {
        back: u64,
    },
    Sanction,
    /// Lifts all that there are.
    Lift,
    Relate {
        player: u64,
        other: u64,
        relation: Relation,
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
    let (scene, player) = anybody();
    let relation = prop_oneof![Just(Relation::Unspecified), Just(Relation::Friend), Just(Relation::Block)];
    prop_oneof![
        4 => (scene.clone(), player.clone()).prop_map(|(scene, player)| Step::Claim { scene, player }),
        4 => player.clone().prop_map(|player| Step::Walk { player }),
        8 => (player.clone(), player.clone(), 0..COINS, any::<bool>()).prop_map(|(from, to, coins, item)| Step::Trade { from, to, coins, item }),
        3 => (player.clone(), scene).prop_map(|(player, to)| Step::Handoff { player, to }),
        1 => player.clone().prop_map(|player| Step::Release { player }),
        1 => player.clone().prop_map(|player| Step::Stale { player }),
        3 => Just(Step::Audit),
        3 => (0u64..4).prop_map(|back| Step::Outcome { back }),
        2 => Just(Step::Sanction),
        1 => Just(Step::Lift),
        4 => (player.clone(), player, relation).prop_map(|(player, other, relation)| Step::Relate { player, other, relation }),
        4 => Just(Step::Write),
        4 => Just(Step::Sync),
        2 => Just(Step::Store),
        1 => any::<bool>().prop_map(Step::Full),
        3 => (0usize..=8).prop_map(|torn| Step::Crash { torn }),
    ]
}

type Truths = BTreeMap<u64, Truth>;

/// What is so in the model.
#[derive(Clone, Debug, PartialEq)]
struct All {
    players: Truths,
    people: People,
}

struct World {
    disk: Memory,
    store: Store,
    applied: Lsn,
    ledger: Ledger,
    journal: Journal,
    /// What is so after each change.
    history: BTreeMap<Lsn, All>,
    /// The change up to which somebody could have been told that it is safe.
    safe: Lsn,
    next_unit: u64,
}

impl World {
    fn new() -> Self {
        let store = Store::with_players(players());
        let disk = Memory::default();
        let (mut ledger, journal) = recover(&disk, &store, 0).unwrap();
        let history = BTreeMap::from([(0, all(&mut ledger, &store))]);
        Self { disk, store, applied: 0, ledger, journal, history, safe: 0, next_unit: 0 }
    }

    fn all(&self) -> &All {
        self.history.last_key_value().unwrap().1
    }

    fn truth(&self) -> &Truths {
        &self.all().players
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
            Step::Audit => {
                let (id, lsn) = self.ledger.audit(AuditRecord::default()).unwrap();
                self.noted(lsn, |people| assert_eq!(people.audits.insert(id, String::new()), None, "a number is given once"));
            }
            Step::Outcome { back } => self.outcome(back),
            Step::Sanction => {
                let (id, lsn) = self.ledger.sanction(ban(), 0).unwrap();
                self.noted(lsn, |people| assert!(people.sanctions.insert(id), "a number is given once"));
            }
            Step::Lift => {
                let lifted = self.ledger.lift(SanctionKind::Ban, (1, String::new()), String::new(), 0);
                assert_eq!(lifted.is_ok(), !self.all().people.sanctions.is_empty());
                let Ok((_, lsn)) = lifted else { return };
                self.noted(lsn, |people| people.sanctions.clear());
            }
            Step::Relate { player, other, relation } => self.relate(player, other, relation),
            Step::Write => _ = self.write(),
            Step::Sync => self.sync(),
            Step::Store => self.flush(),
            Step::Full(full) => self.disk.fill(full),
            Step::Crash { torn } => self.crash(torn),
        }
        assert_eq!(&all(&mut self.ledger, &self.store), self.all());
    }

    fn changed(&mut self, lsn: Lsn, change: impl FnOnce(&mut Truths)) {
        let mut all = self.all().clone();
        change(&mut all.players);
        conserved(all.players.values().map(|truth| &truth.record));
        assert_eq!(self.history.insert(lsn, all), None, "numbers rise");
    }

    fn noted(&mut self, lsn: Lsn, change: impl FnOnce(&mut People)) {
        let mut all = self.all().clone();
        change(&mut all.people);
        assert_eq!(self.history.insert(lsn, all), None, "numbers rise");
    }

    fn outcome(&mut self, back: u64) {
        let (id, outcome) =
            (self.all().people.audits.len() as u64).checked_sub(back).map_or((0, String::new()), |id| (id, format!("{back}")));
        let written = self.ledger.audit_outcome(AuditOutcome { id, outcome: outcome.clone() });
        assert_eq!(written.is_ok(), id != 0);
        if let Ok(lsn) = written {
            self.noted(lsn, |people| _ = people.audits.insert(id, outcome));
        }
    }

    fn relate(&mut self, player: u64, other: u64, relation: Relation) {
        if player == other {
            return;
        }
        let (before, lsn) = (self.ledger.lsn(), self.ledger.relate(player, other, relation, 9, 0).unwrap());
        if before < lsn {
            self.noted(lsn, |people| people.relate(player, other, relation));
        }
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
        let (mut ledger, journal) = recover(&self.disk, &self.store, self.applied).unwrap_or_else(|_| {
            self.disk.fill(false); // no room for a new segment
            recover(&self.disk, &self.store, self.applied).unwrap()
        });
        let lsn = ledger.lsn();
        assert!(self.safe <= lsn, "change {} was safe, the recovery ends at {lsn}", self.safe);
        let found = all(&mut ledger, &self.store);
        assert_eq!(Some(&found), self.history.get(&lsn), "no state that there was");
        for (player, truth) in found.players {
            let (safe, stored) = (&self.history[&self.safe].players[&player], &self.store.players[&player]);
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
    store.people.begin(&mut ledger);
    let journal = open_on(Box::new(disk.clone()), SEGMENT_BYTES, applied, Rng::new(1), |entry| Ok(ledger.replay(entry)?))?;
    ledger.go_on_above(journal.last().max(applied));
    store.players.values().for_each(|stored| ledger.load(stored.clone()).unwrap());
    Ok((ledger, journal))
}

/// What a ledger says, read over what the store has.
fn all(ledger: &mut Ledger, store: &Store) -> All {
    let players = (1..=PLAYERS).map(|player| (player, Truth::of(ledger.peek(player).unwrap()))).collect();
    All { players, people: store.people.seen(ledger) }
}

fn ban() -> Sanction {
    Sanction { kind: SanctionKind::Ban.into(), account: 1, ..Sanction::default() }
}

fn apply(truths: &mut Truths, save: &PlayerSave) {
    let truth = truths.get_mut(&save.player).unwrap();
    (truth.version, truth.record) = (save.version, save.record.clone().unwrap());
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
