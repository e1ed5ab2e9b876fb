//! How a change of the ledger is in the body of a record.
//!
//! ```text
//! u32 writes, each: u64 player | u64 epoch | u64 version | u64 revision | u8 deleted | u32 owner | u32 record | owner | PlayerRecord (protobuf)
//! u8 has an id | 16 bytes of it, if so | u32 players | u64 each | Mail (protobuf), if there is one
//! ```
//! Fields are added to the protobuf; whatever else changes gets a new format number in the record's head.

use std::sync::Arc;

use bytes::Buf;
use prost::Message;
use proto::record::{Mail, PlayerRecord};

use crate::ledger::{
    Lsn,
    log::{Entry, Logged},
    units::UnitId,
};

/// Appends a change.
pub(crate) fn put(to: &mut Vec<u8>, entry: &Entry) {
    to.extend_from_slice(&count(entry.writes.len()).to_le_bytes());
    for write in &entry.writes {
        for number in [write.player, write.epoch, write.version, write.revision] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        to.push(u8::from(write.deleted));
        to.extend_from_slice(&count(write.owner.len()).to_le_bytes());
        let length = to.len();
        to.extend_from_slice(&[0; 4]);
        to.extend_from_slice(write.owner.as_bytes());
        let record = to.len();
        write.record.encode(to).expect("a vector has room");
        let bytes = count(to.len() - record).to_le_bytes();
        to[length..length + 4].copy_from_slice(&bytes);
    }
    to.push(u8::from(entry.unit.is_some()));
    if let Some(unit) = entry.unit {
        to.extend_from_slice(&unit.0);
    }
    to.extend_from_slice(&count(entry.players.len()).to_le_bytes());
    for player in &entry.players {
        to.extend_from_slice(&player.to_le_bytes());
    }
    if let Some(mail) = &entry.mail {
        mail.encode(to).expect("a vector has room");
    }
}

/// The change number `lsn`; none if the body is no change.
pub(crate) fn read(lsn: Lsn, mut body: &[u8]) -> Option<Entry> {
    let from = &mut body;
    let writes = from.try_get_u32_le().ok()?;
    let writes = (0..writes).map(|_| read_write(from)).collect::<Option<Vec<_>>>()?;
    let unit = match from.try_get_u8().ok()? {
        0 => None,
        _ => Some(UnitId(take(from, 16)?.try_into().ok()?)),
    };
    let players = from.try_get_u32_le().ok()?;
    let players = (0..players).map(|_| from.try_get_u64_le().ok()).collect::<Option<Vec<_>>>()?;
    let mail = match from.is_empty() {
        true => None,
        false => Some(Arc::new(Mail::decode(*from).ok().filter(|mail| mail.id.len() == 16)?)),
    };
    Some(Entry::new(lsn, players, writes, unit).with_mail(mail))
}

fn read_write(from: &mut &[u8]) -> Option<Logged> {
    let (player, epoch) = (from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
    let (version, revision) = (from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
    let deleted = from.try_get_u8().ok()? != 0;
    let (owner, record) = (from.try_get_u32_le().ok()?, from.try_get_u32_le().ok()?);
    let owner: Arc<str> = std::str::from_utf8(take(from, usize::try_from(owner).ok()?)?).ok()?.into();
    let record = PlayerRecord::decode(take(from, usize::try_from(record).ok()?)?).ok().filter(|record| record.player == player)?;
    Some(Logged { player, record: Arc::new(record), owner, epoch, version, revision, deleted })
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

fn count(items: usize) -> u32 {
    u32::try_from(items).expect("what fits a call is far shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_and_nothing_shorter() {
        let record = Arc::new(PlayerRecord { player: 7, name: "ann".into(), coins: 5, ..PlayerRecord::default() });
        let write = Logged { player: 7, record, owner: "scene-1/2".into(), epoch: 3, version: 4, revision: 5, deleted: false };
        let gone =
            Logged { player: 8, record: Arc::new(PlayerRecord { player: 8, ..PlayerRecord::default() }), deleted: true, ..write.clone() };
        for unit in [None, Some(UnitId([9; 16]))] {
            let entry = Entry::new(6, vec![7, 8], vec![write.clone(), gone.clone()], unit);
            let mut bytes = Vec::new();
            put(&mut bytes, &entry);
            assert_eq!(read(6, &bytes), Some(entry));
            assert!((0..bytes.len()).all(|length| read(6, &bytes[..length]).is_none()));
        }
    }
}
