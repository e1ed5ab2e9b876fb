//! `zone dc adopt`: a journal and a database that do not belong together are joined for good, after a restore of one of them. What the
//! journal has and the database lacks is stored, every player is taken from its owner with an epoch that it never had, so that whoever held
//! it before is refused, and both get a new id. dc must not run.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::Serialize;
use service::{
    config::{DcConfig, Storage},
    random::{Random, Rng},
};

use crate::{
    journal::{
        Folder,
        id::{self, JournalId},
    },
    ledger::Ledger,
    start::{Recovered, recover},
    store::{self, Opened, Reader},
};

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// The id that journal and database have now.
    pub journal: String,
    /// The one that the database had.
    pub before: Option<String>,
    /// Records that the journal had and the database lacked.
    pub records: usize,
    /// Players who were taken from their owners, if they had any.
    pub players: u64,
}

/// Joins the journal in a process' folder, or a new one if there is none, to the database that is configured. Blocks; for a blocking thread
/// of a tokio runtime.
///
/// # Errors
/// When a dc runs, the database is away, the journal is damaged, changes are missing between the two, or the journal is another database's:
/// then nothing was changed. When the database fails in the middle: then it can be done again.
pub fn adopt(process: &Path, config: &DcConfig, random: Random) -> anyhow::Result<Adopted> {
    let folder = Folder::take(process)?;
    let mut chance = random.split();
    let mut opened = open(process, config, random).context("open the store")?;
    adopt_with(folder, config, &mut opened, &mut chance)
}

fn open(process: &Path, config: &DcConfig, random: Random) -> anyhow::Result<Opened> {
    match &config.storage {
        Storage::Sqlite => store::sqlite::open(process),
        Storage::Mysql(mysql) => {
            use secrecy::ExposeSecret;
            let url = service::secret::text(&mysql.url, process.parent().unwrap_or(process)).context("read the URL of the database")?;
            Ok(store::mysql::open(mysql, url.expose_secret(), random)?)
        }
    }
}

/// As [`adopt`], on a store that was opened.
pub(crate) fn adopt_with(folder: Folder, config: &DcConfig, opened: &mut Opened, chance: &mut Rng) -> anyhow::Result<Adopted> {
    let (path, before) = (folder.path.clone(), opened.store.journal()?.map(|id| id.to_string()));
    let salts = Rng::new(chance.next_u64());
    // Nobody sends mail here.
    let mail_max = 0;
    let Recovered { ledger, journal: open, .. } = recover(folder, config, mail_max, salts, opened)
        .context("this journal can't go with this database; to go on without it, move its folder away first")?;
    let records = store_all(&ledger, opened)?;
    let journal = JournalId::new(chance);
    id::forget(&path)?;
    id::offer(&path, journal)?;
    let players = opened.store.dispossess().context("take the players from their owners")?;
    opened.store.take_journal(journal, crate::now_ms()).context("tell the store its journal")?;
    id::settle(&path, journal)?;
    drop(open); // with its lock, after all is done
    opened.store.close()?;
    Ok(Adopted { journal: journal.to_string(), before, records, players })
}

/// Stores what the journal has and the database lacks, if it can be of this database.
fn store_all(ledger: &Ledger, opened: &mut Opened) -> anyhow::Result<usize> {
    let batch = ledger.batch();
    let reader: &dyn Reader = &**opened.readers.first().context("the store has no reader")?;
    for row in &batch.rows {
        let stored = reader.player(row.player)?;
        let fits = stored.as_ref().is_some_and(|stored| {
            let (stored_as, row_as) = (&stored.record, &row.record);
            (stored_as.account, &stored_as.name) == (row_as.account, &row_as.name) && stored.revision < row.revision
        });
        ensure!(
            fits,
            "the journal is another database's: player {} ({}) is not in this one, or newer there than in the journal. Nothing was changed; to go \
             on without this journal, move its folder away first",
            row.player,
            row.record.name
        );
    }
    if !batch.is_empty() {
        opened.store.apply(&crate::store::Batch { now_ms: crate::now_ms(), ..batch.clone() }).context("store what the journal has")?;
    }
    Ok(batch.rows.len())
}
