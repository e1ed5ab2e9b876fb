//! The handle of one connection: wake it, write to it, end it with a reason, and how its client's heart beats.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use proto::{
    Frame,
    client::{Closing, FaultCode, Heartbeat},
};
use tokio::{sync::Notify, time::Instant};

use crate::{pulse::Pulse, wire::Wire};

/// The longest text of a fault or a closing, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed it, or it broke.
    Gone(&'static str),
    /// Three heartbeats without a word.
    Silent,
    /// The client reads too slowly.
    TooSlow,
    /// The gate stops.
    Shutdown,
    /// The session was resumed on another connection.
    Replaced,
    /// The client broke the protocol, once too badly or once too often.
    Violation(FaultCode, String),
    /// The client logged out.
    Bye,
    /// A backend closed the session.
    Closed(FaultCode, String),
}

impl End {
    /// Whether the session outlives the connection.
    pub(crate) fn is_resumable(&self) -> bool {
        matches!(self, End::Gone(_) | End::Silent | End::TooSlow | End::Shutdown)
    }

    /// What backends and the client are told.
    pub(crate) fn code(&self) -> FaultCode {
        match self {
            End::Gone(_) | End::Silent => FaultCode::TimedOut,
            End::TooSlow => FaultCode::TooSlow,
            End::Shutdown => FaultCode::Shutdown,
            End::Replaced | End::Bye => FaultCode::Unspecified,
            End::Violation(code, _) | End::Closed(code, _) => *code,
        }
    }

    /// In words.
    pub(crate) fn text(&self) -> &str {
        match self {
            End::Gone(how) => how,
            End::Silent => "no answer to three heartbeats",
            End::TooSlow => "the client reads too slowly",
            End::Shutdown => "this gate stops; resume with your ticket",
            End::Replaced => "the session was resumed on another connection",
            End::Bye => "logged out",
            End::Violation(_, text) | End::Closed(_, text) => text,
        }
    }

    /// The last frame; none if nobody would read it.
    pub(crate) fn closing(&self, resumable: bool) -> Option<Frame> {
        if matches!(self, End::Gone(_)) {
            return None;
        }
        let text = shortened(self.text()).to_owned();
        Some(Frame::encode(0, &Closing { code: self.code().into(), text, resumable: resumable && self.is_resumable() }))
    }
}

/// As much of a text as a fault or a closing takes.
pub(crate) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// The handle of one connection.
#[derive(Debug)]
pub(crate) struct Socket {
    wake: Notify,
    ended: Notify,
    end: Mutex<Option<End>>,
    farewell: Mutex<Option<Bytes>>,
    wire: Mutex<Option<Wire>>,
    pulse: Mutex<Pulse>,
    since: Instant,
    /// Microseconds from `since` to the last word of the client.
    heard_us: AtomicU64,
}

impl Socket {
    /// Of a connection that begins now; with a wire if it is plain TCP.
    pub(crate) fn new(now: Instant, wire: Option<Wire>) -> Arc<Self> {
        Arc::new(Self {
            wake: Notify::new(),
            ended: Notify::new(),
            end: Mutex::new(None),
            farewell: Mutex::new(None),
            wire: Mutex::new(wire),
            pulse: Mutex::default(),
            since: now,
            heard_us: AtomicU64::new(0),
        })
    }

    /// Ends the connection; the first reason counts.
    pub(crate) fn end(&self, why: End) {
        self.end.lock().expect("no holder panics").get_or_insert(why);
        self.ended.notify_one();
    }

    /// Ends when somebody ended the connection. Only its own task waits for that. Cancel-safe.
    pub(crate) async fn ended(&self) -> End {
        loop {
            if let Some(end) = self.end.lock().expect("no holder panics").clone() {
                return end;
            }
            self.ended.notified().await;
        }
    }

    /// There may be something to write.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Ends when there may be something to write. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The short way to the client, if there is one.
    pub(crate) fn wire(&self) -> MutexGuard<'_, Option<Wire>> {
        self.wire.lock().expect("no holder panics")
    }

    /// What to write when all else is written.
    pub(crate) fn say_last(&self, frame: Frame) {
        *self.farewell.lock().expect("no holder panics") = Some(frame.into_bytes());
        self.wake.notify_one();
    }

    /// See [`Socket::say_last`].
    pub(crate) fn last_word(&self) -> Option<Bytes> {
        self.farewell.lock().expect("no holder panics").clone()
    }

    /// The client said something.
    pub(crate) fn heard(&self, now: Instant) {
        self.heard_us.store(self.us(now), Ordering::Relaxed);
    }

    /// How long the client has said nothing.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        Duration::from_micros(self.us(now).saturating_sub(self.heard_us.load(Ordering::Relaxed)))
    }

    /// The next heartbeat.
    pub(crate) fn beat(&self, now: Instant) -> Bytes {
        let mut pulse = self.pulse.lock().expect("no holder panics");
        let stamp_us = self.us(now);
        pulse.sent(stamp_us);
        let (rtt_us, jitter_us) = pulse.measured_us();
        Frame::encode(0, &Heartbeat { stamp_us, rtt_us, jitter_us }).into_bytes()
    }

    /// A heartbeat came back.
    pub(crate) fn beat_answered(&self, stamp_us: u64, now: Instant) {
        self.pulse.lock().expect("no holder panics").answered(stamp_us, self.us(now));
    }

    fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.since).as_micros()).unwrap_or(u64::MAX)
    }
}
