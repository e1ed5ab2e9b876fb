//! One live link: its shared state, the task that reads and hands over, and the task that writes.
//!
//! A connection goes `waits for its turn -> on_up -> reads -> on_down`. The turn belongs to the peer: the older link of the same
//! peer is through with its `on_down` before the newer one begins.

use std::{
    convert::Infallible,
    io,
    panic::AssertUnwindSafe,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use metrics::{counter, gauge};
use prost::Message;
use proto::{
    internal::{CallFault, LinkRefused},
    link::{ANSWER, HELLO, LinkFrame, LinkFrameError, PING, PONG, PROOF, REFUSED, flags},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    Handler, IncomingCall, Link, Links, Peer,
    calls::Calls,
    handshake::Proven,
    parts::{Assembly, PartsError},
    queue::{Haste, Queue, Turn},
};
use crate::net::TcpStream;

/// How often a PING goes out.
const PING_PERIOD: Duration = Duration::from_secs(1);
/// A peer that sends nothing for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long a link that closes may take to write what is queued.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// How long the tasks of a link may take to end when the process does: the handler lets go of it, then what is queued is written.
pub(crate) const END_WITHIN: Duration = Duration::from_secs(2 * FLUSH_WITHIN.as_secs());
/// How much room a read has, and when it is made anew.
const READ_BYTES: usize = 64 * 1024;
const READ_BYTES_MIN: usize = 4 * 1024;

const _: () = assert!(PING_PERIOD.as_millis() * 3 < SILENCE_MAX.as_millis()); // or one late PING kills a link

/// Why a link went down.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("this process closed it")]
    Closed,
    #[error("the process stops")]
    Stopping,
    #[error("its queue was full: the peer does not take what is sent")]
    Full,
    #[error("a newer link to the same process took its place")]
    Replaced,
    #[error("the peer is no member any more, or has another address")]
    NoMember,
    #[error("the peer closed it")]
    PeerClosed,
    #[error("the peer refused it: {0}")]
    Refused(String),
    #[error("the peer sent nothing for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the peer sent frame {0:#06x} out of place")]
    OutOfPlace(u16),
    #[error(transparent)]
    Frame(#[from] LinkFrameError),
    #[error(transparent)]
    Parts(#[from] PartsError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its handler panicked")]
    Panicked,
}

/// What all handles of a link share.
pub(super) struct Shared {
    pub(super) peer: Peer,
    pub(super) number: u64,
    pub(super) links: Links,
    pub(super) queue: Queue,
    pub(super) calls: Calls,
    pub(super) traffic: Traffic,
    /// Bytes of calls that were handed over and not yet answered.
    pub(super) unanswered_bytes: AtomicUsize,
    down: CancellationToken,
    end: OnceLock<End>,
}

/// What went over a link.
pub(super) struct Traffic {
    pub(super) up_since: Instant,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) rtt_us: AtomicU64,
}

impl Shared {
    fn new(links: &Links, peer: Peer, stop: &CancellationToken) -> Self {
        let traffic = Traffic { up_since: Instant::now(), sent: AtomicU64::new(0), received: AtomicU64::new(0), rtt_us: AtomicU64::new(0) };
        Self {
            peer,
            number: links.next_number(),
            links: links.clone(),
            queue: Queue::new(),
            calls: Calls::default(),
            traffic,
            unanswered_bytes: AtomicUsize::new(0),
            down: stop.child_token(),
            end: OnceLock::new(),
        }
    }

    /// Takes the link down. The first reason counts; what is queued is still written, unless the peer does not take it anyway.
    pub(super) fn close(&self, end: End) {
        let discards = matches!(end, End::Full | End::Silent | End::Io(_));
        let _ = self.end.set(end);
        self.queue.close(discards);
        self.calls.close();
        self.down.cancel();
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.traffic.up_since.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn push(&self, kind: u16, id: u64) {
        // A link that went down at this moment needs no PING.
        let _ = self.queue.push(&LinkFrame { kind, flags: 0, id, body: Bytes::new() }, Turn::First, Haste::Now);
    }
}

/// Runs a proven connection to its end, or until `stop`.
pub(super) async fn run<H: Handler>(links: &Links, handler: &H, socket: TcpStream, proven: Proven, stop: &CancellationToken) {
    let (reading, writing) = socket.into_split();
    let shared = std::sync::Arc::new(Shared::new(links, proven.peer, stop));
    let link = Link { shared, turn: Turn::Held };
    // The writer is there before the turn comes, so that the peer hears PINGs while an older link ends.
    links.tasks().spawn("link writer", write(link.clone(), writing));
    let Some(turn) = links.enter(&link).await else {
        link.shared.close(End::Replaced);
        return;
    };
    announce_up(&link);
    let lived = async {
        handler.on_up(&Link { turn: Turn::First, ..link.clone() }).await;
        link.shared.queue.release();
        let reader = Reader { socket: reading, buffer: proven.read, assembly: Assembly::default(), link: &link, handler };
        reader.read().await
    };
    let end = tokio::select! {
        lived = AssertUnwindSafe(lived).catch_unwind() => lived.unwrap_or(End::Panicked),
        () = ended_while_handling(links) => End::Stopping,
    };
    link.shared.close(end);
    links.leave(&link);
    announce_down(&link);
    if AssertUnwindSafe(handler.on_down(&link)).catch_unwind().await.is_err() {
        tracing::error!(peer = %link.peer().id, "the handler of a link that went down panicked");
    }
    drop(turn);
}

/// Ends when the process ended and the handler still holds the link back.
async fn ended_while_handling(links: &Links) {
    links.tasks().ended().await;
    tokio::time::sleep(FLUSH_WITHIN).await;
}

fn announce_up(link: &Link) {
    tracing::info!(peer = %link.peer().id, incarnation = link.peer().incarnation, "link is up");
    counter!("paifang_link_connects_total", "peer" => link.peer().id.to_string()).increment(1);
    gauge!("paifang_link_up", "peer" => link.peer().id.to_string()).set(1.0);
}

fn announce_down(link: &Link) {
    let reason = link.shared.end.get().map(ToString::to_string).unwrap_or_default();
    match link.shared.end.get() {
        Some(End::Stopping | End::Closed | End::PeerClosed | End::NoMember) => {
            tracing::info!(peer = %link.peer().id, reason, "link is down");
        }
        _ => tracing::warn!(peer = %link.peer().id, reason, "link is down"),
    }
    gauge!("paifang_link_up", "peer" => link.peer().id.to_string()).set(0.0);
}

/// Reads a link and hands over what arrives, one after another.
struct Reader<'a, H> {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    assembly: Assembly,
    link: &'a Link,
    handler: &'a H,
}

impl<H: Handler> Reader<'_, H> {
    async fn read(mut self) -> End {
        match self.read_on().await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn read_on(&mut self) -> Result<End, End> {
        let shared = &self.link.shared;
        let received = counter!("paifang_link_received_bytes_total", "peer" => shared.peer.id.to_string());
        let mut down = std::pin::pin!(shared.down.cancelled());
        let mut heard = Instant::now();
        let mut silence = std::pin::pin!(tokio::time::sleep_until(heard + SILENCE_MAX));
        loop {
            while let Some(frame) = LinkFrame::split(&mut self.buffer)? {
                self.take(frame).await?;
                if shared.end.get().is_some() {
                    return Ok(End::Closed);
                }
            }
            self.handler.on_drained(self.link).await;
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
                self.buffer.reserve(READ_BYTES);
            }
            tokio::select! {
                biased; // what has arrived counts against silence; all three are cancel-safe
                () = &mut down => return Ok(if shared.links.is_ending() { End::Stopping } else { End::NoMember }),
                read = self.socket.read_buf(&mut self.buffer) => {
                    let count = read? as u64;
                    if count == 0 {
                        return Ok(End::PeerClosed);
                    }
                    received.increment(count);
                    shared.traffic.received.fetch_add(count, Ordering::Relaxed);
                    heard = Instant::now();
                }
                () = &mut silence => {
                    if SILENCE_MAX <= heard.elapsed() {
                        return Ok(End::Silent);
                    }
                    silence.as_mut().reset(heard + SILENCE_MAX);
                }
            }
        }
    }

    async fn take(&mut self, frame: LinkFrame) -> Result<(), End> {
        let shared = &self.link.shared;
        match frame.kind {
            PING => shared.push(PONG, frame.id),
            PONG => shared.traffic.rtt_us.store(shared.now_us().saturating_sub(frame.id), Ordering::Relaxed),
            ANSWER => {
                if let Some(body) = self.assembly.add(&frame)? {
                    shared.calls.answer(frame.id, answered(frame.flags, body));
                }
            }
            REFUSED => return Err(End::Refused(refusal(frame.body))),
            HELLO | PROOF => return Err(End::OutOfPlace(frame.kind)),
            kind if is_call(kind) => {
                if let Some(body) = self.assembly.add(&frame)?
                    && let Some(call) = IncomingCall::admit(self.link, kind, frame.id, body)
                {
                    self.handler.on_call(self.link, call).await;
                }
            }
            _ => self.handler.on_frame(self.link, frame).await,
        }
        Ok(())
    }
}

/// Whether a kind is a call's (`0x01xx`).
fn is_call(kind: u16) -> bool {
    kind >> 8 == 0x01
}

fn answered(flags: u16, body: Bytes) -> Result<Bytes, CallFault> {
    if flags & flags::FAULT == 0 {
        return Ok(body);
    }
    // A fault that can't be read is still one.
    Err(CallFault::decode(body).unwrap_or_default())
}

fn refusal(body: Bytes) -> String {
    LinkRefused::decode(body).map(|refused| refused.reason).unwrap_or_default()
}

/// The writer: writes what is queued until the link is down, and then for [`FLUSH_WITHIN`] what is left.
async fn write(link: Link, mut socket: OwnedWriteHalf) {
    let shared = &*link.shared;
    let written = tokio::select! {
        written = write_queue(shared, &mut socket) => written,
        never = ping(shared) => match never {},
        () = flush_over(shared) => Ok(()),
    };
    if let Err(err) = written {
        tracing::debug!(peer = %shared.peer.id, "failed to write to the link: {err}");
        // The reader finds out by itself, after it has read what the peer still sent.
        shared.queue.close(true);
    }
}

async fn write_queue(shared: &Shared, socket: &mut OwnedWriteHalf) -> io::Result<()> {
    let sent = counter!("paifang_link_sent_bytes_total", "peer" => shared.peer.id.to_string());
    let mut batch = BytesMut::new();
    while shared.queue.take(&mut batch).await {
        let mut left = &batch[..];
        while !left.is_empty() {
            let count = socket.write(left).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            left = &left[count..];
            shared.queue.written(count);
            shared.traffic.sent.fetch_add(count as u64, Ordering::Relaxed);
            sent.increment(count as u64);
        }
    }
    Ok(())
}

async fn ping(shared: &Shared) -> Infallible {
    let mut period = tokio::time::interval(PING_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        shared.push(PING, shared.now_us());
    }
}

async fn flush_over(shared: &Shared) {
    shared.down.cancelled().await;
    tokio::time::sleep(FLUSH_WITHIN).await;
}
