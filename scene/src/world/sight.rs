//! From where players see. Those who stand in one cell see the same nine cells, so they are one group and are told the same, encoded
//! once. In a crowd, of which not everything can be told, the cell is parted into sixteen squares with a group each, and each is told
//! first what is near it.

use std::collections::BTreeMap;

use super::{
    encode::Changes,
    grid::{Cell, Position},
    shape::Shape,
};

/// Squares in a row of a parted cell.
const PART_COLUMNS: i32 = 4;
/// Squares of a parted cell.
pub const PARTS: usize = (PART_COLUMNS * PART_COLUMNS) as usize;
/// Seconds for which nothing had to be left out before a parted cell is one again.
const CALM_S: u32 = 5;

/// Where those stand who see and are told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standpoint {
    /// The cell.
    pub cell: Cell,
    /// From 1, row by row, its sixteenth; 0: all of it.
    pub part: u8,
}

impl Standpoint {
    /// Its middle.
    pub fn middle(self, shape: &Shape) -> Position {
        let corner = shape.corner(self.cell, 0, 0);
        let along =
            |from: i32, eighths: i32| from.saturating_add(i32::try_from(i64::from(shape.cell_cm()) * i64::from(eighths) / 8).unwrap_or(0));
        let Some(part) = self.part.checked_sub(1).map(i32::from) else {
            return Position { x: along(corner.x, 4), y: along(corner.y, 4) };
        };
        Position { x: along(corner.x, 2 * (part % PART_COLUMNS) + 1), y: along(corner.y, 2 * (part / PART_COLUMNS) + 1) }
    }
}

/// What is kept of a cell from which somebody sees.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// How many see from each part; [0]: from the cell as one.
    players: [u32; PARTS + 1],
    /// Bytes that each part was told beyond its budget.
    owed: [u32; PARTS + 1],
    is_parted: bool,
    calm_ticks: u32,
    /// What this tick changes in the nine cells.
    pub changes: Changes,
}

impl View {
    /// The parts from which somebody sees.
    pub fn parts(&self) -> impl Iterator<Item = u8> + use<> {
        let players = self.players;
        (0u8..).zip(players).filter(|(_, players)| 0 < *players).map(|(part, _)| part)
    }

    /// Whether it is a crowd.
    pub fn is_parted(&self) -> bool {
        self.is_parted
    }

    /// Everybody here was told so many bytes that could not wait.
    pub fn owe(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        for owed in &mut self.owed {
            *owed = owed.saturating_add(bytes);
        }
    }

    /// Bytes that a part may be told now, of a budget for this time. A quarter is always free, so that nothing ever stands still.
    pub fn room(&self, part: u8, budget: u32) -> u32 {
        budget.saturating_sub(self.owed[usize::from(part)]).max(budget / 4)
    }

    /// A part was told so much, and the time of a budget has passed. Of a debt no more is kept than four seconds can pay off.
    pub fn settle(&mut self, part: u8, bytes: usize, budget: u32, debt_max: u32) {
        let owed = &mut self.owed[usize::from(part)];
        *owed = owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX)).saturating_sub(budget).min(debt_max);
    }

    /// Whether something had to be left out for the budget's sake. True: the cell is parted now, or one again.
    pub fn crowd(&mut self, left_out: bool, tick_hz: u32) -> bool {
        self.calm_ticks = if left_out { 0 } else { self.calm_ticks.saturating_add(1) };
        let parted = left_out || self.is_parted && self.calm_ticks < CALM_S * tick_hz;
        std::mem::replace(&mut self.is_parted, parted) != parted
    }
}

/// The cells from which somebody sees.
#[derive(Clone, Debug, Default)]
pub struct Views(BTreeMap<Cell, View>);

impl Views {
    /// Where a player at this place of a cell stands.
    pub fn standpoint(&self, shape: &Shape, cell: Cell, at: Position) -> Standpoint {
        let whole = Standpoint { cell, part: 0 };
        if !self.0.get(&cell).is_some_and(View::is_parted) {
            return whole;
        }
        let corner = shape.corner(cell, 0, 0);
        let along = |from: i32, at: i32| {
            let quarters = i64::from(at - from) * i64::from(PART_COLUMNS) / i64::from(shape.cell_cm().max(1));
            quarters.clamp(0, i64::from(PART_COLUMNS) - 1)
        };
        let part = along(corner.y, at.y) * i64::from(PART_COLUMNS) + along(corner.x, at.x) + 1;
        u8::try_from(part).map_or(whole, |part| Standpoint { cell, part })
    }

    /// A player sees from there now.
    pub fn stand(&mut self, standpoint: Standpoint) {
        self.0.entry(standpoint.cell).or_default().players[usize::from(standpoint.part)] += 1;
    }

    /// A player sees from there no more.
    pub fn leave(&mut self, standpoint: Standpoint) {
        let Some(view) = self.0.get_mut(&standpoint.cell) else { return };
        let players = &mut view.players[usize::from(standpoint.part)];
        *players = players.saturating_sub(1);
        if view.players.iter().all(|players| *players == 0) {
            self.0.remove(&standpoint.cell);
        }
    }

    /// Of a cell, if somebody sees from it.
    pub fn get(&self, cell: Cell) -> Option<&View> {
        self.0.get(&cell)
    }

    /// Of a cell, to change it.
    pub fn get_mut(&mut self, cell: Cell) -> Option<&mut View> {
        self.0.get_mut(&cell)
    }

    /// All, by rising cell.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Cell, &mut View)> {
        self.0.iter_mut().map(|(cell, view)| (*cell, view))
    }

    /// All standpoints from which somebody sees.
    pub fn standpoints(&self) -> impl Iterator<Item = Standpoint> {
        self.0.iter().flat_map(|(cell, view)| view.parts().map(|part| Standpoint { cell: *cell, part }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowded_cell_is_parted_and_one_again_when_it_is_calm() {
        let shape = Shape::new(100, 100, 40).unwrap();
        let mut views = Views::default();
        let (cell, at) = (Cell(4), Position { x: 71, y: 49 });
        let whole = views.standpoint(&shape, cell, at);
        assert_eq!(whole, Standpoint { cell, part: 0 });
        views.stand(whole);
        let view = views.get_mut(cell).unwrap();
        assert!(view.crowd(true, 10), "it is parted");
        assert!(!view.crowd(true, 10), "it was already");
        let part = views.standpoint(&shape, cell, at);
        assert_eq!((part.part, part.middle(&shape)), (4, Position { x: 75, y: 45 }));
        views.stand(part);
        views.leave(whole);
        assert_eq!(views.standpoints().collect::<Vec<_>>(), [part]);
        let view = views.get_mut(cell).unwrap();
        let calm = (1..100).find(|_| view.crowd(false, 10));
        assert_eq!(calm, Some(CALM_S * 10));
        views.leave(part);
        assert!(views.get(cell).is_none());
    }

    #[test]
    fn a_debt_is_paid_off_and_leaves_a_quarter_free() {
        let mut view = View::default();
        assert_eq!(view.room(0, 1_000), 1_000);
        view.owe(1_500);
        assert_eq!(view.room(0, 1_000), 250);
        view.settle(0, 250, 1_000, 4_000);
        assert_eq!(view.room(0, 1_000), 250);
        view.settle(0, 250, 1_000, 4_000);
        assert_eq!(view.room(0, 1_000), 1_000);
        view.owe(usize::MAX);
        view.settle(0, 0, 1_000, 4_000);
        view.settle(0, 0, 1_000, 4_000);
        assert_eq!(view.owed[0], 3_000, "an endless debt would never be paid");
    }
}
