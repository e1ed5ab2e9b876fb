//! One client of a benchmark: it greets, logs in, answers heartbeats, counts what it hears, and carries out orders.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use client::bots::Samples;
use proto::{
    ClientMessage, Frame, FrameError,
    client::{
        CellMoves, Corrected, Entered, Heartbeat, HeartbeatAck, Hello, LoggedIn, Login, Move, Position, Resume, ResumeTicket, Resumed,
        WorldChatted,
    },
    frame,
    kinds::Direction,
};
use service::net::{self, TcpStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, watch},
    time::{Instant, sleep_until},
};

use super::{
    clients::{Act, Order},
    rig::age_us,
    schedule::Schedule,
};

/// One client in so many looks at what it reads, and measures its age; the others only count.
const LOOKS_ONE_IN: usize = 10;
/// Connections that are made at once.
const CONNECTING_MAX: usize = 64;
/// For a connection, on a machine that makes thousands.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// What the clients of one process share.
pub(super) struct Shared {
    address: SocketAddr,
    from: Option<IpAddr>,
    raw: bool,
    pub(super) connecting: Semaphore,
    /// Clients that are where they want to be.
    pub(super) here: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) latency: Mutex<Samples>,
}

impl Shared {
    /// For clients of a gate, or raw connections to something else; from a certain address of the machine, if one is given.
    pub(super) fn new(address: SocketAddr, from: Option<IpAddr>, raw: bool) -> Arc<Self> {
        let zero = AtomicU64::default;
        Arc::new(Self {
            address,
            from,
            raw,
            connecting: Semaphore::new(CONNECTING_MAX),
            here: zero(),
            frames: zero(),
            bytes: zero(),
            sent: zero(),
            lost: zero(),
            latency: Mutex::default(),
        })
    }

    pub(super) fn measured_us(&self, us: u64) {
        self.latency.lock().expect("no holder panics").0.saturating_record(us);
    }

    /// A socket, and nothing said yet.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        match self.from {
            Some(from) => net::connect_from(from, self.address, CONNECT_WITHIN).await,
            None => net::connect(self.address, CONNECT_WITHIN).await,
        }
    }
}

/// What there is to do, and since when.
pub(super) type Orders = watch::Receiver<Option<(Order, Instant)>>;

/// Is a client, for as long as there are orders.
pub(super) async fn run(shared: Arc<Shared>, number: usize, mut orders: Orders) {
    let mut ticket = None;
    loop {
        let Ok(mut client) = Client::connect(&shared, number, ticket.take()).await else {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        shared.here.fetch_add(1, Ordering::Relaxed);
        let ended = client.serve(&mut orders).await;
        shared.here.fetch_sub(1, Ordering::Relaxed);
        shared.lost.fetch_add(1, Ordering::Relaxed);
        match ended {
            Ok(Ended::OrdersOver) => return,
            Ok(Ended::ComesBack(at)) => {
                ticket = Some((client.ticket.clone(), client.received));
                drop(client);
                sleep_until(at).await;
            }
            Err(_) => (),
        }
    }
}

enum Ended {
    OrdersOver,
    /// It closed the connection, and is to be back from then on.
    ComesBack(Instant),
}

/// A client that is connected.
pub(super) struct Client<'a> {
    shared: &'a Shared,
    number: usize,
    pub(super) stream: TcpStream,
    buffer: BytesMut,
    /// Reliable messages, as the protocol counts them.
    received: u64,
    ticket: Bytes,
    schedule: Schedule,
}

impl<'a> Client<'a> {
    /// Connects; to a gate, into its world, or back into it by ticket.
    pub(super) async fn connect(shared: &'a Shared, number: usize, ticket: Option<(Bytes, u64)>) -> anyhow::Result<Self> {
        let _turn = shared.connecting.acquire().await.context("wait to connect")?;
        let stream = shared.connect().await?;
        let mut client =
            Self { shared, number, stream, buffer: BytesMut::new(), received: 0, ticket: Bytes::new(), schedule: Schedule::default() };
        match ticket {
            _ if shared.raw => (),
            None => client.log_in().await?,
            Some((ticket, received)) => client.resume(ticket, received).await?,
        }
        Ok(client)
    }

    async fn log_in(&mut self) -> anyhow::Result<()> {
        self.send(1, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: "bench".into() }).await?;
        self.send(2, &Login { account: "bench".into(), password: "of no importance".into() }).await?;
        self.until(Entered::KIND).await?;
        // The ticket comes from the gate, what is above from the backends: either may be first.
        while self.ticket.is_empty() {
            self.until(ResumeTicket::KIND).await?;
        }
        Ok(())
    }

    async fn resume(&mut self, ticket: Bytes, received: u64) -> anyhow::Result<()> {
        self.received = received;
        self.send(1, &Resume { protocol_version: proto::PROTOCOL_VERSION, ticket, received }).await?;
        self.until(Resumed::KIND).await?;
        while self.ticket.is_empty() {
            self.until(ResumeTicket::KIND).await?;
        }
        Ok(())
    }

    async fn send<M: ClientMessage>(&mut self, seq: u32, message: &M) -> anyhow::Result<()> {
        Ok(self.stream.write_all(Frame::encode(seq, message).bytes()).await?)
    }

    async fn until(&mut self, kind: u16) -> anyhow::Result<()> {
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, Direction::ToClient)? {
                self.hear(&frame).await?;
                match frame.kind() {
                    heard if heard == kind => return Ok(()),
                    proto::client::Fault::KIND | proto::client::Closing::KIND => bail!("refused"),
                    _ => (),
                }
            } else {
                self.read().await?;
            }
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(2048);
        let count = self.stream.read_buf(&mut self.buffer).await?;
        anyhow::ensure!(0 < count, "closed");
        self.shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn serve(&mut self, orders: &mut Orders) -> anyhow::Result<Ended> {
        loop {
            while let Some(frame) = split(&mut self.buffer, self.shared.raw)? {
                self.hear(&frame).await?;
            }
            let order = *orders.borrow_and_update();
            let next = order.and_then(|(order, since)| self.schedule.next(&order, since, self.number));
            let due = next.unwrap_or_else(Instant::now);
            if let Some((Order { act: Act::Resume, for_ms, .. }, since)) = order
                && since.elapsed() < Duration::from_millis(for_ms)
            {
                let share = self.number as u64 % 1000;
                return Ok(Ended::ComesBack(since + Duration::from_millis(200 + for_ms.saturating_sub(200) * share / 1000)));
            }
            tokio::select! {
                read = self.read() => read?,
                changed = orders.changed() => if changed.is_err() { return Ok(Ended::OrdersOver) },
                () = sleep_until(due), if next.is_some() => self.ask(due).await?,
            }
        }
    }

    async fn ask(&mut self, due: Instant) -> anyhow::Result<()> {
        self.schedule.sent(due);
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        self.send(0, &Move { to: Some(Position { x: 5, y: 5 }) }).await
    }

    async fn hear(&mut self, frame: &Frame) -> anyhow::Result<()> {
        if !self.shared.raw {
            self.received += u64::from(frame.info().is_some_and(|info| info.delivery.is_reliable()));
        }
        match frame.kind() {
            Heartbeat::KIND => {
                let stamp_us = frame.decode::<Heartbeat>()?.stamp_us;
                self.send(0, &HeartbeatAck { stamp_us, received: self.received }).await?;
            }
            ResumeTicket::KIND => self.ticket = frame.decode::<ResumeTicket>()?.ticket,
            Resumed::KIND => self.received *= u64::from(frame.decode::<Resumed>()?.continued),
            LoggedIn::KIND | Entered::KIND => (),
            WorldChatted::KIND => {
                self.shared.frames.fetch_add(1, Ordering::Relaxed);
                if let Ok(stamp) = frame.decode::<WorldChatted>()?.text.parse() {
                    self.shared.measured_us(age_us(stamp));
                }
            }
            Corrected::KIND | Move::KIND => {
                self.shared.frames.fetch_add(1, Ordering::Relaxed);
                if let Some(took) = self.schedule.answered() {
                    self.shared.measured_us(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                }
            }
            _ => {
                self.shared.frames.fetch_add(1, Ordering::Relaxed);
                if self.number.is_multiple_of(LOOKS_ONE_IN)
                    && let Ok(moves) = frame.decode::<CellMoves>()
                {
                    self.shared.measured_us(age_us(moves.tick));
                }
            }
        }
        Ok(())
    }
}

/// A gate sends frames of the zone; what it is compared with may also send back our own.
fn split(buffer: &mut BytesMut, raw: bool) -> Result<Option<Frame>, FrameError> {
    match frame::split(buffer, Direction::ToClient) {
        Err(FrameError::UnknownKind(_)) if raw => frame::split(buffer, Direction::ToServer),
        split => split,
    }
}
