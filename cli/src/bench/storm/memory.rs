//! How much memory each process takes before, during and after the storm: looked at several times a second.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::bench::{process::Usage, zone::rig::ZoneProcess};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A part of the benchmark's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    Before,
    During,
    After,
}

/// Resident memory of a process; none: it did not live in that part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Resident {
    /// The most before the storm,
    pub(super) before_bytes: Option<u64>,
    /// the most in it,
    pub(super) during_bytes: Option<u64>,
    /// the most after it,
    pub(super) after_bytes: Option<u64>,
    /// and what was left at the end.
    pub(super) end_bytes: Option<u64>,
}

/// Watches processes until it is asked what it saw, or dropped.
pub(super) struct Memory {
    seen: Arc<Mutex<Seen>>,
    looking: JoinHandle<()>,
}

struct Seen {
    span: Span,
    pids: Vec<(String, u32)>,
    resident: BTreeMap<String, Resident>,
}

impl Memory {
    /// Begins to watch: it is before the storm.
    pub(super) fn watch(processes: &[ZoneProcess]) -> Self {
        let pids = processes.iter().map(|process| (process.id.clone(), process.pid)).collect();
        let seen = Arc::new(Mutex::new(Seen { span: Span::Before, pids, resident: BTreeMap::new() }));
        let looks = Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            let mut looks_due = interval(LOOK_EVERY);
            looks_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks_due.tick().await;
                lock(&looks).look();
            }
        });
        Self { seen, looking }
    }

    /// The next part begins.
    pub(super) fn is(&self, span: Span) {
        let mut seen = lock(&self.seen);
        seen.look();
        seen.span = span;
    }

    /// Watches one more process.
    pub(super) fn also(&self, id: String, pid: u32) {
        lock(&self.seen).pids.push((id, pid));
    }

    /// What was seen, by process.
    pub(super) fn seen(self) -> BTreeMap<String, Resident> {
        let mut seen = lock(&self.seen);
        seen.look();
        std::mem::take(&mut seen.resident)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Seen {
    /// A process that has died is not seen any more.
    fn look(&mut self) {
        for (id, pid) in &self.pids {
            if let Ok(usage) = Usage::of(*pid) {
                self.resident.entry(id.clone()).or_default().note(self.span, usage.rss_bytes);
            }
        }
    }
}

impl Resident {
    fn note(&mut self, span: Span, bytes: u64) {
        let most = match span {
            Span::Before => &mut self.before_bytes,
            Span::During => &mut self.during_bytes,
            Span::After => &mut self.after_bytes,
        };
        *most = (*most).max(Some(bytes));
        if span == Span::After {
            self.end_bytes = Some(bytes);
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no holder panics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_most_and_the_end_its_last() {
        let mut resident = Resident::default();
        for (span, bytes) in [(Span::Before, 3), (Span::Before, 2), (Span::During, 9), (Span::After, 7), (Span::After, 4)] {
            resident.note(span, bytes);
        }
        let wanted = Resident { before_bytes: Some(3), during_bytes: Some(9), after_bytes: Some(7), end_bytes: Some(4) };
        assert_eq!(resident, wanted);
    }

    #[tokio::test]
    async fn a_process_that_is_not_there_has_no_memory() {
        let memory = Memory::watch(&[]);
        memory.also("this".into(), std::process::id());
        memory.also("nobody".into(), u32::MAX);
        memory.is(Span::During);
        let seen = memory.seen();
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["this"]);
        assert!(seen["this"].before_bytes.is_some() && seen["this"].during_bytes.is_some() && seen["this"].after_bytes.is_none());
    }
}
