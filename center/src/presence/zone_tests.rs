//! Presence against a small zone that obeys it: gates that hold sessions, scenes that hold players, all of which may die, in any
//! order. When everybody has reported again, no account has two sessions and no player is in two scenes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proto::internal::{ActorReport, LineReport, PlayerEnter, PlayerHanded, SceneEntered, SessionClaim, SessionReport};
use tokio::time::Instant;

use super::{
    enter::{Arrival, Handed, Plan, Rehome},
    *,
};
use crate::presence::{
    enter::unknown_player,
    players::{Player, tests::player_at},
};

const ACCOUNTS: u64 = 3;
const MAPS: [&str; 2] = ["meadow", "forest"];

/// What may happen next; the numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Claim {
        account: u64,
        gate: usize,
    },
    Enter {
        account: u64,
        role: u64,
        map: usize,
    },
    /// The scene that was asked answers, or dies before.
    Answer {
        plan: usize,
        dies: bool,
    },
    Hand {
        player: usize,
        to: usize,
    },
    End {
        session: usize,
    },
    Leave {
        player: usize,
    },
    LinkBreaks {
        scene: usize,
    },
    SceneDies {
        scene: usize,
    },
    SceneLinks {
        scene: usize,
    },
    GateDies {
        gate: usize,
    },
    GateLinks {
        gate: usize,
    },
    CenterRestarts,
    Rehome,
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let (account, gate, scene) = (1..=ACCOUNTS, 0..2usize, 0..2usize);
    prop_oneof![
        4 => (account.clone(), gate.clone()).prop_map(|(account, gate)| Step::Claim { account, gate }),
        6 => (account, 0..2u64, 0..2usize).prop_map(|(account, role, map)| Step::Enter { account, role, map }),
        8 => (0..4usize, prop::bool::weighted(0.1)).prop_map(|(plan, dies)| Step::Answer { plan, dies }),
        4 => (0..4usize, scene.clone()).prop_map(|(player, to)| Step::Hand { player, to }),
        2 => (0..4usize).prop_map(|session| Step::End { session }),
        1 => (0..4usize).prop_map(|player| Step::Leave { player }),
        1 => scene.clone().prop_map(|scene| Step::LinkBreaks { scene }),
        1 => scene.clone().prop_map(|scene| Step::SceneDies { scene }),
        3 => scene.prop_map(|scene| Step::SceneLinks { scene }),
        1 => gate.clone().prop_map(|gate| Step::GateDies { gate }),
        2 => gate.prop_map(|gate| Step::GateLinks { gate }),
        1 => Just(Step::CenterRestarts),
        3 => Just(Step::Rehome),
        1 => Just(Step::Sweep),
    ]
}

struct Gate {
    run: Run,
    linked: bool,
    sessions: BTreeMap<u64, SessionReport>,
}

struct Scene {
    run: Run,
    linked: bool,
    actors: BTreeMap<u64, ActorReport>,
}

struct Zone {
    presence: Presence,
    gates: Vec<Gate>,
    scenes: Vec<Scene>,
    plans: Vec<Plan>,
    now: Instant,
    now_ms: i64,
    last_session: u64,
}

impl Zone {
    fn new() -> Self {
        let run = |kind: &str, number: usize| Run { id: ProcessId(format!("{kind}-{number}")), incarnation: 1 };
        let mut zone = Self {
            presence: Presence::new(Duration::from_secs(60)),
            gates: (1..=2).map(|number| Gate { run: run("gate", number), linked: false, sessions: BTreeMap::new() }).collect(),
            scenes: (1..=2).map(|number| Scene { run: run("scene", number), linked: false, actors: BTreeMap::new() }).collect(),
            plans: Vec::new(),
            now: Instant::now(),
            now_ms: 1_000_000,
            last_session: 0,
        };
        zone.everybody_links();
        zone
    }

    fn everybody_links(&mut self) {
        for number in 0..2 {
            self.gate_links(number);
            self.scene_links(number);
        }
    }

    fn gate_links(&mut self, number: usize) {
        let gate = &mut self.gates[number];
        if !std::mem::replace(&mut gate.linked, true) {
            self.presence.gate_up(&gate.run);
            let sessions: Vec<_> = gate.sessions.values().cloned().collect();
            let actions = self.presence.gate_reported(&self.gates[number].run, &sessions, self.now);
            self.obey(actions);
        }
    }

    fn scene_links(&mut self, number: usize) {
        let scene = &mut self.scenes[number];
        if !std::mem::replace(&mut scene.linked, true) {
            self.presence.scene_up(&scene.run);
            let actors: Vec<_> = scene.actors.values().cloned().collect();
            let line = u32::try_from(number).unwrap() + 1;
            let lines = MAPS.map(|map| LineReport { map: map.into(), line, players: 0, players_max: 100, ..LineReport::default() });
            let actions = self.presence.scene_reported(&self.scenes[number].run, &lines, &actors, true, self.now);
            self.obey(actions);
        }
    }

    fn scene_unlinks(&mut self, number: usize, dies: bool) {
        let scene = &mut self.scenes[number];
        if std::mem::replace(&mut scene.linked, false) {
            let run = scene.run.clone();
            let actions = self.presence.scene_down(&run, self.now);
            self.obey(actions);
            let lost: Vec<Plan> = self.plans.extract_if(.., |plan| plan.scene == run).collect();
            for plan in lost {
                let actions = self.presence.not_arrived(&plan, true, self.now, self.now);
                self.obey(actions);
            }
        }
        if dies {
            self.scenes[number].actors.clear();
            self.scenes[number].run.incarnation += 1;
        }
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Close { gate, session, .. } => self.close(&gate, session.0),
                Action::Leave { scene, player, .. } => self.leave(&scene, player),
                _ => (),
            }
        }
    }

    fn close(&mut self, gate: &ProcessId, session: u64) {
        let gate = self.gates.iter_mut().find(|known| known.run.id == *gate && known.linked);
        if let Some(gate) = gate
            && gate.sessions.remove(&session).is_some()
        {
            let id = gate.run.id.clone();
            let actions = self.presence.session_ended(&id, SessionId(session));
            self.obey(actions);
        }
    }

    fn leave(&mut self, scene: &Run, player: PlayerId) {
        if let Some(known) = self.scenes.iter_mut().find(|known| known.run == *scene && known.linked) {
            known.actors.remove(&player.0);
            let actions = self.presence.sent_out(scene, player);
            self.obey(actions);
        }
    }

    /// A player leaves a scene for a reason of the scene's own.
    fn goes(&mut self, scene: &Run, player: PlayerId) {
        if let Some(known) = self.scenes.iter_mut().find(|known| known.run == *scene && known.linked) {
            known.actors.remove(&player.0);
            let actions = self.presence.player_left(scene, player, self.now, self.now);
            self.obey(actions);
        }
    }

    fn claim(&mut self, account: u64, gate: usize) {
        if !self.gates[gate].linked {
            return;
        }
        self.last_session += 1;
        let session = self.last_session;
        let name = self.gates[gate].run.id.0.clone();
        let claim =
            SessionClaim { session, account, account_name: String::new(), gate: name, address: String::new(), ..SessionClaim::default() };
        let (epoch, actions) = self.presence.claim(&claim, self.now_ms, self.now);
        self.obey(actions);
        let report =
            SessionReport { session, account, account_name: String::new(), session_epoch: epoch.0, player: 0, address: String::new() };
        self.gates[gate].sessions.insert(session, report);
        let run = self.gates[gate].run.clone();
        self.presence.session_opened(&run, SessionId(session));
    }

    fn enter(&mut self, account: u64, role: u64, map: usize) {
        let Some(session) = self.presence.sessions.get(AccountId(account)).map(|live| live.session.0) else { return };
        // The account's lock: while one enter is under way, the next waits.
        if self.plans.iter().any(|plan| plan.request.account == account) {
            return;
        }
        let player = account * 10 + role;
        for (other, scene) in self.presence.others(AccountId(account), PlayerId(player)) {
            self.leave(&scene, other);
            let actions = self.presence.drop_player(other);
            self.obey(actions);
        }
        let name = format!("P{player}");
        let call = PlayerEnter { session, account, player, name, level: 1, map: MAPS[map].into(), line: 0, seq: 1 };
        if let Ok(plan) = self.presence.enter(&call, self.now_ms) {
            self.plans.push(plan);
        }
    }

    fn answer(&mut self, plan: &Plan) {
        let Some(scene) = self.scenes.iter_mut().find(|scene| scene.run == plan.scene && scene.linked) else { return };
        let asked = &plan.request;
        let actor = ActorReport {
            player: asked.player,
            name: format!("P{}", asked.player),
            account: asked.account,
            account_name: String::new(),
            session: asked.session,
            gate: asked.gate.clone(),
            session_epoch: asked.session_epoch,
            map: asked.map.clone(),
            line: asked.line,
            level: 1,
            ..ActorReport::default()
        };
        scene.actors.insert(asked.player, actor);
        let entered = SceneEntered { map: asked.map.clone(), line: asked.line, level: 1, owner_epoch: 1 };
        match self.presence.arrived(plan, &entered, self.now) {
            Arrival::Here(actions) => self.obey(actions),
            Arrival::Void(actions) => {
                self.obey(actions);
                self.leave(&plan.scene, plan.player);
            }
        }
    }

    fn hand(&mut self, player: usize, to: usize) {
        let actors = self.scenes.iter().filter(|scene| scene.linked).flat_map(|scene| {
            let run = scene.run.clone();
            scene.actors.values().map(move |actor| (run.clone(), actor.clone()))
        });
        let actors: Vec<_> = actors.collect();
        let Some((source, actor)) = actors.get(player % actors.len().max(1)).cloned() else { return };
        let target = self.scenes[to].run.clone();
        if target == source || self.plans.iter().any(|plan| plan.request.account == actor.account) {
            return;
        }
        let scene = self.scenes.iter_mut().find(|scene| scene.run == source).unwrap();
        scene.actors.remove(&actor.player);
        let call = PlayerHanded {
            player: actor.player,
            scene: target.to_string(),
            map: actor.map.clone(),
            line: u32::try_from(to).unwrap() + 1,
            owner_epoch: u64::try_from(self.now_ms).unwrap(),
            session: actor.session,
            gate: actor.gate.clone(),
            session_epoch: actor.session_epoch,
            account: actor.account,
            account_name: String::new(),
        };
        let known = self.presence.players.get(PlayerId(actor.player)).cloned();
        let known = known.unwrap_or_else(|| unknown_player(&call, &source, actor.name.clone(), 1));
        match self.presence.handed(&call, &source, known, self.now_ms, self.now) {
            Handed::Done(actions) => self.obey(actions),
            Handed::Enter(plan) => self.plans.push(plan),
        }
    }

    fn rehome(&mut self) {
        for player in self.presence.homeless_due(self.now, Duration::from_secs(5), self.now) {
            let account = self.presence.players.get(player).unwrap().account.0;
            if self.plans.iter().any(|plan| plan.request.account == account) {
                continue;
            }
            match self.presence.rehome(player, None, self.now_ms) {
                Rehome::Enter(plan) => self.plans.push(plan),
                Rehome::Dropped(actions) => self.obey(actions),
                Rehome::Wait => (),
            }
        }
    }

    fn end(&mut self, session: usize) {
        let linked = self.gates.iter().filter(|gate| gate.linked);
        let all: Vec<_> = linked.flat_map(|gate| gate.sessions.keys().map(|session| (gate.run.id.clone(), *session))).collect();
        if let Some((gate, session)) = all.get(session % all.len().max(1)).cloned() {
            self.close(&gate, session);
            // As the scene hears of it too.
            for number in 0..2 {
                let run = self.scenes[number].run.clone();
                let of_session = |actor: &&ActorReport| actor.session == session;
                let left: Vec<u64> = self.scenes[number].actors.values().filter(of_session).map(|actor| actor.player).collect();
                left.into_iter().for_each(|player| self.goes(&run, PlayerId(player)));
            }
        }
    }

    fn center_restarts(&mut self) {
        self.presence = Presence::new(Duration::from_secs(60));
        self.plans.clear();
        self.gates.iter_mut().for_each(|gate| gate.linked = false);
        self.scenes.iter_mut().for_each(|scene| scene.linked = false);
        self.everybody_links();
    }

    fn take(&mut self, step: &Step) {
        self.now += Duration::from_secs(3);
        self.now_ms += 3000;
        match *step {
            Step::Claim { account, gate } => self.claim(account, gate),
            Step::Enter { account, role, map } => self.enter(account, role, map),
            Step::Answer { plan, dies } => {
                if !self.plans.is_empty() {
                    let plan = self.plans.remove(plan % self.plans.len());
                    let number = self.scenes.iter().position(|scene| scene.run.id == plan.scene.id).unwrap();
                    if dies {
                        self.plans.push(plan);
                        self.scene_unlinks(number, true);
                    } else {
                        self.answer(&plan);
                    }
                }
            }
            Step::Hand { player, to } => self.hand(player, to),
            Step::End { session } => self.end(session),
            Step::Leave { player } => {
                let all: Vec<_> = self.presence.players.iter().map(|player| (player.place.scene.clone(), player.player)).collect();
                if let Some((scene, player)) = all.get(player % all.len().max(1)) {
                    self.goes(scene, *player);
                }
            }
            Step::LinkBreaks { scene } => self.scene_unlinks(scene, false),
            Step::SceneDies { scene } => self.scene_unlinks(scene, true),
            Step::SceneLinks { scene } => self.scene_links(scene),
            Step::GateDies { gate } => {
                let gate = &mut self.gates[gate];
                if std::mem::replace(&mut gate.linked, false) {
                    self.presence.gate_down(&gate.run, self.now);
                }
                gate.sessions.clear();
                gate.run.incarnation += 1;
            }
            Step::GateLinks { gate } => self.gate_links(gate),
            Step::CenterRestarts => self.center_restarts(),
            Step::Rehome => self.rehome(),
            Step::Sweep => {
                let actions = self.presence.sweep(self.now, self.now_ms);
                self.obey(actions);
            }
        }
        self.presence_is_sound();
    }

    fn settle(&mut self) {
        self.everybody_links();
        for _ in 0..4 {
            while let Some(plan) = self.plans.pop() {
                self.answer(&plan);
            }
            self.now += Duration::from_secs(30);
            self.now_ms += 30_000;
            self.rehome();
        }
        while let Some(plan) = self.plans.pop() {
            self.answer(&plan);
        }
        for _ in 0..3 {
            self.now += Duration::from_secs(100);
            let actions = self.presence.sweep(self.now, self.now_ms);
            self.obey(actions);
        }
    }

    /// The tables agree with one another, after every step.
    fn presence_is_sound(&self) {
        let presence = &self.presence;
        for live in presence.sessions.iter() {
            assert_eq!(presence.sessions.of(live.session).map(|found| found.account), Some(live.account));
        }
        let mut lines: BTreeMap<(String, u32), u32> = BTreeMap::new();
        for player in presence.players.iter() {
            *lines.entry((player.place.map.clone(), player.place.line)).or_default() += 1;
            assert_eq!(presence.players.of_account(player.account).count(), 1, "one player of an account is in the world");
        }
        for ((map, line), count) in lines {
            assert_eq!(presence.players.at(&map, line), count);
        }
    }

    /// The zone agrees with presence, once everybody has reported.
    fn zone_is_sound(&self) {
        let mut accounts = BTreeMap::new();
        for gate in &self.gates {
            for session in gate.sessions.values() {
                assert_eq!(accounts.insert(session.account, session.session), None, "two sessions of account {}", session.account);
                assert!(self.presence.sessions.is_live(AccountId(session.account), SessionId(session.session)));
            }
        }
        let mut scenes = BTreeMap::new();
        for scene in &self.scenes {
            for player in scene.actors.keys() {
                assert_eq!(scenes.insert(*player, scene.run.clone()), None, "player {player} is in two scenes");
            }
        }
        let known: BTreeMap<u64, Run> = self.presence.players.iter().map(|player| (player.player.0, player.place.scene.clone())).collect();
        assert_eq!(known, scenes, "presence knows where everybody is");
        assert_eq!(self.presence.players.homeless(), 0);
    }
}

fn run(id: &str) -> Run {
    Run { id: ProcessId(id.into()), incarnation: 1 }
}

fn actor(player: u64, session_epoch: u64) -> ActorReport {
    ActorReport { player, name: format!("P{player}"), account: player, session: session_epoch, session_epoch, ..ActorReport::default() }
}

fn leaves(actions: &[Action]) -> Vec<String> {
    let left = |action: &Action| match action {
        Action::Leave { scene, .. } => Some(scene.id.0.clone()),
        _ => None,
    };
    actions.iter().filter_map(left).collect()
}

#[test]
fn of_two_scenes_with_one_player_the_higher_session_epoch_wins() {
    for (first, second, left) in [(5, 7, "scene-1"), (7, 5, "scene-2"), (5, 5, "scene-1")] {
        let (mut presence, now) = (Presence::new(Duration::from_secs(60)), Instant::now());
        presence.scene_up(&run("scene-1"));
        presence.scene_up(&run("scene-2"));
        presence.scene_reported(&run("scene-1"), &[], &[actor(1, first)], true, now);
        let actions = presence.scene_reported(&run("scene-2"), &[], &[actor(1, second)], true, now);
        assert_eq!(leaves(&actions), [left], "{first} against {second}");
        assert_ne!(presence.players.get(PlayerId(1)).unwrap().place.scene.id.0, left);
    }
}

#[test]
fn a_player_who_was_re_homed_stays_there_when_the_old_scene_comes_back_with_it() {
    let mut zone = Zone::new();
    zone.claim(1, 0);
    zone.enter(1, 0, 0);
    let plan = zone.plans.pop().unwrap();
    zone.answer(&plan);
    let old = zone.scenes.iter().position(|scene| scene.run == plan.scene).unwrap();
    zone.scene_unlinks(old, false);
    zone.now += Duration::from_secs(6);
    zone.rehome();
    let plan = zone.plans.pop().unwrap();
    assert_ne!(plan.scene, zone.scenes[old].run);
    zone.answer(&plan);
    zone.scene_links(old);
    assert!(zone.scenes[old].actors.is_empty(), "the old scene was told to give it up");
    zone.zone_is_sound();
}

#[test]
fn a_player_whom_its_scene_lost_gets_a_scene_again_and_one_who_ended_its_session_does_not() {
    for ends in [false, true] {
        let mut zone = Zone::new();
        zone.claim(1, 0);
        zone.enter(1, 0, 0);
        let plan = zone.plans.pop().unwrap();
        zone.answer(&plan);
        zone.goes(&plan.scene, plan.player);
        if ends {
            zone.close(&zone.gates[0].run.id.clone(), 1);
        }
        zone.rehome();
        assert_eq!(zone.plans.len(), usize::from(!ends));
        assert_eq!(zone.presence.players.get(plan.player).is_some(), !ends);
    }
}

#[test]
fn who_left_while_it_was_bound_anew_and_is_not_taken_is_nowhere() {
    let mut zone = Zone::new();
    zone.claim(1, 0);
    zone.enter(1, 0, 0);
    let plan = zone.plans.pop().unwrap();
    zone.answer(&plan);
    zone.claim(1, 1);
    zone.enter(1, 0, 0);
    let again = zone.plans.pop().unwrap();
    zone.goes(&again.scene, again.player);
    let actions = zone.presence.not_arrived(&again, false, zone.now, zone.now);
    assert!(matches!(&actions[..], [.., Action::TellFriends { online: false, .. }]), "{actions:?}");
    assert_eq!(zone.presence.players.online(), 0);
}

#[test]
fn a_claim_that_no_gate_confirms_is_forgotten() {
    let mut presence = Presence::new(Duration::from_secs(60));
    let now = Instant::now();
    presence.gate_up(&run("gate-1"));
    for session in [7, 8] {
        let gate = "gate-1".into();
        let claim = SessionClaim {
            session,
            account: session,
            account_name: String::new(),
            gate,
            address: String::new(),
            ..SessionClaim::default()
        };
        presence.claim(&claim, 1, now);
    }
    presence.session_opened(&run("gate-1"), SessionId(8));
    presence.sweep(now + Duration::from_secs(80), 1);
    let left: Vec<u64> = presence.sessions.iter().map(|live| live.session.0).collect();
    assert_eq!(left, [8]);
}

#[test]
fn a_player_waits_for_its_client_when_its_gate_is_gone_too() {
    let mut zone = Zone::new();
    zone.claim(1, 0);
    zone.enter(1, 0, 0);
    let plan = zone.plans.pop().unwrap();
    zone.answer(&plan);
    zone.scene_unlinks(0, true);
    zone.scene_unlinks(1, true);
    zone.take(&Step::GateDies { gate: 0 });
    zone.everybody_links();
    zone.rehome();
    assert!(zone.plans.is_empty(), "the gate's next run does not know the session yet");
    let gate = zone.gates[1].run.clone();
    zone.presence.session_moved(SessionId(1), gate, "");
    zone.rehome();
    assert_eq!(zone.plans.pop().unwrap().request.gate, "gate-2");
}

#[test]
fn a_handoff_that_is_told_late_does_not_undo_what_came_after_it() {
    let (mut presence, now) = (Presence::new(Duration::from_secs(60)), Instant::now());
    let known = Player { owner_epoch: 9, ..player_at(1, "scene-1", "meadow", 1) };
    presence.players.put(known.clone());
    presence.scene_up(&run("scene-2"));
    let late = PlayerHanded { player: 1, scene: "scene-2/1".into(), owner_epoch: 8, session: 1, account: 1, ..PlayerHanded::default() };
    let claim = SessionClaim { session: 1, account: 1, ..SessionClaim::default() };
    presence.claim(&claim, 1, now);
    assert_eq!(presence.handed(&late, &run("scene-3"), known.clone(), 1, now), Handed::Done(Vec::new()));
    assert_eq!(presence.players.get(PlayerId(1)), Some(&known));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn an_account_has_one_session_and_a_player_one_scene_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let mut zone = Zone::new();
        for step in &steps {
            zone.take(step);
        }
        zone.settle();
        zone.zone_is_sound();
    }
}
