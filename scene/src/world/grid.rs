//! The AOI grid: who is in which cell, and how many players watch it. A player watches its own cell and the eight around it.

use super::actor::EntityId;

/// A place on a map, in centimetres from its corner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// East of the corner.
    pub x: i32,
    /// South of the corner.
    pub y: i32,
}

impl Position {
    /// Whether `other` is at most `distance` centimetres away, as the crow flies.
    pub fn is_within(self, other: Position, distance: u32) -> bool {
        let along = |one: i32, two: i32| i128::from(one) - i128::from(two);
        let (x, y) = (along(self.x, other.x), along(self.y, other.y));
        x * x + y * y <= i128::from(distance) * i128::from(distance)
    }
}

impl From<Position> for proto::client::Position {
    fn from(position: Position) -> Self {
        Self { x: position.x, y: position.y }
    }
}

impl From<proto::client::Position> for Position {
    fn from(position: proto::client::Position) -> Self {
        Self { x: position.x, y: position.y }
    }
}

/// A square of the grid, by its index: row by row from the corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell(pub u32);

/// Cells that one line may have; a larger map needs larger cells.
pub const CELLS_MAX: i64 = 1 << 20;

/// The cells of one line.
#[derive(Clone, Debug)]
pub struct Grid {
    width: i32,
    height: i32,
    cell_cm: i32,
    columns: i32,
    rows: i32,
    cells: Vec<CellState>,
}

#[derive(Clone, Debug, Default)]
struct CellState {
    members: Vec<EntityId>,
    watchers: u32,
}

impl Grid {
    /// An empty grid; `None` if a side is not positive or there would be more than [`CELLS_MAX`] cells.
    pub fn new(width: i32, height: i32, cell_cm: i32) -> Option<Self> {
        if width <= 0 || height <= 0 || cell_cm <= 0 {
            return None;
        }
        let count = |side: i32| (side - 1) / cell_cm + 1;
        let (columns, rows) = (count(width), count(height));
        let cells = i64::from(columns) * i64::from(rows);
        if CELLS_MAX < cells {
            return None;
        }
        let cells = vec![CellState::default(); usize::try_from(cells).expect("bounded by CELLS_MAX")];
        Some(Self { width, height, cell_cm, columns, rows, cells })
    }

    /// Whether the position is on the map.
    pub fn holds(&self, at: Position) -> bool {
        (0..self.width).contains(&at.x) && (0..self.height).contains(&at.y)
    }

    /// The nearest position that is on the map.
    pub fn clamp(&self, at: Position) -> Position {
        Position { x: at.x.clamp(0, self.width - 1), y: at.y.clamp(0, self.height - 1) }
    }

    /// The cell of a position; positions off the map belong to the nearest cell.
    pub fn cell_of(&self, at: Position) -> Cell {
        let at = self.clamp(at);
        self.at(at.x / self.cell_cm, at.y / self.cell_cm)
    }

    /// The cell and those around it, by rising index: nine, fewer at the map's edge.
    pub fn around(&self, cell: Cell) -> impl Iterator<Item = Cell> + use<> {
        let index = i32::try_from(cell.0).unwrap_or(0);
        let (column, row) = (index % self.columns, index / self.columns);
        let (columns, rows) = (self.columns, self.rows);
        let row_range = (row - 1).max(0)..=(row + 1).min(rows - 1);
        let cell = move |row: i32, column: i32| Cell(u32::try_from(row * columns + column).expect("indices are not negative"));
        row_range.flat_map(move |row| ((column - 1).max(0)..=(column + 1).min(columns - 1)).map(move |column| cell(row, column)))
    }

    /// The cells that a circle may touch, by rising index.
    pub fn near(&self, at: Position, distance: u32) -> impl Iterator<Item = Cell> + use<> {
        let reach = i32::try_from(distance).unwrap_or(i32::MAX);
        let column = |x: i32| x.clamp(0, self.width - 1) / self.cell_cm;
        let row = |y: i32| y.clamp(0, self.height - 1) / self.cell_cm;
        let (left, right) = (column(at.x.saturating_sub(reach)), column(at.x.saturating_add(reach)));
        let (top, bottom) = (row(at.y.saturating_sub(reach)), row(at.y.saturating_add(reach)));
        let columns = self.columns;
        let cell = move |row: i32, column: i32| Cell(u32::try_from(row * columns + column).expect("indices are not negative"));
        (top..=bottom).flat_map(move |row| (left..=right).map(move |column| cell(row, column)))
    }

    /// How many cells there are.
    pub fn cell_count(&self) -> u32 {
        u32::try_from(self.cells.len()).expect("bounded by CELLS_MAX")
    }

    /// Who is in the cell, in an order that follows from the inputs alone.
    pub fn members(&self, cell: Cell) -> &[EntityId] {
        self.get(cell).map_or(&[], |state| &state.members)
    }

    /// How many players see the cell.
    pub fn watchers(&self, cell: Cell) -> u32 {
        self.get(cell).map_or(0, |state| state.watchers)
    }

    /// Puts an entity into a cell.
    pub fn insert(&mut self, cell: Cell, entity: EntityId) {
        if let Some(state) = self.get_mut(cell) {
            state.members.push(entity);
        }
    }

    /// Takes an entity out of a cell.
    pub fn remove(&mut self, cell: Cell, entity: EntityId) {
        let Some(state) = self.get_mut(cell) else { return };
        if let Some(at) = state.members.iter().position(|member| *member == entity) {
            state.members.swap_remove(at);
        }
    }

    /// A player begins to see the surroundings of `cell`.
    pub fn watch(&mut self, cell: Cell) {
        for cell in self.around(cell) {
            self.cells[cell.0 as usize].watchers += 1;
        }
    }

    /// A player sees the surroundings of `cell` no more.
    pub fn unwatch(&mut self, cell: Cell) {
        for cell in self.around(cell) {
            self.cells[cell.0 as usize].watchers -= 1;
        }
    }

    fn at(&self, column: i32, row: i32) -> Cell {
        Cell(u32::try_from(row * self.columns + column).expect("indices are not negative"))
    }

    fn get(&self, cell: Cell) -> Option<&CellState> {
        self.cells.get(cell.0 as usize)
    }

    fn get_mut(&mut self, cell: Cell) -> Option<&mut CellState> {
        self.cells.get_mut(cell.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_position_has_a_cell(x: i32, y: i32, width in 1..100_000i32, height in 1..100_000i32, cell in 100..5_000i32) {
            let grid = Grid::new(width, height, cell).unwrap();
            let at = Position { x, y };
            let found = grid.cell_of(at);
            prop_assert!(found.0 < grid.cell_count());
            prop_assert!(grid.around(found).any(|near| near == found));
            prop_assert!(grid.around(found).count() <= 9);
            prop_assert!(grid.near(at, 300).any(|near| near == found));
            prop_assert!(grid.near(at, u32::MAX).count() == grid.cell_count() as usize);
        }

        #[test]
        fn neighbours_are_mutual(one in 0..64u32, two in 0..64u32) {
            let grid = Grid::new(80, 80, 10).unwrap();
            let sees = |from: u32, to: u32| grid.around(Cell(from)).any(|cell| cell.0 == to);
            prop_assert_eq!(sees(one, two), sees(two, one));
        }
    }

    #[test]
    fn a_grid_has_bounds() {
        assert!(Grid::new(i32::MAX, i32::MAX, 1).is_none());
        assert!(Grid::new(0, 10, 10).is_none());
        let grid = Grid::new(i32::MAX, 10, i32::MAX).unwrap();
        assert_eq!(grid.cell_count(), 1);
        let middle = Grid::new(80, 80, 10).unwrap();
        assert_eq!(middle.around(Cell(9)).map(|cell| cell.0).collect::<Vec<_>>(), [0, 1, 2, 8, 9, 10, 16, 17, 18]);
        assert_eq!(middle.around(Cell(0)).count(), 4);
    }

    #[test]
    fn distances_between_extremes_are_distances() {
        let (low, high) = (Position { x: i32::MIN, y: i32::MIN }, Position { x: i32::MAX, y: i32::MAX });
        assert!(!low.is_within(high, u32::MAX));
        assert!(low.is_within(low, 0));
    }
}
