//! How many positions a `CellMoves` carries: what bots that only count spend their time on.

use bytes::Bytes;
use prost::Message;
use proto::{client::CellMoves, moves};

/// Counts the positions in the body of a `CellMoves`; none: it is malformed.
pub(super) fn updates(body: &Bytes) -> Option<u64> {
    let moves = CellMoves::decode(body.clone()).ok()?;
    Some(moves::read(&moves.moved).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_counted_as_are_told() {
        let list: Vec<_> = (1..40).map(|entity| moves::Moved { entity, x: 7, y: -7 }).collect();
        let moves = CellMoves { tick: 3, moved: moves::pack(&list) };
        assert_eq!(updates(&moves.encode_to_vec().into()), Some(39));
        assert_eq!(updates(&Bytes::from_static(&[0xff])), None);
    }
}
