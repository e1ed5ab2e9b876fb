//! Who waits for what of the journal, and what it still takes. Pure.
//!
//! Back-pressure by class, when the store is away for long or the disk is full: above 80 % of the quota nothing of class D0 is taken, above
//! 90 % nothing of class D1, at all of it nothing at all. While the disk refuses writes nothing of class D1 and D2 is taken; D0 goes on until
//! [`LOG_BYTES_MAX`](crate::ledger::log::LOG_BYTES_MAX) waits, and what the store takes in the meantime no longer waits.

use std::{collections::VecDeque, time::Duration};

use proto::internal::Durability;

use super::{
    Size,
    promise::{self, Outcome, Promise, Promised},
};
use crate::{ledger::Lsn, refusal::Refusal};

/// Syncs of which the times are kept.
const TIMES_MAX: usize = 1024;

/// Somebody who waits until a change is written or synced.
struct Waiting {
    lsn: Lsn,
    class: Durability,
    promise: Promise,
}

/// Those whose wait is over. They are told when this is dropped: keep it until the state is free, for others need that meanwhile.
#[must_use]
pub(crate) struct Told {
    waiting: Vec<Waiting>,
    outcome: Outcome,
}

impl Drop for Told {
    fn drop(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.promise.keep(self.outcome.clone());
        }
    }
}

/// How the journal stands, as those see it who wait for it. Who waits is bounded by the calls that dc takes.
pub(crate) struct Queue {
    pub bytes_max: u64,
    pub size: Size,
    /// Every change up to this one would survive the process; up to the other, the machine.
    pub written: Lsn,
    pub synced: Lsn,
    /// The store has every change up to this one.
    pub applied: Lsn,
    /// The first change for which a sync is asked that there was not yet.
    due: Option<Lsn>,
    /// Why the disk refuses writes, while it does.
    pub failing: Option<String>,
    waiting: Vec<Waiting>,
    times: VecDeque<Duration>,
    pub syncs: u64,
    pub written_bytes: u64,
}

impl Queue {
    /// Everything up to `last` is safe, up to `applied` in the store.
    pub(crate) fn new(bytes_max: u64, size: Size, last: Lsn, applied: Lsn) -> Self {
        let (waiting, times) = (Vec::new(), VecDeque::new());
        let (failing, syncs, written_bytes) = (None, 0, 0);
        Self { bytes_max, size, written: last, synced: last, applied, due: None, failing, waiting, times, syncs, written_bytes }
    }

    /// Whether a change of this class is taken. `queued`: bytes that wait to be written.
    pub(crate) fn admit(&self, class: Durability, queued: usize) -> Result<(), Refusal> {
        let refuse = |why: String| {
            metrics::counter!("paifang_dc_journal_refused_total", "class" => class.as_str_name()).increment(1);
            Err(Refusal::Unavailable(why))
        };
        if let Some(why) = self.failing.as_ref().filter(|_| class != Durability::D0) {
            return refuse(unavailable(why));
        }
        let percent = match class {
            Durability::D0 => 80,
            Durability::D1 => 90,
            Durability::D2 | Durability::Unspecified => 100,
        };
        let (used, most) = (self.size.bytes.saturating_add(queued as u64), self.bytes_max / 100 * percent);
        if used < most {
            return Ok(());
        }
        refuse(format!(
            "the journal has {used} of {} bytes and the store is behind; saves of class {} wait",
            self.bytes_max,
            class.as_str_name()
        ))
    }

    /// Something to wait on until a change is safe to this class; none if it is. Call it in the same turn as the change.
    pub(crate) fn wait(&mut self, lsn: Lsn, class: Durability) -> Option<Promised> {
        let reached = match class {
            Durability::D0 => lsn,
            Durability::D1 => self.written,
            Durability::D2 | Durability::Unspecified => self.synced,
        };
        if lsn <= reached {
            return None;
        }
        if class == Durability::D2 {
            self.due = Some(self.due.map_or(lsn, |due| due.min(lsn)));
        }
        let (promise, promised) = promise::promise();
        self.waiting.push(Waiting { lsn, class, promise });
        Some(promised)
    }

    /// Whether a sync is due for something that is written.
    pub(crate) fn wants_sync(&self) -> bool {
        self.due.is_some_and(|due| due <= self.written)
    }

    /// Everything up to this change was written.
    pub(crate) fn wrote(&mut self, lsn: Lsn, bytes: u64) -> Told {
        self.written = self.written.max(lsn);
        self.written_bytes += bytes;
        self.failing = None;
        let written = self.written;
        self.told(Ok(()), |waiting| waiting.class == Durability::D1 && waiting.lsn <= written)
    }

    /// Everything up to this change was synced, in this time.
    pub(crate) fn synced(&mut self, lsn: Lsn, took: Duration) -> Told {
        self.syncs += 1;
        self.times.push_back(took);
        if TIMES_MAX < self.times.len() {
            self.times.pop_front();
        }
        metrics::histogram!("paifang_dc_journal_sync_seconds").record(took.as_secs_f64());
        self.safe(lsn)
    }

    /// The store has everything up to this change, so it is safe whatever the journal has.
    pub(crate) fn applied(&mut self, lsn: Lsn) -> Told {
        self.applied = self.applied.max(lsn);
        self.safe(lsn)
    }

    fn safe(&mut self, lsn: Lsn) -> Told {
        (self.written, self.synced) = (self.written.max(lsn), self.synced.max(lsn));
        let synced = self.synced;
        let told = self.told(Ok(()), |waiting| waiting.lsn <= synced);
        self.due = self.waiting.iter().filter(|waiting| waiting.class == Durability::D2).map(|waiting| waiting.lsn).min();
        told
    }

    /// The disk refused a write: those who wait are told that nothing is safe.
    pub(crate) fn failed(&mut self, why: String) -> Told {
        let refusal = Refusal::Unavailable(unavailable(&why));
        self.due = None;
        self.failing = Some(why);
        self.told(Err(refusal), |_| true)
    }

    /// Nobody answers any more.
    pub(crate) fn end(&mut self) {
        self.waiting.clear();
    }

    /// The median, the 99th percentile and the longest of the latest syncs.
    pub(crate) fn sync_times(&self) -> [Duration; 3] {
        let mut sorted: Vec<Duration> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied();
        [50, 99, 100].map(|percent| at(percent).unwrap_or_default())
    }

    fn told(&mut self, outcome: Outcome, whom: impl Fn(&Waiting) -> bool) -> Told {
        Told { waiting: self.waiting.extract_if(.., |waiting| whom(waiting)).collect(), outcome }
    }
}

fn unavailable(why: &str) -> String {
    format!("the journal can't be written, nothing new is safe: {why}; try again later")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(bytes: u64) -> Queue {
        Queue::new(1000, Size { bytes, segments: 1 }, 5, 3)
    }

    /// What is told, when it is.
    fn outcome(promised: Option<Promised>) -> std::sync::mpsc::Receiver<Outcome> {
        let (sender, receiver) = std::sync::mpsc::channel();
        promised.unwrap().then(move |outcome| sender.send(outcome).unwrap());
        receiver
    }

    fn taken(queue: &Queue) -> [bool; 3] {
        [Durability::D0, Durability::D1, Durability::D2].map(|class| queue.admit(class, 0).is_ok())
    }

    #[test]
    fn the_higher_the_class_the_later_it_is_refused() {
        assert_eq!(
            [799, 800, 900, 999, 1000].map(|bytes| taken(&queue(bytes))),
            [[true, true, true], [false, true, true], [false, false, true], [false, false, true], [false, false, false],]
        );
        assert!(queue(700).admit(Durability::D0, 100).is_err(), "what waits counts too");
        let mut full = queue(0);
        drop(full.failed("disk full".into()));
        assert_eq!(taken(&full), [true, false, false]);
        drop(full.wrote(6, 10));
        assert_eq!(taken(&full), [true, true, true]);
    }

    #[test]
    fn each_class_is_told_when_it_is_reached() {
        let mut queue = queue(0);
        assert!(queue.wait(5, Durability::D2).is_none() && queue.wait(9, Durability::D0).is_none());
        let d1 = outcome(queue.wait(6, Durability::D1));
        let d2 = outcome(queue.wait(6, Durability::D2));
        let later = outcome(queue.wait(8, Durability::D2));
        assert!(!queue.wants_sync(), "nothing is written yet");
        let told = queue.wrote(7, 10);
        assert!(queue.wants_sync());
        assert!(d1.try_recv().is_err(), "nobody is told before the state is free");
        drop(told);
        assert!(d1.try_recv().unwrap().is_ok() && d2.try_recv().is_err());
        drop(queue.synced(7, Duration::from_millis(2)));
        assert!(d2.try_recv().unwrap().is_ok() && later.try_recv().is_err() && !queue.wants_sync());
        drop(queue.wrote(8, 10));
        assert!(queue.wants_sync());
        drop(queue.applied(8));
        assert!(later.try_recv().unwrap().is_ok(), "the store is as safe");
        let refused = outcome(queue.wait(9, Durability::D2));
        drop(queue.failed("disk full".into()));
        assert!(refused.try_recv().unwrap().is_err());
        assert_eq!(queue.sync_times(), [Duration::from_millis(2); 3]);
    }
}
