//! What waits to be written to one client, and what it has not yet acknowledged. Pure rules; no socket, no lock.
//!
//! Reliable messages are numbered from 1 and kept until acknowledged, so that a resume can send the missed ones again. Frame messages
//! are kept only until written. Control messages belong to the connection and are forgotten with it.
//!
//! Full? Frame messages give way first: of one group only the newest stays once the client is behind, and all go when there is no
//! room. A reliable message for which there is no room ends the connection ([`Verdict::TooSlow`]), and the session can be resumed.
//! A session whose unacknowledged messages outgrow their bound is *stale*: it can be resumed with full state only.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

/// Unacknowledged bytes that are kept, as a multiple of the bytes that may wait unsent.
const UNACKED_FACTOR: usize = 4;
/// A client with more than this part of its bound waiting is behind: newer frames replace older ones.
const BEHIND_PART: usize = 4;
/// Replaced entries that may lie in the queue before it is tidied.
const GONE_MAX: usize = 64;

/// Of frames with one key, the newest replaces the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FrameKey {
    /// The link that it came on.
    pub link: u64,
    /// The group that it was published to; none: for this client alone.
    pub group: Option<u64>,
    /// The kind of message.
    pub kind: u16,
}

/// Whether the client keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    /// It does.
    Fine,
    /// It does not: the connection is to end.
    TooSlow,
}

/// The client names a count of received messages that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Impossible;

/// The queue of one session.
#[derive(Debug)]
pub(crate) struct Outbox {
    unsent_max: usize,
    attached: bool,
    stale: bool,

    queue: VecDeque<Entry>,
    /// Number of the queue's first entry; entries are numbered so that `latest` outlives the taking of earlier ones.
    first: u64,
    /// While the client is behind: the one entry of each key.
    latest: Option<HashMap<FrameKey, u64>>,
    gone: usize,
    queued_bytes: usize,
    /// Of the queued bytes, those of frames.
    frame_bytes: usize,
    /// Of the queued bytes, those of reliable messages, which are also unacknowledged.
    untaken_bytes: usize,
    in_flight_bytes: usize,
    /// Bytes that a resume put into the queue at once, which do not count as slowness.
    backlog_bytes: usize,

    unacked: VecDeque<Bytes>,
    unacked_bytes: usize,
    /// Number of the newest acknowledged message.
    acked: u64,
    /// Number of the newest message that was taken for writing.
    taken: u64,
    /// Unacknowledged bytes at which the client is asked for an acknowledgement.
    ask_at: usize,
    dropped: u64,
}

#[derive(Debug)]
enum Entry {
    Control(Bytes),
    /// The next reliable message that was not taken yet.
    Reliable,
    Frame(FrameKey, Bytes),
    /// Replaced by a newer one.
    Gone,
}

impl Outbox {
    /// An empty outbox without a connection. At most `unsent_max` bytes wait for a connected client.
    pub(crate) fn new(unsent_max: usize) -> Self {
        let mut outbox = Self {
            unsent_max,
            attached: false,
            stale: false,
            queue: VecDeque::new(),
            first: 0,
            latest: None,
            gone: 0,
            queued_bytes: 0,
            frame_bytes: 0,
            untaken_bytes: 0,
            in_flight_bytes: 0,
            backlog_bytes: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            acked: 0,
            taken: 0,
            ask_at: 0,
            dropped: 0,
        };
        outbox.restart();
        outbox
    }

    // ---- what comes in

    /// Queues a message of the gate's own.
    pub(crate) fn push_control(&mut self, bytes: Bytes) {
        if self.attached {
            self.queued_bytes += bytes.len();
            self.queue.push_back(Entry::Control(bytes));
        }
    }

    /// Numbers a reliable message, keeps it, and queues it if there is a connection.
    pub(crate) fn push_reliable(&mut self, bytes: Bytes) -> Verdict {
        if self.stale {
            return Verdict::Fine;
        }
        let length = bytes.len();
        self.unacked_bytes += length;
        self.unacked.push_back(bytes);
        if !self.attached {
            self.check_stale();
            return Verdict::Fine;
        }
        self.queue.push_back(Entry::Reliable);
        self.queued_bytes += length;
        self.untaken_bytes += length;
        if self.room_max() < self.unsent_bytes() && 0 < self.frame_bytes {
            self.tidy(false);
        }
        if self.room_max() < self.unsent_bytes() || self.unacked_max() < self.unacked_bytes {
            self.detach();
            return Verdict::TooSlow;
        }
        Verdict::Fine
    }

    /// Queues a message of which only the newest matters. Without a connection it is dropped.
    pub(crate) fn push_frame(&mut self, key: FrameKey, bytes: Bytes) {
        if !self.attached {
            return;
        }
        let after = self.unsent_bytes() + bytes.len();
        if self.unsent_max / BEHIND_PART < after && !self.make_room(key, bytes.len()) {
            self.dropped += 1;
            return;
        }
        self.queued_bytes += bytes.len();
        self.frame_bytes += bytes.len();
        if let Some(latest) = &mut self.latest {
            latest.insert(key, self.first + self.queue.len() as u64);
        }
        self.queue.push_back(Entry::Frame(key, bytes));
    }

    /// The client has received this many reliable messages in all.
    ///
    /// # Errors
    /// When so many were never written.
    pub(crate) fn ack(&mut self, received: u64) -> Result<(), Impossible> {
        if self.taken < received {
            return Err(Impossible);
        }
        while self.acked < received {
            let Some(bytes) = self.unacked.pop_front() else { break };
            self.unacked_bytes -= bytes.len();
            self.acked += 1;
        }
        if self.unacked.is_empty() {
            self.unacked = VecDeque::new();
        }
        self.ask_at = self.unacked_bytes + self.unacked_max() / BEHIND_PART;
        Ok(())
    }

    // ---- what goes out

    /// Takes a message straight into `buffer`, which is to be written next, if nothing waits before it and it makes no more than
    /// `bytes_max` of it; whether it did.
    pub(crate) fn pass(&mut self, is_reliable: bool, bytes: &Bytes, buffer: &mut BytesMut, bytes_max: usize) -> bool {
        let has_way = self.attached && self.queue.is_empty() && self.in_flight_bytes == 0 && buffer.len() + bytes.len() <= bytes_max;
        if !has_way || self.unacked_max() < self.unacked_bytes + bytes.len() {
            return false;
        }
        if is_reliable {
            self.unacked_bytes += bytes.len();
            self.unacked.push_back(bytes.clone());
            self.taken += 1;
        }
        buffer.extend_from_slice(bytes);
        true
    }

    /// Moves what waits into `buffer`, which is empty, up to about `bytes_max`; whether there was anything.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> bool {
        while let Some(entry) = self.queue.front() {
            let next = match entry {
                Entry::Control(bytes) | Entry::Frame(_, bytes) => &bytes[..],
                Entry::Reliable => &self.unacked[self.untaken_place()],
                Entry::Gone => &[],
            };
            let length = next.len();
            if !buffer.is_empty() && bytes_max < buffer.len() + length {
                break;
            }
            buffer.extend_from_slice(next);
            self.queued_bytes -= length;
            match self.queue.pop_front() {
                Some(Entry::Frame(..)) => self.frame_bytes -= length,
                Some(Entry::Reliable) => {
                    self.untaken_bytes -= length;
                    self.taken += 1;
                }
                Some(Entry::Gone) => self.gone -= 1,
                Some(Entry::Control(_)) | None => {}
            }
            self.first += 1;
        }
        if self.queue.is_empty() {
            // A client for which nothing waits costs no memory for it.
            (self.queue, self.latest) = (VecDeque::new(), None);
        }
        self.backlog_bytes = self.backlog_bytes.saturating_sub(buffer.len());
        self.in_flight_bytes = buffer.len();
        !buffer.is_empty()
    }

    /// What was taken is written, but for so many bytes.
    pub(crate) fn written(&mut self, waiting: usize) {
        self.in_flight_bytes = waiting;
    }

    /// Whether so much is unacknowledged that the client is to be asked before its next heartbeat is due. True once for each time.
    pub(crate) fn wants_ack(&mut self) -> bool {
        let wants = self.attached && self.ask_at < self.unacked_bytes;
        if wants {
            self.ask_at = self.unacked_bytes + self.unacked_max() / BEHIND_PART;
        }
        wants
    }

    // ---- connections come and go

    /// The first connection of the session is there.
    pub(crate) fn attach(&mut self) {
        self.attached = true;
    }

    /// The connection is lost. Reliable messages are kept.
    pub(crate) fn detach(&mut self) {
        self.attached = false;
        self.queue = VecDeque::new();
        self.latest = None;
        (self.queued_bytes, self.frame_bytes, self.untaken_bytes, self.in_flight_bytes) = (0, 0, 0, 0);
        (self.gone, self.backlog_bytes) = (0, 0);
        self.check_stale();
    }

    /// A new connection of a client that has received this many reliable messages: queues what `greeting` makes of the number of missed
    /// ones, and those after it. Returns that number.
    ///
    /// # Errors
    /// When the count can't be; nothing has changed then.
    pub(crate) fn resume(&mut self, received: u64, greeting: impl FnOnce(u32) -> Bytes) -> Result<u32, Impossible> {
        if received < self.acked || self.taken < received || self.stale {
            return Err(Impossible);
        }
        self.ack(received)?;
        self.detach();
        self.attach();
        self.taken = received;
        let missed = u32::try_from(self.unacked.len()).expect("bounded in bytes");
        self.push_control(greeting(missed));
        self.queue.extend(self.unacked.iter().map(|_| Entry::Reliable));
        self.queued_bytes += self.unacked_bytes;
        self.untaken_bytes = self.unacked_bytes;
        self.backlog_bytes = self.queued_bytes;
        Ok(missed)
    }

    /// Counting starts again: what was kept is void. Reliable messages that come from now on are kept for the next connection.
    pub(crate) fn restart(&mut self) {
        self.unacked = VecDeque::new();
        (self.unacked_bytes, self.acked, self.taken, self.stale) = (0, 0, 0, false);
        self.detach();
        self.ask_at = self.unacked_max() / BEHIND_PART;
    }

    /// The session can be resumed with full state only.
    pub(crate) fn make_stale(&mut self) {
        self.restart();
        self.stale = true;
    }

    /// Whether messages were lost, so that only full state helps.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    // ---- how it stands

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.queued_bytes - self.untaken_bytes + self.in_flight_bytes + self.unacked_bytes
    }

    /// Frame messages that were dropped or replaced since the last call.
    pub(crate) fn dropped_since(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn unsent_bytes(&self) -> usize {
        self.queued_bytes + self.in_flight_bytes
    }

    fn room_max(&self) -> usize {
        self.unsent_max + self.backlog_bytes
    }

    fn unacked_max(&self) -> usize {
        self.unsent_max.saturating_mul(UNACKED_FACTOR)
    }

    fn untaken_place(&self) -> usize {
        usize::try_from(self.taken - self.acked).expect("as many as are in memory")
    }

    fn check_stale(&mut self) {
        if self.unacked_max() < self.unacked_bytes {
            self.make_stale();
        }
    }

    /// The client is behind: drops what the new frame replaces, and all frames if it does not fit otherwise. Whether it fits now.
    fn make_room(&mut self, key: FrameKey, length: usize) -> bool {
        if self.latest.is_none() || GONE_MAX.max(self.queue.len() / 2) < self.gone {
            self.tidy(true);
        }
        let replaced = self.latest.as_mut().and_then(|latest| latest.remove(&key));
        if let Some(number) = replaced {
            self.remove_frame(number);
        }
        if self.unsent_bytes() + length <= self.unsent_max {
            return true;
        }
        if self.unsent_bytes() - self.frame_bytes + length <= self.unsent_max {
            self.tidy(false);
            return true;
        }
        false
    }

    fn remove_frame(&mut self, number: u64) {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(entry) = place.and_then(|place| self.queue.get_mut(place)) else { return };
        if let Entry::Frame(_, bytes) = std::mem::replace(entry, Entry::Gone) {
            self.queued_bytes -= bytes.len();
            self.frame_bytes -= bytes.len();
            self.gone += 1;
            self.dropped += 1;
        }
    }

    /// Takes out what is gone and, of each key, all frames but the newest, or all frames.
    fn tidy(&mut self, keep_newest: bool) {
        let mut kept = VecDeque::with_capacity(self.queue.len());
        let mut latest = HashMap::new();
        while let Some(entry) = self.queue.pop_back() {
            match entry {
                Entry::Gone => {}
                Entry::Frame(key, bytes) if !keep_newest || latest.contains_key(&key) => {
                    self.queued_bytes -= bytes.len();
                    self.frame_bytes -= bytes.len();
                    self.dropped += 1;
                }
                Entry::Frame(key, bytes) => {
                    latest.insert(key, kept.len() as u64);
                    kept.push_front(Entry::Frame(key, bytes));
                }
                Entry::Control(_) | Entry::Reliable => kept.push_front(entry),
            }
        }
        // Places were counted from the back.
        for place in latest.values_mut() {
            *place = self.first + kept.len() as u64 - 1 - *place;
        }
        (self.queue, self.latest, self.gone) = (kept, Some(latest), 0);
    }
}

#[cfg(test)]
mod tests;
