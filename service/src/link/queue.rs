//! What waits for the writer of a link: encoded frames in order, and the parts of long bodies beside them.
//!
//! A sender copies its frame into the buffer under a short lock; the writer takes the whole buffer at once, so that frames that
//! were sent together leave in one write, and wakes once for all of them.
//!
//! Full? At [`QUEUE_BYTES_MAX`] the frame is refused, and the link closes: see there.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use proto::link::{BODY_MAX, LinkFrame};
use tokio::sync::Notify;

use super::{QUEUE_BYTES_MAX, SendError, parts};

/// Parts of long bodies that go out in one write, between other frames: none of them waits for more than these.
const PARTS_PER_WRITE: usize = 4;
/// A buffer that a burst has grown beyond this is given back.
const BUFFER_KEPT_MAX: usize = 1024 * 1024;

/// Who sends, as long as `on_up` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// What `on_up` was given: its frames are the first on the link.
    First,
    /// Everybody else: their frames are held until `on_up` is done.
    Held,
}

pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    is_open: AtomicBool,
    /// Bytes that were sent and not yet taken by the kernel.
    bytes: AtomicUsize,
}

#[derive(Default)]
struct State {
    frames: BytesMut,
    parts: VecDeque<LinkFrame>,
    held: BytesMut,
    is_released: bool,
    is_closed: bool,
    writer_waits: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), is_open: AtomicBool::new(true), bytes: AtomicUsize::new(0) }
    }

    /// Queues one frame.
    ///
    /// # Panics
    /// When its body is longer than a frame may be.
    pub(super) fn push(&self, frame: &LinkFrame, turn: Turn) -> Result<(), SendError> {
        assert!(frame.body.len() <= BODY_MAX, "link frame {:#06x} with a body of {} bytes", frame.kind, frame.body.len());
        self.queue(frame.wire_len(), |state| {
            let to = if turn == Turn::First || state.is_released { &mut state.frames } else { &mut state.held };
            frame.put_head(to);
            to.extend_from_slice(&frame.body);
        })
    }

    /// Queues a call or an answer; a long one in parts, between which other frames may go.
    pub(super) fn push_body(&self, kind: u16, flags: u16, id: u64, body: Bytes, turn: Turn) -> Result<(), SendError> {
        if body.len() <= BODY_MAX {
            return self.push(&LinkFrame { kind, flags, id, body }, turn);
        }
        let parts = parts::cut(kind, flags, id, body);
        let bytes = parts.iter().map(LinkFrame::wire_len).sum();
        self.queue(bytes, |state| state.parts.extend(parts))
    }

    fn queue(&self, bytes: usize, put: impl FnOnce(&mut State)) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(SendError::Down);
        }
        if QUEUE_BYTES_MAX < self.bytes.load(Ordering::Relaxed).saturating_add(bytes) {
            return Err(SendError::Full);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        put(&mut state);
        let wakes = std::mem::take(&mut state.writer_waits);
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// `on_up` is done: what others sent meanwhile follows.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        state.is_released = true;
        let held = std::mem::take(&mut state.held);
        state.frames.extend_from_slice(&held);
        drop(state);
        self.wake.notify_one();
    }

    /// Refuses everything from now on. What is queued can still be taken, unless it is discarded.
    pub(super) fn close(&self, discards: bool) {
        self.is_open.store(false, Ordering::Release);
        let mut state = self.lock();
        state.is_closed = true;
        if discards {
            (state.frames, state.held) = (BytesMut::new(), BytesMut::new());
            state.parts.clear();
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Bytes that were sent and not yet taken by the kernel.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Moves what waits into `batch`, waiting for something; `false` when the queue is closed and empty.
    pub(super) async fn take(&self, batch: &mut BytesMut) -> bool {
        if batch.capacity() <= BUFFER_KEPT_MAX {
            batch.clear();
        } else {
            *batch = BytesMut::new();
        }
        loop {
            {
                let mut state = self.lock();
                if state.fill(batch) {
                    return true;
                }
                if state.is_closed {
                    return false;
                }
                state.writer_waits = true;
            }
            self.wake.notified().await;
        }
    }

    /// The kernel took this many of the bytes that [`Queue::take`] gave.
    pub(super) fn written(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the queue panics")
    }
}

impl State {
    /// Moves what may go now into the empty `batch`; whether that is anything.
    fn fill(&mut self, batch: &mut BytesMut) -> bool {
        std::mem::swap(&mut self.frames, batch);
        if self.is_released {
            for part in self.parts.drain(..PARTS_PER_WRITE.min(self.parts.len())) {
                part.put_head(batch);
                batch.extend_from_slice(&part.body);
            }
        }
        !batch.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, length: usize) -> LinkFrame {
        LinkFrame { kind: proto::link::DELIVER, flags: 0, id, body: vec![0; length].into() }
    }

    async fn taken(queue: &Queue) -> Vec<u64> {
        let mut batch = BytesMut::new();
        assert!(queue.take(&mut batch).await);
        queue.written(batch.len());
        let mut ids = Vec::new();
        while let Some(frame) = LinkFrame::split(&mut batch).unwrap() {
            ids.push(frame.id);
        }
        ids
    }

    #[tokio::test]
    async fn what_on_up_sends_is_first() {
        let queue = Queue::new();
        queue.push(&frame(2, 0), Turn::Held).unwrap();
        queue.push(&frame(1, 0), Turn::First).unwrap();
        assert_eq!(taken(&queue).await, [1]);
        queue.release();
        queue.push(&frame(3, 0), Turn::Held).unwrap();
        assert_eq!(taken(&queue).await, [2, 3]);
        assert_eq!(queue.bytes(), 0);
    }

    #[tokio::test]
    async fn other_frames_go_between_the_parts_of_a_long_body() {
        let queue = Queue::new();
        queue.release();
        queue.push_body(0x0101, 0, 9, vec![0; 6 * BODY_MAX].into(), Turn::Held).unwrap();
        queue.push(&frame(1, 0), Turn::Held).unwrap();
        assert_eq!(taken(&queue).await, [1, 9, 9, 9, 9]);
        queue.push(&frame(2, 0), Turn::Held).unwrap();
        assert_eq!(taken(&queue).await, [2, 9, 9]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_one_that_was_written_takes_again() {
        let queue = Queue::new();
        queue.release();
        let frame = frame(1, BODY_MAX);
        let fit = QUEUE_BYTES_MAX / frame.wire_len();
        for _ in 0..fit {
            queue.push(&frame, Turn::Held).unwrap();
        }
        assert_eq!(queue.push(&frame, Turn::Held), Err(SendError::Full));
        let mut batch = BytesMut::new();
        assert!(queue.take(&mut batch).await);
        assert_eq!(queue.push(&frame, Turn::Held), Err(SendError::Full), "what is being written counts");
        queue.written(batch.len());
        queue.push(&frame, Turn::Held).unwrap();
    }

    #[tokio::test]
    async fn a_closed_queue_refuses_and_is_emptied() {
        let queue = Queue::new();
        queue.push(&frame(1, 3), Turn::First).unwrap();
        queue.close(false);
        assert_eq!(queue.push(&frame(2, 3), Turn::First), Err(SendError::Down));
        assert_eq!(taken(&queue).await, [1]);
        assert!(!queue.take(&mut BytesMut::new()).await);
    }
}
