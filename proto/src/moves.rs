//! How positions travel in a [`crate::client::CellMoves`]: packed, relative to the cells that a client sees.
//!
//! The bytes are: the side of a cell in centimetres (varint), and the corner of the first of three by three cells, x and y (zigzag
//! varints). Then, for each cell in which something moved: its place among the nine, row by row (one byte); and for each that moved, by
//! rising number, how far its number is from the one before (varint; the first one's from 0) and where it is in the cell: x in the low
//! bits and y above it, each with as many bits as the side needs, together in whole bytes, lowest first. A 0 in place of a number ends
//! the cell. In a cell of 25 m this is four or five bytes for each that moved.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Cells in a row of those that a client sees.
const COLUMNS: i64 = 3;
/// The largest side: positions have 32 bits.
const SIDE_MAX: u64 = 1 << 32;

/// Where one entity is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Moved {
    /// Its number, from 1.
    pub entity: u32,
    /// Centimetres east of the map's corner.
    pub x: i32,
    /// Centimetres south of it.
    pub y: i32,
}

/// Packs what moved.
#[derive(Clone, Debug)]
pub struct MovesWriter {
    bytes: Vec<u8>,
    bits: u32,
    place: u8,
    /// The number before, in the cell that is begun; 0: none is.
    last: u32,
}

impl MovesWriter {
    /// Nothing moved yet. `side` is that of a cell, `x` and `y` are the corner of the first of the nine.
    ///
    /// # Panics
    /// When `side` is 0.
    pub fn new(side: u32, x: i32, y: i32) -> Self {
        Self::with_side(side.into(), x, y)
    }

    fn with_side(side: u64, x: i32, y: i32) -> Self {
        let mut bytes = Vec::with_capacity(256);
        put_varint(&mut bytes, side);
        put_varint(&mut bytes, zigzag(x));
        put_varint(&mut bytes, zigzag(y));
        Self { bytes, bits: bits_of(side).expect("a cell has a side"), place: 0, last: 0 }
    }

    /// What follows is in this cell.
    pub fn cell(&mut self, place: u8) {
        self.end_cell();
        self.place = place;
    }

    /// An entity, whose number is above that of the one before in this cell, and where it is in the cell.
    pub fn push(&mut self, entity: u32, x: u32, y: u32) {
        if self.last == 0 {
            self.bytes.push(self.place);
        }
        put_varint(&mut self.bytes, entity.wrapping_sub(self.last).into());
        self.last = entity;
        let offset = u64::from(x) | u64::from(y) << self.bits;
        self.bytes.extend_from_slice(&offset.to_le_bytes()[..offset_len(self.bits)]);
    }

    /// Bytes so far.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty: it begins with the side and the corner")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The packed bytes.
    pub fn finish(mut self) -> Bytes {
        self.end_cell();
        self.bytes.into()
    }

    fn end_cell(&mut self) {
        if self.last != 0 {
            self.bytes.push(0);
            self.last = 0;
        }
    }
}

/// Packs a list, for tools and tests; a number 0 names nothing and is left out.
pub fn pack(list: &[Moved]) -> Bytes {
    let mut sorted: Vec<Moved> = list.iter().copied().filter(|moved| moved.entity != 0).collect();
    sorted.sort_by_key(|moved| moved.entity);
    let low = |along: fn(&Moved) -> i32| sorted.iter().map(along).min().unwrap_or_default();
    let (x, y) = (low(|moved| moved.x), low(|moved| moved.y));
    let extent = |moved: &Moved| moved.x.abs_diff(x).max(moved.y.abs_diff(y));
    let side = u64::from(sorted.iter().map(extent).max().unwrap_or_default()) + 1;
    let mut writer = MovesWriter::with_side(side, x, y);
    for moved in sorted {
        if moved.entity == writer.last {
            writer.cell(0);
        }
        writer.push(moved.entity, moved.x.abs_diff(x), moved.y.abs_diff(y));
    }
    writer.finish()
}

/// What moved; ends at the first byte that makes no sense.
pub fn read(bytes: &[u8]) -> MovesReader<'_> {
    MovesReader::begin(bytes).unwrap_or(MovesReader { bytes: &[], side: 1, bits: 0, corner: (0, 0), cell: None })
}

/// Reads packed bytes.
#[derive(Clone, Debug)]
pub struct MovesReader<'a> {
    bytes: &'a [u8],
    side: i64,
    bits: u32,
    corner: (i64, i64),
    cell: Option<OpenCell>,
}

/// The cell that is being read.
#[derive(Clone, Copy, Debug)]
struct OpenCell {
    corner: (i64, i64),
    last: u32,
}

impl<'a> MovesReader<'a> {
    fn begin(mut bytes: &'a [u8]) -> Option<Self> {
        let side = take_varint(&mut bytes)?;
        let bits = bits_of(side)?;
        let (x, y) = (unzigzag(take_varint(&mut bytes)?)?, unzigzag(take_varint(&mut bytes)?)?);
        Some(Self { bytes, side: i64::try_from(side).ok()?, bits, corner: (x.into(), y.into()), cell: None })
    }

    fn take(&mut self) -> Option<Moved> {
        loop {
            let Some(cell) = self.cell else {
                let (place, rest) = self.bytes.split_first()?;
                let place = i64::from(*place);
                self.bytes = rest;
                let corner = (self.corner.0 + place % COLUMNS * self.side, self.corner.1 + place / COLUMNS * self.side);
                self.cell = Some(OpenCell { corner, last: 0 });
                continue;
            };
            let step = u32::try_from(take_varint(&mut self.bytes)?).ok()?;
            if step == 0 {
                self.cell = None;
                continue;
            }
            let entity = cell.last.checked_add(step)?;
            let (x, y) = self.take_offset()?;
            self.cell = Some(OpenCell { last: entity, ..cell });
            return Some(Moved { entity, x: i32::try_from(cell.corner.0 + x).ok()?, y: i32::try_from(cell.corner.1 + y).ok()? });
        }
    }

    fn take_offset(&mut self) -> Option<(i64, i64)> {
        let (offset, rest) = self.bytes.split_at_checked(offset_len(self.bits))?;
        self.bytes = rest;
        let mut whole = [0; 8];
        whole[..offset.len()].copy_from_slice(offset);
        let offset = u64::from_le_bytes(whole);
        let mask = (1u64 << self.bits) - 1;
        Some((i64::try_from(offset & mask).ok()?, i64::try_from(offset >> self.bits & mask).ok()?))
    }
}

impl Iterator for MovesReader<'_> {
    type Item = Moved;

    fn next(&mut self) -> Option<Moved> {
        let moved = self.take();
        if moved.is_none() {
            self.bytes = &[];
        }
        moved
    }
}

/// Bits that an offset along one side needs; none if there is no such side.
fn bits_of(side: u64) -> Option<u32> {
    (1..=SIDE_MAX).contains(&side).then(|| u64::BITS - (side - 1).leading_zeros())
}

fn offset_len(bits: u32) -> usize {
    (2 * bits).div_ceil(8) as usize
}

fn zigzag(value: i32) -> u64 {
    let value = i64::from(value);
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> Option<i32> {
    i32::try_from((value >> 1).cast_signed() ^ -((value & 1).cast_signed())).ok()
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moved() -> impl Strategy<Value = Moved> {
        (1u32.., any::<i32>(), any::<i32>()).prop_map(|(entity, x, y)| Moved { entity, x, y })
    }

    proptest! {
        #[test]
        fn a_list_survives(mut list in proptest::collection::vec(moved(), 0..50)) {
            let read: Vec<Moved> = read(&pack(&list)).collect();
            list.sort_by_key(|moved| moved.entity);
            prop_assert_eq!(read, list);
        }

        #[test]
        fn cells_survive(side in 1..100_000u32, x in -100_000..100_000i32, y in -100_000..100_000i32, cells in cells()) {
            let mut writer = MovesWriter::new(side, x, y);
            let mut expected = Vec::new();
            for (place, members) in cells {
                writer.cell(place);
                for (entity, (east, south)) in members {
                    let (east, south) = (east % side, south % side);
                    writer.push(entity, east, south);
                    let corner = |first: i32, cells: u8| first + i32::from(cells) * i32::try_from(side).unwrap();
                    let at = |first: i32, cells: u8, offset: u32| corner(first, cells) + i32::try_from(offset).unwrap();
                    expected.push(Moved { entity, x: at(x, place % 3, east), y: at(y, place / 3, south) });
                }
            }
            prop_assert_eq!(read(&writer.finish()).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes).count() <= bytes.len());
        }
    }

    type Cells = Vec<(u8, std::collections::BTreeMap<u32, (u32, u32)>)>;

    fn cells() -> impl Strategy<Value = Cells> {
        let members = proptest::collection::btree_map(1u32.., (any::<u32>(), any::<u32>()), 0..20);
        proptest::collection::vec((0..9u8, members), 0..9)
    }

    #[test]
    fn an_update_in_a_cell_of_25_m_takes_four_or_five_bytes() {
        let mut writer = MovesWriter::new(2_500, 40_000, 40_000);
        writer.cell(4);
        writer.push(7_000, 1, 2_499);
        let before = writer.len();
        writer.push(7_100, 2_499, 0);
        assert_eq!(writer.len() - before, 4);
        writer.push(9_000, 5, 5);
        assert_eq!(writer.len() - before, 9);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let packed = pack(&[Moved { entity: 3, x: 10, y: 10 }, Moved { entity: 4, x: 400, y: 10 }]);
        assert_eq!(read(&packed).count(), 2);
        assert_eq!(read(&packed[..packed.len() - 2]).count(), 1);
        assert_eq!(read(&[]).count(), 0);
    }
}
