//! A connection to a gate that keeps its session alive: frames in and out, heartbeats answered, reliable messages counted.
//!
//! It has no task of its own: whoever owns it awaits [`Connection::next`], which also writes what waits. That is all that a bot needs;
//! [`crate::Client`] puts a task, requests and events around it.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, Waker},
    time::Duration,
};

use proto::{
    ClientMessage, Frame, PROTOCOL_VERSION,
    client::{Closing, Fault as WireFault, HeartbeatAck, Hello, Resumed, Welcome},
};
use tokio::time::{Instant, timeout};

use crate::{
    address::Address,
    fault::{ConnectionError, Fault},
    random::Random,
    session::Session,
    tls::Roots,
    transport::Transport,
};

/// Bytes that may wait for the socket; more are refused with [`ConnectionError::Full`].
pub const OUTGOING_BYTES_MAX: usize = 256 * 1024;

/// How connections are made.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Name and version of the program, for the zone's logs; at most 64 bytes, the rest is cut off.
    pub program: String,
    /// Who may vouch for a gate with TLS.
    pub roots: Roots,
    /// How long connecting and greeting may take.
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        let program = concat!("paifang-client/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { program, roots: Roots::System, timeout: Duration::from_secs(10) }
    }
}

/// How long to wait between attempts: doubling from `first` to `most`, each shortened by up to half, by chance.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
    /// No attempt starts after so long.
    pub give_up: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(3), give_up: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait before attempt `attempt` (the first is 0 and waits for a part of `first`, so that a crowd does not come at once).
    pub fn wait(&self, attempt: u32, random: &mut Random) -> Duration {
        let full = self.first.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(self.most);
        full - random.up_to(full / 2)
    }
}

/// A connection to a gate.
pub struct Connection {
    transport: Transport,
    heard: Heard,
    last_seq: u32,
}

/// What the gate has said so far, as far as the connection is concerned.
struct Heard {
    session: Session,
    at: Instant,
    closing: Option<(Fault, bool)>,
}

impl Heard {
    /// Takes note of a frame, and says what has to be answered at once.
    fn note(&mut self, frame: &Frame, now: Instant) -> Option<HeartbeatAck> {
        self.at = now;
        if frame.kind() == Closing::KIND
            && let Ok(closing) = frame.decode::<Closing>()
        {
            let fault = Fault { code: closing.code(), text: closing.text, retry: None };
            self.closing = Some((fault, closing.resumable));
        }
        self.session.note(frame)
    }
}

impl Connection {
    /// Connects, and says nothing yet.
    ///
    /// # Errors
    /// When nobody answers there, or not in time.
    pub async fn open(address: &Address, options: &ConnectOptions) -> Result<Self, ConnectionError> {
        let failed = |source| ConnectionError::Connect { address: address.clone(), source };
        let connecting = Box::pin(Transport::connect(address, &options.roots));
        let transport = timeout(options.timeout, connecting).await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
        let heard = Heard { session: Session::default(), at: Instant::now(), closing: None };
        Ok(Self { transport, heard, last_seq: 0 })
    }

    /// Connects and greets.
    ///
    /// # Errors
    /// As [`Connection::open`]; or when the gate refuses the greeting.
    pub async fn greet(address: &Address, options: &ConnectOptions) -> Result<Self, ConnectionError> {
        let mut connection = Self::open(address, options).await?;
        let mut program = options.program.clone();
        program.truncate(program.floor_char_boundary(64));
        connection.queue(&Hello { protocol_version: PROTOCOL_VERSION, client: program })?;
        connection.first_answer::<Welcome>(options.timeout).await?;
        Ok(connection)
    }

    /// Connects and brings a session back. What the session's count and ticket become is in [`Connection::session`].
    ///
    /// # Errors
    /// As [`Connection::open`]; when the session has no ticket; when the gate refuses it.
    pub async fn resume(address: &Address, options: &ConnectOptions, session: &Session) -> Result<(Self, Resumed), ConnectionError> {
        let resume = session.resume().ok_or(ConnectionError::NoTicket)?;
        let mut connection = Self::open(address, options).await?;
        connection.adopt(session);
        connection.queue(&resume)?;
        let resumed = connection.first_answer::<Resumed>(options.timeout).await?;
        Ok((connection, resumed))
    }

    /// Resumes at one of these gates, the first one first, until one takes the session, refuses it, or `backoff` gives up.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn reconnect(
        gates: &[Address],
        options: &ConnectOptions,
        session: &Session,
        backoff: &Backoff,
        random: &mut Random,
    ) -> Result<(Self, Resumed), ConnectionError> {
        Self::reconnect_telling(gates, options, session, backoff, random, |_| ()).await
    }

    /// As [`Connection::reconnect`]; `failed` is told why each attempt failed.
    pub(crate) async fn reconnect_telling(
        gates: &[Address],
        options: &ConnectOptions,
        session: &Session,
        backoff: &Backoff,
        random: &mut Random,
        mut failed: impl FnMut(&ConnectionError),
    ) -> Result<(Self, Resumed), ConnectionError> {
        let started = Instant::now();
        let mut attempt = 0u32;
        loop {
            tokio::time::sleep(backoff.wait(attempt, random)).await;
            let Some(gate) = gates.get(attempt as usize % gates.len().max(1)) else { return Err(ConnectionError::NoTicket) };
            let error = match Box::pin(Self::resume(gate, options, session)).await {
                Ok(resumed) => return Ok(resumed),
                Err(error) => error,
            };
            failed(&error);
            if !error.is_resumable() || backoff.give_up <= started.elapsed() {
                return Err(error);
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// What is known of the session.
    pub fn session(&self) -> &Session {
        &self.heard.session
    }

    /// Bytes received since the connection was made.
    pub fn received_bytes(&self) -> u64 {
        self.transport.received_bytes()
    }

    /// How long ago the gate was last heard. Longer than [`Session::silence_max`]: the connection is as good as lost.
    pub fn silent_for(&self) -> Duration {
        self.heard.at.elapsed()
    }

    /// Queues a message under a new number, which is given back; awaiting [`Connection::next`] or [`Connection::flush`] sends it.
    ///
    /// # Errors
    /// When too much waits already.
    ///
    /// # Panics
    /// When the body is longer than its kind allows.
    pub fn queue<M: ClientMessage>(&mut self, message: &M) -> Result<u32, ConnectionError> {
        let seq = self.next_seq();
        self.queue_bytes(Frame::encode(seq, message).bytes())?;
        Ok(seq)
    }

    /// Queues bytes as they are, be they frames or not.
    ///
    /// # Errors
    /// When too much waits already.
    pub fn queue_bytes(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        if OUTGOING_BYTES_MAX < self.transport.queued().saturating_add(bytes.len()) {
            return Err(ConnectionError::Full);
        }
        self.transport.queue(bytes);
        Ok(())
    }

    /// The number of the next request: never 0.
    pub fn next_seq(&mut self) -> u32 {
        self.last_seq = self.last_seq.checked_add(1).unwrap_or(1);
        self.last_seq
    }

    /// Waits until the socket has taken all that was queued. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.transport.poll_flush(cx)).await.map_err(ConnectionError::Lost)
    }

    /// The next frame, whatever its kind. Writes what is queued meanwhile, and answers heartbeats. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is lost or was closed; with the gate's own reason, if it gave one.
    pub async fn next(&mut self) -> Result<Frame, ConnectionError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, ConnectionError>> {
        // A gate that hangs up has often said why: what it still sent is read before a failed write counts.
        let write_failed = match self.transport.poll_flush(cx) {
            Poll::Ready(Err(error)) => Some(error),
            _ => None,
        };
        let frame = match self.transport.poll_frame(cx) {
            Poll::Ready(Ok(Some(frame))) => frame,
            Poll::Ready(Ok(None)) => return Poll::Ready(Err(self.ended(io::ErrorKind::UnexpectedEof.into()))),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.ended(error))),
            Poll::Pending => match write_failed {
                Some(error) => return Poll::Ready(Err(self.ended(error))),
                None => return Poll::Pending,
            },
        };
        if let Some(ack) = self.heard.note(&frame, Instant::now()) {
            self.acknowledge(&ack);
        }
        if let Poll::Ready(Err(error)) = self.transport.poll_flush(cx) {
            tracing::trace!(%error, "failed to flush; the next read tells");
        }
        Poll::Ready(Ok(frame))
    }

    /// As [`crate::quiet::QuietConnection::fetch`].
    pub(crate) fn fetch(&mut self, now: Instant, mut take: impl FnMut(&Frame)) -> Result<(), ConnectionError> {
        let Self { transport, heard, .. } = self;
        let mut ack = None;
        let fetched = transport.fetch(|frame| {
            // Of several heartbeats the last one's answer says what the others' would.
            ack = heard.note(&frame, now).or(ack.take());
            take(&frame);
        });
        match fetched {
            Ok(true) => {}
            Ok(false) => return Err(self.ended(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(self.ended(error)),
        }
        if let Some(ack) = ack {
            self.acknowledge(&ack);
        }
        self.push_out();
        Ok(())
    }

    /// Hands to a quiet socket what it takes now. What went wrong is told by the next read, with the gate's reason.
    pub(crate) fn push_out(&mut self) {
        if let Poll::Ready(Err(error)) = self.transport.poll_flush(&mut Context::from_waker(Waker::noop())) {
            tracing::trace!(%error, "failed to write; the next read tells");
        }
    }

    pub(crate) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn acknowledge(&mut self, ack: &HeartbeatAck) {
        // An acknowledgement that finds no room is missed by nobody: the next one says more.
        if let Err(error) = self.queue(ack) {
            tracing::debug!("failed to acknowledge a heartbeat: {error}");
        }
    }

    fn ended(&mut self, error: io::Error) -> ConnectionError {
        match self.heard.closing.take() {
            Some((fault, resumable)) => ConnectionError::Closing { fault, resumable },
            None => ConnectionError::Lost(error),
        }
    }

    /// What the gate says to `Hello` and `Resume`: the one message that the protocol allows, or a refusal.
    async fn first_answer<M: ClientMessage>(&mut self, within: Duration) -> Result<M, ConnectionError> {
        let frame = timeout(within, self.next()).await.map_err(|_| ConnectionError::Silent(within))??;
        match frame.kind() {
            kind if kind == M::KIND => frame.decode().map_err(|_| ConnectionError::Unexpected(M::INFO.name)),
            WireFault::KIND => {
                let fault: WireFault = frame.decode().map_err(|_| ConnectionError::Unexpected(WireFault::INFO.name))?;
                Err(ConnectionError::Refused(fault.into()))
            }
            Closing::KIND => match self.heard.closing.take() {
                Some((fault, _)) => Err(ConnectionError::Refused(fault)),
                None => Err(ConnectionError::Unexpected(Closing::INFO.name)),
            },
            _ => Err(ConnectionError::Unexpected(frame.info().map_or("an unknown kind", |info| info.name))),
        }
    }

    /// Goes on with a session's count and ticket; for whoever sends `Resume` himself.
    pub(crate) fn adopt(&mut self, session: &Session) {
        self.heard.session = session.detached();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_grow_to_their_most_and_never_vanish(seed: u64, attempt in 0u32..80) {
            let backoff = Backoff::default();
            let wait = backoff.wait(attempt, &mut Random::new(seed));
            prop_assert!(wait <= backoff.most);
            prop_assert!(backoff.first / 2 <= wait);
        }
    }
}
