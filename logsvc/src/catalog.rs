//! Which segments there are and what they hold, as far as it is safe on the disk. The writer tells it, readers ask it.

use std::sync::{Arc, Mutex, MutexGuard};

use proto::event::Event;
use serde::{Deserialize, Serialize};

/// A segment's contents in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentFacts {
    pub(crate) number: u32,
    /// Length of the file, header included.
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    /// Time of the earliest event; above `to_ms` while there is none.
    pub(crate) from_ms: i64,
    /// Time of the latest event.
    pub(crate) to_ms: i64,
}

/// Sums over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) segments: usize,
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) producers: usize,
    /// The disk took nothing the last time.
    pub(crate) disk_full: bool,
}

/// All segments, by rising number; the last one is being written. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    segments: Vec<SegmentFacts>,
    producers: usize,
    disk_full: bool,
}

impl SegmentFacts {
    /// A segment with nothing but its header.
    pub(crate) fn new(number: u32) -> Self {
        Self { number, bytes: crate::segment::HEADER_BYTES as u64, events: 0, from_ms: i64::MAX, to_ms: i64::MIN }
    }

    /// Counts events; their bytes are counted by whoever writes or reads them.
    pub(crate) fn count(&mut self, events: &[Event]) {
        self.events += events.len() as u64;
        for event in events {
            self.from_ms = self.from_ms.min(event.time_ms);
            self.to_ms = self.to_ms.max(event.time_ms);
        }
    }
}

impl Catalog {
    /// With these segments.
    pub(crate) fn new(segments: Vec<SegmentFacts>) -> Self {
        Self(Arc::new(Mutex::new(State { segments, producers: 0, disk_full: false })))
    }

    /// The last segment is so now, or a new last one.
    pub(crate) fn put(&self, facts: SegmentFacts, producers: usize) {
        let mut state = self.lock();
        state.producers = producers;
        match state.segments.last_mut() {
            Some(last) if last.number == facts.number => *last = facts,
            _ => state.segments.push(facts),
        }
    }

    /// Whether the disk takes nothing.
    pub(crate) fn put_disk_full(&self, full: bool) {
        self.lock().disk_full = full;
    }

    /// All segments, as they are now.
    pub(crate) fn segments(&self) -> Vec<SegmentFacts> {
        self.lock().segments.clone()
    }

    /// The sums.
    pub(crate) fn totals(&self) -> Totals {
        let state = self.lock();
        let mut totals =
            Totals { segments: state.segments.len(), producers: state.producers, disk_full: state.disk_full, ..Totals::default() };
        for segment in &state.segments {
            totals.bytes += segment.bytes;
            totals.events += segment.events;
        }
        totals
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of the catalog panics")
    }
}
