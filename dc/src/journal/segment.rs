//! A segment file: a header, then records.
//!
//! ```text
//! "PFJOURN1" | u32 number | u32 salt | u64 epoch | u64 sequence | u32 chain | u32 CRC
//! ```
//! Epoch, sequence and chain are where the journal stands before the segment's first record.

use super::record::{self, Bad, Kind, Record, Stand};

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 40;
/// What a segment's file ends in.
pub(crate) const EXTENSION: &str = ".seg";

const MAGIC: [u8; 8] = *b"PFJOURN1";

/// The name of a segment's file.
pub(crate) fn name(number: u32) -> String {
    format!("{number:08}{EXTENSION}")
}

/// The number in a segment's file name; none if it is another file.
pub(crate) fn number(name: &str) -> Option<u32> {
    name.strip_suffix(EXTENSION).filter(|digits| digits.len() == 8)?.parse().ok()
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub number: u32,
    /// What the CRCs of its records' heads begin with.
    pub salt: u32,
    /// Where the journal stands before it.
    pub stand: Stand,
}

impl Header {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.stand.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.stand.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.stand.chain.to_le_bytes());
        let crc = record::crc(0, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None if the header is damaged or cut off.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let whole = header[..8] == MAGIC && record::crc(0, &header[..36]) == record::word(header, 36);
        let stand = || Stand { epoch: record::long(header, 16), sequence: record::long(header, 24), chain: record::word(header, 32) };
        whole.then(|| Header { number: record::word(header, 8), salt: record::word(header, 12), stand: stand() })
    }
}

/// Why the records of a segment end before the segment does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Break {
    /// Where in the file.
    pub at: usize,
    pub why: String,
    /// Nothing whole comes after it, as a write that a crash cut off leaves it.
    pub torn: bool,
}

/// The records of a segment, one by one, each checked against the one before.
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    salt: u32,
    /// Where the next record begins.
    pub at: usize,
    /// Where the journal stands after the last record.
    pub stand: Stand,
}

impl<'a> Scan<'a> {
    /// Of a segment's bytes, whose header is given.
    pub(crate) fn new(bytes: &'a [u8], header: &Header) -> Self {
        Self { bytes, salt: header.salt, at: HEADER_BYTES, stand: header.stand }
    }

    /// The next record; none at the end.
    pub(crate) fn next(&mut self) -> Option<Result<Record<'a>, Break>> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let record = match record::read(rest, self.salt) {
            Ok(record) => record,
            Err(bad) => return Some(Err(self.bad(rest, bad))),
        };
        if let Err(why) = self.follows(&record) {
            return Some(Err(Break { at: self.at, why, torn: false }));
        }
        self.at += record.bytes();
        self.stand = record.stand;
        Some(Ok(record))
    }

    fn bad(&self, rest: &[u8], bad: Bad) -> Break {
        let after = record::find(&rest[1..], self.salt);
        let (torn, why) = match (after, bad) {
            (_, Bad::Newer(..)) => (false, bad.to_string()),
            (Some(at), _) => (false, format!("{bad}, but a whole record follows at byte {}", self.at + 1 + at)),
            (None, _) => (true, format!("{bad}, and nothing whole follows")),
        };
        Break { at: self.at, why, torn }
    }

    /// A whole record that does not follow the one before was not written here: no crash leaves that.
    fn follows(&self, record: &Record<'_>) -> Result<(), String> {
        let (before, now) = (self.stand, record.stand);
        let in_order = match record.kind {
            Kind::Change | Kind::Fact => before.sequence.checked_add(1) == Some(now.sequence) && before.epoch == now.epoch,
            Kind::Mark => before.sequence <= now.sequence && before.epoch <= now.epoch,
        };
        if record.before == before.chain && in_order {
            return Ok(());
        }
        Err(format!(
            "change {} of run {} does not follow change {} of run {}: it was not written here",
            now.sequence, now.epoch, before.sequence, before.epoch
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(number(&name(7)), Some(7));
        assert_eq!((name(12).as_str(), number("12.seg"), number("00000012.new"), number("lock")), ("00000012.seg", None, None, None));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = Header { number: 3, salt: 9, stand: Stand { epoch: 2, sequence: 8, chain: 5 } };
        let good = header.bytes();
        assert_eq!((good.len(), Header::read(&good)), (HEADER_BYTES, Some(header)));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&bad), None, "bit {bit}");
        }
    }
}
