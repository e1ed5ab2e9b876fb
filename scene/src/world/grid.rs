//! The AOI grid: who is in which cell, and how many players watch it. A player watches its own cell and the eight around it.
//!
//! What the end of every tick asks of everybody ([`Member`]) lies side by side in the cell, so that telling who moved reads memory in order.

use std::ops::Deref;

use super::{actor::EntityId, shape::Shape};

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

/// The cells of one line.
#[derive(Clone, Debug)]
pub struct Grid {
    shape: Shape,
    cells: Vec<CellState>,
}

/// One that is in a cell.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Who.
    pub entity: EntityId,
    /// Where.
    pub at: Position,
    /// The tick in which it last moved, as it goes over the wire.
    pub moved: u32,
    /// The tick in which its looks last changed.
    pub stirred: u32,
    /// Whether it is a player's character.
    pub is_player: bool,
}

#[derive(Clone, Debug, Default)]
struct CellState {
    /// By rising number.
    members: Vec<Member>,
    watchers: u32,
}

impl CellState {
    fn place_of(&self, entity: EntityId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&entity, |member| member.entity)
    }
}

impl Deref for Grid {
    type Target = Shape;

    fn deref(&self) -> &Shape {
        &self.shape
    }
}

impl Grid {
    /// An empty grid; `None` if a side is not positive or there would be too many cells.
    pub fn new(width: i32, height: i32, cell_cm: i32) -> Option<Self> {
        let shape = Shape::new(width, height, cell_cm)?;
        Some(Self { shape, cells: vec![CellState::default(); shape.cell_count() as usize] })
    }

    /// How the map is divided.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Who is in the cell, by rising number.
    pub fn members(&self, cell: Cell) -> &[Member] {
        self.get(cell).map_or(&[], |state| &state.members)
    }

    /// One who is in the cell.
    pub fn member(&self, cell: Cell, entity: EntityId) -> Option<&Member> {
        let state = self.get(cell)?;
        Some(&state.members[state.place_of(entity).ok()?])
    }

    /// One who is in the cell, to change it.
    pub fn member_mut(&mut self, cell: Cell, entity: EntityId) -> Option<&mut Member> {
        let state = self.get_mut(cell)?;
        let place = state.place_of(entity).ok()?;
        Some(&mut state.members[place])
    }

    /// How many players see the cell.
    pub fn watchers(&self, cell: Cell) -> u32 {
        self.get(cell).map_or(0, |state| state.watchers)
    }

    /// Puts an entity into a cell.
    pub fn insert(&mut self, cell: Cell, member: Member) {
        let Some(state) = self.get_mut(cell) else { return };
        match state.place_of(member.entity) {
            Ok(place) => state.members[place] = member,
            Err(place) => state.members.insert(place, member),
        }
    }

    /// Takes an entity out of a cell.
    pub fn remove(&mut self, cell: Cell, entity: EntityId) -> Option<Member> {
        let state = self.get_mut(cell)?;
        let place = state.place_of(entity).ok()?;
        Some(state.members.remove(place))
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
        fn members_are_found_and_rise(steps in proptest::collection::vec((any::<bool>(), 0..20u32), 0..60)) {
            let mut grid = Grid::new(10, 10, 10).unwrap();
            let mut model = std::collections::BTreeSet::new();
            for (comes, entity) in steps {
                let member = Member { entity: EntityId(entity), at: Position::default(), moved: 0, stirred: 0, is_player: false };
                if comes {
                    grid.insert(Cell(0), member);
                    model.insert(entity);
                } else {
                    prop_assert_eq!(grid.remove(Cell(0), EntityId(entity)).is_some(), model.remove(&entity));
                }
                prop_assert!(grid.members(Cell(0)).iter().map(|member| member.entity.0).eq(model.iter().copied()));
            }
        }
    }

    #[test]
    fn distances_between_extremes_are_distances() {
        let (low, high) = (Position { x: i32::MIN, y: i32::MIN }, Position { x: i32::MAX, y: i32::MAX });
        assert!(!low.is_within(high, u32::MAX));
        assert!(low.is_within(low, 0));
    }
}
