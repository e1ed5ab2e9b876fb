//! Which updates of positions go to whom. Those who stand together are told everything that moved in their nine cells, as long as that fits
//! their budget. When it does not, what is farther away is told less often: an entity's turn comes every so many beats, by its number, and it
//! is told if it moved since the turn before. One that stands still is told once a second or less often, so that a dropped message heals:
//! all of a view in one tick if they fit, since a client that sees nothing move then gets one write a second and not one a tick.
//!
//! Near is who is near, who fights, and players before NPCs. A beat is a tick, and two when the ladder says so ([`Detail::HalfRate`]).

use proto::{Frame, client::CellMoves, moves::MovesWriter};

use super::{
    encode::LISTS_BYTES_MAX,
    grid::{Grid, Member, Position},
    input::Detail,
    sight::Standpoint,
};

/// Rings of distance around a standpoint, half a cell each; the last has no end.
const RINGS: usize = 4;
/// Seconds for which one whose looks changed counts as near.
const STIRRED_S: u32 = 2;
/// Bytes that an update takes: its number and its offset.
const UPDATE_BYTES: u32 = 5;
/// Bytes of a frame beside its updates: its head, the corner, two bytes a cell.
const HEAD_BYTES: u32 = 48;
/// The scale at which even the nearest are told every 16th beat. It is not made larger: what is more, the budget owes.
const SCALE_MAX: u32 = 128;

/// How often is told of each ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Beats from turn to turn.
    periods: [u32; RINGS],
    /// Beats from telling to telling of one that stands still.
    refresh: [u32; RINGS],
    /// Those who stand still are told in the same beat.
    together: bool,
    /// Something is left out for the budget's sake.
    pub is_thinned: bool,
}

impl Rates {
    /// At scale 1 all is told that the ladder lets through. At larger ones a ring's period grows twice as fast as that of the one inside.
    fn at(scale: u32, detail: Detail, beats_a_second: u32) -> Self {
        let least: [u32; RINGS] = if detail == Detail::Full { [1; RINGS] } else { [1, 1, 2, 4] };
        let periods = std::array::from_fn(|ring| ((scale << ring) / 8).max(least[ring]));
        let refresh = periods.map(|period| (2 * period).max(beats_a_second));
        Self { periods, refresh, together: false, is_thinned: 1 < scale }
    }
}

/// What there is to tell of one ring.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    /// Moved in this beat.
    now: u32,
    /// Moved within a second.
    moving: u32,
    standing: u32,
}

impl Census {
    fn updates(self, period: u32, refresh: u32) -> u32 {
        let moving = if period == 1 { self.now } else { self.moving.div_ceil(period) };
        moving + self.standing.div_ceil(refresh)
    }
}

/// Tells of the updates of one tick.
#[derive(Clone, Copy, Debug)]
pub struct Teller<'a> {
    /// Who is where.
    pub grid: &'a Grid,
    /// The tick, as it goes over the wire.
    pub tick: u32,
    /// Ticks a second.
    pub tick_hz: u32,
    /// What the ladder leaves out.
    pub detail: Detail,
}

impl Teller<'_> {
    /// Ticks in a beat.
    pub fn beat(&self) -> u32 {
        if self.detail == Detail::HalfRate { 2 } else { 1 }
    }

    /// Whether updates are told in this tick.
    pub fn is_beat(&self) -> bool {
        self.tick.is_multiple_of(self.beat())
    }

    /// How often to tell of whom, so that it fits into `room` bytes.
    pub fn rates(&self, standpoint: Standpoint, room: u32) -> Rates {
        let census = self.census(standpoint);
        let updates_max = room.saturating_sub(HEAD_BYTES) / UPDATE_BYTES;
        let fits = |rates: &Rates| {
            let updates = |ring: usize| census[ring].updates(rates.periods[ring], rates.refresh[ring]);
            (0..RINGS).map(updates).sum::<u32>() <= updates_max
        };
        if census.iter().map(|ring| ring.moving + ring.standing).sum::<u32>() <= updates_max {
            return Rates { together: true, ..Rates::at(1, self.detail, self.beats_a_second()) };
        }
        let mut scale = 1;
        loop {
            let rates = Rates::at(scale, self.detail, self.beats_a_second());
            if SCALE_MAX <= scale || fits(&rates) {
                return rates;
            }
            scale += (scale / 8).max(1);
        }
    }

    /// The frames for those who stand there; none if there is nothing to tell.
    pub fn frames(&self, standpoint: Standpoint, rates: &Rates) -> Vec<Frame> {
        let (grid, corner) = (self.grid, self.grid.corner(standpoint.cell, -1, -1));
        let begin = || MovesWriter::new(grid.cell_cm().unsigned_abs(), corner.x, corner.y);
        let (mut writer, mut frames) = (begin(), Vec::new());
        let empty = writer.len();
        let near = Near::new(standpoint, grid);
        for (place, cell) in grid.nine(standpoint.cell) {
            writer.cell(place);
            let corner = grid.corner(cell, 0, 0);
            for member in grid.members(cell).iter().filter(|member| self.is_due(member, self.ring(member, &near), standpoint, rates)) {
                if LISTS_BYTES_MAX < writer.len() {
                    frames.push(self.frame(std::mem::replace(&mut writer, begin())));
                    writer.cell(place);
                }
                writer.push(member.entity.0, member.at.x.abs_diff(corner.x), member.at.y.abs_diff(corner.y));
            }
        }
        if empty < writer.len() {
            frames.push(self.frame(writer));
        }
        frames
    }

    fn frame(&self, writer: MovesWriter) -> Frame {
        Frame::encode(0, &CellMoves { tick: self.tick, moved: writer.finish() })
    }

    fn census(&self, standpoint: Standpoint) -> [Census; RINGS] {
        let mut census = [Census::default(); RINGS];
        let near = Near::new(standpoint, self.grid);
        for member in self.grid.nine(standpoint.cell).flat_map(|(_, cell)| self.grid.members(cell)) {
            let ring = &mut census[self.ring(member, &near)];
            let age = self.tick.wrapping_sub(member.moved);
            ring.now += u32::from(age < self.beat());
            let moves = age < self.tick_hz;
            ring.moving += u32::from(moves);
            ring.standing += u32::from(!moves);
        }
        census
    }

    fn is_due(&self, member: &Member, ring: usize, standpoint: Standpoint, rates: &Rates) -> bool {
        let beat = self.tick / self.beat();
        if self.tick.wrapping_sub(member.moved) / self.beat() < rates.periods[ring] {
            return beat.wrapping_add(member.entity.0).is_multiple_of(rates.periods[ring]);
        }
        let whose = if rates.together { standpoint.cell.0 } else { member.entity.0 };
        beat.wrapping_add(whose).is_multiple_of(rates.refresh[ring])
    }

    fn ring(&self, member: &Member, near: &Near) -> usize {
        if self.tick.wrapping_sub(member.stirred) < STIRRED_S * self.tick_hz {
            return 0;
        }
        let ring = near.ring(member.at) + usize::from(!member.is_player);
        ring.min(RINGS - 1)
    }

    fn beats_a_second(&self) -> u32 {
        (self.tick_hz / self.beat()).max(1)
    }
}

/// How far things are from a standpoint.
struct Near {
    middle: Position,
    /// Half a cell, squared.
    half: i64,
}

impl Near {
    fn new(standpoint: Standpoint, grid: &Grid) -> Self {
        let half = i64::from(grid.cell_cm() / 2).max(1);
        Self { middle: standpoint.middle(grid), half: half * half }
    }

    fn ring(&self, at: Position) -> usize {
        let along = |one: i32, two: i32| i64::from(one) - i64::from(two);
        let (x, y) = (along(at.x, self.middle.x), along(at.y, self.middle.y));
        let squared = x * x + y * y;
        [1, 4, 9].iter().filter(|ring| **ring * self.half < squared).count()
    }
}
