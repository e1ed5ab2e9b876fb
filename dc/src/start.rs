//! Puts dc together: the store that was opened, the journal's changes that it lacks, and who serves and stores from there on.

use std::path::Path;

use anyhow::Context;
use service::{config::DcConfig, random::Rng};
use tracing::info;

use crate::{
    journal::{self, Journal, queue::Queue, thread::JournalThread},
    ledger::{Ledger, Limits},
    serve::Desk,
    store::Opened,
    writer::{Shared, Writer},
};

/// Recovers what was in memory when the last run ended, and starts the journal's thread. `folder`: the process' own. Blocks.
///
/// # Errors
/// When the journal can't be used; the error says what to do.
pub(crate) fn start(folder: &Path, config: &DcConfig, salts: Rng, mut opened: Opened) -> anyhow::Result<(Desk, Writer)> {
    let applied = opened.store.applied_lsn().context("ask the store what it has")?;
    let limits = Limits { dirty_bytes_max: config.dirty_bytes_max, cache_bytes_max: config.cache_bytes_max };
    let mut ledger = Ledger::new(limits, &opened.applied);
    let journal = journal::open(folder, config.journal_segment_bytes, applied, salts, |entry| Ok(ledger.replay(entry)?))?;
    ledger.go_on_above(journal.last().max(applied));
    info!(dirty = ledger.dirty_records(), lsn = ledger.lsn(), state = ledger.state_hash(), "recovered what the store lacks");
    assemble(ledger, journal, applied, config, opened)
}

/// As [`start`], from a journal that was opened.
pub(crate) fn assemble(
    ledger: Ledger,
    journal: Journal,
    applied: crate::ledger::Lsn,
    config: &DcConfig,
    opened: Opened,
) -> anyhow::Result<(Desk, Writer)> {
    let queue = Queue::new(config.journal_bytes_max, journal.size(), ledger.lsn(), applied);
    let shared = Shared::new(ledger, queue);
    let journal = JournalThread::start(shared.clone(), journal).context("start the journal's thread")?;
    let writer = Writer { shared: shared.clone(), store: opened.store, journal, flush_period: config.flush_period };
    Ok((Desk::new(shared, opened.readers), writer))
}
