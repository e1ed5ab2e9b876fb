//! The lines of one map on three scenes that obey center, die, come back and answer late, under players who come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use proto::internal::LineReport;
use service::config::LinesConfig;

use super::*;
use crate::presence::{
    lines::{Lines, NoLine, Wish, tests::run},
    players::{Player, State, tests::player_at},
};

const MAP: &str = "meadow";
const RULES: LinesConfig = LinesConfig { soft_cap: 4, min: 1, max: 4 };
const PLAYERS_MAX: u32 = 6;
const PAUSES: Pauses = Pauses { rehome_after: Duration::from_secs(3), line_empty: Duration::from_secs(60) };

/// A line as its scene has it.
#[derive(Clone, Debug)]
struct Copy {
    closing: bool,
    opened_by: String,
}

#[derive(Debug)]
struct Scene {
    run: Run,
    linked: bool,
    lines: BTreeMap<u32, Copy>,
}

struct Zone {
    presence: Presence,
    scenes: Vec<Scene>,
    asked: Vec<Opening>,
    now: Instant,
    last_player: u64,
    /// What became of lines, in order.
    news: Vec<(&'static str, u32)>,
}

impl Zone {
    fn new(lines: LinesConfig) -> Self {
        let scenes = (1..=3).map(|number| Scene { run: run(&format!("scene-{number}")), linked: false, lines: BTreeMap::new() });
        let mut zone = Self {
            presence: presence(lines),
            scenes: scenes.collect(),
            asked: Vec::new(),
            now: Instant::now(),
            last_player: 0,
            news: Vec::new(),
        };
        (0..3).for_each(|scene| zone.links(scene));
        zone
    }

    fn links(&mut self, scene: usize) {
        if !std::mem::replace(&mut self.scenes[scene].linked, true) {
            self.presence.scene_up(&self.scenes[scene].run);
            self.reports(scene);
        }
    }

    fn reports(&mut self, scene: usize) {
        let known = &self.scenes[scene];
        if !known.linked {
            return;
        }
        let report = |(line, copy): (&u32, &Copy)| {
            let (map, opened_by, closing) = (MAP.into(), copy.opened_by.clone(), copy.closing);
            LineReport { map, line: *line, players_max: PLAYERS_MAX, opened_by, closing, ..LineReport::default() }
        };
        let (run, lines): (Run, Vec<LineReport>) = (known.run.clone(), known.lines.iter().map(report).collect());
        let actions = self.presence.scene_reported(&run, &lines, &[], false, self.now);
        self.obey(actions);
    }

    fn unlinks(&mut self, scene: usize, dies: bool) {
        if std::mem::replace(&mut self.scenes[scene].linked, false) {
            let run = self.scenes[scene].run.clone();
            let actions = self.presence.scene_down(&run, self.now);
            self.obey(actions);
            for opening in self.asked.extract_if(.., |opening| opening.scene == run).collect::<Vec<_>>() {
                self.presence.line_not_opened(&opening, self.now);
            }
        }
        if dies {
            self.scenes[scene].lines.clear();
            self.scenes[scene].run.incarnation += 1;
        }
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::OpenLine(opening) => self.asked.push(opening),
                Action::CloseLine { scene, line, .. } => {
                    let known = self.scenes.iter_mut().find(|known| known.run == scene && known.linked);
                    if let Some(copy) = known.and_then(|known| known.lines.get_mut(&line)) {
                        copy.closing = true;
                    }
                }
                Action::LineChanged { what, line, .. } => self.news.push((what, line)),
                _ => (),
            }
        }
    }

    /// A scene that was asked opens its line, refuses, or does so and is not heard.
    fn answers(&mut self, asked: usize, how: usize) {
        if self.asked.is_empty() {
            return;
        }
        let opening = self.asked.remove(asked % self.asked.len());
        let Some(scene) = self.scenes.iter_mut().find(|scene| scene.run == opening.scene && scene.linked) else { return };
        let busy = scene.lines.get(&opening.line).is_some_and(|copy| copy.closing);
        if busy || how == 0 {
            return self.presence.line_not_opened(&opening, self.now);
        }
        scene.lines.entry(opening.line).or_insert(Copy { closing: false, opened_by: opening.opened_by.clone() });
        if how == 1 {
            return self.presence.line_not_opened(&opening, self.now);
        }
        let actions = self.presence.line_opened(&opening, self.now);
        self.obey(actions);
    }

    /// Scenes bring players off closing lines, and end those that are empty.
    fn drains(&mut self) {
        for scene in 0..self.scenes.len() {
            let Scene { run, linked: true, .. } = &self.scenes[scene] else { continue };
            let run = run.clone();
            let closing = self.scenes[scene].lines.iter().filter(|(_, copy)| copy.closing);
            for line in closing.map(|(line, _)| *line).collect::<Vec<_>>() {
                let there: Vec<PlayerId> = self.on(&run, line).map(|player| player.player).collect();
                there.into_iter().for_each(|player| self.moves(player));
                if self.on(&run, line).next().is_none() {
                    self.scenes[scene].lines.remove(&line);
                }
            }
            self.reports(scene);
        }
    }

    fn on(&self, scene: &Run, line: u32) -> impl Iterator<Item = &Player> {
        self.presence.players.iter().filter(move |player| player.place.scene == *scene && player.place.line == line)
    }

    fn moves(&mut self, player: PlayerId) {
        let line = self.presence.players.get(player).unwrap().place.line;
        if let Ok((scene, line)) = self.presence.pick(MAP, Wish { player, keep: line, before: 0 }) {
            self.presence.players.change(player, |player| {
                (player.place.scene, player.place.line, player.state) = (scene, line, State::InWorld);
            });
        }
    }

    fn rehomes(&mut self) {
        let homeless = self.presence.players.iter().filter(|player| matches!(player.state, State::Homeless { .. }));
        let homeless = homeless.filter(|player| !self.presence.lines.is_coming(MAP, player.place.line));
        for player in homeless.map(|player| player.player).collect::<Vec<_>>() {
            self.moves(player);
        }
    }

    fn joins(&mut self, before: u32) {
        let player = PlayerId(self.last_player + 1);
        if let Ok((scene, line)) = self.presence.pick(MAP, Wish { player, keep: 0, before }) {
            self.last_player += 1;
            assert!(self.presence.players.at(MAP, line) < PLAYERS_MAX, "nobody comes to a line that is full");
            let mut player = player_at(player.0, &scene.id.0, MAP, line);
            player.place.scene = scene;
            self.presence.players.put(player);
        }
    }

    fn leaves(&mut self, player: usize) {
        let all: Vec<PlayerId> = self.presence.players.iter().map(|player| player.player).collect();
        if let Some(player) = all.get(player % all.len().max(1)) {
            self.presence.drop_player(*player);
        }
    }

    fn steers(&mut self) {
        let actions = self.presence.steer(self.now, PAUSES);
        self.obey(actions);
    }

    fn take(&mut self, step: &Step) {
        self.now += Duration::from_secs(1);
        match *step {
            Step::Join { before } => self.joins(before),
            Step::Leave { player } => self.leaves(player),
            Step::Answer { asked, how } => self.answers(asked, how),
            Step::Unlink { scene, dies } => self.unlinks(scene, dies),
            Step::Link { scene } => self.links(scene),
            Step::Report { scene } => self.reports(scene),
            Step::Drain => self.drains(),
            Step::Rehome => self.rehomes(),
            Step::Wait { seconds } => self.now += Duration::from_secs(seconds),
            Step::Open => _ = self.presence.open(MAP, None, "eve", self.now).map(|opening| self.asked.push(opening)),
            Step::Close { line } => _ = self.presence.close(MAP, line).map(|actions| self.obey(actions)),
            Step::Move { line, scene } => {
                let to = self.scenes[scene].run.id.0.clone();
                _ = self.presence.move_line(MAP, line, &to).map(|opening| self.asked.push(opening));
            }
            Step::CenterRestarts => self.center_restarts(),
        }
        self.steers();
        self.is_sound();
    }

    /// Players keep playing; what center knew of lines is gone.
    fn center_restarts(&mut self) {
        let players: Vec<Player> = self.presence.players.iter().cloned().collect();
        self.presence = presence(RULES);
        players.into_iter().for_each(|player| self.presence.players.put(player));
        self.asked.clear();
        for scene in 0..self.scenes.len() {
            if std::mem::replace(&mut self.scenes[scene].linked, false) {
                self.links(scene);
            }
        }
    }

    fn settle(&mut self) {
        (0..3).for_each(|scene| self.links(scene));
        for _ in 0..40 {
            self.now += Duration::from_secs(5);
            self.steers();
            while !self.asked.is_empty() {
                self.answers(0, 2);
            }
            self.drains();
            self.rehomes();
        }
    }

    fn is_sound(&self) {
        assert!(self.presence.lines.usable(MAP) <= RULES.max);
    }

    /// When everything that was asked is done: each line is with one scene, center knows which, and everybody is on one.
    fn is_settled(&self) {
        let mut held = BTreeMap::new();
        for scene in &self.scenes {
            for line in scene.lines.keys() {
                assert_eq!(held.insert(*line, scene.run.clone()), None, "two scenes have line {line}");
            }
        }
        let known: BTreeMap<u32, Run> = self.presence.lines.of_map(MAP).map(|(number, line)| (number, line.scene.clone())).collect();
        assert_eq!(known, held);
        assert!(RULES.min as usize <= known.len(), "the map has the lines that it must have");
        let players = self.presence.players.iter().count();
        if players <= (RULES.max * PLAYERS_MAX) as usize {
            assert_eq!(self.presence.players.homeless(), 0);
            assert!(self.presence.players.iter().all(|player| known.get(&player.place.line) == Some(&player.place.scene)));
        }
    }
}

fn presence(lines: LinesConfig) -> Presence {
    let mut presence = Presence::new(Duration::from_secs(60));
    let hosts: BTreeSet<ProcessId> = (1..=3).map(|number| ProcessId(format!("scene-{number}"))).collect();
    let maps = BTreeMap::from([(MAP.into(), MapLines { lines, players_max: PLAYERS_MAX, hosts })]);
    presence.lines = Lines { maps: Arc::new(maps), tick: Duration::from_millis(100), ..Lines::default() };
    presence
}

/// What may happen next; the numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Join { before: u32 },
    Leave { player: usize },
    Answer { asked: usize, how: usize },
    Unlink { scene: usize, dies: bool },
    Link { scene: usize },
    Report { scene: usize },
    Drain,
    Rehome,
    Wait { seconds: u64 },
    Open,
    Close { line: u32 },
    Move { line: u32, scene: usize },
    CenterRestarts,
}

fn step() -> impl Strategy<Value = Step> {
    let (line, scene) = (1..=4u32, 0..3usize);
    prop_oneof![
        12 => (0..4u32).prop_map(|before| Step::Join { before }),
        6 => (0..40usize).prop_map(|player| Step::Leave { player }),
        8 => (0..4usize, 0..6usize).prop_map(|(asked, how)| Step::Answer { asked, how }),
        2 => (scene.clone(), any::<bool>()).prop_map(|(scene, dies)| Step::Unlink { scene, dies }),
        3 => scene.clone().prop_map(|scene| Step::Link { scene }),
        4 => scene.clone().prop_map(|scene| Step::Report { scene }),
        3 => Just(Step::Drain),
        3 => Just(Step::Rehome),
        2 => (1..90u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Open),
        1 => line.clone().prop_map(|line| Step::Close { line }),
        2 => (line, scene).prop_map(|(line, scene)| Step::Move { line, scene }),
        1 => Just(Step::CenterRestarts),
    ]
}

/// A zone with its one line open.
fn opened() -> Zone {
    let mut zone = Zone::new(RULES);
    zone.steers();
    zone.answers(0, 2);
    zone.news.clear();
    zone
}

impl Zone {
    /// Lets time go by, a second a step, while everybody does what is asked.
    fn lives(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.steers();
            while !self.asked.is_empty() {
                self.answers(0, 2);
            }
            self.drains();
            self.rehomes();
        }
    }

    fn home_of(&self, line: u32) -> usize {
        let scene = &self.presence.lines.get(MAP, line).unwrap().scene;
        self.scenes.iter().position(|known| known.run == *scene).unwrap()
    }
}

#[test]
fn a_line_opens_on_another_scene_when_all_have_reached_their_soft_cap() {
    let mut zone = opened();
    (0..3).for_each(|_| zone.joins(0));
    zone.lives(5);
    assert_eq!(zone.news, []);
    zone.joins(0);
    zone.lives(1);
    assert_eq!(zone.news, [("opened", 2)]);
    assert_ne!(zone.home_of(1), zone.home_of(2), "where fewest players are");
    zone.joins(0);
    assert_eq!(zone.presence.players.at(MAP, 2), 1);
}

#[test]
fn an_empty_line_closes_after_a_while_and_a_gms_stays() {
    let mut zone = opened();
    (0..4).for_each(|_| zone.joins(0));
    zone.lives(1);
    zone.joins(0);
    let by_gm = zone.presence.open(MAP, Some("scene-3"), "eve", zone.now).unwrap();
    zone.asked.push(by_gm);
    zone.lives(200);
    assert_eq!(zone.news, [("opened", 2), ("opened", 3)], "the GM's is empty, the other is not");
    (0..5).for_each(|_| zone.leaves(0));
    zone.lives(50);
    assert_eq!(zone.news.len(), 2);
    zone.lives(20);
    assert_eq!(zone.news[2..], [("closing", 2), ("closed", 2)]);
    zone.lives(200);
    assert_eq!(zone.news.len(), 4);
    let closes = zone.presence.close(MAP, 3).unwrap();
    zone.obey(closes);
    zone.lives(2);
    assert_eq!(zone.news[4..], [("closing", 3), ("closed", 3)]);
    assert_eq!(zone.presence.close(MAP, 1), Err(LineRefused::Least));
}

#[test]
fn a_crowd_that_sways_about_the_soft_cap_opens_one_line_and_closes_none() {
    let mut zone = opened();
    (0..3).for_each(|_| zone.joins(0));
    for _ in 0..10 {
        zone.joins(1);
        zone.lives(70);
        zone.leaves(0);
        zone.lives(70);
    }
    assert_eq!(zone.news, [("opened", 2)]);
}

#[test]
fn lines_of_a_dead_scene_open_elsewhere_with_their_players_and_at_home_if_it_is_back_at_once() {
    for back_after in [1, 10] {
        let mut zone = opened();
        (0..5).for_each(|_| zone.joins(0));
        zone.lives(1);
        let home = zone.home_of(1);
        zone.unlinks(home, true);
        zone.lives(back_after);
        zone.links(home);
        zone.lives(10);
        zone.is_settled();
        assert_eq!(zone.home_of(1) == home, back_after == 1);
        let together = zone.presence.players.iter().filter(|player| player.place.line == 1).count();
        assert_eq!(together, 5, "they are on their line again");
    }
}

#[test]
fn a_line_moves_with_everybody_on_it_even_a_full_one() {
    let mut zone = opened();
    (0..PLAYERS_MAX).for_each(|_| zone.joins(1));
    let from = zone.home_of(1);
    let to = (from + 1) % 3;
    let name = zone.scenes[to].run.id.0.clone();
    let opening = zone.presence.move_line(MAP, 1, &name).unwrap();
    assert_eq!(zone.presence.close(MAP, 1), Err(LineRefused::Busy("on its way to another scene")));
    zone.asked.push(opening);
    zone.lives(3);
    zone.is_settled();
    assert_eq!((zone.home_of(1), zone.presence.players.at(MAP, 1)), (to, PLAYERS_MAX));
    assert_eq!(zone.presence.move_line(MAP, 1, &name), Err(LineRefused::There));
    assert_eq!(zone.presence.move_line(MAP, 9, &name), Err(LineRefused::NoLine));
    assert_eq!(zone.presence.move_line(MAP, 1, "scene-9"), Err(LineRefused::NotHost));
}

#[test]
fn a_scene_that_refuses_is_not_asked_again_at_once() {
    let mut zone = Zone::new(RULES);
    zone.steers();
    zone.answers(0, 0);
    zone.steers();
    assert!(zone.asked.is_empty());
    zone.now += OPEN_AGAIN_AFTER;
    zone.steers();
    assert_eq!(zone.asked.len(), 1);
}

#[test]
fn the_least_loaded_scene_has_no_overload_short_ticks_and_few_players() {
    let mut zone = opened();
    let load = |line: u32, tick_p99_us: u32, overloaded: bool| LineReport {
        map: MAP.into(),
        line,
        players_max: PLAYERS_MAX,
        tick_p99_us,
        overloaded,
        ..LineReport::default()
    };
    for (scene, tick_p99_us, overloaded) in [(0, 5_000, false), (1, 90_000, false), (2, 1_000, true)] {
        let (run, line) = (zone.scenes[scene].run.clone(), u32::try_from(scene).unwrap() + 1);
        zone.presence.lines.put(&run, &[load(line, tick_p99_us, overloaded)]);
    }
    assert_eq!(zone.presence.may_open(MAP, None), Ok((4, run("scene-1"))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn each_line_is_with_one_scene_and_everybody_on_one_whatever_happens(steps in prop::collection::vec(step(), 1..120)) {
        let mut zone = Zone::new(RULES);
        for step in &steps {
            zone.take(step);
        }
        zone.settle();
        zone.is_settled();
    }

    #[test]
    fn a_party_is_together_while_there_is_room(
        others in prop::collection::vec(1..=3u32, 0..18),
        members in prop::collection::vec(0..=3u32, 2..5),
    ) {
        let mut zone = opened();
        for line in 2..=3 {
            let opening = zone.presence.open(MAP, None, "eve", zone.now).unwrap();
            prop_assert_eq!(opening.line, line);
            zone.asked.push(opening);
            zone.answers(0, 2);
        }
        others.iter().for_each(|before| zone.joins(*before));
        let mut party: Vec<PlayerId> = Vec::new();
        for before in members {
            let player = PlayerId(zone.last_player + 1);
            if let Some(first) = party.first() {
                zone.presence.parties.invite(*first, player, zone.now).unwrap();
                zone.presence.parties.accept((player, "Member"), (*first, "First"), zone.now).unwrap();
            }
            let mates = party.first().and_then(|first| zone.presence.players.get(*first)).map(|first| first.place.line);
            let room = mates.is_some_and(|line| zone.presence.players.at(MAP, line) < PLAYERS_MAX);
            let alone = zone.presence.pick(MAP, Wish { player, keep: 0, before });
            match (alone, mates) {
                (Ok((_, line)), Some(mates)) if room => prop_assert_eq!(line, mates),
                (Err(why), _) => prop_assert_eq!((why, room), (NoLine::Full, false)),
                _ => (),
            }
            if !room && !party.is_empty() {
                break;
            }
            zone.joins(before);
            party.push(player);
        }
    }
}
