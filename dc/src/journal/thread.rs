//! Group commit: one thread takes whatever changes have come, writes them at once, and syncs once for all who wait.
//!
//! While it writes and syncs, more changes come; they are the next group, even if they came before the sync began: under load there is
//! no moment in which nothing comes, and who waits for a sync would wait for that. When a write fails, the group goes back to the front of the queue,
//! who waits is told, and the same is tried again with a growing pause, so the journal goes on by itself when there is room.

use std::{
    io,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use service::kill;
use tracing::{info, warn};

use super::Journal;
use crate::{
    ledger::{Lsn, log::Entry},
    writer::{Shared, State},
};

/// Bytes of changes of one group, or one change if it has more.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pauses between tries while the disk refuses writes.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What is to do next.
pub(crate) enum Work {
    /// Changes to write; none: try whether the disk takes anything again.
    Write(Vec<Entry>),
    Sync,
    /// The store has everything up to this change.
    Checkpoint(Lsn),
    /// Nothing, until this time at the latest.
    Wait(Option<Instant>),
    Stop,
}

/// The group-commit thread.
pub(crate) struct Thread {
    shared: Shared,
    journal: Journal,
    checkpointed: Lsn,
    pause: Duration,
    /// When the next write is tried.
    retry_at: Option<Instant>,
}

/// The thread from outside. Dropped, it writes what there is, as far as the disk takes it, and ends.
pub(crate) struct JournalThread {
    shared: Shared,
    thread: Option<JoinHandle<()>>,
}

impl JournalThread {
    pub(crate) fn start(shared: Shared, journal: Journal) -> io::Result<Self> {
        let thread = Thread { shared: shared.clone(), journal, checkpointed: 0, pause: RETRY_MIN, retry_at: None };
        let thread = Builder::new().name("journal".into()).spawn(move || {
            let _guard = Guard;
            thread.run();
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for JournalThread {
    fn drop(&mut self) {
        self.shared.stop_journal();
        _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Nobody would be answered any more if the thread ended by a mistake of ours.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::abort("its thread panicked");
        }
    }
}

impl Thread {
    fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            match shared.journal_work(|state| self.next(state)) {
                Work::Write(entries) => self.write(entries),
                Work::Sync => self.sync(),
                Work::Checkpoint(applied) => {
                    self.journal.checkpoint(applied);
                    self.checkpointed = applied;
                    let size = self.journal.size();
                    self.shared.look_mut(|state| state.journal.size = size);
                }
                Work::Wait(_) => (),
                Work::Stop => return,
            }
        }
    }

    fn next(&self, state: &mut State) -> Work {
        if state.journal_stopped && state.journal.failing.is_some() {
            return Work::Stop;
        }
        if state.journal.failing.is_none() && state.journal.wants_sync() {
            return Work::Sync;
        }
        let may_write = self.retry_at.is_none_or(|at| at <= Instant::now());
        let log = state.ledger.log();
        if may_write && !log.is_empty() {
            return Work::Write(log.take(GROUP_BYTES_MAX));
        }
        let queue = &state.journal;
        if may_write && queue.failing.is_some() {
            return Work::Write(Vec::new());
        }
        if self.checkpointed < queue.applied {
            return Work::Checkpoint(queue.applied);
        }
        if state.journal_stopped { Work::Stop } else { Work::Wait(self.retry_at) }
    }

    fn write(&mut self, entries: Vec<Entry>) {
        let before = self.journal.size().bytes;
        let written = match entries.last() {
            Some(last) => self.journal.append(&entries).map(|()| last.lsn),
            None => self.journal.mark(self.shared.look(|state| state.journal.applied)).map(|()| self.journal.last()),
        };
        let size = self.journal.size();
        match written {
            Ok(lsn) => {
                if self.retry_at.take().is_some() {
                    self.pause = RETRY_MIN;
                    info!("the journal is written again");
                }
                let told = self.shared.look_mut(|state| {
                    state.journal.size = size;
                    state.journal.wrote(lsn, size.bytes.saturating_sub(before))
                });
                drop(told);
            }
            Err(err) => {
                self.retry_at = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(RETRY_MAX);
                metrics::counter!("paifang_dc_journal_failures_total").increment(1);
                let (is_news, told) = self.shared.look_mut(|state| {
                    state.journal.size = size;
                    state.give_back(entries);
                    (state.journal.failing.is_none(), state.journal.failed(err.to_string()))
                });
                drop(told);
                if is_news {
                    warn!(%err, "the journal can't be written; class D2 is refused until it can");
                }
            }
        }
    }

    fn sync(&mut self) {
        let started = Instant::now();
        self.journal.sync();
        let (lsn, took) = (self.journal.last(), started.elapsed());
        let told = self.shared.look_mut(|state| {
            state.ledger.safe_to(lsn);
            state.journal.synced(lsn, took)
        });
        drop(told);
        kill::point("acked");
    }
}

#[cfg(test)]
mod tests {
    use proto::internal::Durability;

    use super::*;
    use crate::{
        journal::{
            open_on,
            queue::Queue,
            tests::{Memory, entry},
        },
        ledger::{Ledger, Limits},
    };

    fn thread() -> Thread {
        let journal = open_on(Box::new(Memory::default()), 1 << 20, 0, service::random::Rng::new(1), |_| Ok(())).unwrap();
        let ledger = Ledger::new(Limits { dirty_bytes_max: 1 << 20, cache_bytes_max: 0, mail_max: 3 }, &[]);
        let shared = Shared::new(ledger, Queue::new(1 << 30, journal.size(), 0, 0));
        Thread { shared, journal, checkpointed: 0, pause: RETRY_MIN, retry_at: None }
    }

    #[test]
    fn who_waits_for_a_sync_does_not_wait_for_what_comes_later() {
        let mut thread = thread();
        let comes = |thread: &Thread, lsn| {
            thread.shared.look_mut(|state| {
                state.ledger.log().give_back(vec![entry(lsn)]);
                state.journal.wait(lsn, Durability::D2)
            })
        };
        let next = |thread: &Thread| thread.shared.look_mut(|state| thread.next(state));
        let _first = comes(&thread, 1);
        let Work::Write(first) = next(&thread) else { panic!("it is not written") };
        thread.write(first);
        let _second = comes(&thread, 2);
        assert!(matches!(next(&thread), Work::Sync));
        thread.sync();
        assert!(matches!(next(&thread), Work::Write(_)));
    }
}
