//! How a map is divided into cells: what lies where, and what is seen from where.

use super::grid::{Cell, Position};

/// Cells that one line may have; a larger map needs larger cells.
pub const CELLS_MAX: i64 = 1 << 20;

/// How a map is divided into cells.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    width: i32,
    height: i32,
    cell_cm: i32,
    columns: i32,
    rows: i32,
}

impl Shape {
    /// `None` if a side is not positive or there would be more than [`CELLS_MAX`] cells.
    pub fn new(width: i32, height: i32, cell_cm: i32) -> Option<Self> {
        if width <= 0 || height <= 0 || cell_cm <= 0 {
            return None;
        }
        let count = |side: i32| (side - 1) / cell_cm + 1;
        let (columns, rows) = (count(width), count(height));
        (i64::from(columns) * i64::from(rows) <= CELLS_MAX).then_some(Self { width, height, cell_cm, columns, rows })
    }

    /// How many cells there are.
    pub fn cell_count(&self) -> u32 {
        u32::try_from(i64::from(self.columns) * i64::from(self.rows)).expect("bounded by CELLS_MAX")
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
        let (column, row) = self.place(cell);
        let (columns, rows) = (self.columns, self.rows);
        let row_range = (row - 1).max(0)..=(row + 1).min(rows - 1);
        let cell = move |row: i32, column: i32| Cell(u32::try_from(row * columns + column).expect("indices are not negative"));
        row_range.flat_map(move |row| ((column - 1).max(0)..=(column + 1).min(columns - 1)).map(move |column| cell(row, column)))
    }

    /// Whether who stands in one of the cells sees the other.
    pub fn sees(&self, from: Cell, cell: Cell) -> bool {
        let ((column, row), (to_column, to_row)) = (self.place(from), self.place(cell));
        column.abs_diff(to_column) <= 1 && row.abs_diff(to_row) <= 1
    }

    /// The corner of a cell. It may lie off the map for a cell that does: `columns` and `rows` away from `cell`.
    pub fn corner(&self, cell: Cell, columns: i32, rows: i32) -> Position {
        let (column, row) = self.place(cell);
        let along = |place: i32, by: i32| place.saturating_add(by).saturating_mul(self.cell_cm);
        Position { x: along(column, columns), y: along(row, rows) }
    }

    /// The cells that who stands in `cell` sees, each with its place among the nine, row by row.
    pub fn nine(&self, cell: Cell) -> impl Iterator<Item = (u8, Cell)> + use<> {
        let (column, row) = self.place(cell);
        let columns = self.columns;
        self.around(cell).map(move |near| {
            let near_at = i32::try_from(near.0).unwrap_or(0);
            let place = (near_at / columns - row + 1) * 3 + near_at % columns - column + 1;
            (u8::try_from(place).expect("one of nine"), near)
        })
    }

    /// Side of a cell, in centimetres.
    pub fn cell_cm(&self) -> i32 {
        self.cell_cm
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

    /// Column and row of a cell.
    fn place(&self, cell: Cell) -> (i32, i32) {
        let index = i32::try_from(cell.0).unwrap_or(0);
        (index % self.columns, index / self.columns)
    }

    fn at(&self, column: i32, row: i32) -> Cell {
        Cell(u32::try_from(row * self.columns + column).expect("indices are not negative"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_position_has_a_cell(x: i32, y: i32, width in 1..100_000i32, height in 1..100_000i32, cell in 100..5_000i32) {
            let shape = Shape::new(width, height, cell).unwrap();
            let at = Position { x, y };
            let found = shape.cell_of(at);
            prop_assert!(found.0 < shape.cell_count());
            prop_assert!(shape.around(found).any(|near| near == found));
            prop_assert!(shape.around(found).count() <= 9);
            prop_assert!(shape.near(at, 300).any(|near| near == found));
            prop_assert!(shape.near(at, u32::MAX).count() == shape.cell_count() as usize);
        }

        #[test]
        fn neighbours_are_mutual(one in 0..64u32, two in 0..64u32) {
            let shape = Shape::new(80, 80, 10).unwrap();
            let sees = |from: u32, to: u32| shape.around(Cell(from)).any(|cell| cell.0 == to);
            prop_assert_eq!(sees(one, two), sees(two, one));
            prop_assert_eq!(sees(one, two), shape.sees(Cell(one), Cell(two)));
        }
    }

    #[test]
    fn a_map_has_bounds() {
        assert!(Shape::new(i32::MAX, i32::MAX, 1).is_none());
        assert!(Shape::new(0, 10, 10).is_none());
        let shape = Shape::new(i32::MAX, 10, i32::MAX).unwrap();
        assert_eq!(shape.cell_count(), 1);
        let middle = Shape::new(80, 80, 10).unwrap();
        assert_eq!(middle.around(Cell(9)).map(|cell| cell.0).collect::<Vec<_>>(), [0, 1, 2, 8, 9, 10, 16, 17, 18]);
        assert_eq!(middle.around(Cell(0)).count(), 4);
        assert_eq!(
            middle.nine(Cell(8)).map(|(place, cell)| (place, cell.0)).collect::<Vec<_>>(),
            [(1, 0), (2, 1), (4, 8), (5, 9), (7, 16), (8, 17)]
        );
        assert_eq!(middle.corner(Cell(8), -1, -1), Position { x: -10, y: 0 });
    }
}
