//! What was stored already: for each producer (a run of a process, `gate-1/8271`) its highest stored sequence. A batch that is sent
//! again is acknowledged, and stored no second time.

use std::collections::{BTreeMap, HashMap};

use proto::internal::EventsAppend;
use serde::{Deserialize, Serialize};

/// Producers that are remembered, each restart of a process one. Full? The one that was silent for the most segments is forgotten:
/// what it might still have in its spool would be stored again.
const PRODUCERS_MAX: usize = 65_536;
/// Bytes of a producer's name.
const NAME_BYTES_MAX: usize = 128;

/// The highest sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Producers(BTreeMap<String, Known>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    highest: u64,
    /// The segment with its newest events.
    segment: u32,
}

/// Why a batch is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    /// The producer has no name, or a very long one.
    #[error("a producer's name has 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    /// The sequence goes past its end.
    #[error("the sequence overflows")]
    Sequence,
}

/// What was stored and, not yet for certain, what a group of batches adds to it.
#[derive(Debug)]
pub(crate) struct Adding<'a> {
    known: &'a Producers,
    added: HashMap<String, u64>,
}

impl Producers {
    /// Begins a group.
    pub(crate) fn adding(&self) -> Adding<'_> {
        Adding { known: self, added: HashMap::new() }
    }

    /// What the group added is stored, in this segment.
    pub(crate) fn added(&mut self, added: HashMap<String, u64>, segment: u32) {
        for (producer, highest) in added {
            self.raise(producer, highest, segment);
        }
    }

    /// A batch was read back from a segment.
    pub(crate) fn read(&mut self, batch: &EventsAppend, segment: u32) {
        if let Ok(Some(last)) = last_sequence(batch) {
            self.raise(batch.producer.clone(), last, segment);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    fn raise(&mut self, producer: String, highest: u64, segment: u32) {
        let known = self.0.entry(producer).or_insert(Known { highest, segment });
        known.highest = known.highest.max(highest);
        known.segment = segment;
        if PRODUCERS_MAX < self.0.len()
            && let Some(silent) = self.0.iter().min_by_key(|(_, known)| known.segment).map(|(name, _)| name.clone())
        {
            self.0.remove(&silent);
        }
    }
}

impl Adding<'_> {
    /// Leaves in the batch what is new, and returns the producer's highest sequence after it.
    ///
    /// # Errors
    /// When it is no batch.
    pub(crate) fn trim(&mut self, batch: &mut EventsAppend) -> Result<u64, Invalid> {
        if batch.producer.is_empty() || NAME_BYTES_MAX < batch.producer.len() {
            return Err(Invalid::Name);
        }
        let before = self.added.get(&batch.producer).copied().or_else(|| self.known.0.get(&batch.producer).map(|known| known.highest));
        let Some(last) = last_sequence(batch)? else { return Ok(before.unwrap_or(0)) };
        if let Some(highest) = before
            && batch.first_sequence <= highest
        {
            let stored = usize::try_from(highest - batch.first_sequence).unwrap_or(usize::MAX).saturating_add(1);
            batch.events.drain(..stored.min(batch.events.len()));
            batch.first_sequence = highest.saturating_add(1);
        }
        let highest = before.map_or(last, |before| before.max(last));
        if !batch.events.is_empty() {
            self.added.insert(batch.producer.clone(), highest);
        }
        Ok(highest)
    }

    /// What the group adds.
    pub(crate) fn into_added(self) -> HashMap<String, u64> {
        self.added
    }
}

/// The sequence of the batch's last event; `None` without events.
fn last_sequence(batch: &EventsAppend) -> Result<Option<u64>, Invalid> {
    match (batch.events.len() as u64).checked_sub(1) {
        None => Ok(None),
        Some(further) => batch.first_sequence.checked_add(further).map(Some).ok_or(Invalid::Sequence),
    }
}

#[cfg(test)]
mod tests {
    use proto::event::Event;

    use super::*;

    fn batch(first_sequence: u64, count: usize) -> EventsAppend {
        EventsAppend { producer: "gate-1/1".into(), first_sequence, events: vec![Event::default(); count] }
    }

    fn stored(first_sequence: u64, count: usize) -> Producers {
        let mut producers = Producers::default();
        producers.read(&batch(first_sequence, count), 1);
        producers
    }

    /// Highest sequence, and first sequence and number of what is new.
    fn trimmed(producers: &Producers, mut batch: EventsAppend) -> (u64, u64, usize) {
        let highest = producers.adding().trim(&mut batch).expect("a batch");
        (highest, batch.first_sequence, batch.events.len())
    }

    #[test]
    fn only_what_is_new_is_left() {
        let producers = stored(1, 10);
        assert_eq!(trimmed(&producers, batch(11, 5)), (15, 11, 5));
        assert_eq!(trimmed(&producers, batch(1, 10)), (10, 11, 0));
        assert_eq!(trimmed(&producers, batch(8, 5)), (12, 11, 2));
        assert_eq!(trimmed(&producers, batch(20, 1)), (20, 20, 1), "dropped events leave gaps");
        assert_eq!(trimmed(&Producers::default(), batch(0, 1)), (0, 0, 1), "a sequence may begin at 0");
        assert_eq!(trimmed(&producers, batch(50, 0)), (10, 50, 0));
    }

    #[test]
    fn a_group_counts_what_it_adds_itself() {
        let producers = stored(1, 10);
        let mut adding = producers.adding();
        let mut again = batch(11, 5);
        assert_eq!(adding.trim(&mut batch(11, 5)), Ok(15));
        assert_eq!(adding.trim(&mut again), Ok(15));
        assert!(again.events.is_empty());
        let added = adding.into_added();
        let mut producers = producers;
        producers.added(added, 2);
        assert_eq!(trimmed(&producers, batch(15, 2)), (16, 16, 1));
    }

    #[test]
    fn nonsense_is_refused() {
        let producers = Producers::default();
        assert_eq!(producers.adding().trim(&mut batch(u64::MAX, 2)), Err(Invalid::Sequence));
        let mut nameless = EventsAppend { producer: String::new(), ..batch(1, 1) };
        assert_eq!(producers.adding().trim(&mut nameless), Err(Invalid::Name));
    }

    #[test]
    fn memory_is_bounded_and_the_silent_are_forgotten_first() {
        let mut producers = Producers::default();
        for number in 0..=PRODUCERS_MAX {
            producers.raise(format!("gate-1/{number}"), 1, if number == 5 { 1 } else { 2 });
        }
        assert_eq!(producers.count(), PRODUCERS_MAX);
        assert!(!producers.0.contains_key("gate-1/5"));
    }
}
