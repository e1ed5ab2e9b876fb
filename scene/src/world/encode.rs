//! The frames that tell of cells, cut so that none is longer than a client takes.

use prost::Message;
use proto::{
    ClientMessage, Frame,
    client::{self, CellChanges},
    kinds::TO_CLIENT_BODY_MAX,
};

use super::{
    actor::{Entity, EntityId},
    grid::Cell,
};

/// Bytes of a body that lists may fill; the head takes the rest.
pub const LISTS_BYTES_MAX: usize = TO_CLIENT_BODY_MAX - 64;
/// Bytes of a part of a snapshot. Short, so that a client that is shown a crowd is shown it little by little.
const SNAPSHOT_BYTES: usize = 4 * 1024;

/// A part of what is in a cell.
#[derive(Clone, Debug)]
pub struct Part {
    /// For the client.
    pub frame: Frame,
    /// The last that is in it, if there are more.
    pub last: Option<EntityId>,
}

/// What is in a cell, or, of a full one, what fits; at least an empty frame, so that the client knows that it sees the cell.
pub fn snapshot<'a>(cell: Cell, tick: u32, entities: impl Iterator<Item = &'a Entity>) -> Part {
    let mut part = client::CellSnapshot { cell: cell.0, tick, entities: Vec::new() };
    let (mut bytes, mut last) = (0, None);
    for entity in entities {
        let out = entity.out();
        bytes += listed_len(&out);
        if SNAPSHOT_BYTES < bytes && last.is_some() {
            return Part { frame: Frame::encode(0, &part), last };
        }
        last = Some(entity.id());
        part.entities.push(out);
    }
    Part { frame: Frame::encode(0, &part), last: None }
}

/// What those who see from one cell are told of one tick, encoded as it comes: protobuf messages that are written one after another read
/// as one, so what several cells are told is encoded once.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    full: Vec<Frame>,
    open: Vec<u8>,
}

impl Changes {
    /// Adds a piece.
    pub fn add(&mut self, tick: u32, piece: &[u8]) {
        if LISTS_BYTES_MAX < self.open.len() + piece.len() {
            self.close();
        }
        if self.open.is_empty() {
            CellChanges { tick, ..CellChanges::default() }.encode(&mut self.open).expect("a vector grows");
        }
        self.open.extend_from_slice(piece);
    }

    /// The frames; none if nothing changed. Nothing is left.
    pub fn take(&mut self) -> Vec<Frame> {
        self.close();
        std::mem::take(&mut self.full)
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push(Frame::from_body(CellChanges::KIND, 0, &self.open));
            self.open.clear();
        }
    }
}

/// The piece that tells that an entity came into sight.
pub fn entered(entity: &Entity) -> Vec<u8> {
    CellChanges { entered: vec![entity.out()], ..CellChanges::default() }.encode_to_vec()
}

/// The piece that tells that an entity went out of sight.
pub fn left(entity: EntityId) -> Vec<u8> {
    CellChanges { left: vec![entity.0], ..CellChanges::default() }.encode_to_vec()
}

/// The piece that tells that an entity is in another cell.
pub fn crossed(entity: EntityId, cell: Cell) -> Vec<u8> {
    let crossed = client::EntityCrossed { entity: entity.0, cell: cell.0 };
    CellChanges { crossed: vec![crossed], ..CellChanges::default() }.encode_to_vec()
}

/// The piece that tells of an entity's looks.
pub fn changed(entity: &Entity) -> Vec<u8> {
    CellChanges { changed: vec![entity.out()], ..CellChanges::default() }.encode_to_vec()
}

/// Bytes that a message takes in a list: itself, a tag, and a length of at most three bytes.
fn listed_len(message: &impl Message) -> usize {
    message.encoded_len() + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_read_as_one_message_and_long_lists_are_cut() {
        let mut changes = Changes::default();
        assert!(changes.take().is_empty());
        changes.add(7, &left(EntityId(5)));
        changes.add(7, &crossed(EntityId(6), Cell(3)));
        changes.add(7, &left(EntityId(8)));
        let [frame] = &changes.take()[..] else { panic!("one frame") };
        let read: CellChanges = frame.decode().unwrap();
        let crossed = vec![client::EntityCrossed { entity: 6, cell: 3 }];
        assert_eq!(read, CellChanges { tick: 7, left: vec![5, 8], crossed, ..CellChanges::default() });

        (0..50_000).for_each(|entity| changes.add(7, &left(EntityId(entity))));
        let parts: Vec<CellChanges> = changes.take().iter().map(|frame| frame.decode().unwrap()).collect();
        assert!(1 < parts.len() && parts.iter().all(|part| part.tick == 7));
        assert_eq!(parts.iter().map(|part| part.left.len()).sum::<usize>(), 50_000);
        assert!(changes.take().is_empty());
    }

    #[test]
    fn an_empty_cell_has_a_snapshot() {
        let part = snapshot(Cell(3), 1, std::iter::empty());
        assert!(part.last.is_none());
        assert_eq!(part.frame.decode::<client::CellSnapshot>().unwrap().cell, 3);
    }
}
