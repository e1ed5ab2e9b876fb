//! The directory of lines: which scene has which line of which map, and which line takes the next player. No number of a map is with
//! two scenes: of two that report one line, the one that has it here keeps it, and the other is told to close its own.
//!
//! A line moves `Opening → Open → Closing`, and is `Lost` while its scene is gone. When it does so by itself says [`super::steer`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proto::{ids::PlayerId, internal::LineReport};
use service::{
    ProcessId, Zone,
    config::{LinesConfig, MapConfig},
};
use tokio::time::Instant;

use super::{Action, Presence, Run};

/// Who opens lines that no GM has opened.
pub(crate) const CENTER: &str = "center";

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Who has it, or had it.
    pub scene: Run,
    pub players_max: u32,
    /// [`CENTER`], or a GM's name.
    pub opened_by: String,
    pub state: LineState,
    /// The scene that is asked to take it over.
    pub moving_to: Option<Run>,
    pub tick_p99_us: u32,
    pub overloaded: bool,
    /// Since when nobody is on it.
    pub empty_since: Option<Instant>,
}

/// How a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineState {
    /// Its scene was asked to open it.
    Opening,
    /// It takes players.
    Open,
    /// It takes nobody any more, and is gone when it is empty.
    Closing,
    /// Its scene is gone; it is to be opened anew.
    Lost { since: Instant },
}

impl LineState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LineState::Opening => "opening",
            LineState::Open => "open",
            LineState::Closing => "closing",
            LineState::Lost { .. } => "lost",
        }
    }
}

/// What the zone file says of the lines of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapLines {
    pub lines: LinesConfig,
    pub players_max: u32,
    /// Scenes that may host them.
    pub hosts: BTreeSet<ProcessId>,
}

/// All lines, by map and number.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(super) all: BTreeMap<(String, u32), Line>,
    pub(super) maps: Arc<BTreeMap<String, MapLines>>,
    /// How long a tick may take.
    pub(super) tick: Duration,
    /// Scenes that have reported what they have.
    pub(super) scenes: BTreeMap<ProcessId, Run>,
    /// Maps of which no line is opened before then: the last one could not be.
    pub(super) not_before: BTreeMap<String, Instant>,
}

/// Where a player would like to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Who; 0: anybody.
    pub player: PlayerId,
    /// The line that it keeps, whoever else is where.
    pub keep: u32,
    /// The line on which it was before, if its party is on none.
    pub before: u32,
}

/// Why no line takes a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLine {
    /// No line of the map is open.
    Away,
    /// All lines of the map are full.
    Full,
}

impl Lines {
    /// What the zone file says.
    pub(crate) fn of_zone(zone: &Zone) -> Self {
        let of_map = |(name, map): (&String, &MapConfig)| {
            let hosts = zone.hosts(name).into_iter().map(|scene| scene.id.clone()).collect();
            (name.clone(), MapLines { lines: map.lines, players_max: map.players_max, hosts })
        };
        Self { maps: Arc::new(zone.world.maps.iter().map(of_map).collect()), tick: zone.world.tick(), ..Self::default() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&(String, u32), &Line)> {
        self.all.iter()
    }

    pub(crate) fn get(&self, map: &str, line: u32) -> Option<&Line> {
        self.all.get(&(map.to_owned(), line))
    }

    /// Lines that take players.
    pub(crate) fn open(&self) -> usize {
        self.all.values().filter(|line| line.state == LineState::Open).count()
    }

    /// Players at which a line counts as full for newcomers.
    pub(crate) fn soft_cap(&self, map: &str, line: &Line) -> u32 {
        self.maps.get(map).map_or(line.players_max, |rules| rules.lines.soft_cap)
    }

    /// Scenes that are here and may host a map of which no line is open.
    pub(crate) fn awaited(&self) -> Vec<ProcessId> {
        let without = self.maps.iter().filter(|(map, _)| !self.has(map));
        let hosts: BTreeSet<&ProcessId> =
            without.flat_map(|(_, rules)| &rules.hosts).filter(|host| self.scenes.contains_key(*host)).collect();
        hosts.into_iter().cloned().collect()
    }

    /// Takes what a scene says that it has. Lines of others that it has too, those that are to close, and those of which the map has
    /// enough, it is told to close.
    pub(super) fn put(&mut self, scene: &Run, reports: &[LineReport]) -> Vec<Action> {
        let mut actions = Vec::new();
        self.scenes.insert(scene.id.clone(), scene.clone());
        let reported: BTreeSet<(String, u32)> = reports.iter().map(|report| (report.map.clone(), report.line)).collect();
        let closed =
            self.all.extract_if(.., |key, line| line.scene == *scene && line.state != LineState::Opening && !reported.contains(key));
        actions.extend(closed.map(|((map, number), line)| changed("closed", &map, number, &line)));
        for report in reports {
            actions.extend(self.put_one(scene, report));
        }
        actions
    }

    fn put_one(&mut self, scene: &Run, report: &LineReport) -> Option<Action> {
        let (map, number) = (report.map.clone(), report.line);
        let key = (map.clone(), number);
        // A line that closed while its scene was away, and of which the scene did not hear, has been replaced since.
        let surplus = !self.all.contains_key(&key) && self.maps.get(&map).is_some_and(|rules| rules.lines.max <= self.usable(&map));
        let free = self.all.get(&key).is_none_or(|line| matches!(line.state, LineState::Lost { .. }));
        if free {
            let state = if report.closing || surplus { LineState::Closing } else { LineState::Open };
            self.all.insert(key.clone(), Line::of(scene, report, state));
        }
        let line = self.all.get_mut(&key)?;
        if line.moving_to.as_ref() == Some(scene) || (line.scene == *scene && line.state == LineState::Opening) {
            // It was quicker to report than to answer.
            return None;
        }
        if line.scene == *scene {
            (line.tick_p99_us, line.overloaded) = (report.tick_p99_us, report.overloaded);
            if report.closing {
                line.state = LineState::Closing;
            }
        }
        let wanted = line.scene == *scene && line.state == LineState::Open;
        (!wanted && !report.closing).then(|| Action::CloseLine { scene: scene.clone(), map, line: number })
    }

    /// Its lines are lost, but for those that were to close and those on their way to another scene.
    pub(super) fn scene_down(&mut self, scene: &ProcessId, now: Instant) -> Vec<Action> {
        self.scenes.remove(scene);
        let mut actions = Vec::new();
        self.all.retain(|(map, number), line| {
            line.moving_to.take_if(|to| to.id == *scene);
            if line.scene.id != *scene || matches!(line.state, LineState::Lost { .. }) {
                return true;
            }
            actions.push(changed("lost", map, *number, line));
            if let Some(to) = line.moving_to.take() {
                (line.scene, line.state) = (to, LineState::Opening);
                return true;
            }
            let stays = line.state != LineState::Closing;
            line.state = LineState::Lost { since: now };
            stays
        });
        actions
    }

    /// Whether this scene has an open line of the map.
    pub(super) fn hosts(&self, scene: &ProcessId, map: &str) -> bool {
        self.of_map(map).any(|(_, line)| line.scene.id == *scene && line.state == LineState::Open)
    }

    /// Whether a line is to be opened, for the first time or anew, by a scene that is here.
    pub(super) fn is_coming(&self, map: &str, line: u32) -> bool {
        let hosts = || self.maps.get(map).into_iter().flat_map(|rules| &rules.hosts);
        match self.get(map, line).map(|line| line.state) {
            Some(LineState::Opening) => true,
            Some(LineState::Lost { .. }) => hosts().any(|host| self.scenes.contains_key(host)),
            _ => false,
        }
    }

    /// Lines of the map that take players, now or soon.
    pub(super) fn usable(&self, map: &str) -> u32 {
        let usable = self.of_map(map).filter(|(_, line)| line.state != LineState::Closing).count();
        u32::try_from(usable).unwrap_or(u32::MAX)
    }

    /// Whether a line of the map is open.
    pub(super) fn has(&self, map: &str) -> bool {
        self.of_map(map).any(|(_, line)| line.state == LineState::Open)
    }

    pub(super) fn of_map<'a>(&'a self, map: &'a str) -> impl Iterator<Item = (u32, &'a Line)> {
        let from = (map.to_owned(), 0);
        self.all.range(from..).take_while(move |((name, _), _)| name == map).map(|((_, number), line)| (*number, line))
    }
}

impl Line {
    fn of(scene: &Run, report: &LineReport, state: LineState) -> Self {
        Self {
            scene: scene.clone(),
            players_max: report.players_max,
            opened_by: report.opened_by.clone(),
            state,
            moving_to: None,
            tick_p99_us: report.tick_p99_us,
            overloaded: report.overloaded,
            empty_since: None,
        }
    }
}

/// For the logs.
pub(super) fn changed(what: &'static str, map: &str, number: u32, line: &Line) -> Action {
    Action::LineChanged { what, map: map.into(), line: number, scene: line.scene.id.clone(), by: line.opened_by.clone() }
}

impl Presence {
    /// The line of a map that takes one more player. In this order: the one that it keeps, the one with most of its party, the one of
    /// before; else one below its soft cap, the emptiest of those that are always open and only then the others, by number, so that these
    /// become empty when fewer come; else the emptiest.
    pub(crate) fn pick(&self, map: &str, wish: Wish) -> Result<(Run, u32), NoLine> {
        let with_room = || self.lines.of_map(map).filter(|(number, line)| self.takes(map, *number, line, wish.player));
        for wanted in [wish.keep, self.line_of_party(map, wish.player), wish.before] {
            if let Some((number, line)) = with_room().find(|(number, _)| *number == wanted) {
                return Ok((line.scene.clone(), number));
            }
        }
        let standing = self.lines.maps.get(map).map_or(u32::MAX, |rules| rules.lines.min);
        let rank = |(number, line): &(u32, &Line)| {
            let players = self.players.at(map, *number);
            let spare = if *number <= standing { 0 } else { *number };
            (self.lines.soft_cap(map, line) <= players, spare, players)
        };
        match with_room().min_by_key(rank) {
            Some((number, line)) => Ok((line.scene.clone(), number)),
            None if self.lines.has(map) => Err(NoLine::Full),
            None => Err(NoLine::Away),
        }
    }

    /// Whether a line has room for a player, who may be on it already.
    pub(crate) fn takes(&self, map: &str, number: u32, line: &Line, player: PlayerId) -> bool {
        let there = self.players.get(player).is_some_and(|known| known.place.map == map && known.place.line == number);
        line.state == LineState::Open && self.players.at(map, number) - u32::from(there) < line.players_max
    }

    /// The line of a map on which most of a player's party are; 0: none.
    fn line_of_party(&self, map: &str, player: PlayerId) -> u32 {
        let mut members: BTreeMap<u32, u32> = BTreeMap::new();
        for member in self.parties.others(player) {
            if let Some(known) = self.players.get(member).filter(|known| known.online && known.place.map == map) {
                *members.entry(known.place.line).or_default() += 1;
            }
        }
        members.into_iter().max_by_key(|(line, count)| (*count, std::cmp::Reverse(*line))).map_or(0, |(line, _)| line)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::presence::players::tests::player_at;

    pub(in crate::presence) fn run(id: &str) -> Run {
        Run { id: ProcessId(id.into()), incarnation: 1 }
    }

    fn report(map: &str, line: u32, players_max: u32) -> LineReport {
        LineReport { map: map.into(), line, players_max, ..LineReport::default() }
    }

    fn before(before: u32) -> Wish {
        Wish { before, ..Wish::default() }
    }

    fn presence() -> Presence {
        Presence::new(Duration::from_secs(60))
    }

    #[test]
    fn the_line_of_before_is_kept_while_it_has_room() {
        let mut presence = presence();
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 2)]);
        presence.lines.put(&run("scene-2"), &[report("meadow", 2, 2), report("meadow2", 1, 9)]);
        assert_eq!(presence.pick("meadow", before(2)), Ok((run("scene-2"), 2)));
        presence.players.put(player_at(1, "scene-2", "meadow", 2));
        assert_eq!(presence.pick("meadow", before(2)), Ok((run("scene-2"), 2)));
        presence.players.put(player_at(2, "scene-2", "meadow", 2));
        assert_eq!(presence.pick("meadow", before(2)), Ok((run("scene-1"), 1)), "full: another line");
        let there = Wish { player: PlayerId(2), keep: 2, before: 0 };
        assert_eq!(presence.pick("meadow", there), Ok((run("scene-2"), 2)), "who is on it has its place there");
        presence.players.put(player_at(3, "scene-1", "meadow", 1));
        presence.players.put(player_at(4, "scene-1", "meadow", 1));
        assert_eq!(presence.pick("meadow", before(2)), Err(NoLine::Full));
        assert_eq!(presence.pick("moon", before(1)), Err(NoLine::Away));
    }

    #[test]
    fn players_go_where_fewest_are() {
        let mut presence = presence();
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 10)]);
        presence.lines.put(&run("scene-2"), &[report("meadow", 2, 10)]);
        presence.players.put(player_at(1, "scene-1", "meadow", 1));
        assert_eq!(presence.pick("meadow", before(0)), Ok((run("scene-2"), 2)));
    }

    #[test]
    fn a_line_that_need_not_be_open_takes_newcomers_last() {
        let mut presence = presence();
        let lines = LinesConfig { soft_cap: 2, min: 1, max: 4 };
        let rules = MapLines { lines, players_max: 4, hosts: BTreeSet::new() };
        presence.lines.maps = Arc::new(BTreeMap::from([("meadow".into(), rules)]));
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 4), report("meadow", 2, 4)]);
        let mut taken = Vec::new();
        for number in 1..=8 {
            let (_, line) = presence.pick("meadow", before(0)).unwrap();
            presence.players.put(player_at(number, "scene-1", "meadow", line));
            taken.push(line);
        }
        assert_eq!(taken, [1, 1, 2, 2, 1, 1, 2, 2]);
        assert_eq!(presence.pick("meadow", before(0)), Err(NoLine::Full));
    }

    #[test]
    fn a_scene_that_is_away_has_no_open_line() {
        let (mut presence, now) = (presence(), Instant::now());
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 10), report("town", 1, 10)]);
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 10)]);
        assert!(!presence.lines.has("town"), "a report replaces the earlier one");
        presence.lines.scene_down(&ProcessId("scene-1".into()), now);
        assert_eq!(presence.pick("meadow", before(1)), Err(NoLine::Away));
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 10)]);
        assert_eq!(presence.pick("meadow", before(1)), Ok((run("scene-1"), 1)), "it was only cut off");
    }

    #[test]
    fn a_second_scene_with_a_line_is_told_to_close_it() {
        let mut presence = presence();
        assert_eq!(presence.lines.put(&run("scene-1"), &[report("meadow", 1, 10)]), []);
        let close = Action::CloseLine { scene: run("scene-2"), map: "meadow".into(), line: 1 };
        assert_eq!(presence.lines.put(&run("scene-2"), &[report("meadow", 1, 10)]), [close]);
        let closing = LineReport { closing: true, ..report("meadow", 1, 10) };
        assert_eq!(presence.lines.put(&run("scene-2"), &[closing]), [], "it does so already");
        assert_eq!(presence.pick("meadow", before(0)), Ok((run("scene-1"), 1)));
    }
}
