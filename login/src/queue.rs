//! Who waits, and in which order. Pure rules; time is passed in.
//!
//! First come, first served, within a [`Rank`]. Who goes away while it waits keeps its place for a grace time and is passed over when
//! its turn comes. Full? [`Queue::join`] gives the newcomer back, who is told to come later; nobody who waits loses a place to one.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

/// Between two turns, the newest counts this part of the pace.
const PACE_SHARE: u32 = 8;
/// A pace that is older than this says nothing any more.
const PACE_FRESH: Duration = Duration::from_secs(300);

/// Who goes before whom, whenever they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Waits for nobody but its like.
    First,
    /// Everybody else.
    Ordinary,
}

/// A place in the order: the lower, the sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(Rank, u64);

/// What became of somebody who wants to wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined<V> {
    /// At the end of its rank.
    Waits,
    /// At the place that it had.
    Back,
    /// At the place that another one with the same key had, who waits no more.
    Replaced(V),
    /// There is no room.
    Full(V),
}

/// How somebody who waits stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// 1: the next.
    pub position: usize,
    pub length: usize,
    /// `None`: not known yet.
    pub wait: Option<Duration>,
}

/// Those who wait, by key. `V` is what waits; none while its owner is away.
#[derive(Debug)]
pub(crate) struct Queue<K, V> {
    entries: BTreeMap<Place, Entry<K, V>>,
    places: HashMap<K, Place>,
    next: u64,
    max: usize,
    grace: Duration,
    pace: Pace,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    state: State<V>,
}

#[derive(Debug)]
enum State<V> {
    Here(V),
    AwayUntil(Instant),
}

impl<K: Clone + Eq + Hash, V> Queue<K, V> {
    /// Nobody waits. At most `max` will, and who goes away keeps its place for `grace`.
    pub(crate) fn new(max: usize, grace: Duration) -> Self {
        Self { entries: BTreeMap::new(), places: HashMap::new(), next: 0, max, grace, pace: Pace::default() }
    }

    /// How many wait, those who are away among them.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of a rank wait, those who are away among them.
    pub(crate) fn count(&self, rank: Rank) -> usize {
        self.entries.range(Place(rank, 0)..=Place(rank, u64::MAX)).count()
    }

    /// Whether nobody waits, not even somebody who is away.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether somebody with this key has a place and is away.
    pub(crate) fn is_away(&self, key: &K) -> bool {
        let entry = self.places.get(key).and_then(|place| self.entries.get(place));
        entry.is_some_and(|entry| matches!(entry.state, State::AwayUntil(_)))
    }

    /// Somebody wants to wait, or is back.
    pub(crate) fn join(&mut self, key: K, rank: Rank, value: V) -> Joined<V> {
        if let Some(entry) = self.places.get(&key).and_then(|place| self.entries.get_mut(place)) {
            return match std::mem::replace(&mut entry.state, State::Here(value)) {
                State::Here(before) => Joined::Replaced(before),
                State::AwayUntil(_) => Joined::Back,
            };
        }
        if self.max <= self.entries.len() {
            return Joined::Full(value);
        }
        if self.entries.is_empty() {
            self.pace.pause();
        }
        let place = Place(rank, self.next);
        self.next += 1;
        self.put(place, key, State::Here(value));
        Joined::Waits
    }

    /// Somebody goes away; its place is kept for the grace time. Gives back what waited.
    pub(crate) fn leave(&mut self, key: &K, now: Instant) -> Option<V> {
        let entry = self.places.get(key).and_then(|place| self.entries.get_mut(place))?;
        match std::mem::replace(&mut entry.state, State::AwayUntil(now + self.grace)) {
            State::Here(value) => Some(value),
            away @ State::AwayUntil(_) => {
                entry.state = away;
                None
            }
        }
    }

    /// The next one's turn, who waits no more.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Place, K, V)> {
        self.forget_the_gone(now);
        let place = *self.entries.iter().find(|(_, entry)| matches!(entry.state, State::Here(_)))?.0;
        let entry = self.entries.remove(&place)?;
        self.places.remove(&entry.key);
        match entry.state {
            State::Here(value) => Some((place, entry.key, value)),
            State::AwayUntil(_) => None,
        }
    }

    /// It was not its turn after all: it waits on at its place, unless another one with its key does so meanwhile.
    pub(crate) fn put_back(&mut self, place: Place, key: K, value: V) -> Result<(), V> {
        if self.places.contains_key(&key) {
            return Err(value);
        }
        self.put(place, key, State::Here(value));
        Ok(())
    }

    /// Somebody was let through: that is what the expected wait is reckoned from.
    pub(crate) fn passed(&mut self, now: Instant) {
        self.pace.turn(now);
    }

    /// Those who wait and are not away, in order, with how each stands.
    pub(crate) fn standings(&mut self, now: Instant) -> impl Iterator<Item = (Standing, &mut V)> {
        self.forget_the_gone(now);
        let (length, each) = (self.entries.len(), self.pace.each(now));
        self.entries.values_mut().enumerate().filter_map(move |(ahead, entry)| match &mut entry.state {
            State::Here(value) => {
                let turns = u32::try_from(ahead + 1).unwrap_or(u32::MAX);
                Some((Standing { position: ahead + 1, length, wait: each.map(|each| each.saturating_mul(turns)) }, value))
            }
            State::AwayUntil(_) => None,
        })
    }

    fn put(&mut self, place: Place, key: K, state: State<V>) {
        self.places.insert(key.clone(), place);
        self.entries.insert(place, Entry { key, state });
    }

    fn forget_the_gone(&mut self, now: Instant) {
        let places = &mut self.places;
        self.entries.retain(|_, entry| {
            let gone = matches!(entry.state, State::AwayUntil(end) if end <= now);
            if gone {
                places.remove(&entry.key);
            }
            !gone
        });
    }
}

/// How long one turn takes: the mean time between turns, smoothed.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    each: Option<Duration>,
    /// Nobody waited for a while: the time until the next turn says nothing.
    is_paused: bool,
}

impl Pace {
    fn pause(&mut self) {
        self.is_paused = true;
    }

    fn turn(&mut self, now: Instant) {
        let was_paused = std::mem::take(&mut self.is_paused);
        if let Some(last) = self.last.filter(|last| !was_paused && now.saturating_duration_since(*last) < PACE_FRESH) {
            let took = now.saturating_duration_since(last);
            self.each = Some(self.each.map_or(took, |each| (each * (PACE_SHARE - 1) + took) / PACE_SHARE));
        }
        self.last = Some(now);
    }

    fn each(&self, now: Instant) -> Option<Duration> {
        let fresh = self.last.is_some_and(|last| now.saturating_duration_since(last) < PACE_FRESH);
        self.each.filter(|_| fresh)
    }
}

#[cfg(test)]
mod tests;
