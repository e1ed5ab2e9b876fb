//! The task that moves events to logsvc: what is on disk first, then what is in memory, one batch at a time and in order.

use std::{
    future::Future,
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proto::internal::{CallFaultCode, EventsAppend};
use tokio_util::sync::CancellationToken;

use super::{BUFFER_BYTES_MAX, Inner, spool::Spool};
use crate::{
    config::ProcessKind,
    link::{CallError, Links},
    random::Random,
};

/// How long events wait for others to share their batch.
const BATCH_PERIOD: Duration = Duration::from_millis(100);
/// How long logsvc has to answer, an fdatasync included.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after a failure, about.
const RETRY_PERIOD: Duration = Duration::from_millis(500);
/// Logsvc may be away for so many failures before memory goes to disk: a restart of it is not worth a file.
const FAILURES_BEFORE_SPOOL: u32 = 4;

/// Where batches go.
pub(super) trait Store: Send + Sync + 'static {
    /// Whether it is worth asking.
    fn is_there(&self) -> bool;
    /// Ends when the batch is stored.
    fn append(&self, batch: &EventsAppend) -> impl Future<Output = Result<(), CallError>> + Send;
}

impl Store for Links {
    fn is_there(&self) -> bool {
        !self.of(ProcessKind::Logsvc).is_empty()
    }

    async fn append(&self, batch: &EventsAppend) -> Result<(), CallError> {
        self.call(ProcessKind::Logsvc, batch, CALL_TIMEOUT).await.map(drop)
    }
}

/// The task's state.
pub(super) struct Sender<S> {
    shared: Arc<Inner>,
    store: S,
    folder: PathBuf,
    random: Random,
    /// None until it is opened, and where that failed.
    spool: Option<Spool>,
    /// Taken from the buffer, and neither stored nor on disk.
    pending: Option<Arc<EventsAppend>>,
    failures: u32,
}

/// Where the batch that is being sent waits.
#[derive(Clone, Copy, PartialEq)]
enum From {
    Disk,
    Memory,
}

impl<S: Store> Sender<S> {
    pub(super) fn new(shared: Arc<Inner>, store: S, folder: PathBuf, random: Random) -> Self {
        Self { shared, store, folder, random, spool: None, pending: None, failures: 0 }
    }

    pub(super) async fn run(mut self, end: CancellationToken) {
        self.open_spool().await;
        while !end.is_cancelled() {
            let asked = self.shared.flushes.load(Ordering::SeqCst);
            let stored_all = self.send_all(&end).await;
            self.failures = if stored_all { 0 } else { self.failures.saturating_add(1) };
            if FAILURES_BEFORE_SPOOL <= self.failures || BUFFER_BYTES_MAX / 2 < self.shared.buffer().bytes() {
                self.spool_all().await;
            }
            self.shared.flushed.send_replace(asked);
            let pause = if stored_all { BATCH_PERIOD } else { self.random.jitter(RETRY_PERIOD) };
            tokio::select! {
                () = end.cancelled() => (),
                () = self.shared.wake.notified() => (),
                () = tokio::time::sleep(pause) => (),
            }
        }
        self.spool_all().await;
        self.shared.flushed.send_replace(u64::MAX);
    }

    /// Sends until nothing waits; `false` if logsvc is away or failed.
    async fn send_all(&mut self, end: &CancellationToken) -> bool {
        loop {
            if !self.store.is_there() {
                return false;
            }
            let Some((batch, from)) = self.next().await else { return true };
            let Some(stored) = end.run_until_cancelled(self.store.append(&batch)).await else { return false };
            match stored {
                Ok(()) => _ = self.shared.stored.fetch_add(batch.events.len() as u64, Ordering::Relaxed),
                // Asking again would hold back all that comes after it.
                Err(err) if err.code() == Some(CallFaultCode::CallInvalid) => {
                    tracing::error!(count = batch.events.len(), "dropped events: logsvc refuses them: {err}");
                    self.shared.drop_counted(batch.events.len() as u64);
                }
                Err(err) => {
                    if self.failures == 0 {
                        tracing::warn!("failed to store events: {err}; they are kept");
                    }
                    return false;
                }
            }
            self.done(from).await;
        }
    }

    /// The oldest batch.
    async fn next(&mut self) -> Option<(Arc<EventsAppend>, From)> {
        let waits_on_disk = self.spool.as_ref().is_some_and(|spool| !spool.is_empty());
        if waits_on_disk && let Some(Some(batch)) = self.on_disk(Spool::peek).await {
            return Some((batch, From::Disk));
        }
        if self.pending.is_none() {
            self.pending = self.shared.buffer().take().map(Arc::new);
            self.count_behind();
        }
        self.pending.clone().map(|batch| (batch, From::Memory))
    }

    /// The oldest batch needs not wait any longer.
    async fn done(&mut self, from: From) {
        match from {
            From::Disk => _ = self.on_disk(Spool::pop).await,
            From::Memory => self.pending = None,
        }
        self.count_behind();
    }

    /// Moves memory to disk, as far as the quota allows.
    async fn spool_all(&mut self) {
        loop {
            if self.pending.is_none() {
                self.pending = self.shared.buffer().take().map(Arc::new);
            }
            let Some(batch) = self.pending.clone() else { break };
            if self.on_disk(move |spool| spool.append(&batch)).await != Some(true) {
                break;
            }
            self.pending = None;
        }
        self.count_behind();
    }

    fn count_behind(&self) {
        let in_memory = self.pending.as_ref().map_or(0, |batch| batch.events.len() as u64);
        let on_disk = self.spool.as_ref().map_or(0, Spool::events);
        self.shared.behind.store(in_memory + on_disk, Ordering::Relaxed);
    }

    async fn open_spool(&mut self) {
        let folder = self.folder.clone();
        match tokio::task::spawn_blocking(move || Spool::open(folder)).await {
            Ok(Ok(spool)) => self.spool = Some(spool),
            Ok(Err(err)) => tracing::error!("failed to open the spool of events: {err}; while logsvc is away they wait in memory only"),
            Err(err) => tracing::error!("failed to open the spool of events: {err}"),
        }
        self.count_behind();
    }

    /// Works on the spool, on a thread that may wait for the disk; `None` if there is no spool or it failed.
    async fn on_disk<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Spool) -> io::Result<T> + Send + 'static) -> Option<T> {
        let mut spool = self.spool.take()?;
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut spool);
            (spool, result)
        });
        let (spool, result) = worked.await.inspect_err(|err| tracing::error!("lost the spool of events: {err}")).ok()?;
        self.spool = Some(spool);
        result.inspect_err(|err| tracing::error!("failed to use the spool of events: {err}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64},
    };

    use proto::event::{ProcessState, event::Body};

    use super::*;
    use crate::events::{Events, Subject};

    /// A logsvc that may be away.
    #[derive(Clone, Default)]
    struct Logsvc {
        there: Arc<AtomicBool>,
        /// How many calls fail, although it is there.
        failing: Arc<AtomicU64>,
        stored: Arc<Mutex<Vec<(String, u64)>>>,
    }

    impl Store for Logsvc {
        fn is_there(&self) -> bool {
            self.there.load(Ordering::SeqCst)
        }

        async fn append(&self, batch: &EventsAppend) -> Result<(), CallError> {
            if self.failing.load(Ordering::SeqCst) > 0 {
                self.failing.fetch_sub(1, Ordering::SeqCst);
                return Err(CallError::NoLink(ProcessKind::Logsvc));
            }
            let last = batch.first_sequence + batch.events.len() as u64;
            let mut stored = self.stored.lock().unwrap();
            stored.extend((batch.first_sequence..last).map(|sequence| (batch.producer.clone(), sequence)));
            Ok(())
        }
    }

    struct Run {
        events: Events,
        end: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn start(logsvc: &Logsvc, folder: &std::path::Path, incarnation: u64) -> Run {
        let events = Events::new("dev", "gate-1", incarnation);
        events.inner.sending.store(true, Ordering::Relaxed);
        let sender = Sender::new(events.inner.clone(), logsvc.clone(), folder.into(), Random::new(1));
        let end = CancellationToken::new();
        Run { events, end: end.clone(), task: tokio::spawn(sender.run(end)) }
    }

    impl Run {
        fn emit(&self, count: u64) {
            for _ in 0..count {
                self.events.emit(&Subject::default(), Body::ProcessState(ProcessState { state: "x".into() }));
            }
        }

        async fn stop(self) -> Events {
            self.end.cancel();
            self.task.await.unwrap();
            self.events
        }
    }

    fn sequences(producer: &str, count: u64) -> Vec<(String, u64)> {
        (1..=count).map(|sequence| (producer.to_owned(), sequence)).collect()
    }

    #[tokio::test]
    async fn a_flush_ends_when_all_is_stored() {
        let (logsvc, folder) = (Logsvc::default(), tempfile::tempdir().unwrap());
        logsvc.there.store(true, Ordering::SeqCst);
        let run = start(&logsvc, folder.path(), 7);
        run.emit(1000);
        run.events.flush(Duration::from_secs(60)).await;
        assert_eq!(*logsvc.stored.lock().unwrap(), sequences("gate-1/7", 1000));
        let status = run.stop().await.status();
        assert_eq!((status.emitted, status.stored, status.spooled, status.dropped), (1000, 1000, 0, 0));
    }

    #[tokio::test]
    async fn what_a_run_could_not_send_the_next_one_sends_first() {
        let (logsvc, folder) = (Logsvc::default(), tempfile::tempdir().unwrap());
        let first = start(&logsvc, folder.path(), 7);
        first.emit(10);
        first.events.flush(Duration::from_secs(60)).await;
        assert_eq!(first.stop().await.status().spooled, 10);
        logsvc.there.store(true, Ordering::SeqCst);
        let second = start(&logsvc, folder.path(), 8);
        second.emit(5);
        second.events.flush(Duration::from_secs(60)).await;
        let expected = [sequences("gate-1/7", 10), sequences("gate-1/8", 5)].concat();
        assert_eq!(*logsvc.stored.lock().unwrap(), expected);
        second.stop().await;
        assert_eq!(crate::fs::names(folder.path()).unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn failures_lose_nothing_and_keep_the_order() {
        let (logsvc, folder) = (Logsvc::default(), tempfile::tempdir().unwrap());
        logsvc.there.store(true, Ordering::SeqCst);
        logsvc.failing.store(u64::from(FAILURES_BEFORE_SPOOL) + 2, Ordering::SeqCst);
        let run = start(&logsvc, folder.path(), 7);
        for _ in 0..FAILURES_BEFORE_SPOOL + 3 {
            run.emit(10);
            run.events.flush(Duration::from_secs(60)).await;
        }
        let count = u64::from(FAILURES_BEFORE_SPOOL + 3) * 10;
        assert_eq!(*logsvc.stored.lock().unwrap(), sequences("gate-1/7", count));
        run.stop().await;
    }
}
