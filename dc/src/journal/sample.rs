//! Journals to measure recovery with: changes as saves make them, in the journal of a dc that is stopped.

use std::{path::Path, sync::Arc};

use anyhow::ensure;
use proto::record::PlayerRecord;
use service::random::Rng;

use crate::ledger::{
    Lsn,
    log::{Entry, Logged},
};

/// Changes of one write.
const GROUP: u64 = 1024;
/// A segment is closed at this size.
const SEGMENT_BYTES: u64 = 64 << 20;

/// What is appended.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How many changes, each the save of one player.
    pub changes: u64,
    /// How many players take turns; their numbers begin with 1.
    pub players: u64,
    /// Bytes that a record has beside its numbers and name.
    pub record_bytes: usize,
}

/// Appends a sample to the journal in a process' folder, whose store has everything up to `applied`, and syncs it. Versions and revisions
/// are the numbers of the changes, so they go up however often this is done. Returns the bytes that were appended.
///
/// # Errors
/// When the journal can't be used, or has changes after `applied`.
pub fn append(process: &Path, applied: Lsn, sample: Sample) -> anyhow::Result<u64> {
    let nothing_waits =
        |entry: &Entry| -> anyhow::Result<()> { anyhow::bail!("the journal has change {}, which the store lacks", entry.lsn) };
    let mut journal = super::open(process, SEGMENT_BYTES, applied, Rng::new(applied), nothing_waits)?;
    ensure!(0 < sample.players, "a sample without players");
    let before = journal.size().bytes;
    let first = journal.last().max(applied) + 1;
    let lsns: Vec<Lsn> = (first..first + sample.changes).collect();
    for group in lsns.chunks(usize::try_from(GROUP)?) {
        let entries: Vec<Entry> = group.iter().map(|lsn| entry(*lsn, (lsn - first) % sample.players + 1, sample.record_bytes)).collect();
        journal.append(&entries)?;
    }
    journal.sync();
    Ok(journal.size().bytes - before)
}

fn entry(lsn: Lsn, player: u64, bytes: usize) -> Entry {
    let name = format!("Player{player}");
    let record =
        PlayerRecord { player, account: 1, name, map: "meadow".into(), rules: vec![0x5a; bytes].into(), ..PlayerRecord::default() };
    let (owner, deleted) = ("scene-1/1".into(), false);
    let logged = Logged { player, record: Arc::new(record), owner, epoch: 1, version: lsn, revision: lsn, deleted };
    Entry::new(lsn, vec![player], vec![logged], None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_replayed_and_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let sample = Sample { changes: 5, players: 2, record_bytes: 100 };
        let bytes = append(folder.path(), 0, sample).unwrap();
        assert!(5 * 100 < bytes, "{bytes}");
        assert!(append(folder.path(), 4, sample).is_err(), "a change waits for the store");
        append(folder.path(), 5, sample).unwrap();
        let mut found = Vec::new();
        let replay = |entry: &Entry| {
            found.push((entry.lsn, entry.players[0]));
            Ok(())
        };
        super::super::open(folder.path(), SEGMENT_BYTES, 5, Rng::new(1), replay).unwrap();
        assert_eq!(found, [(6, 1), (7, 2), (8, 1), (9, 2), (10, 1)]);
    }
}
