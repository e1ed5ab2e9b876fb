//! Links: one TCP connection a pair of processes, used both ways, for one-way frames and for calls.
//!
//! [`Links::start`] listens, dials the members that this kind needs (again and again, with jittered backoff), proves the zone
//! secret both ways, and hands what arrives to a [`Handler`], link by link in order. A [`Link`] is the handle of one live
//! connection: it is up until [`Handler::on_down`], and never comes back; the next connection is another `Link`.
//!
//! Read on in this order: `links` (start and look-up), `dial` and `accept` (the two ways to a connection), `handshake`,
//! `connection` (its two tasks), `directory` (one link a peer), `queue` (what waits for the writer), `calls`, `parts` and `incoming`
//! (asking and answering).

mod accept;
mod calls;
mod complaints;
mod connection;
mod dial;
mod directory;
mod handshake;
mod incoming;
mod links;
mod parts;
mod queue;

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use proto::{
    Frame,
    internal::{CallFault, CallFaultCode},
    kinds::Delivery,
    link::{CALL_BODY_MAX, Call, LinkFrame, Notice, Publish},
};

pub(crate) use self::connection::END_WITHIN;
use self::{
    connection::{End, Shared},
    queue::{Haste, Turn},
};
pub use self::{
    incoming::IncomingCall,
    links::{LinkConfig, Links},
};
use crate::config::{ProcessId, ProcessKind};

/// Bytes that may wait in a link's queue. A link whose peer does not take them is closed: what it missed can't be made up for,
/// and a new link starts from a full report.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id in the zone file.
    pub id: ProcessId,
    /// Its kind.
    pub kind: ProcessKind,
    /// Distinguishes two runs of it.
    pub incarnation: u64,
}

/// What a process does with what arrives. Calls for one link come one after another; a slow one holds that link back (the peer then
/// waits, bounded by its queue), so whatever waits for others is spawned. Answers come in the same order: a method that itself waits
/// for an answer on its own link waits in vain.
pub trait Handler: Send + Sync + 'static {
    /// A link is up; nothing of it was handed over yet. [`Links`] has it already. What is sent on this `link` and its clones goes
    /// before what anybody else sends, who got it from [`Links`], until this ends.
    fn on_up(&self, link: &Link) -> impl Future<Output = ()> + Send;
    /// The link is down, and [`Links`] has it no more; nothing of it comes any more, and what was sent on it may be lost. A newer
    /// link of the same peer is up only after this ends.
    fn on_down(&self, link: &Link) -> impl Future<Output = ()> + Send;
    /// A one-way frame: a notice, a forwarded client frame, a group message. Its body shares the memory of what was read with it
    /// (64 KiB or more): copy what is kept for long.
    fn on_frame(&self, link: &Link, frame: LinkFrame) -> impl Future<Output = ()> + Send;
    /// A call; dropping it unanswered answers INTERNAL.
    fn on_call(&self, link: &Link, call: IncomingCall) -> impl Future<Output = ()> + Send;
    /// All that has arrived so far is handed over: what was put off, to be done once for many frames, is to be done now.
    fn on_drained(&self, _link: &Link) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is down.
    #[error("link is down")]
    Down,
    /// The queue was full; the link is being closed.
    #[error("link queue is full")]
    Full,
}

/// Why a call has no good answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// No link to a process that could answer; nothing was sent.
    #[error("no link to {0}")]
    NoLink(ProcessKind),
    /// The link went down; whether the call was carried out is unknown.
    #[error("link to {0} went down during {1}")]
    Down(ProcessId, &'static str),
    /// No answer in time; whether the call was carried out is unknown.
    #[error("no answer from {0} to {1} within {2:?}")]
    Timeout(ProcessId, &'static str, Duration),
    /// The peer refused.
    #[error("{}", .0.text)]
    Refused(CallFault),
    /// The answer is no message of its kind.
    #[error("malformed answer from {0} to {1}")]
    Malformed(ProcessId, &'static str),
}

impl CallError {
    /// The peer's code, if it refused.
    pub fn code(&self) -> Option<CallFaultCode> {
        match self {
            CallError::Refused(fault) => Some(fault.code()),
            _ => None,
        }
    }

    /// Whether the same call may well succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            CallError::Refused(fault) => fault.code() == CallFaultCode::CallUnavailable,
            CallError::Malformed(..) => false,
            CallError::NoLink(_) | CallError::Down(..) | CallError::Timeout(..) => true,
        }
    }
}

/// A live connection to a peer. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    turn: Turn,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Link").field("peer", &self.shared.peer).field("number", &self.shared.number).finish_non_exhaustive()
    }
}

impl Link {
    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// Distinguishes this connection from every other of this process. A newer one has a higher number.
    pub fn number(&self) -> u64 {
        self.shared.number
    }

    /// All links of this process.
    pub fn links(&self) -> &Links {
        &self.shared.links
    }

    /// Queues a frame. Never waits.
    ///
    /// # Errors
    /// When the link is down, or its queue is full (the link is then closed).
    ///
    /// # Panics
    /// When the body is longer than [`proto::link::BODY_MAX`].
    #[expect(clippy::needless_pass_by_value, reason = "a frame that is sent is gone, whether the queue copies it or keeps it")]
    pub fn send(&self, frame: LinkFrame) -> Result<(), SendError> {
        self.queued(self.shared.queue.push(&frame, self.turn, Haste::Now))
    }

    /// As [`Link::send`], but the frame may wait a few milliseconds for others, to leave in one write with them. Order is kept.
    ///
    /// # Errors
    /// As [`Link::send`].
    #[expect(clippy::needless_pass_by_value, reason = "as of `send`")]
    pub fn send_soon(&self, frame: LinkFrame) -> Result<(), SendError> {
        self.queued(self.shared.queue.push(&frame, self.turn, Haste::Soon))
    }

    /// Queues a call or an answer, in parts if it is long.
    fn send_body(&self, kind: u16, flags: u16, id: u64, body: Bytes) -> Result<(), SendError> {
        self.queued(self.shared.queue.push_body(kind, flags, id, body, self.turn))
    }

    fn queued(&self, queued: Result<(), SendError>) -> Result<(), SendError> {
        if queued == Err(SendError::Full) {
            metrics::counter!("paifang_link_full_total", "peer" => self.shared.peer.id.to_string()).increment(1);
            self.shared.close(End::Full);
        }
        queued
    }

    /// Queues a notice; `id` is its session, or 0.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn notify<N: Notice>(&self, id: u64, notice: &N) -> Result<(), SendError> {
        self.send(LinkFrame { kind: N::KIND, flags: 0, id, body: notice.encode_to_vec().into() })
    }

    /// Queues a frame for one client of a gate.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn deliver(&self, session: u64, frame: Frame) -> Result<(), SendError> {
        self.send(LinkFrame { kind: proto::link::DELIVER, flags: 0, id: session, body: frame.into_bytes() })
    }

    /// Queues a client's frame for a backend. What is as good in the next tick (class Frame) leaves as [`Link::send_soon`] says.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn forward(&self, session: u64, frame: Frame) -> Result<(), SendError> {
        let waits = frame.info().is_some_and(|info| info.delivery == Delivery::Frame);
        let forwarded = LinkFrame { kind: proto::link::FORWARD, flags: 0, id: session, body: frame.into_bytes() };
        if waits { self.send_soon(forwarded) } else { self.send(forwarded) }
    }

    /// Queues: the session joins the group at this gate.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn group_join(&self, group: u64, session: u64) -> Result<(), SendError> {
        self.send(LinkFrame { kind: proto::link::GROUP_JOIN, flags: 0, id: group, body: proto::link::put_session(session) })
    }

    /// Queues: the session leaves the group at this gate.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn group_leave(&self, group: u64, session: u64) -> Result<(), SendError> {
        self.send(LinkFrame { kind: proto::link::GROUP_LEAVE, flags: 0, id: group, body: proto::link::put_session(session) })
    }

    /// Queues: a frame for everybody in the group at this gate. To publish to several gates encode once ([`Publish::encode`]) and
    /// [`Link::send`] the same bytes.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn group_publish(&self, group: u64, publish: &Publish) -> Result<(), SendError> {
        self.send(LinkFrame { kind: proto::link::GROUP_PUBLISH, flags: 0, id: group, body: publish.encode() })
    }

    /// Queues: the group is no more.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn group_drop(&self, group: u64) -> Result<(), SendError> {
        self.send(LinkFrame { kind: proto::link::GROUP_DROP, flags: 0, id: group, body: Bytes::new() })
    }

    /// Queues: this tick's publishing is done.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn tick_end(&self, tick: u64) -> Result<(), SendError> {
        self.send(LinkFrame { kind: proto::link::TICK_END, flags: 0, id: tick, body: Bytes::new() })
    }

    /// Asks, and waits for the answer at most `within`. Cancel-safe: a dropped call's late answer is ignored.
    ///
    /// A call longer than [`proto::link::BODY_MAX`] travels in parts, and what is sent after it may arrive before it; so may what
    /// follows an answer of that length.
    ///
    /// # Errors
    /// When there is no good answer. A call that is longer than [`CALL_BODY_MAX`] is refused with LIMIT, unsent.
    pub async fn call<C: Call>(&self, call: &C, within: Duration) -> Result<C::Answer, CallError> {
        let answer = self.ask::<C>(call.encode_to_vec().into(), within).await;
        if let Err(err) = &answer {
            metrics::counter!("paifang_link_call_failures_total", "call" => C::NAME, "cause" => err.cause()).increment(1);
        }
        answer
    }

    async fn ask<C: Call>(&self, body: Bytes, within: Duration) -> Result<C::Answer, CallError> {
        if CALL_BODY_MAX < body.len() {
            let text = format!("{} has {} bytes, {CALL_BODY_MAX} are allowed", C::NAME, body.len());
            return Err(CallError::Refused(fault(CallFaultCode::CallLimit, text)));
        }
        let peer = self.peer();
        let mut waiting = self.shared.calls.register().ok_or(CallError::NoLink(peer.kind))?;
        self.send_body(C::KIND, 0, waiting.number(), body).map_err(|_| CallError::NoLink(peer.kind))?;
        match tokio::time::timeout(within, waiting.answered()).await {
            Ok(Some(Ok(body))) => C::Answer::decode(body).map_err(|_| CallError::Malformed(peer.id.clone(), C::NAME)),
            Ok(Some(Err(fault))) => Err(CallError::Refused(fault)),
            Ok(None) => Err(CallError::Down(peer.id.clone(), C::NAME)),
            Err(_) => Err(CallError::Timeout(peer.id.clone(), C::NAME, within)),
        }
    }

    /// Whether the link can still be used.
    pub fn is_up(&self) -> bool {
        self.shared.queue.is_open()
    }

    /// Closes the link; a dialling side connects anew. What was sent before still goes out, if the peer takes it soon.
    pub fn close(&self) {
        self.shared.close(End::Closed);
    }

    fn status(&self) -> serde_json::Value {
        let traffic = &self.shared.traffic;
        serde_json::json!({
            "kind": self.shared.peer.kind,
            "rtt_us": traffic.rtt_us.load(Ordering::Relaxed),
            "queued_bytes": self.shared.queue.bytes(),
            "sent_bytes": traffic.sent.load(Ordering::Relaxed),
            "received_bytes": traffic.received.load(Ordering::Relaxed),
            "up_s": traffic.up_since.elapsed().as_secs(),
        })
    }
}

impl CallError {
    /// One word, for metrics.
    fn cause(&self) -> &'static str {
        match self {
            CallError::NoLink(_) => "no_link",
            CallError::Down(..) => "down",
            CallError::Timeout(..) => "timeout",
            CallError::Refused(_) => "refused",
            CallError::Malformed(..) => "malformed",
        }
    }
}

/// A fault with a code and a text.
pub fn fault(code: CallFaultCode, text: impl Into<String>) -> CallFault {
    CallFault { code: code.into(), text: text.into() }
}

#[cfg(test)]
mod tests;
