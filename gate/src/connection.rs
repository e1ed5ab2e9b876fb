//! One client's connection, from its upgrade to its last byte: one task each.
//!
//! A connection is *greeted* (one `Hello` or `Resume`, before the deadline) and then *plays*: it reads, writes and keeps time side by
//! side until one of them, or somebody else through the session's socket, names an [`End`]. Then the session is settled, the client is
//! told why, and what is still unread is passed over, so that the last frame arrives.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use proto::{
    ClientMessage, Frame, FrameError,
    client::{Fault, FaultCode, Hello, Resume},
    event::{self, event::Body},
    kinds::{Bucket, Delivery},
};
use service::events::Subject;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::{
    framing::{self, Incoming},
    gate::Gate,
    limits::{Limits, Strike},
    outbox::FrameKey,
    session::Session,
    socket::{End, Socket, shortened},
    transport::{self, BoxIo, Reader, Received, Writer},
};

/// From accept to `Hello` or `Resume`, upgrades included.
pub(crate) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// A client that takes nothing for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// For the last frame and what is queued before it.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// For a client to close its side after the last frame.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are passed over in that time.
const LINGER_BYTES_MAX: usize = 64 * 1024;
/// Heartbeats without a word after which a client is gone.
const SILENT_BEATS: u32 = 3;
/// Bytes of the client's name that are kept, for the logs.
const CLIENT_NAME_BYTES_MAX: usize = 64;

/// Who connects, and how.
pub(crate) struct Caller {
    /// From where.
    pub address: IpAddr,
    /// When the greeting must be over.
    pub deadline: Instant,
    /// Whether it speaks TLS first.
    pub tls: Option<TlsAcceptor>,
    /// Whether it speaks WebSocket then.
    pub websocket: bool,
}

impl Caller {
    fn transport(&self) -> &'static str {
        match (self.websocket, self.tls.is_some()) {
            (false, false) => "tcp",
            (false, true) => "tcp+tls",
            (true, false) => "websocket",
            (true, true) => "websocket+tls",
        }
    }
}

/// Serves a client to the end of its connection.
pub(crate) async fn run(gate: Arc<Gate>, io: BoxIo, caller: Caller) {
    let opened = timeout_at(caller.deadline, transport::open(io, caller.tls.clone(), caller.websocket)).await;
    let (reader, mut writer) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(err)) => return tracing::debug!(address = %caller.address, "failed to open {}: {err}", caller.transport()),
        Err(_) => return tracing::debug!(address = %caller.address, "no {} within the deadline", caller.transport()),
    };
    let mut inbound = Inbound { reader, buffer: BytesMut::new(), is_message: false };
    let greeted = tokio::select! {
        biased;
        () = gate.process.tasks.stopped() => Err(End::Shutdown),
        greeted = Box::pin(greet(&gate, &mut inbound, &mut writer, &caller)) => greeted,
    };
    match greeted {
        Ok((session, socket)) => Box::pin(play(&gate, &session, &socket, inbound, writer)).await,
        Err(end) => refuse(&gate, &end, inbound, writer).await,
    }
}

// ---- the greeting

async fn greet(gate: &Arc<Gate>, inbound: &mut Inbound, writer: &mut Writer, caller: &Caller) -> Result<(Arc<Session>, Arc<Socket>), End> {
    let mut limits = Limits::new(Instant::now());
    loop {
        let late = |_| End::Violation(FaultCode::TimedOut, "no greeting within the deadline".to_owned());
        let incoming = timeout_at(caller.deadline, inbound.next()).await.map_err(late)??;
        let (seq, fault) = match incoming {
            Some(Incoming::Frame(frame)) => match first_word(&frame)? {
                First::Hello(hello) => return welcome(gate, frame.seq(), &hello, limits, caller),
                First::Resume(resume) => match gate.resume(frame.seq(), &resume, caller.address).await {
                    Ok(back) => return Ok(back),
                    Err(fault) => (frame.seq(), fault),
                },
                First::Neither(fault) => (frame.seq(), fault),
            },
            Some(Incoming::Unknown { kind, seq }) => {
                (seq, Fault::new(FaultCode::UnknownKind, format!("no message that a client may send has kind {kind:#06x}")))
            }
            None => (0, Fault::new(FaultCode::IllegalState, "a connection begins with Hello or Resume")),
        };
        if !limits.strike(Strike::Violation, Instant::now()) {
            return Err(End::Violation(fault.code(), fault.text));
        }
        gate.metrics.strikes.increment(1);
        gate.emit_fault(&Subject::default(), fault.code(), &fault.text);
        let mut bytes = BytesMut::from(&Frame::encode(seq, &fault).into_bytes()[..]);
        let written = timeout_at(Instant::now() + WRITE_WITHIN, writer.write(&mut bytes)).await;
        written.map_err(|_| End::Gone("the client took nothing"))?.map_err(|_| End::Gone("the connection broke"))?;
    }
}

enum First {
    Hello(Hello),
    Resume(Resume),
    Neither(Fault),
}

fn first_word(frame: &Frame) -> Result<First, End> {
    let malformed = |_| Fault::new(FaultCode::Malformed, "the body is no message of its kind");
    let first = match frame.kind() {
        Hello::KIND => frame.decode().map_or_else(|err| First::Neither(malformed(err)), First::Hello),
        Resume::KIND => frame.decode().map_or_else(|err| First::Neither(malformed(err)), First::Resume),
        _ => First::Neither(Fault::new(FaultCode::IllegalState, "a connection begins with Hello or Resume")),
    };
    let version = match &first {
        First::Hello(hello) => hello.protocol_version,
        First::Resume(resume) => resume.protocol_version,
        First::Neither(_) => return Ok(first),
    };
    if version != proto::PROTOCOL_VERSION {
        let text = format!("this gate speaks protocol version {}, not {version}", proto::PROTOCOL_VERSION);
        return Err(End::Violation(FaultCode::WrongVersion, text));
    }
    Ok(first)
}

fn welcome(gate: &Gate, seq: u32, hello: &Hello, limits: Limits, caller: &Caller) -> Result<(Arc<Session>, Arc<Socket>), End> {
    let full = |_| End::Violation(FaultCode::TooManyConnections, "this gate is full".to_owned());
    let (session, socket) = gate.open(seq, caller.address, limits).map_err(full)?;
    let connected = event::Connected {
        address: caller.address.to_string(),
        transport: caller.transport().to_owned(),
        client: hello.client[..hello.client.floor_char_boundary(CLIENT_NAME_BYTES_MAX)].to_owned(),
    };
    gate.process.events.emit(&Subject { session: session.id, ..Subject::default() }, Body::Connected(connected));
    Ok((session, socket))
}

/// Says why to a client that has no session.
async fn refuse(gate: &Gate, end: &End, mut inbound: Inbound, mut writer: Writer) {
    let Some(closing) = end.closing(false) else { return };
    gate.emit_fault(&Subject::default(), end.code(), end.text());
    let mut bytes = BytesMut::from(&closing.into_bytes()[..]);
    let last = async {
        writer.write(&mut bytes).await?;
        writer.close().await
    };
    if let Ok(Ok(())) = timeout(CLOSE_WITHIN, last).await {
        _ = timeout(LINGER, inbound.reader.drain(LINGER_BYTES_MAX)).await;
    }
}

// ---- the session

async fn play(gate: &Arc<Gate>, session: &Arc<Session>, socket: &Arc<Socket>, mut inbound: Inbound, writer: Writer) {
    // Not dropped half-way: a cut frame would make the last one unreadable.
    let mut writing = Box::pin(write_out(gate, session, socket, writer));
    let end = tokio::select! {
        biased;
        end = socket.ended() => end,
        () = gate.process.tasks.stopped() => End::Shutdown,
        end = &mut writing => end,
        end = read_in(gate, session, socket, &mut inbound) => end,
        end = keep_time(gate, session, socket) => end,
    };
    let is_authenticated = session.state().is_authenticated();
    gate.settle(session, socket, &end);
    gate.emit_disconnected(session, &end);
    tracing::debug!(session = session.id, "connection ended: {}", end.text());
    let Some(closing) = end.closing(is_authenticated) else { return };
    if end != End::Bye && end != End::Replaced {
        let about = crate::gate::subject(session.id, &session.state());
        gate.emit_fault(&about, end.code(), shortened(end.text()));
    }
    socket.say_last(closing);
    if timeout(CLOSE_WITHIN, writing).await.is_ok() {
        _ = timeout(LINGER, inbound.reader.drain(LINGER_BYTES_MAX)).await;
    }
}

async fn read_in(gate: &Gate, session: &Session, socket: &Arc<Socket>, inbound: &mut Inbound) -> End {
    loop {
        let handled = match inbound.next().await {
            Ok(Some(incoming)) => gate.on_client(session, socket, incoming),
            Ok(None) => on_ping(session, socket),
            Err(end) => Err(end),
        };
        if let Err(end) = handled {
            return end;
        }
    }
}

/// Pings of the transport are free up to a rate.
fn on_ping(session: &Session, socket: &Socket) -> Result<(), End> {
    let now = Instant::now();
    socket.heard(now);
    let mut state = session.state();
    if state.limits.message(Bucket::Control, now).is_ok() || state.limits.strike(Strike::Violation, now) {
        return Ok(());
    }
    Err(End::Violation(FaultCode::RateLimited, "a flood of pings".to_owned()))
}

/// One write for each wake, of all that waits.
async fn write_out(gate: &Gate, session: &Session, socket: &Arc<Socket>, mut writer: Writer) -> End {
    let mut buffer = BytesMut::new();
    loop {
        if session.take(socket, &mut buffer, Instant::now()) {
            let length = buffer.len();
            match timeout(WRITE_WITHIN, writer.write(&mut buffer)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Gone("the connection broke"),
                Err(_) => return End::Gone("the client took nothing for too long"),
            }
            gate.metrics.writes.increment(1);
            gate.metrics.sent_bytes.increment(length as u64);
            gate.metrics.dropped.increment(session.written(socket));
        } else if let Some(last) = socket.last_word() {
            buffer.extend_from_slice(&last);
            // Nobody is left to tell of an error.
            _ = writer.write(&mut buffer).await;
            _ = writer.close().await;
            return End::Gone("closed");
        } else {
            socket.woken().await;
        }
    }
}

/// Heartbeats and fresh tickets.
async fn keep_time(gate: &Gate, session: &Session, socket: &Socket) -> End {
    let heartbeat = gate.config.heartbeat;
    let mut beats = every(heartbeat);
    let mut tickets = every(gate.ticket_period());
    loop {
        tokio::select! {
            now = beats.tick() => {
                if heartbeat * SILENT_BEATS <= socket.silent_for(now) {
                    return End::Silent;
                }
                let key = FrameKey { link: 0, group: None, kind: proto::client::Heartbeat::KIND };
                session.put(Delivery::Control, key, socket.beat(Instant::now()), None);
            }
            _ = tickets.tick() => gate.give_ticket(session),
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    // An interval of nothing panics; a zone file may name one.
    let period = period.max(Duration::from_millis(1));
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

// ---- what comes in

/// The reading half with what was read and not yet handled.
struct Inbound {
    reader: Reader,
    buffer: BytesMut,
    /// Whether the buffer is the rest of one WebSocket message, which must be whole frames.
    is_message: bool,
}

impl Inbound {
    /// What the client said next; `None`: only that it lives. The rest of a frame stays in the buffer, so this is cancel-safe.
    async fn next(&mut self) -> Result<Option<Incoming>, End> {
        loop {
            match framing::next(&mut self.buffer) {
                Ok(Some(incoming)) => return Ok(Some(incoming)),
                Ok(None) if self.is_message && !self.buffer.is_empty() => return Err(unframeable(&FrameError::NotOne)),
                Ok(None) => {}
                Err(err) => return Err(unframeable(&err)),
            }
            match self.reader.read(&mut self.buffer).await {
                Received::Bytes => {}
                Received::Message if self.buffer.is_empty() => return Ok(None),
                Received::Message => self.is_message = true,
                Received::Ping => return Ok(None),
                Received::Text => return Err(End::Violation(FaultCode::Malformed, "text messages are not taken".to_owned())),
                Received::Oversize => return Err(End::Violation(FaultCode::Oversize, "the WebSocket message is too long".to_owned())),
                Received::Malformed => return Err(End::Violation(FaultCode::Malformed, "these bytes are no WebSocket".to_owned())),
                Received::End => return Err(End::Gone("the client closed the connection")),
            }
        }
    }
}

fn unframeable(err: &FrameError) -> End {
    let code = if matches!(err, FrameError::TooLong { .. }) { FaultCode::Oversize } else { FaultCode::Malformed };
    End::Violation(code, err.to_string())
}
