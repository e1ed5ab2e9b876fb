//! The plan against a dc that loses answers, refuses, and hands players to others.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proto::{
    Frame,
    client::{Sheet, SheetChanged},
    ids::PlayerId,
    internal::{CallFaultCode, Commit, Committed, UnitResult},
    record::PlayerRecord,
};

use super::plan::{Plan, Stamp};
use crate::world::{Class, SaveUnit};

const OWNER: &str = "scene-1/7";

/// The rules of dc, as COMMIT promises them.
#[derive(Default)]
struct FakeDc {
    players: BTreeMap<u64, (u64, u64, PlayerRecord)>,
}

impl FakeDc {
    fn commit(&mut self, commit: &Commit, busy: bool) -> Committed {
        let units = commit.units.iter().map(|unit| {
            if busy {
                return UnitResult { refused: CallFaultCode::CallUnavailable.into(), text: "busy".into() };
            }
            let verdicts: Vec<CallFaultCode> = unit.saves.iter().map(|save| self.verdict(save)).collect();
            if let Some(bad) = verdicts.iter().find(|code| **code != CallFaultCode::Unspecified) {
                return UnitResult { refused: (*bad).into(), text: "stale".into() };
            }
            for save in &unit.saves {
                self.players.insert(save.player, (save.epoch, save.version, save.record.clone().unwrap()));
            }
            UnitResult::default()
        });
        Committed { units: units.collect(), durability: commit.durability }
    }

    fn verdict(&self, save: &proto::internal::PlayerSave) -> CallFaultCode {
        let (epoch, version, record) = &self.players[&save.player];
        assert!(save.version <= version + 1, "versions rise by one");
        match () {
            () if *epoch != save.epoch => CallFaultCode::CallStaleOwner,
            () if save.version == version + 1 || (save.version == *version && save.record.as_ref() == Some(record)) => {
                CallFaultCode::Unspecified
            }
            () => CallFaultCode::CallStaleVersion,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// One player earns a coin; the message says the new sum.
    Earn(u64),
    /// A position changes.
    Walk(u64),
    /// One player gives another a coin, if it has one.
    Give(u64, u64),
    /// A commit is sent, and answered so.
    Commit(Fate),
    /// Somebody else claims the player.
    Stolen(u64),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    RequestLost,
    AnswerLost,
    Busy,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![4 => Just(Fate::Answered), 1 => Just(Fate::RequestLost), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::Busy)];
    prop_oneof![
        4 => (0..4u64).prop_map(Step::Earn),
        2 => (0..4u64).prop_map(Step::Walk),
        4 => (0..4u64, 0..4u64).prop_map(|(from, to)| Step::Give(from, to)),
        6 => fate.prop_map(Step::Commit),
        1 => (0..4u64).prop_map(Step::Stolen),
    ]
}

/// What the scene has in memory: coins by player.
struct Scene {
    plan: Plan,
    dc: FakeDc,
    coins: BTreeMap<u64, u64>,
    earned: u64,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self { plan: Plan::new(OWNER.into()), dc: FakeDc::default(), coins: BTreeMap::new(), earned: 0 };
        for player in 0..4 {
            scene.plan.add(player, Stamp { epoch: 1, version: 10 });
            scene.dc.players.insert(player, (1, 10, PlayerRecord { player, ..PlayerRecord::default() }));
            scene.coins.insert(player, 0);
        }
        scene
    }

    fn save(&mut self, players: &[u64], class: Class, hold: bool) {
        let record = |player: &u64| PlayerRecord { player: *player, coins: self.coins[player], ..PlayerRecord::default() };
        let frame = |player: &u64| {
            let sheet = Some(Sheet { coins: self.coins[player], ..Sheet::default() });
            (PlayerId(*player), Frame::encode(0, &SheetChanged { sheet, cause: "give".into() }))
        };
        let held = if hold { players.iter().map(frame).collect() } else { Vec::new() };
        let lost = self.plan.mark(SaveUnit { class, records: players.iter().map(record).collect(), held });
        self.drop_all(&lost);
    }

    fn drop_all(&mut self, lost: &[u64]) {
        for player in lost {
            self.coins.remove(player);
        }
    }

    /// What dc has applied must be there before its message is out, and coins are neither made nor lost by gifts.
    fn commit(&mut self, fate: Fate) {
        let Some(commit) = self.plan.next() else { return };
        assert!(self.plan.next().is_none(), "one commit is under way at a time");
        let answer = match fate {
            Fate::Answered => Some(self.dc.commit(&commit, false)),
            Fate::Busy => Some(self.dc.commit(&commit, true)),
            Fate::AnswerLost => {
                self.dc.commit(&commit, false);
                None
            }
            Fate::RequestLost => None,
        };
        let outcome = self.plan.answered(answer);
        for (player, frame) in outcome.deliver {
            let told = frame.decode::<SheetChanged>().unwrap().sheet.unwrap().coins;
            let (_, version, record) = &self.dc.players[&player];
            let saved = record.coins;
            assert!(told <= saved, "player {player} was told of {told}, version {version} has {saved}");
        }
        self.drop_all(&outcome.lost);
    }
}

proptest! {
    #[test]
    fn messages_wait_for_their_data_and_gifts_conserve(steps in proptest::collection::vec(step(), 1..120)) {
        let mut scene = Scene::new();
        let mut stolen = false;
        for step in steps {
            match step {
                Step::Earn(player) => {
                    let Some(coins) = scene.coins.get_mut(&player) else { continue };
                    *coins += 1;
                    scene.earned += 1;
                    scene.save(&[player], Class::D2, false);
                }
                Step::Walk(player) if scene.coins.contains_key(&player) => scene.save(&[player], Class::D0, false),
                Step::Walk(_) => (),
                Step::Give(from, to) => {
                    let can = from != to && scene.coins.contains_key(&to) && scene.coins.get(&from).is_some_and(|coins| 0 < *coins);
                    if !can { continue }
                    *scene.coins.get_mut(&from).unwrap() -= 1;
                    *scene.coins.get_mut(&to).unwrap() += 1;
                    scene.save(&[from, to], Class::D2, false);
                }
                Step::Commit(fate) => scene.commit(fate),
                Step::Stolen(player) => {
                    stolen = true;
                    scene.dc.players.get_mut(&player).unwrap().0 += 1;
                }
            }
            let held: u64 = scene.dc.players.values().map(|(_, _, record)| record.coins).sum();
            prop_assert!(held <= scene.earned, "coins were made");
        }
        for _ in 0..10 {
            scene.commit(Fate::Answered);
        }
        prop_assert_eq!(scene.plan.dirty(), 0);
        for (player, coins) in &scene.coins {
            let (epoch, _, record) = &scene.dc.players[player];
            prop_assert!(record.coins == *coins || *epoch != 1, "player {} has {} here and {} in dc", player, coins, record.coins);
        }
        if !stolen {
            prop_assert_eq!(scene.dc.players.values().map(|(_, _, record)| record.coins).sum::<u64>(), scene.earned);
        }
    }

    #[test]
    fn a_message_is_out_only_when_dc_has_what_it_tells(steps in proptest::collection::vec(step(), 1..60)) {
        let mut scene = Scene::new();
        for step in steps {
            match step {
                Step::Earn(player) => {
                    let Some(coins) = scene.coins.get_mut(&player) else { continue };
                    *coins += 1;
                    scene.save(&[player], Class::D2, true);
                }
                Step::Commit(fate) => scene.commit(fate),
                _ => (),
            }
        }
    }
}

#[test]
fn a_resend_has_the_same_bytes_and_newer_marks_wait() {
    let mut scene = Scene::new();
    scene.save(&[1], Class::D2, true);
    let first = scene.plan.next().unwrap();
    scene.coins.insert(1, 5);
    scene.save(&[1], Class::D2, true);
    scene.save(&[2], Class::D0, false);
    assert_eq!(scene.plan.answered(None), super::plan::Outcome { again: true, ..Default::default() });
    let second = scene.plan.next().unwrap();
    assert_eq!(second.units[0], first.units[0]);
    assert_eq!(second.units.len(), 2, "others do not wait");
    let outcome = scene.plan.answered(Some(scene.dc.commit(&second, false)));
    assert_eq!(outcome.deliver.len(), 1);
    assert_eq!(outcome.first, [1, 2]);
    assert!(scene.plan.take_out(1).is_none(), "its newer state is not saved yet");
    let third = scene.plan.next().unwrap();
    scene.plan.answered(Some(scene.dc.commit(&third, false)));
    assert_eq!(scene.plan.take_out(1), Some(Stamp { epoch: 1, version: 12 }));
}

#[test]
fn who_is_tied_to_a_lost_player_is_lost_with_it() {
    let mut scene = Scene::new();
    scene.save(&[1, 2], Class::D2, true);
    let commit = scene.plan.next().unwrap();
    scene.save(&[2, 3], Class::D2, true);
    scene.dc.players.get_mut(&1).unwrap().0 = 9;
    let outcome = scene.plan.answered(Some(scene.dc.commit(&commit, false)));
    assert_eq!(outcome.lost, [1, 2, 3], "3 has what 2 never saved");
    assert!(outcome.deliver.is_empty());
    assert_eq!(scene.plan.dirty(), 0);
}

#[test]
fn a_class_that_was_not_reached_is_asked_for_again() {
    let mut scene = Scene::new();
    scene.save(&[1], Class::D2, true);
    let commit = scene.plan.next().unwrap();
    let mut answer = scene.dc.commit(&commit, false);
    answer.durability = proto::internal::Durability::D0.into();
    assert!(scene.plan.answered(Some(answer)).deliver.is_empty());
    assert_eq!(scene.plan.next().unwrap().units, commit.units);
}
