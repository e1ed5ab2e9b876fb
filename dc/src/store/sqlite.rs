//! The store on bundled SQLite: one file in the process' folder, WAL, `synchronous=FULL`, so a commit that returned is on the disk.
//!
//! SQLite opens its files by itself: a simulated disk has to take the place of this module, as another [`Store`].

mod commands;
mod facts;
mod mails;
mod read;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use prost::Message;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi, named_params};

use service::{fs::Lock, kill};

use super::{Batch, CommandResult, EPOCH_LEAP, Opened, REASON_MAX, RECORD_FORMAT, Row, Store, StoreError, StoredPlayer};
use crate::{
    journal::id::JournalId,
    ledger::{Lsn, units::UnitId},
    migrate::{self, Applied, MIGRATIONS, Migration},
};
use read::SqliteReader;

/// The database's file in the process' folder.
pub(crate) const FILE: &str = "players.sqlite";
/// Connections that read beside the one that writes.
const READERS: usize = 2;
/// How long a statement waits for another connection, such as a person's `sqlite3`, to end its transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes to SQLite.
pub(crate) struct SqliteStore {
    connection: Connection,
    /// Held as long as the store is: two processes with one database would not know of each other's records in memory.
    _lock: Lock,
}

/// Opens the database in the folder, making or migrating it as needed.
///
/// # Errors
/// When another process has it, it is newer than the program, a migration was edited, or SQLite fails.
pub(crate) fn open(folder: &Path) -> anyhow::Result<Opened> {
    open_with(folder, MIGRATIONS)
}

fn open_with(folder: &Path, migrations: &[Migration]) -> anyhow::Result<Opened> {
    let lock = lock(folder)?;
    let file = folder.join(FILE);
    let mut connection = Connection::open(&file).with_context(|| format!("open {}", file.display()))?;
    configure(&connection).with_context(|| format!("configure {}", file.display()))?;
    migrate(&mut connection, migrations).with_context(|| format!("migrate {}", file.display()))?;
    service::fs::sync_folder(folder)?;
    let applied = applied_units(&connection).context("read applied units")?;
    let mut readers: Vec<Box<dyn super::Reader>> = Vec::new();
    for _ in 0..READERS {
        readers.push(Box::new(SqliteReader::open(&file)?));
    }
    Ok(Opened { store: Box::new(SqliteStore { connection, _lock: lock }), readers, applied })
}

fn lock(folder: &Path) -> anyhow::Result<Lock> {
    let path = folder.join("players.lock");
    match Lock::take(&path)? {
        Ok(lock) => Ok(lock),
        Err(holder) => bail!("{} is locked by process {holder}: another dc has this data folder; stop it first", path.display()),
    }
}

fn configure(connection: &Connection) -> anyhow::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    anyhow::ensure!(mode == "wal", "the file system allows no WAL (journal mode is `{mode}`): put the data folder on a local disk");
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrate(connection: &mut Connection, migrations: &[Migration]) -> anyhow::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
            number BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, hash VARCHAR(64) NOT NULL, applied_ms BIGINT NOT NULL)",
    )?;
    let applied = applied_migrations(connection)?;
    for migration in migrate::needed(migrations, &applied)? {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration.sql).with_context(|| format!("run migration {} ({})", migration.number, migration.name))?;
        let row = (migration.number, migration.name, migration.hash(), crate::now_ms());
        transaction.execute("INSERT INTO schema_migrations (number, name, hash, applied_ms) VALUES (?1, ?2, ?3, ?4)", row)?;
        transaction.commit()?;
        tracing::info!(number = migration.number, name = migration.name, "migrated the database");
    }
    Ok(())
}

fn applied_migrations(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    let mut statement = connection.prepare("SELECT number, name, hash FROM schema_migrations ORDER BY number")?;
    let rows = statement.query_map([], |row| Ok(Applied { number: row.get(0)?, name: row.get(1)?, hash: row.get(2)? }))?;
    rows.collect()
}

fn applied_units(connection: &Connection) -> rusqlite::Result<Vec<(UnitId, Lsn)>> {
    let mut statement = connection.prepare("SELECT unit, sequence FROM applied_units ORDER BY sequence")?;
    let rows = statement.query_map([], |row| Ok((UnitId(row.get(0)?), unsigned(row.get(1)?))))?;
    rows.collect()
}

impl Store for SqliteStore {
    fn applied_lsn(&mut self) -> Result<Lsn, StoreError> {
        let sql = "SELECT value FROM counters WHERE name = 'applied_lsn'";
        Ok(self.connection.query_row(sql, [], |row| row.get(0).map(unsigned))?)
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<CommandResult>, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        kill::point("store_begin");
        mails::free(&transaction, batch)?;
        write_rows(&transaction, batch)?;
        mails::keep(&transaction, batch)?;
        write_units(&transaction, batch)?;
        facts::write(&transaction, batch)?;
        let mut results = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            results.push(commands::run(&transaction, command, batch.now_ms)?);
        }
        transaction
            .prepare_cached("UPDATE counters SET value = ?1 WHERE name = 'applied_lsn' AND value < ?1")?
            .execute([key(batch.lsn)])?;
        kill::point("store_rows");
        transaction.commit()?;
        kill::point("store_committed");
        Ok(results)
    }

    fn journal(&mut self) -> Result<Option<JournalId>, StoreError> {
        let sql = "SELECT journal FROM journals ORDER BY number DESC LIMIT 1";
        Ok(self.connection.query_row(sql, [], |row| row.get(0).map(JournalId)).optional()?)
    }

    fn take_journal(&mut self, journal: JournalId, now_ms: i64) -> Result<(), StoreError> {
        let sql = "INSERT INTO journals (number, journal, since_ms) SELECT COALESCE(MAX(number), 0) + 1, ?1, ?2 FROM journals";
        self.connection.execute(sql, (&journal.0[..], now_ms))?;
        Ok(())
    }

    fn dispossess(&mut self) -> Result<u64, StoreError> {
        let sql = "UPDATE players SET owner = '', epoch = epoch + ?1, revision = revision + 1";
        Ok(self.connection.execute(sql, [EPOCH_LEAP])? as u64)
    }

    fn set_aside(&mut self, batch: &Batch, reason: &str) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let reason: String = reason.chars().take(REASON_MAX).collect();
        facts::set_aside(&transaction, batch, &reason)?;
        for row in &batch.rows {
            transaction
                .prepare_cached(
                    "INSERT INTO set_aside (player, version, at_ms, reason, format, body) VALUES (:player, :version, :at, :reason, :format, :body)",
                )?
                .execute(named_params! {
                    ":player": key(row.player), ":version": key(row.version), ":at": batch.now_ms,
                    ":reason": reason, ":format": RECORD_FORMAT, ":body": row.record.encode_to_vec(),
                })?;
        }
        Ok(transaction.commit()?)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// Items leave all players before any comes to one, or an item that moves would be at two for a moment.
fn write_rows(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), StoreError> {
    for row in batch.rows.iter().filter(|row| row.items_changed || row.deleted) {
        transaction.prepare_cached("DELETE FROM items WHERE player = ?1")?.execute([key(row.player)])?;
    }
    for row in &batch.rows {
        write_player(transaction, row, batch.now_ms)?;
        match row.deleted {
            true => delete_player(transaction, row.player, batch.now_ms)?,
            false if row.items_changed => insert_items(transaction, row)?,
            false => (),
        }
    }
    Ok(())
}

fn write_player(transaction: &Transaction<'_>, row: &Row, now_ms: i64) -> Result<(), StoreError> {
    let changed = transaction
        .prepare_cached(
            "UPDATE players SET level = :level, map = :map, coins = :coins, owner = :owner, epoch = :epoch, version = :version,
                revision = :revision, format = :format, body = :body, saved_ms = :saved
             WHERE player = :player AND revision < :revision",
        )?
        .execute(named_params! {
            ":level": row.record.level, ":map": row.record.map, ":coins": key(row.record.coins), ":owner": &*row.owner,
            ":epoch": key(row.epoch), ":version": key(row.version), ":revision": key(row.revision), ":format": RECORD_FORMAT,
            ":body": row.record.encode_to_vec(), ":saved": now_ms, ":player": key(row.player),
        })?;
    if changed == 1 || row.deleted {
        return Ok(());
    }
    let stored = transaction.prepare_cached("SELECT revision FROM players WHERE player = ?1")?.query_row([key(row.player)], |it| it.get(0));
    match stored {
        Ok(revision) if unsigned(revision) == row.revision => Ok(()), // this very batch was stored before, its outcome unknown
        Ok(revision) => {
            Err(StoreError::Refused(format!("player {} has revision {revision}: somebody else writes to this database", row.player)))
        }
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(StoreError::Refused(format!("player {} is gone from the database", row.player))),
        Err(err) => Err(err.into()),
    }
}

fn insert_items(transaction: &Transaction<'_>, row: &Row) -> Result<(), StoreError> {
    let mut insert = transaction.prepare_cached("INSERT INTO items (item, player, kind, amount) VALUES (?1, ?2, ?3, ?4)")?;
    for item in &row.record.items {
        insert.execute((&item.id[..], key(row.player), &item.kind, item.count))?;
    }
    Ok(())
}

fn delete_player(transaction: &Transaction<'_>, player: u64, now_ms: i64) -> Result<(), StoreError> {
    let run = |sql: &str| transaction.prepare_cached(sql)?.execute([key(player)]);
    transaction
        .prepare_cached(
            "INSERT INTO deleted_players (player, account, name, version, format, body, deleted_ms)
             SELECT player, account, name, version, format, body, ?2 FROM players WHERE player = ?1",
        )?
        .execute((key(player), now_ms))?;
    run("DELETE FROM players WHERE player = ?1")?;
    run("DELETE FROM relations WHERE player = ?1 OR other = ?1")?;
    Ok(())
}

fn write_units(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), StoreError> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO applied_units (unit, sequence) VALUES (?1, ?2) ON CONFLICT (unit) DO NOTHING")?;
    let mut inserted = false;
    for unit in &batch.units {
        if let Some(id) = unit.id {
            inserted = true;
            insert.execute((&id.0[..], key(unit.lsn)))?;
        }
    }
    if inserted {
        transaction.prepare_cached("DELETE FROM applied_units WHERE sequence < ?1")?.execute([key(batch.units_floor)])?;
    }
    Ok(())
}

/// How dc's numbers are in a column. One that no column can hold becomes one that no row has.
fn key(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(-1)
}

/// A number as dc wrote it; never negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        let text = err.to_string();
        let rusqlite::Error::SqliteFailure(failure, _) = &err else { return StoreError::Refused(text) };
        match failure.code {
            // After a failed sync the kernel may have dropped what it could not write: nobody knows what the file has.
            ErrorCode::SystemIoFailure if matches!(failure.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => {
                StoreError::Fatal(text)
            }
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Fatal(text),
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly => StoreError::Unavailable(text),
            _ => StoreError::Refused(text),
        }
    }
}
