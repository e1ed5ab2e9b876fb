//! The store on a server of MySQL or MariaDB, through mysql_async and a deadpool of connections.
//!
//! Read `failure` (what an error means), `pool` (connections), `pace` (how many rows at once), `schema` (migrations), `write` (one
//! transaction), `mails`, `facts`, `commands`, `read`, `owner` (which journal it belongs to).
//!
//! A batch that is larger than the [`Pace`] goes in several transactions. Players that a unit ties together are always in one, and
//! `applied_lsn` rises with the last, so at every moment the database has whole units, and a replay begins early enough.
//!
//! Every transaction begins with a lock of the row `mysql_writer`, which has the number of the run that may write, and sets
//! `mysql_transaction` to a number of its own. So a dc that another one replaced notices it; and after a commit without an answer the next
//! transaction, which gets the lock when that one has ended, reads whether it was done. What is done twice all the same changes nothing:
//! each row is guarded by its revision.
//!
//! While the server is away, records wait in memory and in the journal. Commands and what is not in memory can't be had: they are answered
//! with CALL_UNAVAILABLE.

mod commands;
mod facts;
mod failure;
mod mails;
mod owner;
mod pace;
mod pool;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use mysql_async::{Opts, Value};
use proto::ids::ItemId;
use service::{config::MysqlConfig, kill, random::Random};
use tracing::{info, warn};

use super::{Batch, CommandResult, Opened, PendingUnit, Reader, Store, StoreError};
use crate::{
    journal::id::JournalId,
    ledger::{Lsn, facts::Numbers, units::UnitId},
    migrate::{MIGRATIONS, Migration},
};
use facts::FACTS_MAX;
use failure::{Class, Failure};
use pace::Pace;
use pool::{Database, Session, column, key, number};
use read::MysqlReader;

/// Tries of a transaction that others were in the way of, or whose connection was lost; after that the writer's pauses take over.
const CONFLICT_TRIES: u32 = 8;
const LOST_TRIES: u32 = 2;
/// The pause before the second try; it doubles, and is up to a half longer or shorter.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The least `max_allowed_packet`: several times what a statement has.
const PACKET_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Notes how far the database is: these numbers only rise, but for the transaction's, which is what it is.
const MARKS: &str =
    "UPDATE counters SET value = GREATEST(value, CASE name WHEN 'applied_lsn' THEN ? WHEN 'audit' THEN ? WHEN 'sanction' THEN ?
     ELSE ? END) WHERE name IN ('applied_lsn', 'audit', 'sanction', 'mysql_transaction')";

/// Why a database can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The server can't be reached, or can't now: it may later.
    #[error("the database is away: {0}")]
    Away(String),
    /// A person has to do something first.
    #[error(transparent)]
    Refused(#[from] anyhow::Error),
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure.class {
            Class::Conflict | Class::Lost | Class::Unavailable if !matches!(failure.reason, "access" | "schema" | "tls" | "other") => {
                OpenError::Away(failure.text)
            }
            _ => OpenError::Refused(anyhow::anyhow!(failure.text)),
        }
    }
}

/// Writes to MySQL.
pub(crate) struct MysqlStore {
    database: Database,
    random: Random,
    pace: Pace,
    /// The number of this run.
    writer: u64,
    /// The number of the newest transaction.
    transaction: u64,
    /// What came of the parts of the batch that was refused last, until the writer is done with it.
    parts: HashMap<u64, Part>,
    /// Why the server can't, while it can't.
    failing: Option<&'static str>,
}

/// The number of a transaction whose commit had no answer, and what its commands came to.
type Unknown = Option<(u64, Vec<CommandResult>)>;

/// What came of a part of a refused batch.
struct Part {
    batch: Batch,
    refused: Option<String>,
}

impl Part {
    /// Whether what came of this holds for that too.
    fn has(&self, batch: &Batch) -> bool {
        let units = self.batch.units.iter().filter(|unit| unit.lsn != 0);
        batch.lsn == 0
            && batch.commands.is_empty()
            && batch.facts.is_empty()
            && batch.rows == self.batch.rows
            && batch.units.iter().filter(|unit| unit.lsn != 0).eq(units)
    }
}

/// Opens the database, migrating it as needed, and takes it over from whatever dc had it. For a blocking thread of a tokio runtime.
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn open(config: &MysqlConfig, url: &str, random: Random) -> Result<Opened, OpenError> {
    open_with(config, url, random, MIGRATIONS)
}

fn open_with(config: &MysqlConfig, url: &str, random: Random, migrations: &[Migration]) -> Result<Opened, OpenError> {
    // The error's text has no more of the URL than the name of a parameter.
    let opts = Opts::from_url(url).context("the URL of the database is not as it should be: mysql://USER:PASSWORD@HOST:PORT/DATABASE")?;
    let name = opts.db_name().context("the URL of the database names no database: mysql://USER:PASSWORD@HOST:PORT/DATABASE")?.to_owned();
    let ca = config.ca.as_deref().map(service::tls::certificates).transpose().context("read `mysql.ca`")?;
    let database = Database::new(opts, ca, config.connections_max, config.statement_timeout).map_err(OpenError::Refused)?;
    let (writer, transaction, applied) = database.wait(async {
        let mut session = database.session().await?;
        check_server(&mut session).await?;
        schema::migrate(&mut session, &name, migrations).await?;
        Ok::<_, OpenError>(take_over(&mut session).await?)
    })?;
    let readers = (1..config.connections_max).map(|_| Box::new(MysqlReader::new(database.clone())) as Box<dyn Reader>).collect();
    let (pace, parts, failing) = (Pace::default(), HashMap::new(), None);
    let store = MysqlStore { database, random, pace, writer, transaction, parts, failing };
    Ok(Opened { store: Box::new(store), readers, applied })
}

/// A server that takes only small statements would refuse good records.
async fn check_server(session: &mut Session) -> Result<(), OpenError> {
    let row = session.first("SELECT CAST(@@max_allowed_packet AS SIGNED)", Vec::new()).await?;
    let bytes = row.map(|row| number(&row, 0)).transpose()?.unwrap_or(0);
    if bytes < PACKET_BYTES_MIN {
        let why = anyhow::anyhow!("the database takes packets of {bytes} bytes: set its max_allowed_packet to {PACKET_BYTES_MIN} or more");
        return Err(OpenError::Refused(why));
    }
    Ok(())
}

/// From here on no other dc writes. Returns the number of this run, that of the last transaction, and the units that were applied.
async fn take_over(session: &mut Session) -> Result<(u64, u64, Vec<(UnitId, Lsn)>), Failure> {
    let make =
        "INSERT INTO counters (name, value) VALUES ('mysql_writer', 0), ('mysql_transaction', 0) ON DUPLICATE KEY UPDATE value = value";
    session.execute(make, Vec::new()).await?;
    // Waits until a transaction of the other dc has ended, if there is one.
    let next = "UPDATE counters SET value = LAST_INSERT_ID(value + 1) WHERE name = 'mysql_writer'";
    let writer = session.execute_for_id(next, Vec::new()).await?;
    let transaction = counter(session, "mysql_transaction").await?;
    let mut applied = Vec::new();
    for row in session.rows("SELECT unit, sequence FROM applied_units ORDER BY sequence", Vec::new()).await? {
        let unit: Vec<u8> = column(&row, 0)?;
        let unit = unit.try_into().map_err(|_| Failure::refused("the id of a unit has not 16 bytes"))?;
        applied.push((UnitId(unit), number(&row, 1)?));
    }
    Ok((writer, transaction, applied))
}

async fn counter(session: &mut Session, name: &str) -> Result<u64, Failure> {
    let row = session.first("SELECT value FROM counters WHERE name = ?", vec![pool::text(name)]).await?;
    number(&row.ok_or_else(|| Failure::new(Class::Unavailable, "schema", format!("the counter `{name}` is gone")))?, 0)
}

impl Store for MysqlStore {
    fn applied_lsn(&mut self) -> Result<Lsn, StoreError> {
        let database = self.database.clone();
        Ok(database.wait(async { counter(&mut database.session().await?, "applied_lsn").await })?)
    }

    fn journal(&mut self) -> Result<Option<JournalId>, StoreError> {
        let database = self.database.clone();
        Ok(database.wait(owner::journal(&database))?)
    }

    fn take_journal(&mut self, journal: JournalId, now_ms: i64) -> Result<(), StoreError> {
        let database = self.database.clone();
        Ok(database.wait(owner::take_journal(&database, journal, now_ms))?)
    }

    fn dispossess(&mut self) -> Result<u64, StoreError> {
        let database = self.database.clone();
        Ok(database.wait(owner::dispossess(&database))?)
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<CommandResult>, StoreError> {
        let database = self.database.clone();
        let applied = database.wait(self.apply_all(batch));
        self.note(applied.as_ref().err());
        Ok(applied?)
    }

    fn set_aside(&mut self, batch: &Batch, reason: &str) -> Result<(), StoreError> {
        let database = self.database.clone();
        Ok(database.wait(async {
            let mut session = database.session().await?;
            for row in &batch.rows {
                write::set_aside(&mut session, row, batch.now_ms, reason).await?;
            }
            facts::set_aside(&mut session, batch, reason).await?;
            Ok::<(), Failure>(())
        })?)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.database.close();
        Ok(())
    }
}

impl MysqlStore {
    async fn apply_all(&mut self, batch: &Batch) -> Result<Vec<CommandResult>, Failure> {
        if let Some(known) = self.known(batch) {
            return known;
        }
        if batch.rows.len() <= self.pace.rows() && batch.facts.len() <= FACTS_MAX {
            return match self.transact(batch).await {
                Err(failure) if failure.class == Class::Refused && 1 < batch.rows.len() => {
                    self.parts.clear();
                    let parts = self.parts_of(batch).await?;
                    self.sort_out(parts).await?;
                    Err(failure)
                }
                done => done,
            };
        }
        let mut refused = None;
        let mut parts = self.lacking(batch).await?;
        while !parts.is_empty() {
            let some = parts.split_off(parts.len() - self.fitting(&parts));
            match self.transact(&together(&some)).await {
                Ok(_) => self.settle(some),
                Err(failure) if failure.class == Class::Refused => {
                    self.sort_out(some).await?;
                    refused = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        match refused {
            Some(failure) => Err(failure),
            None => {
                self.parts.clear();
                for facts in batch.facts.chunks(FACTS_MAX) {
                    self.transact(&Batch { now_ms: batch.now_ms, facts: facts.to_vec(), ..Batch::default() }).await?;
                }
                let (rows, units, facts) = (Vec::new(), Vec::new(), Vec::new());
                self.transact(&Batch { rows, units, facts, commands: batch.commands.clone(), ..*batch }).await
            }
        }
    }

    /// The parts of a batch, last players first, without those that were stored by a batch that failed later on: so every try gets further.
    async fn lacking(&mut self, batch: &Batch) -> Result<Vec<Batch>, Failure> {
        let parts = self.parts_of(batch).await?;
        let before = std::mem::take(&mut self.parts);
        let mut lacking = Vec::new();
        for part in parts.into_iter().rev() {
            match part.rows.first().and_then(|row| before.get(&row.player)) {
                Some(known) if known.refused.is_none() && known.has(&part) => self.remember(part, None),
                _ => lacking.push(part),
            }
        }
        Ok(lacking)
    }

    /// The parts of a batch that may be stored apart. A player who has an item now that is still another's in the database is tied to that
    /// one too: it was dropped and picked up, and must leave before it comes.
    async fn parts_of(&self, batch: &Batch) -> Result<Vec<Batch>, Failure> {
        let gaining = || batch.rows.iter().filter(|row| row.items_changed && !row.deleted);
        let gained = gaining().flat_map(|row| row.record.items.iter().map(move |item| (ItemId::from_bytes(&item.id), row.player)));
        let mailed = batch.units.iter().filter_map(|unit| Some((unit.mail.as_ref()?, *unit.players.first()?)));
        let mailed = mailed.flat_map(|(mail, player)| mail.items.iter().map(move |item| (ItemId::from_bytes(&item.id), player)));
        let gained: Vec<(ItemId, u64)> = gained.chain(mailed).filter_map(|(item, player)| Some((item?, player))).collect();
        let items: Vec<ItemId> = gained.iter().map(|(item, _)| *item).collect();
        let holders = read::holders(&mut self.database.session().await?, &items).await?;
        let players: HashSet<u64> = batch.rows.iter().map(|row| row.player).collect();
        let mut tied = batch.clone();
        for (item, player) in gained {
            let from = holders.get(&item).filter(|from| **from != player && players.contains(from));
            tied.units.extend(from.map(|from| PendingUnit { lsn: 0, id: None, players: vec![*from, player], mail: None }));
        }
        Ok(tied.parts())
    }

    /// How many of the last parts go into one transaction: one at least.
    fn fitting(&self, parts: &[Batch]) -> usize {
        let mut rows = 0;
        let fits = |part: &&Batch| {
            rows += part.rows.len();
            rows <= self.pace.rows()
        };
        parts.iter().rev().take_while(fits).count().max(1)
    }

    /// Stores those of the parts that the server takes, and notes which it refuses: halves until a part is refused alone. The writer then
    /// comes with each part alone, and is told what is known.
    async fn sort_out(&mut self, parts: Vec<Batch>) -> Result<(), Failure> {
        let mut left = vec![parts];
        while let Some(mut some) = left.pop() {
            if some.is_empty() {
                continue;
            }
            match self.transact(&together(&some)).await {
                Ok(_) => self.settle(some),
                Err(failure) if failure.class != Class::Refused => return Err(failure),
                Err(failure) if some.len() == 1 => self.remember(some.remove(0), Some(failure.text)),
                Err(_) => {
                    let half = some.split_off(some.len() / 2);
                    left.extend([some, half]);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, parts: Vec<Batch>) {
        parts.into_iter().for_each(|part| self.remember(part, None));
    }

    fn remember(&mut self, batch: Batch, refused: Option<String>) {
        if let Some(row) = batch.rows.first() {
            self.parts.insert(row.player, Part { refused, batch });
        }
    }

    /// What came of this part of a refused batch, if it is one.
    fn known(&self, batch: &Batch) -> Option<Result<Vec<CommandResult>, Failure>> {
        let part = self.parts.get(&batch.rows.first()?.player)?;
        part.has(batch).then(|| part.refused.clone().map_or(Ok(Vec::new()), |text| Err(Failure::refused(text))))
    }

    /// One transaction, tried again as long as that promises something.
    async fn transact(&mut self, batch: &Batch) -> Result<Vec<CommandResult>, Failure> {
        let mut unknown = None;
        let mut pause = RETRY_PAUSE;
        for tries in 1.. {
            let failure = match self.attempt(batch, &mut unknown).await {
                Ok(results) => return Ok(results),
                Err(failure) => failure,
            };
            metrics::counter!("paifang_dc_mysql_failures_total", "reason" => failure.reason).increment(1);
            let tries_max = match failure.class {
                Class::Conflict => CONFLICT_TRIES,
                Class::Lost => LOST_TRIES,
                Class::Unavailable | Class::Refused | Class::Fatal => 0,
            };
            if failure.reason == "timeout" {
                self.pace.unanswered();
                return Err(failure); // the next would take as long; the writer decides when
            }
            if tries_max <= tries {
                return Err(failure);
            }
            tokio::time::sleep(self.random.jitter(pause)).await;
            pause *= 2;
        }
        unreachable!("the tries end with a return")
    }

    /// One try. What is not committed is rolled back at once: an idle connection would hold its locks.
    async fn attempt(&mut self, batch: &Batch, unknown: &mut Unknown) -> Result<Vec<CommandResult>, Failure> {
        let mut session = self.database.session().await?;
        let done = self.write(&mut session, batch, unknown).await;
        if done.is_err() {
            let _ = session.run("ROLLBACK").await; // if that fails too, the connection is gone, and the server does it
        }
        done
    }

    async fn write(&mut self, session: &mut Session, batch: &Batch, unknown: &mut Unknown) -> Result<Vec<CommandResult>, Failure> {
        let started = Instant::now();
        session.run("START TRANSACTION").await?;
        let round_trip = started.elapsed();
        let last = self.fence(session).await?;
        match unknown.take() {
            Some((transaction, results)) if transaction == last => return session.run("ROLLBACK").await.map(|()| results),
            _ => (),
        }
        self.transaction = self.transaction.max(last) + 1;
        kill::point("store_begin");
        let slowest = write::records(session, batch, self.pace.rows()).await?;
        facts::write(session, &batch.facts).await?;
        let mut results = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            results.push(commands::run(session, command, batch.now_ms).await?);
        }
        let Numbers { audits, sanctions } = batch.numbers;
        let marks = vec![key(batch.lsn), key(audits), key(sanctions), key(self.transaction)];
        session.execute(MARKS, marks).await?;
        *unknown = Some((self.transaction, results));
        kill::point("store_rows");
        session.run("COMMIT").await?;
        kill::point("store_committed");
        if !batch.rows.is_empty() {
            self.pace.took(batch.rows.len(), slowest, round_trip);
            metrics::gauge!("paifang_dc_mysql_rows_max").set(self.pace.rows() as f64);
        }
        Ok(unknown.take().map(|(_, results)| results).unwrap_or_default())
    }

    /// Locks the right to write; returns the number of the last transaction.
    async fn fence(&self, session: &mut Session) -> Result<u64, Failure> {
        let sql = "SELECT name, value FROM counters WHERE name IN ('mysql_writer', 'mysql_transaction') ORDER BY name FOR UPDATE";
        let rows = session.rows(sql, Vec::<Value>::new()).await?;
        let [transaction, writer] = &rows[..] else {
            return Err(Failure::new(Class::Unavailable, "schema", "the counters of the writer are gone"));
        };
        let writer = number(writer, 1)?;
        if writer != self.writer {
            return Err(Failure::new(
                Class::Fatal,
                "replaced",
                format!("dc run {writer} took the database over from this one ({})", self.writer),
            ));
        }
        number(transaction, 1)
    }

    /// Says when the server begins to fail in another way, and when it is well again.
    fn note(&mut self, failure: Option<&Failure>) {
        match failure {
            Some(failure) if failure.class == Class::Refused => (),
            Some(failure) if self.failing != Some(failure.reason) => {
                warn!(reason = failure.reason, text = %failure.text, "the database fails");
                self.failing = Some(failure.reason);
            }
            None if self.failing.is_some() => {
                info!(reason = self.failing, "the database is well again");
                self.failing = None;
            }
            Some(_) | None => (),
        }
        for reason in
            ["deadlock", "lock_wait", "lost", "timeout", "read_only", "disk_full", "connections", "access", "schema", "tls", "other"]
        {
            let now = if self.failing == Some(reason) { 1.0 } else { 0.0 };
            metrics::gauge!("paifang_dc_mysql_failing", "reason" => reason).set(now);
        }
    }
}

/// Parts as one batch again, in the order of the players.
fn together(parts: &[Batch]) -> Batch {
    let mut whole = Batch { rows: Vec::new(), units: Vec::new(), ..parts.first().cloned().unwrap_or_default() };
    for part in parts {
        whole.rows.extend(part.rows.iter().cloned());
        whole.units.extend(part.units.iter().cloned());
    }
    whole.rows.sort_by_key(|row| row.player);
    whole
}

/// Waits until the database can be opened: dc may be started before it. `None`: `stopped` ended first.
///
/// # Errors
/// When a person has to do something first.
pub(crate) async fn open_when_there(
    config: MysqlConfig,
    url: secrecy::SecretString,
    random: Random,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<Option<Opened>> {
    use secrecy::ExposeSecret;
    let mut stopped = std::pin::pin!(stopped);
    let (config, url, mut told) = (Arc::new(config), Arc::new(url), None);
    loop {
        let (config, url, random) = (config.clone(), url.clone(), random.clone());
        match tokio::task::spawn_blocking(move || open(&config, url.expose_secret(), random)).await? {
            Ok(opened) => return Ok(Some(opened)),
            Err(OpenError::Refused(err)) => return Err(err),
            Err(OpenError::Away(why)) if told.as_ref() != Some(&why) => {
                warn!(%why, "waiting for the database");
                told = Some(why);
            }
            Err(OpenError::Away(_)) => (),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => (),
            () = &mut stopped => return Ok(None),
        }
    }
}
