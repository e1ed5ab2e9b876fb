//! Puts dc together: the store that was opened, the journal that belongs to it with the changes that the store lacks, and who serves and
//! stores from there on.

use std::path::Path;

use anyhow::Context;
use proto::internal::Sanction;
use service::{config::DcConfig, random::Rng};
use tracing::info;

use crate::{
    journal::{
        Folder, Journal,
        id::{self, JournalId},
        queue::Queue,
        thread::JournalThread,
    },
    ledger::{Ledger, Limits, Lsn, known::GM_ACCOUNTS_MAX},
    serve::Desk,
    store::{LIST_MAX, Opened, Store},
    writer::{Shared, Writer},
};

/// Recovers what was in memory when the last run ended, and starts the journal's thread. `process`: the process' own folder; `mail_max`:
/// mails that may wait for one player. Blocks.
///
/// # Errors
/// When the journal can't be used, or belongs to another database; the error says what to do.
pub(crate) fn start(
    process: &Path,
    config: &DcConfig,
    mail_max: usize,
    mut salts: Rng,
    mut opened: Opened,
) -> anyhow::Result<(Desk, Writer)> {
    let folder = Folder::take(process)?;
    let (path, journal) = (folder.path.clone(), joined(&folder, &mut *opened.store, &mut salts)?);
    let Recovered { ledger, journal: open, applied } = recover(folder, config, mail_max, salts, &mut opened)?;
    id::settle(&path, journal)?;
    info!(dirty = ledger.dirty_records(), lsn = ledger.lsn(), state = ledger.state_hash(), "recovered what the store lacks");
    let (desk, writer) = assemble(ledger, open, applied, config, opened)?;
    Ok((desk.of_journal(journal), writer))
}

/// Makes sure that journal and database belong together. New ones, and those from before there were ids, are joined here.
fn joined(folder: &Folder, store: &mut dyn Store, chance: &mut Rng) -> anyhow::Result<JournalId> {
    let database = store.journal().context("ask the store for its journal")?;
    let named = folder.named()?;
    let known = id::belongs(named, database).with_context(|| format!("join the journal in {} to its database", folder.path.display()))?;
    let journal = known.unwrap_or_else(|| JournalId::new(chance));
    if named.settled.or(named.offered).is_none() {
        id::offer(&folder.path, journal)?;
    }
    if database.is_none() {
        store.take_journal(journal, crate::now_ms()).context("tell the store its journal")?;
        info!(%journal, "this journal belongs to this database from now on");
    }
    Ok(journal)
}

/// What was in memory, and the journal that had it.
pub(crate) struct Recovered {
    pub ledger: Ledger,
    pub journal: Journal,
    pub applied: Lsn,
}

/// Reads what the store knows of facts, and replays what it lacks.
pub(crate) fn recover(folder: Folder, config: &DcConfig, mail_max: usize, salts: Rng, opened: &mut Opened) -> anyhow::Result<Recovered> {
    let applied = opened.store.applied_lsn().context("ask the store what it has")?;
    let limits = Limits { dirty_bytes_max: config.dirty_bytes_max, cache_bytes_max: config.cache_bytes_max, mail_max };
    let mut ledger = Ledger::new(limits, &opened.applied);
    begin_facts(&mut ledger, opened).context("read sanctions and numbers from the store")?;
    let journal = folder.open(config.journal_segment_bytes, applied, salts, |entry| Ok(ledger.replay(entry)?))?;
    ledger.go_on_above(journal.last().max(applied));
    Ok(Recovered { ledger, journal, applied })
}

fn begin_facts(ledger: &mut Ledger, opened: &Opened) -> anyhow::Result<()> {
    let reader = opened.readers.first().context("the store has no reader")?;
    let (now_ms, mut sanctions) = (crate::now_ms(), Vec::<Sanction>::new());
    loop {
        let page = reader.sanctions(now_ms, sanctions.last().map_or(0, |last| last.id), LIST_MAX)?;
        if page.is_empty() {
            break;
        }
        sanctions.extend(page);
    }
    ledger.begin_facts(reader.numbers()?, sanctions, reader.gm_accounts(GM_ACCOUNTS_MAX)?);
    Ok(())
}

/// As [`start`], from a journal that was opened.
pub(crate) fn assemble(
    ledger: Ledger,
    journal: Journal,
    applied: Lsn,
    config: &DcConfig,
    opened: Opened,
) -> anyhow::Result<(Desk, Writer)> {
    let queue = Queue::new(config.journal_bytes_max, journal.size(), ledger.lsn(), applied);
    let shared = Shared::new(ledger, queue);
    let journal = JournalThread::start(shared.clone(), journal).context("start the journal's thread")?;
    let writer = Writer { shared: shared.clone(), store: opened.store, journal, flush_period: config.flush_period };
    Ok((Desk::new(shared, opened.readers), writer))
}
