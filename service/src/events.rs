//! Behaviour events on their way to logsvc: emitted without waiting, sent in batches, spooled to disk while logsvc is away.
//!
//! Full? The memory buffer ([`BUFFER_BYTES_MAX`]) goes to the spool while logsvc is away. When the spool's quota ([`SPOOL_BYTES_MAX`])
//! is used up too, samples (`player_moved`) are dropped from three quarters of the buffer on, and everything when it is full; an
//! `events_dropped` event says how many as soon as there is room.
//!
//! [`buffer`] holds what waits in memory, [`spool`] what waits on disk, [`sender`] moves both to logsvc.

mod buffer;
mod sender;
mod spool;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use proto::{event::event::Body, internal::EventsAppend};
use tokio::sync::{Notify, watch};

use crate::{link::Links, process::Process};
use buffer::{BATCH_BYTES_MAX, Buffer};
use sender::Sender;

/// Bytes of events that may wait in memory.
pub const BUFFER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of events that may wait on disk.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Whom an event is about. Fields that are not known stay at their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Account, or 0.
    pub account: u64,
    /// Player, or 0.
    pub player: u64,
    /// The player's name.
    pub player_name: String,
    /// Session, or 0.
    pub session: u64,
    /// Map, or empty.
    pub map: String,
    /// Line, or 0.
    pub line: u32,
}

/// The process' emitter. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    inner: Arc<Inner>,
}

/// What emitters and the sender share.
#[derive(Debug)]
struct Inner {
    buffer: Mutex<Buffer>,
    emitted: AtomicU64,
    stored: AtomicU64,
    dropped: AtomicU64,
    /// Taken from the buffer and not stored yet.
    behind: AtomicU64,
    /// Wakes the sender before its time.
    wake: Notify,
    /// Whether there is a sender.
    sending: AtomicBool,
    /// Flushes asked for, and the number of those to which the sender has answered.
    flushes: AtomicU64,
    flushed: watch::Sender<u64>,
}

/// How the emitter stands, for `/status`.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct EventsStatus {
    /// Emitted since the start.
    pub emitted: u64,
    /// Acknowledged by logsvc since the start.
    pub stored: u64,
    /// Waiting in memory or on disk.
    pub spooled: u64,
    /// Dropped since the start.
    pub dropped: u64,
}

impl Events {
    /// An emitter that keeps events in memory until [`Events::send_to`] is called.
    pub fn new(zone: &str, process: &str, incarnation: u64) -> Self {
        let inner = Inner {
            buffer: Mutex::new(Buffer::new(zone, process, incarnation)),
            emitted: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            wake: Notify::new(),
            sending: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            flushed: watch::Sender::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Emits an event. Never waits; returns its id, for the `caused_by` of others. The id of a dropped event is empty.
    pub fn emit(&self, subject: &Subject, body: Body) -> Bytes {
        self.emit_caused(subject, body, Bytes::new())
    }

    /// Emits an event that another one caused.
    pub fn emit_caused(&self, subject: &Subject, body: Body, cause: Bytes) -> Bytes {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let inner = &self.inner;
        let (id, batch_is_full) = {
            let mut buffer = inner.buffer();
            let before = buffer.bytes();
            let id = buffer.push(now_ms, subject, body, cause);
            (id, before < BATCH_BYTES_MAX && BATCH_BYTES_MAX <= buffer.bytes())
        };
        inner.emitted.fetch_add(1, Ordering::Relaxed);
        if id.is_none() {
            inner.drop_counted(1);
        }
        if batch_is_full {
            inner.wake.notify_one();
        }
        id.unwrap_or_default()
    }

    /// Starts the task that sends, spools in the process' data folder, and sends what an earlier run left in the spool. It ends,
    /// with all that is left on disk, when the process has drained.
    pub fn send_to(&self, process: &Process, links: Links) {
        self.inner.sending.store(true, Ordering::Relaxed);
        let sender = Sender::new(self.inner.clone(), links, process.folder.join("spool"), process.random.clone());
        process.tasks.spawn("events", sender.run(process.tasks.end_token()));
    }

    /// Takes a batch of what waits in memory, counted as stored: for logsvc itself, which has no link to a logsvc and no sender.
    pub fn take(&self) -> Option<EventsAppend> {
        let batch = self.inner.buffer().take()?;
        self.inner.stored.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
        Some(batch)
    }

    /// Waits until logsvc has stored what was emitted, at most `within`, and not at all while it is away.
    pub async fn flush(&self, within: Duration) {
        if !self.inner.sending.load(Ordering::Relaxed) {
            return;
        }
        let mut flushed = self.inner.flushed.subscribe();
        let number = self.inner.flushes.fetch_add(1, Ordering::SeqCst) + 1;
        self.inner.wake.notify_one();
        let done = flushed.wait_for(|done| number <= *done);
        // Not in time: the sender spools the rest at its end.
        _ = tokio::time::timeout(within, done).await;
    }

    /// How it stands.
    pub fn status(&self) -> EventsStatus {
        let inner = &self.inner;
        EventsStatus {
            emitted: inner.emitted.load(Ordering::Relaxed),
            stored: inner.stored.load(Ordering::Relaxed),
            spooled: inner.buffer().len() as u64 + inner.behind.load(Ordering::Relaxed),
            dropped: inner.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Inner {
    fn buffer(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().expect("no holder of the buffer panics")
    }

    fn drop_counted(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("paifang_events_dropped_total").increment(count);
    }
}
