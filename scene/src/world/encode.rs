//! The frames that tell of cells, cut so that none is longer than a client takes.

use prost::Message;
use proto::{Frame, client, kinds::TO_CLIENT_BODY_MAX};

use super::{
    actor::{Entity, EntityId},
    grid::{Cell, Position},
};

/// Entities in one [`client::CellMoves`]: three numbers of at most five bytes each, and the head.
const MOVES_MAX: usize = (TO_CLIENT_BODY_MAX - 64) / 15;
/// Bytes of a body that lists may fill; the head takes the rest.
const LISTS_BYTES_MAX: usize = TO_CLIENT_BODY_MAX - 64;

/// Who moved in a cell. A keyframe that has to be cut is no keyframe: no part has every entity.
pub fn moves(cell: Cell, tick: u32, moved: &[(EntityId, Position)], keyframe: bool) -> Vec<Frame> {
    let keyframe = keyframe && moved.len() <= MOVES_MAX;
    let frame = |part: &[(EntityId, Position)]| {
        let message = client::CellMoves {
            cell: cell.0,
            tick,
            entity: part.iter().map(|(entity, _)| entity.0).collect(),
            x: part.iter().map(|(_, at)| at.x).collect(),
            y: part.iter().map(|(_, at)| at.y).collect(),
            keyframe,
        };
        Frame::encode(0, &message)
    };
    moved.chunks(MOVES_MAX).map(frame).collect()
}

/// Everything in a cell; at least one frame, so that the client knows that it sees the cell.
pub fn snapshot<'a>(cell: Cell, tick: u32, entities: impl Iterator<Item = &'a Entity>) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut part = client::CellSnapshot { cell: cell.0, tick, entities: Vec::new() };
    let mut bytes = 0;
    for entity in entities {
        let entity = entity.out();
        let length = listed_len(&entity);
        if LISTS_BYTES_MAX < bytes + length {
            frames.push(Frame::encode(0, &part));
            part.entities.clear();
            bytes = 0;
        }
        bytes += length;
        part.entities.push(entity);
    }
    frames.push(Frame::encode(0, &part));
    frames
}

/// What the watchers of a cell are told of one tick.
#[derive(Debug, Default)]
pub struct Changes {
    /// Who came into the cell.
    pub entered: Vec<client::Entity>,
    /// Who left it.
    pub left: Vec<client::EntityLeft>,
    /// Whose looks changed.
    pub changed: Vec<client::Entity>,
}

/// What came, went and changed; no frame if nothing did.
pub fn changes(cell: Cell, tick: u32, changes: Changes) -> Vec<Frame> {
    let empty = || client::CellChanges { cell: cell.0, tick, ..client::CellChanges::default() };
    let mut frames = Vec::new();
    let (mut part, mut bytes) = (empty(), 0);
    let mut room = |part: &mut client::CellChanges, length: usize| {
        if LISTS_BYTES_MAX < bytes + length {
            frames.push(Frame::encode(0, &std::mem::replace(part, empty())));
            bytes = 0;
        }
        bytes += length;
    };
    for left in changes.left {
        room(&mut part, listed_len(&left));
        part.left.push(left);
    }
    for entity in changes.entered {
        room(&mut part, listed_len(&entity));
        part.entered.push(entity);
    }
    for entity in changes.changed {
        room(&mut part, listed_len(&entity));
        part.changed.push(entity);
    }
    if 0 < bytes {
        frames.push(Frame::encode(0, &part));
    }
    frames
}

/// Bytes that a message takes in a list: itself, a tag, and a length of at most three bytes.
fn listed_len(message: &impl Message) -> usize {
    message.encoded_len() + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_nothing_is_lost() {
        let at = Position { x: i32::MAX, y: i32::MIN };
        let moved: Vec<(EntityId, Position)> = (0..10_000).map(|entity| (EntityId(u32::MAX - entity), at)).collect();
        let frames = moves(Cell(u32::MAX), u32::MAX, &moved, true);
        assert!(1 < frames.len());
        let parts: Vec<client::CellMoves> = frames.iter().map(|frame| frame.decode().unwrap()).collect();
        assert_eq!(parts.iter().map(|part| part.entity.len()).sum::<usize>(), 10_000);
        assert!(parts.iter().all(|part| !part.keyframe && part.entity.len() == part.x.len() && part.x.len() == part.y.len()));

        let entity =
            |entity: u32| client::Entity { entity, name: "n".repeat(64), level: u32::MAX, hp: u32::MAX, ..client::Entity::default() };
        let news = Changes {
            entered: (0..2_000).map(entity).collect(),
            left: (0..2_000).map(|entity| client::EntityLeft { entity, to_cell: Some(u32::MAX) }).collect(),
            changed: (0..2_000).map(entity).collect(),
        };
        let parts: Vec<client::CellChanges> = changes(Cell(1), 1, news).iter().map(|frame| frame.decode().unwrap()).collect();
        assert!(2 < parts.len());
        assert_eq!(parts.iter().map(|part| part.entered.len()).sum::<usize>(), 2_000);
        assert_eq!(parts.iter().map(|part| part.left.len()).sum::<usize>(), 2_000);
        assert_eq!(parts.iter().map(|part| part.changed.len()).sum::<usize>(), 2_000);
    }

    #[test]
    fn an_empty_cell_has_a_snapshot_and_no_changes() {
        assert_eq!(snapshot(Cell(3), 1, std::iter::empty()).len(), 1);
        assert!(changes(Cell(3), 1, Changes::default()).is_empty());
        assert!(moves(Cell(3), 1, &[], true).is_empty());
    }
}
