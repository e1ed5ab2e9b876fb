//! How one record is on the disk: a head, then a body.
//!
//! ```text
//! "PFjr" | u8 kind | u8 format | u16 0 | u32 body length | u32 body CRC | u32 chain | u64 epoch | u64 sequence | u32 head CRC | body
//! ```
//! Little-endian. The head's CRC begins with its segment's salt, so nothing that a player could put into a body passes for a record.
//! `chain` is the head CRC of the record before, so a record that is whole but does not belong here is told from one that does.

use crc32fast::Hasher;

/// Bytes of a head.
pub(crate) const HEAD_BYTES: usize = 40;
/// The longest body: more than the longest call can bring.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

const MAGIC: [u8; 4] = *b"PFjr";
/// How bodies are encoded.
const FORMAT: u8 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One change of the ledger; its sequence is the change's number.
    Change,
    /// One change too, of a fact beside the records.
    Fact,
    /// A run begins, or what lies between the record before and this sequence is in the store and was never written here. No body.
    Mark,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Kind::Change => 1,
            Kind::Mark => 2,
            Kind::Fact => 3,
        }
    }
}

/// Where a journal stands after a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// The run that wrote it.
    pub epoch: u64,
    pub sequence: u64,
    /// The record's head CRC.
    pub chain: u32,
}

/// A record that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub kind: Kind,
    /// The head CRC of the record before.
    pub before: u32,
    pub stand: Stand,
    pub body: &'a [u8],
}

impl Record<'_> {
    /// Bytes on the disk.
    pub(crate) fn bytes(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    #[error("the record is cut off")]
    Short,
    #[error("no record begins here")]
    Magic,
    #[error("the head of a record is damaged")]
    Head,
    #[error("the body of a record is damaged")]
    Body,
    #[error("a record of a newer program: kind {0}, format {1}")]
    Newer(u8, u8),
}

/// Appends a record whose body `put_body` appends. Returns where the journal stands then.
pub(crate) fn put(
    to: &mut Vec<u8>,
    salt: u32,
    kind: Kind,
    before: u32,
    (epoch, sequence): (u64, u64),
    put_body: impl FnOnce(&mut Vec<u8>),
) -> Stand {
    let start = to.len();
    to.extend_from_slice(&[0; HEAD_BYTES]);
    put_body(to);
    let body = &to[start + HEAD_BYTES..];
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_BYTES_MAX).expect("no call is as long as a body may be");
    let body_crc = crc32fast::hash(body);
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&[kind.number(), FORMAT, 0, 0]);
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&body_crc.to_le_bytes());
    head.extend_from_slice(&before.to_le_bytes());
    head.extend_from_slice(&epoch.to_le_bytes());
    head.extend_from_slice(&sequence.to_le_bytes());
    let chain = crc(salt, &head);
    head.extend_from_slice(&chain.to_le_bytes());
    to[start..start + HEAD_BYTES].copy_from_slice(&head);
    Stand { epoch, sequence, chain }
}

/// The record at the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8], salt: u32) -> Result<Record<'_>, Bad> {
    let head = bytes.first_chunk::<HEAD_BYTES>().ok_or(Bad::Short)?;
    if head[..4] != MAGIC {
        return Err(Bad::Magic);
    }
    let chain = word(head, 36);
    if crc(salt, &head[..36]) != chain {
        return Err(Bad::Head);
    }
    let kind = match (head[4], head[5]) {
        (1, FORMAT) => Kind::Change,
        (2, FORMAT) => Kind::Mark,
        (3, FORMAT) => Kind::Fact,
        (kind, format) => return Err(Bad::Newer(kind, format)),
    };
    let length = usize::try_from(word(head, 8)).ok().filter(|length| *length <= BODY_BYTES_MAX).ok_or(Bad::Head)?;
    let body = bytes[HEAD_BYTES..].get(..length).ok_or(Bad::Short)?;
    if crc32fast::hash(body) != word(head, 12) {
        return Err(Bad::Body);
    }
    let stand = Stand { epoch: long(head, 20), sequence: long(head, 28), chain };
    Ok(Record { kind, before: word(head, 16), stand, body })
}

/// Where the first record whole begins, in bytes that begin with none.
pub(crate) fn find(bytes: &[u8], salt: u32) -> Option<usize> {
    let begins = |at: &usize| bytes[*at..].starts_with(&MAGIC);
    (0..bytes.len()).filter(begins).find(|at| matches!(read(&bytes[*at..], salt), Ok(_) | Err(Bad::Newer(..))))
}

/// The CRC-32 of bytes, begun with a salt.
pub(super) fn crc(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// The number of four bytes at a place that is there.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four"))
}

/// The number of eight bytes at a place that is there.
pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, 7, Kind::Change, 3, (2, 9), |to| to.extend_from_slice(body));
        bytes
    }

    #[test]
    fn what_was_put_is_read() {
        let bytes = record(b"abc");
        let read = read(&bytes, 7).unwrap();
        assert_eq!((read.kind, read.before, read.stand.epoch, read.stand.sequence, read.body), (Kind::Change, 3, 2, 9, &b"abc"[..]));
        assert_eq!(read.bytes(), bytes.len());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = record(b"abc");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad, 7).is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(read(&good[..length], 7).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_record_within_a_body_is_none_without_the_salt() {
        let mut planted = Vec::new();
        put(&mut planted, 0, Kind::Change, 3, (2, 10), |_| ());
        assert_eq!(find(&planted, 0), Some(0));
        assert_eq!(find(&planted, 7), None);
        assert_eq!(find(&[b"PFPFjr".as_slice(), &record(b"x")].concat(), 7), Some(6));
    }
}
