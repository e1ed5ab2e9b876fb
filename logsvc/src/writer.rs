//! Storing: one thread that takes whatever batches wait, writes them, syncs once for all of them, and answers each.
//!
//! An error of a write or a sync that is not a full disk ends the program at once: after it nobody knows what is on the disk, and a
//! second sync would say that all is well (the kernel forgets pages that it failed to write). The next start reads what is there.

use std::{
    io::{self, ErrorKind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use proto::{
    internal::{CallFault, CallFaultCode, EventsAppend, EventsStored},
    link::CALL_BODY_MAX,
};
use service::link::fault;

use crate::{
    catalog::{Catalog, SegmentFacts},
    producers::{Adding, Producers},
    recovery::{Index, Recovered},
    segment,
    tail::Tail,
    volume::{Medium, Volume},
};

/// Encoded bytes of batches that may wait. Full? The batch is refused as UNAVAILABLE, and its sender keeps it in its spool.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that one sync makes durable at the most, but for the last batch.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

// One batch always fits an empty queue.
const _: () = assert!(CALL_BODY_MAX <= WAITING_BYTES_MAX);

/// Tells the sender of a batch what came of it.
pub(crate) type Reply = Box<dyn FnOnce(Result<EventsStored, CallFault>) + Send>;

/// Hands batches to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    /// `None` after [`Ingest::close`].
    to: Arc<Mutex<Option<Sender<Item>>>>,
    waiting: Arc<AtomicUsize>,
}

struct Item {
    batch: EventsAppend,
    bytes: usize,
    reply: Reply,
}

/// Why the program has to end.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub(crate) struct Fatal {
    what: &'static str,
    source: io::Error,
}

/// Starts the writer behind what was recovered. Its thread ends when all was stored after [`Ingest::close`].
///
/// # Errors
/// When a segment can't be opened.
pub(crate) fn start(
    volume: Box<dyn Volume>,
    recovered: Recovered,
    segment_bytes_max: u64,
    catalog: Catalog,
    tail: Tail,
) -> io::Result<(Ingest, JoinHandle<()>)> {
    let mut writer = Writer::open(volume, recovered, segment_bytes_max, catalog, tail)?;
    let (to, from) = channel();
    let ingest = Ingest { to: Arc::new(Mutex::new(Some(to))), waiting: Arc::default() };
    let waiting = Arc::clone(&ingest.waiting);
    let run = move || {
        if let Err(fatal) = writer.run(&from, &waiting) {
            // The log may be on the same disk.
            eprintln!("logsvc: ends at once: {fatal}");
            tracing::error!("ends at once: {fatal}");
            std::process::abort();
        }
    };
    let thread = std::thread::Builder::new().name("writer".into()).spawn(run)?;
    Ok((ingest, thread))
}

impl Ingest {
    /// Queues a batch of `bytes` encoded bytes. Never waits; `reply` is called when it is stored or refused.
    pub(crate) fn offer(&self, batch: EventsAppend, bytes: usize, reply: Reply) {
        let one_more = |waiting: usize| (waiting + bytes <= WAITING_BYTES_MAX).then_some(waiting + bytes);
        if self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return reply(Err(fault(CallFaultCode::CallUnavailable, "too many events wait to be stored")));
        }
        let item = Item { batch, bytes, reply };
        let refused = match &*self.lock() {
            Some(to) => to.send(item).map_err(|refused| refused.0).err(),
            None => Some(item),
        };
        if let Some(item) = refused {
            self.waiting.fetch_sub(item.bytes, Ordering::Relaxed);
            (item.reply)(Err(fault(CallFaultCode::CallUnavailable, "logsvc is stopping")));
        }
    }

    /// Takes nothing more; what waits is still stored.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Sender<Item>>> {
        self.to.lock().expect("no holder of the queue panics")
    }
}

/// The one that writes. It owns the open segment.
pub(crate) struct Writer {
    volume: Box<dyn Volume>,
    medium: Box<dyn Medium>,
    open: SegmentFacts,
    /// For the index.
    closed: Vec<SegmentFacts>,
    producers: Producers,
    segment_bytes_max: u64,
    catalog: Catalog,
    tail: Tail,
    /// Whether the log was told that the disk is full.
    full: bool,
}

/// A group of batches on its way to the disk.
struct Group<'a> {
    adding: Adding<'a>,
    bytes: Vec<u8>,
    facts: SegmentFacts,
    stored: Vec<EventsAppend>,
    answers: Vec<(Reply, Result<EventsStored, CallFault>)>,
}

impl Writer {
    fn open(mut volume: Box<dyn Volume>, recovered: Recovered, segment_bytes_max: u64, catalog: Catalog, tail: Tail) -> io::Result<Self> {
        let Recovered { segments: mut closed, producers } = recovered;
        let (open, medium) = match closed.pop() {
            Some(newest) => (newest.clone(), volume.reopen(newest.number)?),
            None => (SegmentFacts::new(1), volume.make(1)?),
        };
        catalog.put(open.clone(), producers.count());
        Ok(Self { volume, medium, open, closed, producers, segment_bytes_max, catalog, tail, full: false })
    }

    /// Runs until the queue is closed and empty.
    fn run(&mut self, from: &Receiver<Item>, waiting: &AtomicUsize) -> Result<(), Fatal> {
        while let Ok(first) = from.recv() {
            let mut bytes = first.bytes;
            let mut items = vec![first];
            while bytes < GROUP_BYTES_MAX
                && let Ok(item) = from.try_recv()
            {
                bytes += item.bytes;
                items.push(item);
            }
            self.store(items.into_iter().map(|item| (item.batch, item.reply)))?;
            let left = waiting.fetch_sub(bytes, Ordering::Relaxed) - bytes;
            metrics::gauge!("paifang_logsvc_waiting_bytes").set(left as f64);
        }
        Ok(())
    }

    /// Stores a group of batches with one sync, and answers each.
    fn store(&mut self, batches: impl Iterator<Item = (EventsAppend, Reply)>) -> Result<(), Fatal> {
        let mut group = Group::new(self.producers.adding(), self.open.clone());
        batches.for_each(|(batch, reply)| group.add(batch, reply));
        let Group { adding, bytes, facts, stored, answers } = group;
        let added = adding.into_added();
        match if bytes.is_empty() { Ok(true) } else { self.write(&bytes) } {
            Ok(true) => (),
            Ok(false) => {
                let full = || Err(fault(CallFaultCode::CallUnavailable, "the disk of logsvc is full"));
                // Those that were refused anyway hear why; those that add nothing may rest on what this group was to store.
                answers.into_iter().for_each(|(reply, answer)| reply(answer.and_then(|_| full())));
                return Ok(());
            }
            Err(fatal) => {
                // Nobody may be told anything, and a dropped call tells that it failed. The program ends before this matters.
                std::mem::forget(answers);
                return Err(fatal);
            }
        }
        self.open = facts;
        self.producers.added(added, self.open.number);
        self.catalog.put(self.open.clone(), self.producers.count());
        answers.into_iter().for_each(|(reply, answer)| reply(answer));
        metrics::counter!("paifang_logsvc_stored_bytes_total").increment(bytes.len() as u64);
        for batch in stored {
            metrics::counter!("paifang_logsvc_stored_events_total").increment(batch.events.len() as u64);
            self.tail.push(batch.events);
        }
        self.rotate()
    }

    /// Writes and syncs. False: the disk is full, and nothing was written.
    fn write(&mut self, bytes: &[u8]) -> Result<bool, Fatal> {
        match self.medium.append(bytes) {
            Ok(()) => (),
            Err(err) if is_full(&err) => {
                self.medium.cut(self.open.bytes).map_err(|source| Fatal { what: "cut what a full disk left half written", source })?;
                self.tell_full(true);
                return Ok(false);
            }
            Err(source) => return Err(Fatal { what: "write events", source }),
        }
        let begun = Instant::now();
        self.medium.sync().map_err(|source| Fatal { what: "sync events", source })?;
        metrics::histogram!("paifang_logsvc_sync_seconds").record(begun.elapsed());
        self.tell_full(false);
        Ok(true)
    }

    /// Begins the next segment when this one is long enough. On a full disk it waits for room: the segment grows meanwhile.
    fn rotate(&mut self) -> Result<(), Fatal> {
        if self.open.bytes < self.segment_bytes_max {
            return Ok(());
        }
        let next = SegmentFacts::new(self.open.number.saturating_add(1));
        match self.volume.make(next.number) {
            Ok(medium) => self.medium = medium,
            Err(err) if is_full(&err) => {
                self.tell_full(true);
                return Ok(());
            }
            Err(source) => return Err(Fatal { what: "make a segment", source }),
        }
        self.closed.push(std::mem::replace(&mut self.open, next));
        self.catalog.put(self.open.clone(), self.producers.count());
        let index = Index { segments: self.closed.clone(), producers: self.producers.clone() };
        if let Err(err) = self.volume.put_index(&index) {
            tracing::warn!("failed to write the index; the next start reads more segments: {err}");
        }
        Ok(())
    }

    fn tell_full(&mut self, full: bool) {
        if std::mem::replace(&mut self.full, full) == full {
            return;
        }
        self.catalog.put_disk_full(full);
        metrics::gauge!("paifang_logsvc_disk_full_count").set(f64::from(u8::from(full)));
        if full {
            tracing::error!("the disk is full: events are refused until there is room");
        } else {
            tracing::info!("the disk has room again");
        }
    }
}

impl<'a> Group<'a> {
    fn new(adding: Adding<'a>, facts: SegmentFacts) -> Self {
        Self { adding, bytes: Vec::new(), facts, stored: Vec::new(), answers: Vec::new() }
    }

    fn add(&mut self, mut batch: EventsAppend, reply: Reply) {
        let sent = batch.events.len();
        let answer = match self.adding.trim(&mut batch) {
            Ok(highest_sequence) => Ok(EventsStored { highest_sequence }),
            Err(invalid) => Err(fault(CallFaultCode::CallInvalid, invalid.to_string())),
        };
        if answer.is_ok() {
            metrics::counter!("paifang_logsvc_resent_events_total").increment((sent - batch.events.len()) as u64);
            self.put(batch);
        }
        self.answers.push((reply, answer));
    }

    fn put(&mut self, batch: EventsAppend) {
        if batch.events.is_empty() {
            return;
        }
        let before = self.bytes.len();
        segment::put_record(&mut self.bytes, &batch);
        self.facts.bytes += (self.bytes.len() - before) as u64;
        self.facts.count(&batch.events);
        self.stored.push(batch);
    }
}

fn is_full(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
