//! What a client sees of the world, built from the messages of the cells around it. Pure.
//!
//! `CellSnapshot` and `CellChanges` say who is there and always arrive, in order; `CellMoves` may be dropped, and the next one that tells of an
//! entity is the truth again. What a change says of an entity that is not known is void: a snapshot that tells of it is on its way.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    client::{CellChanges, CellGone, CellMoves, CellSnapshot, Entered, Entity, Position, TimeFactor},
    moves,
};

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
    time_permille: Option<u32>,
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
            Event::TimeFactor(factor) => self.time(*factor),
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

    /// How many thousandths of the clock's time pass in the world: a character can walk only so much slower.
    pub fn time_permille(&self) -> u32 {
        self.time_permille.unwrap_or(1_000)
    }

    /// Moves of entities that were not known.
    pub fn ignored_moves(&self) -> u64 {
        self.ignored_moves
    }

    /// The world begins anew.
    pub fn entered(&mut self, entered: Entered) {
        self.entities.clear();
        self.cells.clear();
        self.time_permille = None;
        self.entered = Some(entered);
    }

    /// A cell becomes visible, or more of it.
    pub fn snapshot(&mut self, snapshot: &CellSnapshot) {
        self.cells.insert(snapshot.cell);
        for entity in &snapshot.entities {
            self.put(snapshot.cell, entity);
        }
    }

    /// Who came, who left, who went to another cell, whose looks changed.
    pub fn changes(&mut self, changes: &CellChanges) {
        for left in &changes.left {
            self.entities.remove(left);
        }
        for crossed in &changes.crossed {
            if let Some(seen) = self.entities.get_mut(&crossed.entity) {
                (seen.cell, seen.entity.cell) = (crossed.cell, crossed.cell);
            }
        }
        for entity in &changes.entered {
            self.put(entity.cell, entity);
        }
        for entity in &changes.changed {
            if self.entities.contains_key(&entity.entity) {
                self.put(entity.cell, entity);
            }
        }
    }

    /// Who moved.
    pub fn moves(&mut self, moves: &CellMoves) {
        for moved in moves::read(&moves.moved) {
            match self.entities.get_mut(&moved.entity) {
                Some(seen) => seen.entity.position = Some(Position { x: moved.x, y: moved.y }),
                None => self.ignored_moves = self.ignored_moves.saturating_add(1),
            }
        }
    }

    /// The world's time runs at another pace.
    pub fn time(&mut self, factor: TimeFactor) {
        self.time_permille = Some(factor.permille);
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
