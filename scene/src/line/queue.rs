//! What waits for a line's next tick.
//!
//! Bounds: what clients send may wait up to [`INPUTS_MAX`] messages and [`INPUT_BYTES_MAX`] bytes; one more is refused, and whoever
//! pushed it drops it (moves) or answers BUSY. Orders of the process itself are always taken: there is at most one a player and gate.

use std::sync::Mutex;

/// Messages of clients that may wait for one tick.
const INPUTS_MAX: usize = 65_536;
/// Bytes of messages of clients that may wait for one tick.
const INPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What waits, in order of arrival.
#[derive(Debug)]
pub(crate) struct Queue<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    items: Vec<T>,
    inputs: usize,
    bytes: usize,
    closed: bool,
}

impl<T> Queue<T> {
    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Waiting { items: Vec::new(), inputs: 0, bytes: 0, closed: false }))
    }

    /// Takes what a client sent, of `bytes` bytes; false if there is no room.
    pub(crate) fn push_input(&self, item: T, bytes: usize) -> bool {
        let mut waiting = self.lock();
        if waiting.closed || INPUTS_MAX <= waiting.inputs || INPUT_BYTES_MAX < waiting.bytes + bytes {
            return false;
        }
        waiting.inputs += 1;
        waiting.bytes += bytes;
        waiting.items.push(item);
        true
    }

    /// Takes an order of the process itself; drops it if the line has ended.
    pub(crate) fn push(&self, item: T) {
        let mut waiting = self.lock();
        if !waiting.closed {
            waiting.items.push(item);
        }
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> Vec<T> {
        let mut waiting = self.lock();
        (waiting.inputs, waiting.bytes) = (0, 0);
        std::mem::take(&mut waiting.items)
    }

    /// Takes nothing more, and drops what waits.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.items.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<T>> {
        self.0.lock().expect("no holder of the queue panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_a_bound_and_the_process_has_room() {
        let queue = Queue::new();
        assert!((0..INPUTS_MAX).all(|input| queue.push_input(input, 1)));
        assert!(!queue.push_input(0, 1));
        queue.push(1);
        assert_eq!(queue.take().len(), INPUTS_MAX + 1);
        assert!(queue.push_input(0, INPUT_BYTES_MAX));
        assert!(!queue.push_input(0, 1), "bytes count too");
        queue.close();
        queue.push(1);
        assert!(queue.take().is_empty());
    }
}
