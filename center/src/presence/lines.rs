//! The directory of lines: which scene hosts which line of which map, and which line takes the next player.

use std::collections::BTreeMap;

use proto::internal::LineReport;
use service::ProcessId;

use super::{Presence, Run};

/// An open line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub scene: Run,
    pub players_max: u32,
}

/// The open lines, by map and number.
#[derive(Debug, Default)]
pub(crate) struct Lines(BTreeMap<(String, u32), Line>);

/// Why no line takes a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLine {
    /// No scene that hosts the map is linked.
    Away,
    /// All lines of the map are full.
    Full,
}

impl Lines {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&(String, u32), &Line)> {
        self.0.iter()
    }

    /// Replaces what a scene hosts.
    pub(super) fn put(&mut self, scene: &Run, lines: &[LineReport]) {
        self.scene_down(&scene.id);
        for line in lines {
            let hosted = Line { scene: scene.clone(), players_max: line.players_max };
            self.0.insert((line.map.clone(), line.line), hosted);
        }
    }

    pub(super) fn scene_down(&mut self, scene: &ProcessId) {
        self.0.retain(|_, line| line.scene.id != *scene);
    }

    /// Whether this scene hosts a line of the map.
    pub(super) fn hosts(&self, scene: &ProcessId, map: &str) -> bool {
        self.of_map(map).any(|(_, line)| line.scene.id == *scene)
    }

    /// Whether any scene hosts a line of the map.
    pub(super) fn has(&self, map: &str) -> bool {
        self.of_map(map).next().is_some()
    }

    fn of_map<'a>(&'a self, map: &'a str) -> impl Iterator<Item = (u32, &'a Line)> {
        let from = (map.to_owned(), 0);
        self.0.range(from..).take_while(move |((name, _), _)| name == map).map(|((_, number), line)| (*number, line))
    }
}

impl Presence {
    /// The line of a map that takes one more player: the one it had before, if it is open and not full, else the emptiest.
    pub(crate) fn pick(&self, map: &str, before: u32) -> Result<(Run, u32), NoLine> {
        let mut emptiest: Option<(u32, u32, &Line)> = None;
        for (number, line) in self.lines.of_map(map) {
            let players = self.players.at(map, number);
            if line.players_max <= players {
                continue;
            }
            if number == before {
                return Ok((line.scene.clone(), number));
            }
            if emptiest.is_none_or(|(fewest, ..)| players < fewest) {
                emptiest = Some((players, number, line));
            }
        }
        match emptiest {
            Some((_, number, line)) => Ok((line.scene.clone(), number)),
            None if self.lines.has(map) => Err(NoLine::Full),
            None => Err(NoLine::Away),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::presence::players::tests::player_at;

    fn run(id: &str) -> Run {
        Run { id: ProcessId(id.into()), incarnation: 1 }
    }

    fn report(map: &str, line: u32, players_max: u32) -> LineReport {
        LineReport { map: map.into(), line, players: 0, players_max }
    }

    #[test]
    fn the_line_of_before_is_kept_while_it_has_room() {
        let mut presence = Presence::new(Duration::from_secs(60));
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 2)]);
        presence.lines.put(&run("scene-2"), &[report("meadow", 2, 2), report("meadow2", 1, 9)]);
        assert_eq!(presence.pick("meadow", 2), Ok((run("scene-2"), 2)));
        presence.players.put(player_at(1, "scene-2", "meadow", 2));
        assert_eq!(presence.pick("meadow", 2), Ok((run("scene-2"), 2)));
        presence.players.put(player_at(2, "scene-2", "meadow", 2));
        assert_eq!(presence.pick("meadow", 2), Ok((run("scene-1"), 1)), "full: another line");
        presence.players.put(player_at(3, "scene-1", "meadow", 1));
        presence.players.put(player_at(4, "scene-1", "meadow", 1));
        assert_eq!(presence.pick("meadow", 2), Err(NoLine::Full));
        assert_eq!(presence.pick("moon", 1), Err(NoLine::Away));
    }

    #[test]
    fn players_go_where_fewest_are() {
        let mut presence = Presence::new(Duration::from_secs(60));
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 10)]);
        presence.lines.put(&run("scene-2"), &[report("meadow", 2, 10)]);
        presence.players.put(player_at(1, "scene-1", "meadow", 1));
        assert_eq!(presence.pick("meadow", 0), Ok((run("scene-2"), 2)));
    }

    #[test]
    fn a_scene_that_is_away_hosts_nothing() {
        let mut presence = Presence::new(Duration::from_secs(60));
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 10), report("town", 1, 10)]);
        presence.lines.put(&run("scene-1"), &[report("meadow", 1, 10)]);
        assert!(!presence.lines.has("town"), "a report replaces the earlier one");
        presence.lines.scene_down(&ProcessId("scene-1".into()));
        assert_eq!(presence.pick("meadow", 1), Err(NoLine::Away));
    }
}
