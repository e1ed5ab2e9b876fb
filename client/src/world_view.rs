//! What a client sees of the world, built from the messages of the cells around it. Pure.
//!
//! Messages of two cells may overtake each other: the one that an entity left and the one that it went to are told apart, and `CellMoves`
//! may be dropped or late. So each entity has the cell that last claimed it, and what another cell says of it is old news.

use std::collections::{BTreeMap, BTreeSet};

use proto::client::{CellChanges, CellGone, CellMoves, CellSnapshot, Entered, Entity, Position};

use crate::events::Event;

/// An entity, and the cell that it stands in.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The cell that claims it.
    pub cell: u32,
    /// What is known of it.
    pub entity: Entity,
}

/// The visible part of the world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorldView {
    entered: Option<Entered>,
    entities: BTreeMap<u32, Seen>,
    cells: BTreeSet<u32>,
    ignored_moves: u64,
}

impl WorldView {
    /// Takes note of an event; those that are not about the world's entities change nothing.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Entered(entered) => self.entered(entered.clone()),
            Event::CellSnapshot(snapshot) => self.snapshot(snapshot),
            Event::CellChanges(changes) => self.changes(changes),
            Event::CellMoves(moves) => self.moves(moves),
            Event::CellGone(gone) => self.gone(gone),
            _ => {}
        }
    }

    /// The visible entities, by number.
    pub fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.entities.values().map(|seen| &seen.entity)
    }

    /// One of them.
    pub fn get(&self, entity: u32) -> Option<&Seen> {
        self.entities.get(&entity)
    }

    /// The message with which the present world began.
    pub fn world(&self) -> Option<&Entered> {
        self.entered.as_ref()
    }

    /// The own character as others see it; none until its cell was told.
    pub fn own(&self) -> Option<&Entity> {
        self.get(self.entered.as_ref()?.entity).map(|seen| &seen.entity)
    }

    /// The cells that are visible.
    pub fn cells(&self) -> &BTreeSet<u32> {
        &self.cells
    }

    /// Moves of entities that were not known, or stood in another cell.
    pub fn ignored_moves(&self) -> u64 {
        self.ignored_moves
    }

    /// The world begins anew.
    pub fn entered(&mut self, entered: Entered) {
        self.entities.clear();
        self.cells.clear();
        self.entered = Some(entered);
    }

    /// A cell becomes visible, or is told again in full.
    pub fn snapshot(&mut self, snapshot: &CellSnapshot) {
        self.cells.insert(snapshot.cell);
        for entity in &snapshot.entities {
            self.put(snapshot.cell, entity);
        }
    }

    /// Who came, who left, whose looks changed.
    pub fn changes(&mut self, changes: &CellChanges) {
        for left in &changes.left {
            let stands_here = self.entities.get(&left.entity).is_some_and(|seen| seen.cell == changes.cell);
            // The cell that it went to tells of it, if that one is visible.
            let seen_elsewhere = left.to_cell.is_some_and(|cell| self.cells.contains(&cell));
            if stands_here && !seen_elsewhere {
                self.entities.remove(&left.entity);
            }
        }
        for entity in &changes.entered {
            self.put(changes.cell, entity);
        }
        for entity in &changes.changed {
            if self.entities.get(&entity.entity).is_some_and(|seen| seen.cell == changes.cell) {
                self.put(changes.cell, entity);
            }
        }
    }

    /// Who moved. Lists of unequal length count as far as the shortest.
    pub fn moves(&mut self, moves: &CellMoves) {
        for ((entity, x), y) in moves.entity.iter().zip(&moves.x).zip(&moves.y) {
            match self.entities.get_mut(entity) {
                Some(seen) if seen.cell == moves.cell => seen.entity.position = Some(Position { x: *x, y: *y }),
                _ => self.ignored_moves = self.ignored_moves.saturating_add(1),
            }
        }
    }

    /// A cell is visible no more.
    pub fn gone(&mut self, gone: &CellGone) {
        self.cells.remove(&gone.cell);
        self.entities.retain(|_, seen| seen.cell != gone.cell);
    }

    fn put(&mut self, cell: u32, entity: &Entity) {
        self.entities.insert(entity.entity, Seen { cell, entity: entity.clone() });
    }
}

#[cfg(test)]
#[path = "world_view_tests.rs"]
mod tests;
