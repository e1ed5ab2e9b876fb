//! The newest events, for those who follow them: one ring in memory, shared by all readers.
//!
//! A reader keeps its place by number, so a slow one holds nothing back: when the ring has moved past it, it is told how many it missed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use prost::Message;
use proto::event::Event;
use tokio::sync::watch;

/// Encoded bytes of events that the ring keeps, the newest batch excepted. Full? The oldest go; readers that had not seen them miss them.
const RING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The ring. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// How many events were ever pushed.
    pushed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    batches: VecDeque<Batch>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Batch {
    /// Number of its first event.
    first: u64,
    bytes: usize,
    events: Arc<Vec<Event>>,
}

/// A reader's place.
#[derive(Debug)]
pub(crate) struct Follower {
    tail: Tail,
    news: watch::Receiver<u64>,
    /// Number of the next event.
    next: u64,
}

/// What a reader gets.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// Events, in the order in which they were stored.
    Events(Arc<Vec<Event>>),
    /// So many events went by unseen.
    Missed(u64),
}

impl Default for Tail {
    fn default() -> Self {
        Self::with_room(RING_BYTES_MAX)
    }
}

impl Tail {
    fn with_room(bytes_max: usize) -> Self {
        let ring = Mutex::new(Ring { batches: VecDeque::new(), bytes: 0, bytes_max });
        Self(Arc::new(Shared { ring, pushed: watch::Sender::new(0) }))
    }

    /// Events were stored.
    pub(crate) fn push(&self, events: Vec<Event>) {
        let mut ring = self.lock();
        let first = *self.0.pushed.borrow();
        let end = first + events.len() as u64;
        let bytes = events.iter().map(Event::encoded_len).sum();
        ring.bytes += bytes;
        ring.batches.push_back(Batch { first, bytes, events: Arc::new(events) });
        while ring.bytes_max < ring.bytes && 1 < ring.batches.len() {
            let gone = ring.batches.pop_front();
            ring.bytes -= gone.map_or(0, |gone| gone.bytes);
        }
        // Under the lock, so that numbers rise in the order of the ring.
        self.0.pushed.send_replace(end);
    }

    /// A reader of what is stored from now on.
    pub(crate) fn follow(&self) -> Follower {
        let news = self.0.pushed.subscribe();
        let next = *news.borrow();
        Follower { tail: self.clone(), news, next }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().expect("no holder of the ring panics")
    }
}

impl Follower {
    /// The next events, or how many were missed before them. Cancel-safe.
    pub(crate) async fn next(&mut self) -> News {
        // The sender lives as long as `self.tail`.
        let _ = self.news.wait_for(|pushed| self.next < *pushed).await;
        let ring = self.tail.lock();
        let at = ring.batches.partition_point(|batch| batch.first < self.next);
        match ring.batches.get(at) {
            Some(batch) if batch.first == self.next => {
                self.next += batch.events.len() as u64;
                News::Events(Arc::clone(&batch.events))
            }
            found => {
                let first = found.map_or(*self.tail.0.pushed.borrow(), |batch| batch.first);
                let missed = first - self.next;
                self.next = first;
                News::Missed(missed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(players: std::ops::Range<u64>) -> Vec<Event> {
        players.map(|player| Event { player, ..Event::default() }).collect()
    }

    #[tokio::test]
    async fn a_reader_gets_what_is_stored_after_it_came() {
        let tail = Tail::default();
        tail.push(events(0..2));
        let mut reader = tail.follow();
        tail.push(events(2..3));
        tail.push(events(3..5));
        assert_eq!(reader.next().await, News::Events(Arc::new(events(2..3))));
        assert_eq!(reader.next().await, News::Events(Arc::new(events(3..5))));
        let waiting = tokio::spawn(async move { reader.next().await });
        tail.push(events(5..6));
        assert_eq!(waiting.await.expect("joined"), News::Events(Arc::new(events(5..6))));
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_it_missed() {
        let one = events(10..11)[0].encoded_len();
        let tail = Tail::with_room(3 * one);
        let mut reader = tail.follow();
        for player in 10..20 {
            tail.push(events(player..player + 1));
        }
        assert_eq!(reader.next().await, News::Missed(7));
        assert_eq!(reader.next().await, News::Events(Arc::new(events(17..18))));
        assert!(tail.lock().bytes <= 3 * one);
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_ring_is_still_seen() {
        let tail = Tail::with_room(1);
        let mut reader = tail.follow();
        tail.push(events(1..9));
        assert_eq!(reader.next().await, News::Events(Arc::new(events(1..9))));
    }
}
