//! One at a time for each key: [`Locks`] for whoever waits for others while it holds an account, [`Lanes`] for the requests of one
//! session, which are answered in their order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio::sync::OwnedMutexGuard;

/// Who may wait for one key. Full? The newcomer is refused, and its caller is told to try again.
const WAITERS_MAX: usize = 16;
/// Keys in use at most. Full? As above.
const KEYS_MAX: usize = 65_536;
/// Requests that may wait in one lane. Full? The request is refused as BUSY.
const LANE_MAX: usize = 32;

/// A lock for each key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks(Arc<Mutex<BTreeMap<u64, Entry>>>);

#[derive(Debug, Default)]
struct Entry {
    lock: Arc<tokio::sync::Mutex<()>>,
    users: usize,
}

/// Holds a key until dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _guard: OwnedMutexGuard<()>,
    _user: User,
}

#[derive(Debug)]
struct User {
    locks: Locks,
    key: u64,
}

impl Locks {
    /// Waits until the key is free, first come first served; `None` when too many wait already. Cancel-safe.
    pub(crate) async fn hold(&self, key: u64) -> Option<Held> {
        let (lock, user) = self.join(key)?;
        Some(Held { _guard: lock.lock_owned().await, _user: user })
    }

    fn join(&self, key: u64) -> Option<(Arc<tokio::sync::Mutex<()>>, User)> {
        let mut entries = self.0.lock().expect("no holder panics");
        if KEYS_MAX <= entries.len() && !entries.contains_key(&key) {
            return None;
        }
        let entry = entries.entry(key).or_default();
        if WAITERS_MAX < entry.users {
            return None;
        }
        entry.users += 1;
        Some((entry.lock.clone(), User { locks: self.clone(), key }))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut entries = self.locks.0.lock().expect("no holder panics");
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.users -= 1;
            if entry.users == 0 {
                entries.remove(&self.key);
            }
        }
    }
}

/// A queue for each key, worked off by one worker that its first item calls for.
#[derive(Debug)]
pub(crate) struct Lanes<T>(Mutex<BTreeMap<u64, VecDeque<T>>>);

/// What became of a pushed item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed<T> {
    /// The lane was idle: the caller starts a worker, with this item first.
    Start(T),
    /// A worker will come to it.
    Queued,
    /// There is no room for it.
    Full(T),
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<T> Lanes<T> {
    pub(crate) fn push(&self, key: u64, item: T) -> Pushed<T> {
        let mut lanes = self.0.lock().expect("no holder panics");
        let keys = lanes.len();
        match lanes.get_mut(&key) {
            Some(lane) if lane.len() < LANE_MAX => {
                lane.push_back(item);
                Pushed::Queued
            }
            None if keys < KEYS_MAX => {
                lanes.insert(key, VecDeque::new());
                Pushed::Start(item)
            }
            _ => Pushed::Full(item),
        }
    }

    /// The worker's next item; `None` ends the worker, and the lane is idle.
    pub(crate) fn next(&self, key: u64) -> Option<T> {
        let mut lanes = self.0.lock().expect("no holder panics");
        let next = lanes.get_mut(&key).and_then(VecDeque::pop_front);
        if next.is_none() {
            lanes.remove(&key);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holds_a_key_and_others_wait_in_turn() {
        let locks = Locks::default();
        let first = locks.hold(1).await.unwrap();
        let other_key = locks.hold(2).await.unwrap();
        let mut second = Box::pin(locks.hold(1));
        assert!(futures_poll(&mut second).await.is_none(), "the key is held");
        drop(first);
        let second = second.await.unwrap();
        drop((second, other_key));
        assert!(locks.0.lock().unwrap().is_empty(), "no key is kept that nobody uses");
    }

    #[tokio::test]
    async fn too_many_waiters_are_refused() {
        let locks = Locks::default();
        let users: Vec<_> = (0..=WAITERS_MAX).map(|_| locks.join(1).unwrap()).collect();
        assert!(locks.hold(1).await.is_none());
        drop(users);
        assert!(locks.hold(1).await.is_some());
    }

    #[test]
    fn a_lane_keeps_its_order_and_its_bound() {
        let lanes = Lanes::default();
        assert_eq!(lanes.push(1, 0), Pushed::Start(0));
        for item in 1..=LANE_MAX {
            assert_eq!(lanes.push(1, item), Pushed::Queued);
        }
        assert_eq!(lanes.push(1, 99), Pushed::Full(99));
        assert_eq!(lanes.push(2, 7), Pushed::Start(7), "lanes are apart");
        let rest: Vec<usize> = std::iter::from_fn(|| lanes.next(1)).collect();
        assert_eq!(rest, (1..=LANE_MAX).collect::<Vec<_>>());
        assert_eq!(lanes.push(1, 5), Pushed::Start(5), "the lane was idle again");
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
