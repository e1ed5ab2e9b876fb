//! The journal on a disk in memory, in folders, and in processes that are killed.

mod cuts;
mod damage;
mod kills;
mod memory;
mod model;
mod replay;
mod rounds;

use std::{sync::Arc, time::Duration};

use proto::record::PlayerRecord;
use service::{
    config::{DcConfig, Storage},
    random::Rng,
};

use super::*;
use crate::ledger::log::Logged;
pub(crate) use memory::Memory;

/// A dc that stores once an hour.
pub(crate) fn config() -> DcConfig {
    DcConfig {
        storage: Storage::Sqlite,
        flush_period: Duration::from_secs(3600),
        dirty_bytes_max: 1 << 24,
        cache_bytes_max: 1 << 24,
        journal_bytes_max: 1 << 30,
        journal_segment_bytes: 1 << 20,
    }
}

/// Change number `lsn`, of player 1.
pub(crate) fn entry(lsn: Lsn) -> Entry {
    let record = Arc::new(PlayerRecord { player: 1, coins: lsn, ..PlayerRecord::default() });
    let write = Logged { player: 1, record, owner: "scene-1/7".into(), epoch: 1, version: lsn, revision: lsn, deleted: false };
    Entry::new(lsn, vec![1], vec![write], None)
}

fn open_memory(memory: &Memory, segment_bytes: u64, applied: Lsn) -> anyhow::Result<(Journal, Vec<Entry>)> {
    let mut replayed = Vec::new();
    let journal = open_on(Box::new(memory.clone()), segment_bytes, applied, Rng::new(1), |entry| {
        replayed.push(entry.clone());
        Ok(())
    })?;
    Ok((journal, replayed))
}

/// A journal with changes 1 to `last`, each written and synced alone.
fn written(segment_bytes: u64, last: Lsn) -> Memory {
    let memory = Memory::default();
    let (mut journal, _) = open_memory(&memory, segment_bytes, 0).unwrap();
    for lsn in 1..=last {
        journal.append(&[entry(lsn)]).unwrap();
        journal.sync();
    }
    memory
}

/// What a start on the journal replays.
fn replayed(memory: &Memory, applied: Lsn) -> anyhow::Result<Vec<Lsn>> {
    let (_, entries) = open_memory(memory, 1 << 20, applied)?;
    assert!(entries.iter().all(|replayed| *replayed == entry(replayed.lsn)), "what is replayed is what was written");
    Ok(entries.iter().map(|entry| entry.lsn).collect())
}
