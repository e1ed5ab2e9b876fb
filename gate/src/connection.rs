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
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::{
    framing::{self, Incoming},
    gate::Gate,
    limits::{Limits, Strike},
    session::{Next, Session},
    socket::{End, Socket, shortened},
    transport::{self, Accepted, Reader, Received, Writer},
    wire::Written,
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
/// The shortest time between two heartbeats or tickets.
const PERIOD_MIN: Duration = Duration::from_millis(1);
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
pub(crate) async fn run(gate: Arc<Gate>, accepted: Accepted, caller: Caller) {
    // In boxes: what only the beginning or the end of a connection needs costs no memory in between.
    if let Some(greeted) = Box::pin(begin(&gate, accepted, &caller)).await {
        Box::pin(play(&gate, greeted)).await;
    }
}

/// A client that may play.
struct Greeted {
    session: Arc<Session>,
    socket: Arc<Socket>,
    inbound: Inbound,
    writer: Writer,
}

async fn begin(gate: &Arc<Gate>, accepted: Accepted, caller: &Caller) -> Option<Greeted> {
    let (reader, mut writer) = match timeout_at(caller.deadline, transport::open(accepted, caller.tls.clone(), caller.websocket)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(err)) => {
            tracing::debug!(address = %caller.address, "failed to open {}: {err}", caller.transport());
            return None;
        }
        Err(_) => {
            tracing::debug!(address = %caller.address, "no {} within the deadline", caller.transport());
            return None;
        }
    };
    let mut inbound = Inbound { reader, buffer: BytesMut::new(), is_message: false };
    let greeted = tokio::select! {
        biased;
        () = gate.process.tasks.stopped() => Err(End::Shutdown),
        greeted = Box::pin(greet(gate, &mut inbound, &mut writer, caller)) => greeted,
    };
    match greeted {
        Ok((session, socket)) => Some(Greeted { session, socket, inbound, writer }),
        Err(end) => {
            refuse(gate, &end, inbound, writer).await;
            None
        }
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
                First::Hello(hello) => return welcome(gate, frame.seq(), &hello, limits, caller, writer),
                First::Resume(resume) => match gate.resume(frame.seq(), &resume, caller.address, writer.tcp()).await {
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

fn welcome(
    gate: &Gate,
    seq: u32,
    hello: &Hello,
    limits: Limits,
    caller: &Caller,
    writer: &Writer,
) -> Result<(Arc<Session>, Arc<Socket>), End> {
    let full = |_| End::Violation(FaultCode::TooManyConnections, "this gate is full".to_owned());
    let (session, socket) = gate.open(seq, caller.address, limits, writer.tcp()).map_err(full)?;
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

async fn play(gate: &Arc<Gate>, greeted: Greeted) {
    let Greeted { session, socket, mut inbound, writer } = greeted;
    // Whoever stops the gate ends the connections that there are at that moment.
    if gate.process.tasks.is_stopping() {
        socket.end(End::Shutdown);
    }
    // Not dropped half-way: a cut frame would make the last one unreadable.
    let mut writing = Box::pin(write_out(gate, &session, &socket, writer));
    let end = tokio::select! {
        biased;
        end = socket.ended() => end,
        end = &mut writing => end,
        end = read_in(gate, &session, &socket, &mut inbound) => end,
        end = keep_time(gate, &session, &socket) => end,
    };
    if let Some(closing) = settle(gate, &session, &socket, &end) {
        socket.say_last(closing);
        Box::pin(leave(inbound, writing)).await;
    }
    // The session may keep its handle; the connection is over.
    *socket.wire() = None;
}

/// What becomes of the session, and the last frame, if anybody would read it.
fn settle(gate: &Arc<Gate>, session: &Arc<Session>, socket: &Arc<Socket>, end: &End) -> Option<Frame> {
    let is_authenticated = session.state().is_authenticated();
    gate.settle(session, socket, end);
    gate.emit_disconnected(session, end);
    tracing::debug!(session = session.id, "connection ended: {}", end.text());
    let closing = end.closing(is_authenticated)?;
    if *end != End::Bye && *end != End::Replaced {
        let about = crate::gate::subject(session.id, &session.state());
        gate.emit_fault(&about, end.code(), shortened(end.text()));
    }
    Some(closing)
}

async fn leave(mut inbound: Inbound, writing: impl Future<Output = End>) {
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

/// Writes what others did not write themselves.
async fn write_out(gate: &Gate, session: &Session, socket: &Arc<Socket>, mut writer: Writer) -> End {
    let Some(tcp) = writer.tcp().cloned() else { return Box::pin(write_all_out(gate, session, socket, writer)).await };
    loop {
        let mut written = Written::default();
        let next = session.write_on(socket, &mut written);
        written.settle(&gate.metrics);
        // An idle client has no buffer.
        drop(written);
        match next {
            Next::Broken => return End::Gone("the connection broke"),
            Next::Blocked => match Box::pin(timeout(WRITE_WITHIN, tcp.writable())).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Gone("the connection broke"),
                Err(_) => return End::Gone("the client took nothing for too long"),
            },
            Next::Idle => match socket.last_word() {
                Some(last) => return Box::pin(say_last(&mut writer, &last)).await,
                None => socket.woken().await,
            },
        }
    }
}

/// One write for each wake, of all that waits.
async fn write_all_out(gate: &Gate, session: &Session, socket: &Arc<Socket>, mut writer: Writer) -> End {
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
            return say_last(&mut writer, &last).await;
        } else {
            socket.woken().await;
        }
    }
}

async fn say_last(writer: &mut Writer, last: &[u8]) -> End {
    // Nobody is left to tell of an error.
    _ = writer.write(&mut BytesMut::from(last)).await;
    _ = writer.close().await;
    End::Gone("closed")
}

/// Heartbeats and fresh tickets.
async fn keep_time(gate: &Gate, session: &Session, socket: &Socket) -> End {
    // A period of nothing would never let go of the thread; a zone file may name one.
    let heartbeat = gate.config.heartbeat.max(PERIOD_MIN);
    let renewal = gate.ticket_period().max(PERIOD_MIN);
    let (mut beat_at, mut renew_at) = (Instant::now() + heartbeat, Instant::now() + renewal);
    loop {
        sleep_until(beat_at.min(renew_at)).await;
        let now = Instant::now();
        if beat_at <= now {
            if heartbeat * SILENT_BEATS <= socket.silent_for(now) {
                return End::Silent;
            }
            session.say_bytes(Delivery::Control, proto::client::Heartbeat::KIND, socket.beat(now));
            beat_at = now + heartbeat;
        }
        if renew_at <= now {
            gate.give_ticket(session);
            renew_at = now + renewal;
        }
    }
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
