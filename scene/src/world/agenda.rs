//! What a world has to do in later ticks, so that no tick has to ask everybody whether something is due.

use std::collections::BTreeMap;

/// Things by the tick in which they are due. Holds as many as were put in and not taken out: callers put in at most one of a kind a
/// player.
#[derive(Clone, Debug)]
pub struct Agenda<T>(BTreeMap<u64, Vec<T>>);

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Agenda<T> {
    /// The thing is due in that tick.
    pub fn put(&mut self, due: u64, thing: T) {
        self.0.entry(due).or_default().push(thing);
    }

    /// Takes out what is due by a tick, in the order in which it became due and was put in.
    pub fn due(&mut self, now: u64) -> Vec<T> {
        let mut due = Vec::new();
        while let Some(entry) = self.0.first_entry().filter(|entry| *entry.key() <= now) {
            due.append(&mut entry.remove());
        }
        due
    }
}

/// The next tick, `now` included, that is a player's own among those of a period: so that not all come due in one tick.
pub fn own_tick(now: u64, period: u64, player: u64) -> u64 {
    let period = period.max(1);
    let over = (now % period + player % period) % period;
    now.saturating_add((period - over) % period)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_due_comes_out_once_and_in_order() {
        let mut agenda = Agenda::default();
        agenda.put(5, 'b');
        agenda.put(3, 'a');
        agenda.put(9, 'd');
        agenda.put(5, 'c');
        assert!(agenda.due(2).is_empty());
        assert_eq!(agenda.due(5), ['a', 'b', 'c']);
        assert!(agenda.due(5).is_empty());
        assert_eq!(agenda.due(u64::MAX), ['d']);
    }

    proptest! {
        #[test]
        fn everybody_has_one_tick_in_a_period(now in 0..u64::MAX / 2, period in 1..1_000u64, player: u64) {
            let own = own_tick(now, period, player);
            prop_assert!((now..now + period).contains(&own));
            prop_assert_eq!(own_tick(own, period, player), own);
            prop_assert_eq!(own_tick(own + 1, period, player), own + period);
        }
    }
}
