//! What is shared between those who ask, the journal's thread and the one task that stores: the ledger behind a lock, what waits, and the
//! [`Writer`].
//!
//! The answer to a save waits for the [journal](crate::journal), never for the store. A batch for the store is due at once when a command
//! waits for it, and `flush_period` after the first unstored change otherwise, so many saves of a player between two batches are stored as
//! one. The journal has what a batch has, synced, before the store gets it; only while the journal can't be written is the store ahead.
//! After the store's commit the journal needs what is in it no more, and deletes the segments that are wholly below.
//!
//! When the store is unavailable, commands are refused (CALL_UNAVAILABLE), records and facts stay dirty and are tried again with a growing pause;
//! all saves go on until `dirty_bytes_max` or the journal's quota. When the store refuses a batch, its parts are stored one by one, and a
//! part that is refused alone is set aside: logged, counted, kept in a table, its players read-only.
//! A store whose own sync failed ends the process, which then reads from the disk what is true.

mod gone;
mod parts;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use proto::internal::Durability;
use service::kill;

use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};
use tracing::{error, warn};

use crate::{
    journal::{
        queue::Queue,
        thread::{JournalThread, Work},
    },
    ledger::{Ledger, Lsn, log::Entry},
    profiles::Publisher,
    refusal::Refusal,
    status::Counts,
    store::{Batch, Command, CommandResult, Store, StoreError},
};
use gone::Gone;
use parts::store_parts;

/// Bytes of commands that may wait; one more is refused.
pub(crate) const COMMANDS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Pauses between tries while the store is unavailable.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How often a stop tries to store what is left. With the pauses between, it ends within the process' grace.
const STOP_TRIES: u32 = 10;

/// What requests and the writer share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    work: Notify,
    journal: Condvar,
    ended: watch::Sender<Option<Result<(), String>>>,
    publisher: Publisher,
}

/// Everything that the lock guards. It is never held over a wait or over I/O.
pub(crate) struct State {
    pub ledger: Ledger,
    pub counts: Counts,
    pub journal: Queue,
    /// The journal's thread has nothing more to come.
    pub journal_stopped: bool,
    /// The journal's thread waits for work. To wake it costs a system call, which is made once.
    journal_idle: bool,
    /// When the oldest change that the store lacks was made.
    dirty_since: Option<Instant>,
    commands: VecDeque<Queued>,
    commands_bytes: usize,
    closed: bool,
}

struct Queued {
    command: Command,
    answer: oneshot::Sender<CommandResult>,
}

impl Shared {
    pub(crate) fn new(ledger: Ledger, journal: Queue) -> Self {
        let (commands, counts) = (VecDeque::new(), Counts::default());
        let dirty_since = ledger.is_dirty().then(Instant::now);
        let (journal_stopped, journal_idle, commands_bytes, closed) = (false, false, 0, false);
        let state = State { ledger, counts, journal, journal_stopped, journal_idle, dirty_since, commands, commands_bytes, closed };
        let (work, journal, ended) = (Notify::new(), Condvar::new(), watch::Sender::new(None));
        Self { inner: Arc::new(Inner { state: Mutex::new(state), work, journal, ended, publisher: Publisher::default() }) }
    }

    /// Takes to the cache what the store has.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.inner.publisher
    }

    /// Looks at the state.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Looks at the state and at what changes by being looked at.
    pub(crate) fn look_mut<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.lock())
    }

    /// Reads or changes records. Refused when dc is stopping.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Err(stopping());
        }
        let was_dirty = state.ledger.is_dirty();
        let done = work(&mut state);
        state.ledger.evict();
        if state.dirty_since.is_none() && state.ledger.is_dirty() {
            state.dirty_since = Some(Instant::now());
        }
        let wake = state.is_urgent() || !was_dirty && state.ledger.is_dirty();
        let journal = !state.ledger.log().is_empty() || state.journal.wants_sync();
        let journal_idle = journal && std::mem::take(&mut state.journal_idle);
        drop(state);
        if journal {
            kill::point("published");
        }
        if journal_idle {
            self.inner.journal.notify_one();
        }
        if wake {
            self.inner.work.notify_one();
        }
        done
    }

    /// Waits until the store has carried out a command.
    pub(crate) async fn command(&self, command: Command) -> CommandResult {
        let bytes = command.bytes();
        let (answer, answered) = oneshot::channel();
        self.with(|state| {
            if COMMANDS_BYTES_MAX < state.commands_bytes + bytes {
                return Err(Refusal::Unavailable("too many commands wait for the store; try again later".into()));
            }
            state.commands_bytes += bytes;
            state.commands.push_back(Queued { command, answer });
            Ok(())
        })?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// What the journal's thread has to do; waits until there is something.
    pub(crate) fn journal_work(&self, next: impl Fn(&mut State) -> Work) -> Work {
        let mut state = self.lock();
        loop {
            let until = match next(&mut state) {
                Work::Wait(until) => until,
                work => return work,
            };
            state.journal_idle = true;
            state = match until {
                None => self.inner.journal.wait(state).expect("nobody panics with the state"),
                Some(until) => {
                    let pause = until.saturating_duration_since(std::time::Instant::now());
                    self.inner.journal.wait_timeout(state, pause).expect("nobody panics with the state").0
                }
            };
            state.journal_idle = false;
        }
    }

    /// Lets the journal's thread end when it has nothing to do.
    pub(crate) fn stop_journal(&self) {
        self.lock().journal_stopped = true;
        self.inner.journal.notify_one();
    }

    /// Ends when the journal has everything up to a change, synced, or can't.
    async fn journal_has(&self, lsn: Lsn) -> Result<(), Refusal> {
        let waiting = self.lock().journal.wait(lsn, Durability::D2);
        self.inner.journal.notify_one();
        match waiting {
            Some(waiting) => waiting.outcome().await,
            None => Ok(()),
        }
    }

    /// Refuses whatever comes from now on, and waits until everything is stored.
    ///
    /// # Errors
    /// When it can't be.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        self.lock().closed = true;
        self.inner.work.notify_one();
        self.ended().await
    }

    /// Ends with the writer. Cancel-safe.
    pub(crate) async fn ended(&self) -> anyhow::Result<()> {
        let mut ended = self.inner.ended.subscribe();
        let end = ended.wait_for(Option::is_some).await.map(|end| end.clone());
        match end.ok().flatten() {
            Some(Err(text)) => anyhow::bail!(text),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("nobody panics with the state")
    }
}

impl State {
    /// Whether the journal takes a change of this class.
    pub(crate) fn admit(&self, class: Durability) -> Result<(), Refusal> {
        self.journal.admit(class, self.ledger.log_bytes())
    }

    /// Changes that the journal could not take, but for those that the store has by now.
    pub(crate) fn give_back(&mut self, mut entries: Vec<Entry>) {
        entries.retain(|entry| self.journal.applied < entry.lsn);
        self.ledger.log().give_back(entries);
    }

    /// Age of the oldest change that the store lacks.
    pub(crate) fn lag(&self) -> Duration {
        self.dirty_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn is_urgent(&self) -> bool {
        self.closed || !self.commands.is_empty() || self.ledger.is_nearly_full()
    }

    /// What the store lacks, and who waits for the commands in it.
    fn take(&mut self) -> (Batch, Vec<oneshot::Sender<CommandResult>>) {
        let (commands, answers) = self.commands.drain(..).map(|queued| (queued.command, queued.answer)).unzip();
        self.commands_bytes = 0;
        (Batch { now_ms: crate::now_ms(), commands, ..self.ledger.batch() }, answers)
    }
}

/// The task that stores.
pub(crate) struct Writer {
    pub shared: Shared,
    pub store: Box<dyn Store>,
    /// The journal's thread, which ends after this task.
    pub journal: JournalThread,
    pub flush_period: Duration,
}

/// What came of storing a batch.
struct Stored {
    commands: Vec<CommandResult>,
    refused: HashSet<u64>,
}

impl Writer {
    /// Stores until [`Shared::close`] and everything is stored, or until it can't go on.
    pub(crate) async fn run(mut self) {
        let end = self.store_all().await;
        let Self { shared, store, journal, .. } = self;
        drop(store); // with its lock: whoever sees the end may start again
        shared.look_mut(|state| {
            state.closed = true;
            state.commands.clear(); // whoever still waits learns that the outcome is unknown
        });
        // Dropping it waits for what is under way. It does not panic: it aborts the process.
        _ = tokio::task::spawn_blocking(|| drop(journal)).await;
        shared.look_mut(|state| state.journal.end());
        shared.inner.ended.send_replace(Some(end.map_err(|err| err.to_string())));
    }

    async fn store_all(&mut self) -> Result<(), StoreError> {
        let mut failures = 0;
        loop {
            if failures == 0 {
                self.work().await;
            }
            let taken = Instant::now();
            let (batch, answers) = self.shared.lock().take();
            if batch.is_empty() && self.shared.look(|state| state.closed) {
                return self.blocking(|store| store.close()).await;
            }
            kill::point("batch");
            // Refused? Then the journal's disk is full, and what the store takes is what makes room.
            _ = self.shared.journal_has(batch.lsn).await;
            match self.store(&batch).await {
                Ok(stored) => {
                    failures = 0;
                    self.acknowledge(&batch, &stored, taken);
                    for (answer, result) in answers.into_iter().zip(stored.commands) {
                        // Whoever gave up waiting needs no answer.
                        let _ = answer.send(result);
                    }
                }
                Err(StoreError::Unavailable(text)) => {
                    failures += 1;
                    self.put_off(&batch, &text, answers);
                    if STOP_TRIES <= failures && self.shared.look(|state| state.closed) {
                        return leave(self.shared.clone(), &batch, &text).await;
                    }
                    tokio::time::sleep((RETRY_MIN * 2u32.saturating_pow(failures - 1)).min(RETRY_MAX)).await;
                }
                Err(err) => {
                    error!(%err, "the store failed; stopping, the next start reads what is on the disk");
                    return Err(err);
                }
            }
        }
    }

    /// Makes refused players read-only, and puts aside what was acknowledged of them while the store was asked.
    async fn put_late_aside(&mut self, batch: &Batch, refused: &HashSet<u64>) -> Result<(), StoreError> {
        let late = self.shared.look_mut(|state| state.ledger.put_aside(batch, refused));
        if late.rows.is_empty() {
            return Ok(());
        }
        for _ in 0..STOP_TRIES {
            let rows = late.clone();
            match self.blocking(move |store| store.set_aside(&rows, "saved while an earlier version was refused")).await {
                Err(StoreError::Unavailable(text)) => warn!(%text, "failed to put records aside; trying again"),
                done => return done,
            }
            tokio::time::sleep(RETRY_MAX).await;
        }
        // The journal still has them: the next start comes here again.
        Err(StoreError::Fatal("records that it refuses can't be put aside".into()))
    }

    /// Ends when a batch is due.
    async fn work(&mut self) {
        loop {
            let (urgent, due) = self.shared.look(|state| (state.is_urgent(), state.dirty_since.map(|since| since + self.flush_period)));
            if urgent || due.is_some_and(|due| due <= Instant::now()) {
                return;
            }
            let notified = self.shared.inner.work.notified();
            match due {
                Some(due) => drop(tokio::time::timeout_at(due, notified).await),
                None => notified.await,
            }
        }
    }

    async fn store(&mut self, batch: &Batch) -> Result<Stored, StoreError> {
        let started = Instant::now();
        let whole = batch.clone();
        let stored = match self.blocking(move |store| store.apply(&whole)).await {
            Ok(commands) => Ok(Stored { commands, refused: HashSet::new() }),
            Err(StoreError::Refused(text)) => {
                warn!(%text, rows = batch.rows.len(), commands = batch.commands.len(), "the store refuses a batch; storing its parts one by one");
                let parts = batch.clone();
                let stored = self.blocking(move |store| store_parts(store, &parts)).await;
                match stored {
                    Ok(stored) => self.put_late_aside(batch, &stored.refused).await.map(|()| stored),
                    Err(err) => Err(err),
                }
            }
            Err(err) => Err(err),
        };
        metrics::histogram!("paifang_dc_batch_seconds").record(started.elapsed().as_secs_f64());
        stored
    }

    fn acknowledge(&self, batch: &Batch, stored: &Stored, taken: Instant) {
        let mut state = self.shared.lock();
        state.ledger.stored(batch, &stored.refused);
        for (command, result) in batch.commands.iter().zip(&stored.commands) {
            state.ledger.known.carried_out(command, result);
        }
        let told = state.journal.applied(batch.lsn);
        state.dirty_since = state.ledger.is_dirty().then_some(taken);
        state.counts.batch(batch.rows.len(), batch.commands.len());
        state.counts.failing = None;
        state.ledger.evict();
        drop(state);
        drop(told);
        self.shared.inner.journal.notify_one();
        self.shared.publisher().stored(batch, &stored.refused);
    }

    fn put_off(&self, batch: &Batch, text: &str, answers: Vec<oneshot::Sender<CommandResult>>) {
        let mut state = self.shared.lock();
        if state.counts.failing.is_none() {
            warn!(%text, rows = batch.rows.len(), "the store is unavailable; records wait in memory");
        }
        state.counts.failing = Some(text.into());
        metrics::counter!("paifang_dc_store_failures_total").increment(1);
        batch.commands.iter().for_each(|command| state.ledger.known.doubted(command));
        let refusal = Refusal::Away("nothing was done");
        drop(state);
        for answer in answers {
            let _ = answer.send(Err(refusal.clone()));
        }
    }

    /// Runs on a thread of its own; the store is there and back.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut store = std::mem::replace(&mut self.store, Box::new(Gone));
        let (store, result) = tokio::task::spawn_blocking(move || {
            let result = work(&mut *store);
            (store, result)
        })
        .await
        .map_err(|err| StoreError::Fatal(format!("the store's thread ended: {err}")))?;
        self.store = store;
        result
    }
}

/// Ends without the store: what it lacks is in the journal for the next start, or is told to be lost.
async fn leave(shared: Shared, batch: &Batch, text: &str) -> Result<(), StoreError> {
    let records = batch.rows.len();
    if shared.journal_has(batch.lsn).await.is_err() {
        return Err(StoreError::Unavailable(format!("{text}; {records} records are neither stored nor in the journal")));
    }
    warn!(%text, records, "stopping without the store; what it lacks is in the journal, for the next start");
    Ok(())
}

pub(crate) fn stopping() -> Refusal {
    Refusal::Unavailable("dc is stopping".into())
}

/// The writer ended before it could say.
pub(crate) fn lost() -> Refusal {
    Refusal::Unavailable("dc is stopping; whether this was stored is unknown".into())
}
