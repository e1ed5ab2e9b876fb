//! When lines open, close and move: by themselves ([`Presence::steer`]), and because a GM wants it.
//!
//! A map has its `min` lines always, and one more, up to `max`, when every open one has reached its soft cap. A line beyond `min` that
//! nobody has been on for a while closes, but only while another line is well below its soft cap: between the two thresholds nothing
//! happens, so that a crowd which sways about one of them neither opens nor closes lines. A line that a GM opened stays until a GM
//! closes it. A lost line is opened anew under its number, so that those who were on it are together again.

use std::time::Duration;

use proto::ids::PlayerId;
use service::ProcessId;
use tokio::time::Instant;

use super::{
    Action, Presence, Run,
    lines::{CENTER, Line, LineState, MapLines, changed},
};

/// How long a map whose line could not be opened waits for the next try.
const OPEN_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A line that a scene is asked to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub scene: Run,
    pub map: String,
    pub line: u32,
    pub opened_by: String,
}

/// When lines are opened elsewhere and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pauses {
    /// How long a scene may be away before its lines are opened on another.
    pub rehome_after: Duration,
    /// How long nobody has been on a line that closes.
    pub line_empty: Duration,
}

/// Why a GM's order about a line makes no sense now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineRefused {
    NoMap,
    NoLine,
    /// The scene is not one that may host the map.
    NotHost,
    /// No scene that may host the map is linked, or not the one that was named.
    Away,
    /// The map has as many lines as it may.
    Most,
    /// The map has as few lines as it must.
    Least,
    /// The line is opening, closing, lost or on its way.
    Busy(&'static str),
    /// It is there already.
    There,
}

impl Presence {
    /// What is to be done for the lines now.
    pub(crate) fn steer(&mut self, now: Instant, pauses: Pauses) -> Vec<Action> {
        let maps = self.lines.maps.clone();
        let mut actions = Vec::new();
        for (map, rules) in &*maps {
            self.note_empty(map, now);
            self.forget_lost(map, rules);
            if self.lines.not_before.get(map).is_none_or(|until| *until <= now) {
                actions.extend(self.open_lost(map, rules, now, pauses.rehome_after));
                actions.extend(self.open_wanted(map, rules, now));
            }
            actions.extend(self.close_spare(map, rules, now, pauses.line_empty));
        }
        actions
    }

    /// A scene has opened a line.
    pub(crate) fn line_opened(&mut self, opened: &Opening, now: Instant) -> Vec<Action> {
        let close = |scene: &Run| Action::CloseLine { scene: scene.clone(), map: opened.map.clone(), line: opened.line };
        let Some(line) = self.lines.all.get_mut(&(opened.map.clone(), opened.line)) else { return vec![close(&opened.scene)] };
        if line.moving_to.as_ref() == Some(&opened.scene) {
            let from = std::mem::replace(&mut line.scene, opened.scene.clone());
            (line.moving_to, line.empty_since) = (None, None);
            return vec![changed("opened", &opened.map, opened.line, line), close(&from)];
        }
        if line.scene != opened.scene {
            return vec![close(&opened.scene)];
        }
        if line.state != LineState::Opening {
            return Vec::new();
        }
        (line.state, line.empty_since) = (LineState::Open, Some(now));
        vec![changed("opened", &opened.map, opened.line, line), Action::Rehome]
    }

    /// A scene has not opened a line; should it have, all the same, its report says so.
    pub(crate) fn line_not_opened(&mut self, opening: &Opening, now: Instant) {
        let waited_for = 0 < self.players.at(&opening.map, opening.line);
        let key = (opening.map.clone(), opening.line);
        let Some(line) = self.lines.all.get_mut(&key) else { return };
        line.moving_to.take_if(|to| *to == opening.scene);
        if line.scene != opening.scene || line.state != LineState::Opening {
            return;
        }
        line.state = LineState::Lost { since: now };
        if !waited_for {
            self.lines.all.remove(&key);
        }
        self.lines.not_before.insert(opening.map.clone(), now + OPEN_AGAIN_AFTER);
    }

    /// Where a GM's new line of a map would be: its number and scene.
    pub(crate) fn may_open(&self, map: &str, scene: Option<&str>) -> Result<(u32, Run), LineRefused> {
        let rules = self.lines.maps.get(map).ok_or(LineRefused::NoMap)?;
        let number = self.free_number(map, rules).ok_or(LineRefused::Most)?;
        let scene = match scene {
            Some(scene) => self.host(rules, scene)?,
            None => self.least_loaded(rules).ok_or(LineRefused::Away)?,
        };
        Ok((number, scene))
    }

    /// Begins to open a GM's line.
    pub(crate) fn open(&mut self, map: &str, scene: Option<&str>, by: &str, now: Instant) -> Result<Opening, LineRefused> {
        let (number, scene) = self.may_open(map, scene)?;
        Ok(self.begin_line(map, number, scene, by, now))
    }

    /// Whether a GM may close this line.
    pub(crate) fn may_close(&self, map: &str, number: u32) -> Result<&Line, LineRefused> {
        let rules = self.lines.maps.get(map).ok_or(LineRefused::NoMap)?;
        let line = self.settled(map, number)?;
        let open = self.lines.of_map(map).filter(|(_, line)| line.state == LineState::Open).count();
        if open <= rules.lines.min as usize { Err(LineRefused::Least) } else { Ok(line) }
    }

    /// Begins to close a line.
    pub(crate) fn close(&mut self, map: &str, number: u32) -> Result<Vec<Action>, LineRefused> {
        self.may_close(map, number)?;
        Ok(self.begin_close(map, number))
    }

    /// Whether a GM may move this line to that scene, which then is the answer.
    pub(crate) fn may_move(&self, map: &str, number: u32, scene: &str) -> Result<Run, LineRefused> {
        let rules = self.lines.maps.get(map).ok_or(LineRefused::NoMap)?;
        let line = self.settled(map, number)?;
        let to = self.host(rules, scene)?;
        if line.scene.id == to.id { Err(LineRefused::There) } else { Ok(to) }
    }

    /// Begins to move a line: both scenes have it until its players have come over, and center knows one of them.
    pub(crate) fn move_line(&mut self, map: &str, number: u32, scene: &str) -> Result<Opening, LineRefused> {
        let to = self.may_move(map, number, scene)?;
        let line = self.lines.all.get_mut(&(map.to_owned(), number)).ok_or(LineRefused::NoLine)?;
        line.moving_to = Some(to.clone());
        Ok(Opening { scene: to, map: map.into(), line: number, opened_by: line.opened_by.clone() })
    }

    fn settled(&self, map: &str, number: u32) -> Result<&Line, LineRefused> {
        let line = self.lines.get(map, number).ok_or(LineRefused::NoLine)?;
        match line.state {
            LineState::Open if line.moving_to.is_none() => Ok(line),
            LineState::Open => Err(LineRefused::Busy("on its way to another scene")),
            state => Err(LineRefused::Busy(state.name())),
        }
    }

    fn host(&self, rules: &MapLines, scene: &str) -> Result<Run, LineRefused> {
        let id = ProcessId(scene.into());
        if !rules.hosts.contains(&id) {
            return Err(LineRefused::NotHost);
        }
        self.lines.scenes.get(&id).cloned().ok_or(LineRefused::Away)
    }

    fn note_empty(&mut self, map: &str, now: Instant) {
        let players = &self.players;
        let of_map = (map.to_owned(), 0)..=(map.to_owned(), u32::MAX);
        for ((_, number), line) in self.lines.all.range_mut(of_map) {
            let empty = players.at(map, *number) == 0;
            line.empty_since = empty.then(|| line.empty_since.unwrap_or(now));
        }
    }

    /// Lost lines that nobody waits for and that the map need not have.
    fn forget_lost(&mut self, map: &str, rules: &MapLines) {
        let lost = |line: &Line| matches!(line.state, LineState::Lost { .. });
        let unwanted = self.lines.of_map(map).filter(|(number, line)| lost(line) && self.players.at(map, *number) == 0);
        let mut unwanted: Vec<u32> = unwanted.map(|(number, _)| number).collect();
        while rules.lines.min < self.lines.usable(map)
            && let Some(number) = unwanted.pop()
        {
            self.lines.all.remove(&(map.to_owned(), number));
        }
    }

    /// Lost lines are opened where they were as soon as that scene is back, and elsewhere when it is away for too long.
    fn open_lost(&mut self, map: &str, rules: &MapLines, now: Instant, rehome_after: Duration) -> Vec<Action> {
        let lost = self.lines.of_map(map).filter_map(|(number, line)| match line.state {
            LineState::Lost { since } => Some((number, since, line.scene.id.clone(), line.opened_by.clone())),
            _ => None,
        });
        let lost: Vec<_> = lost.collect();
        let mut actions = Vec::new();
        for (number, since, home, by) in lost {
            let back = self.lines.scenes.get(&home).filter(|_| rules.hosts.contains(&home)).cloned();
            let elsewhere = || if rehome_after <= now.duration_since(since) { self.least_loaded(rules) } else { None };
            if let Some(scene) = back.or_else(elsewhere) {
                actions.push(Action::OpenLine(self.begin_line(map, number, scene, &by, now)));
            }
        }
        actions
    }

    fn open_wanted(&mut self, map: &str, rules: &MapLines, now: Instant) -> Option<Action> {
        let enough = rules.lines.min <= self.lines.usable(map);
        if enough && !self.all_past_soft_cap(map, rules) {
            return None;
        }
        let (number, scene) = (self.free_number(map, rules)?, self.least_loaded(rules)?);
        Some(Action::OpenLine(self.begin_line(map, number, scene, CENTER, now)))
    }

    /// Of the lines that the map need not have, the last that has been empty for long, if the others have room enough.
    fn close_spare(&mut self, map: &str, rules: &MapLines, now: Instant, line_empty: Duration) -> Vec<Action> {
        let own = self.lines.of_map(map).filter(|(_, line)| line.opened_by == CENTER && line.state != LineState::Closing).count();
        if own <= rules.lines.min as usize {
            return Vec::new();
        }
        let spare = self.lines.of_map(map).filter(|(_, line)| {
            let long = line.empty_since.is_some_and(|since| line_empty <= now.duration_since(since));
            long && line.opened_by == CENTER && line.state == LineState::Open && line.moving_to.is_none()
        });
        let Some((spare, _)) = spare.max_by_key(|(number, _)| *number) else { return Vec::new() };
        let roomy = self.lines.of_map(map).any(|(number, line)| {
            let well_below = self.players.at(map, number).saturating_mul(4) < rules.lines.soft_cap.saturating_mul(3);
            number != spare && line.state == LineState::Open && well_below
        });
        if roomy { self.begin_close(map, spare) } else { Vec::new() }
    }

    fn begin_line(&mut self, map: &str, number: u32, scene: Run, by: &str, now: Instant) -> Opening {
        let players_max = self.lines.maps.get(map).map_or(0, |rules| rules.players_max);
        let line = Line {
            scene: scene.clone(),
            players_max,
            opened_by: by.into(),
            state: LineState::Opening,
            moving_to: None,
            tick_p99_us: 0,
            overloaded: false,
            empty_since: Some(now),
        };
        self.lines.all.insert((map.into(), number), line);
        Opening { scene, map: map.into(), line: number, opened_by: by.into() }
    }

    fn begin_close(&mut self, map: &str, number: u32) -> Vec<Action> {
        let Some(line) = self.lines.all.get_mut(&(map.to_owned(), number)) else { return Vec::new() };
        line.state = LineState::Closing;
        let close = Action::CloseLine { scene: line.scene.clone(), map: map.into(), line: number };
        vec![changed("closing", map, number, line), close]
    }

    /// Whether every line that takes players, now or soon, has reached its soft cap.
    fn all_past_soft_cap(&self, map: &str, rules: &MapLines) -> bool {
        let mut usable = self.lines.of_map(map).filter(|(_, line)| line.state != LineState::Closing);
        usable.all(|(number, line)| line.state == LineState::Open && rules.lines.soft_cap <= self.players.at(map, number))
    }

    /// The number of one more line. Lines that close do not count: those who are on them may need this one.
    fn free_number(&self, map: &str, rules: &MapLines) -> Option<u32> {
        let room = self.lines.usable(map) < rules.lines.max;
        room.then(|| (1..u32::MAX).find(|number| self.lines.get(map, *number).is_none())).flatten()
    }

    /// Of the scenes that may host a map the one with the least to do: none of its lines overloaded, its ticks short (in tenths of what
    /// they may take), few players, few lines.
    fn least_loaded(&self, rules: &MapLines) -> Option<Run> {
        let here = rules.hosts.iter().filter_map(|host| self.lines.scenes.get(host));
        here.min_by_key(|scene| self.load(scene)).cloned()
    }

    fn load(&self, scene: &Run) -> (bool, u128, u64, usize) {
        let lines: Vec<_> = self.lines.iter().filter(|(_, line)| line.scene == *scene).collect();
        let overloaded = lines.iter().any(|(_, line)| line.overloaded);
        let ticks_us: u128 = lines.iter().map(|(_, line)| u128::from(line.tick_p99_us)).sum();
        let players = lines.iter().map(|((map, number), _)| u64::from(self.players.at(map, *number))).sum();
        (overloaded, ticks_us * 10 / self.lines.tick.as_micros().max(1), players, lines.len())
    }

    /// The open lines of a map, for one who may change to them: number, players, and whether it takes nobody now.
    pub(crate) fn lines_for(&self, player: PlayerId, map: &str) -> Vec<(u32, u32, bool)> {
        let shown = self.lines.of_map(map).filter(|(_, line)| matches!(line.state, LineState::Open | LineState::Closing));
        shown.map(|(number, line)| (number, self.players.at(map, number), !self.takes(map, number, line, player))).collect()
    }
}

#[cfg(test)]
mod tests;
