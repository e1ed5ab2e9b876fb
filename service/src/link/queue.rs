//! What waits for the writer of a link: encoded frames in order, and the parts of long bodies beside them.
//!
//! A sender copies its frame into the buffer under a short lock; the writer takes the whole buffer at once, so that frames that
//! were sent together leave in one write, and wakes once for all of them. What need not leave at once ([`Haste::Soon`]) waits a few
//! milliseconds for company: a thousand players' moves would otherwise be a thousand writes, and as many wakes of the peer.
//!
//! Full? At [`QUEUE_BYTES_MAX`] the frame is refused, and the link closes: see there.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use proto::link::{BODY_MAX, LinkFrame};
use tokio::{sync::Notify, time::timeout};

use super::{QUEUE_BYTES_MAX, SendError, parts};

/// Parts of long bodies that go out in one write, between other frames: none of them waits for more than these.
const PARTS_PER_WRITE: usize = 4;
/// A buffer that a burst has grown beyond this is given back.
const BUFFER_KEPT_MAX: usize = 1024 * 1024;
/// How long a frame waits for company that need not leave at once.
const SOON: Duration = Duration::from_millis(4);
/// With so many bytes of company it waits no longer.
const SOON_BYTES_MAX: usize = 32 * 1024;

/// Who sends, as long as `on_up` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// What `on_up` was given: its frames are the first on the link.
    First,
    /// Everybody else: their frames are held until `on_up` is done.
    Held,
}

/// How soon a frame must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// With the next write, which begins at once.
    Now,
    /// With the next write, which may wait for [`SOON`].
    Soon,
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
    /// Whether anything waits that must leave at once.
    is_urgent: bool,
    writer: Writer,
}

/// What the writer is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writer {
    /// Writes, and will look again.
    #[default]
    Busy,
    /// Nothing was there.
    Idle,
    /// What is there need not leave at once.
    Lingers,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), is_open: AtomicBool::new(true), bytes: AtomicUsize::new(0) }
    }

    /// Queues one frame.
    ///
    /// # Panics
    /// When its body is longer than a frame may be.
    pub(super) fn push(&self, frame: &LinkFrame, turn: Turn, haste: Haste) -> Result<(), SendError> {
        assert!(frame.body.len() <= BODY_MAX, "link frame {:#06x} with a body of {} bytes", frame.kind, frame.body.len());
        self.queue(frame.wire_len(), haste, |state| {
            let to = if turn == Turn::First || state.is_released { &mut state.frames } else { &mut state.held };
            frame.put_head(to);
            to.extend_from_slice(&frame.body);
        })
    }

    /// Queues a call or an answer; a long one in parts, between which other frames may go.
    pub(super) fn push_body(&self, kind: u16, flags: u16, id: u64, body: Bytes, turn: Turn) -> Result<(), SendError> {
        if body.len() <= BODY_MAX {
            return self.push(&LinkFrame { kind, flags, id, body }, turn, Haste::Now);
        }
        let parts = parts::cut(kind, flags, id, body);
        let bytes = parts.iter().map(LinkFrame::wire_len).sum();
        self.queue(bytes, Haste::Now, |state| state.parts.extend(parts))
    }

    fn queue(&self, bytes: usize, haste: Haste, put: impl FnOnce(&mut State)) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(SendError::Down);
        }
        if QUEUE_BYTES_MAX < self.bytes.load(Ordering::Relaxed).saturating_add(bytes) {
            return Err(SendError::Full);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        put(&mut state);
        state.is_urgent |= haste == Haste::Now || SOON_BYTES_MAX <= state.frames.len();
        let wakes = state.wakes_writer();
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
        state.is_urgent |= !held.is_empty();
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
        let mut has_lingered = false;
        loop {
            let lingers = {
                let mut state = self.lock();
                let lingers = state.lingers() && !has_lingered;
                if !lingers && state.fill(batch) {
                    return true;
                }
                if state.is_closed {
                    return false;
                }
                state.writer = if lingers { Writer::Lingers } else { Writer::Idle };
                lingers
            };
            if lingers {
                has_lingered = timeout(SOON, self.wake.notified()).await.is_err();
            } else {
                self.wake.notified().await;
            }
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
    /// Whether what waits may wait for company.
    fn lingers(&self) -> bool {
        !self.frames.is_empty() && !self.is_urgent && !self.is_closed
    }

    /// Whether the writer is to be told of what was put in; it is told once.
    fn wakes_writer(&mut self) -> bool {
        let wakes = match self.writer {
            Writer::Busy => false,
            Writer::Idle => true,
            Writer::Lingers => self.is_urgent,
        };
        if wakes {
            self.writer = Writer::Busy;
        }
        wakes
    }

    /// Moves what may go now into the empty `batch`; whether that is anything.
    fn fill(&mut self, batch: &mut BytesMut) -> bool {
        std::mem::swap(&mut self.frames, batch);
        self.writer = Writer::Busy;
        if self.is_released {
            for part in self.parts.drain(..PARTS_PER_WRITE.min(self.parts.len())) {
                part.put_head(batch);
                batch.extend_from_slice(&part.body);
            }
        }
        self.is_urgent = !self.parts.is_empty();
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
        queue.push(&frame(2, 0), Turn::Held, Haste::Now).unwrap();
        queue.push(&frame(1, 0), Turn::First, Haste::Now).unwrap();
        assert_eq!(taken(&queue).await, [1]);
        queue.release();
        queue.push(&frame(3, 0), Turn::Held, Haste::Now).unwrap();
        assert_eq!(taken(&queue).await, [2, 3]);
        assert_eq!(queue.bytes(), 0);
    }

    #[tokio::test]
    async fn other_frames_go_between_the_parts_of_a_long_body() {
        let queue = Queue::new();
        queue.release();
        queue.push_body(0x0101, 0, 9, vec![0; 6 * BODY_MAX].into(), Turn::Held).unwrap();
        queue.push(&frame(1, 0), Turn::Held, Haste::Now).unwrap();
        assert_eq!(taken(&queue).await, [1, 9, 9, 9, 9]);
        queue.push(&frame(2, 0), Turn::Held, Haste::Now).unwrap();
        assert_eq!(taken(&queue).await, [2, 9, 9]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_one_that_was_written_takes_again() {
        let queue = Queue::new();
        queue.release();
        let frame = frame(1, BODY_MAX);
        let fit = QUEUE_BYTES_MAX / frame.wire_len();
        for _ in 0..fit {
            queue.push(&frame, Turn::Held, Haste::Now).unwrap();
        }
        assert_eq!(queue.push(&frame, Turn::Held, Haste::Now), Err(SendError::Full));
        let mut batch = BytesMut::new();
        assert!(queue.take(&mut batch).await);
        assert_eq!(queue.push(&frame, Turn::Held, Haste::Now), Err(SendError::Full), "what is being written counts");
        queue.written(batch.len());
        queue.push(&frame, Turn::Held, Haste::Now).unwrap();
    }

    #[tokio::test]
    async fn a_closed_queue_refuses_and_is_emptied() {
        let queue = Queue::new();
        queue.push(&frame(1, 3), Turn::First, Haste::Now).unwrap();
        queue.close(false);
        assert_eq!(queue.push(&frame(2, 3), Turn::First, Haste::Now), Err(SendError::Down));
        assert_eq!(taken(&queue).await, [1]);
        assert!(!queue.take(&mut BytesMut::new()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_need_not_leave_at_once_waits_for_company() {
        let queue = Queue::new();
        queue.release();
        let (sent, taken) = tokio::join!(
            async {
                for id in 1..=3 {
                    queue.push(&frame(id, 0), Turn::Held, Haste::Soon).unwrap();
                    tokio::time::sleep(SOON / 4).await;
                }
                tokio::time::Instant::now()
            },
            async { (taken(&queue).await, tokio::time::Instant::now()) },
        );
        assert_eq!(taken.0, [1, 2, 3]);
        assert!(sent < taken.1, "it waited for what came {:?} later", SOON / 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_must_leave_takes_along_what_waits() {
        let queue = Queue::new();
        queue.release();
        let began = tokio::time::Instant::now();
        let ((), taken) = tokio::join!(
            async {
                queue.push(&frame(1, 0), Turn::Held, Haste::Soon).unwrap();
                tokio::task::yield_now().await;
                queue.push(&frame(2, 0), Turn::Held, Haste::Now).unwrap();
            },
            taken(&queue),
        );
        assert_eq!(taken, [1, 2]);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn enough_company_waits_for_no_more() {
        let queue = Queue::new();
        queue.release();
        let began = tokio::time::Instant::now();
        let ((), taken) = tokio::join!(
            async {
                for id in 1..=2 {
                    queue.push(&frame(id, SOON_BYTES_MAX / 2), Turn::Held, Haste::Soon).unwrap();
                    tokio::task::yield_now().await;
                }
            },
            taken(&queue),
        );
        assert_eq!(taken, [1, 2]);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
