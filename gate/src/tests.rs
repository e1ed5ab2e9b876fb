//! A gate between clients over in-memory connections and backends over real links, which the tests play themselves.

mod coming_back;
mod from_outside;
mod hostile;
mod talk;
mod to_and_fro;

use std::{
    collections::VecDeque,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use proto::{
    ClientMessage, Frame,
    client::{Closing, Fault, FaultCode, Heartbeat, Hello, LoggedIn, Resume, ResumeTicket, Resumed, Welcome},
    frame,
    internal::{SessionAuthenticated, SessionBound, SessionOpened},
    kinds::Direction,
    link::{self, LinkFrame, Notice},
};
use service::{
    Handler, IncomingCall, Link, Links, Process, ProcessId, ProcessKind, Zone,
    config::{GateConfig, Role},
    link::LinkConfig,
    members::{Member, Members},
    random::Random,
    secret::ZoneSecret,
    tasks::Tasks,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{
    connection::{self, Caller, HANDSHAKE_WITHIN},
    gate::Gate,
    handler::FromBackends,
    transport::Accepted,
};

/// Whatever a test waits for must be there by then.
const SOON: Duration = Duration::from_secs(10);

// ---- backends

#[derive(Debug)]
enum Seen {
    Up(Link),
    Down,
    Frame(LinkFrame),
    Call(IncomingCall),
}

struct Ear(mpsc::UnboundedSender<Seen>);

impl Handler for Ear {
    async fn on_up(&self, link: &Link) {
        _ = self.0.send(Seen::Up(link.clone()));
    }
    async fn on_down(&self, _: &Link) {
        _ = self.0.send(Seen::Down);
    }
    async fn on_frame(&self, _: &Link, frame: LinkFrame) {
        _ = self.0.send(Seen::Frame(frame));
    }
    async fn on_call(&self, _: &Link, call: IncomingCall) {
        _ = self.0.send(Seen::Call(call));
    }
}

/// A login, center or scene that a test plays.
struct Backend {
    links: Links,
    tasks: Tasks,
    seen: mpsc::UnboundedReceiver<Seen>,
    passed_over: VecDeque<Seen>,
    link: Option<Link>,
}

impl Backend {
    async fn start(zone: &Zone, id: &str, kind: ProcessKind) -> Backend {
        let (ear, seen) = mpsc::unbounded_channel();
        // Gates only: a fake dials nobody.
        let gates = ["gate-1", "gate-2"].map(|id| Member {
            id: ProcessId(id.into()),
            kind: ProcessKind::Gate,
            host: None,
            link: "127.0.0.1:1".parse().unwrap(),
        });
        let (source, members) = Members::new(gates.to_vec());
        std::mem::forget(source);
        let tasks = Tasks::new();
        let config = LinkConfig {
            id: ProcessId(id.into()),
            kind,
            incarnation: 1,
            zone: zone.name.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            secret: ZoneSecret::new(b"a secret of tests"),
            members,
            random: Random::new(7),
            tasks: tasks.clone(),
        };
        let links = Links::start_with(config, Arc::new(Ear(ear))).await.unwrap();
        Backend { links, tasks, seen, passed_over: VecDeque::new(), link: None }
    }

    async fn next(&mut self) -> Seen {
        timeout(SOON, self.seen.recv()).await.expect("a backend hears it soon").expect("the handler lives")
    }

    async fn up(&mut self) {
        loop {
            if let Seen::Up(link) = self.next().await {
                self.link = Some(link);
                return;
            }
        }
    }

    fn link(&self) -> &Link {
        self.link.as_ref().expect("the link is up")
    }

    /// The next frame that is wanted; others are kept for later.
    async fn frame(&mut self, wanted: impl Fn(&LinkFrame) -> bool) -> LinkFrame {
        let is_wanted = |seen: &Seen| matches!(seen, Seen::Frame(frame) if wanted(frame));
        if let Some(place) = self.passed_over.iter().position(is_wanted)
            && let Some(Seen::Frame(frame)) = self.passed_over.remove(place)
        {
            return frame;
        }
        loop {
            match self.next().await {
                Seen::Frame(frame) if wanted(&frame) => return frame,
                other => self.passed_over.push_back(other),
            }
        }
    }

    async fn notice<N: Notice>(&mut self, session: u64) -> N {
        let frame = self.frame(|frame| frame.kind == N::KIND && frame.id == session).await;
        N::decode(frame.body).unwrap()
    }

    async fn forwarded(&mut self, session: u64) -> Frame {
        let frame = self.frame(|frame| frame.kind == link::FORWARD && frame.id == session).await;
        Frame::from_bytes(frame.body).unwrap()
    }

    async fn call(&mut self) -> IncomingCall {
        loop {
            if let Seen::Call(call) = self.next().await {
                return call;
            }
        }
    }

    fn deliver<M: ClientMessage>(&self, session: u64, seq: u32, message: &M) {
        self.link().deliver(session, Frame::encode(seq, message)).unwrap();
    }

    /// Ends when the gate has handled all that this scene sent: it answers a notice about a session that does not exist.
    async fn settled(&mut self) {
        self.link().notify(1, &SessionBound::default()).unwrap();
        self.notice::<proto::internal::SessionEnded>(1).await;
    }
}

// ---- the gate

struct TestGate {
    gate: Arc<Gate>,
    _links: Links,
}

struct TestZone {
    zone: Zone,
    data: tempfile::TempDir,
    gate: TestGate,
    login: Backend,
    center: Backend,
    scene: Backend,
}

type Change = fn(&mut Zone, &mut GateConfig);

impl TestZone {
    async fn start() -> TestZone {
        Self::start_with(|_, _| {}).await
    }

    async fn start_with(change: Change) -> TestZone {
        let data = tempfile::tempdir().unwrap();
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/zone.yaml"));
        let mut zone = Zone::load(file, data.path()).unwrap();
        let login = Backend::start(&zone, "login-1", ProcessKind::Login).await;
        let center = Backend::start(&zone, "center-1", ProcessKind::Center).await;
        let scene = Backend::start(&zone, "scene-1", ProcessKind::Scene).await;
        zone.processes.retain(|id, _| ["gate-1", "login-1", "center-1", "scene-1"].contains(&id.0.as_str()));
        for (id, backend) in [("login-1", &login), ("center-1", &center), ("scene-1", &scene)] {
            zone.processes.get_mut(&ProcessId(id.into())).unwrap().link = backend.links.local_addr();
        }
        let own = zone.processes.get_mut(&ProcessId("gate-1".into())).unwrap();
        own.link = "127.0.0.1:0".parse().unwrap();
        own.admin = "127.0.0.1:0".parse().unwrap();
        let Role::Gate(mut config) = own.role.clone() else { unreachable!() };
        config.clients = "127.0.0.1:0".parse().unwrap();
        config.websocket = Some("127.0.0.1:0".parse().unwrap());
        change(&mut zone, &mut config);
        zone.processes.get_mut(&ProcessId("gate-1".into())).unwrap().role = Role::Gate(config);
        let gate = TestGate::start(&zone, "gate-1", data.path()).await;
        let mut test = TestZone { zone, data, gate, login, center, scene };
        test.up().await;
        test
    }

    async fn up(&mut self) {
        self.login.up().await;
        self.center.up().await;
        self.scene.up().await;
        timeout(SOON, self.gate.gate.process.ready.ready()).await.expect("the gate is ready soon");
    }

    /// A second gate, or the first one after a restart that has lost all memory.
    async fn another_gate(&mut self) -> TestGate {
        let mut own = self.zone.processes.get(&ProcessId("gate-1".into())).unwrap().clone();
        own.id = ProcessId("gate-2".into());
        self.zone.processes.insert(own.id.clone(), own);
        let gate = TestGate::start(&self.zone, "gate-2", self.data.path()).await;
        self.login.up().await;
        self.center.up().await;
        self.scene.up().await;
        timeout(SOON, gate.gate.process.ready.ready()).await.expect("the gate is ready soon");
        gate
    }

    fn client(&self) -> Client {
        self.gate.client()
    }

    /// A client that is logged in to account 5.
    async fn logged_in(&mut self) -> Client {
        let mut client = self.client();
        client.greet().await;
        self.login.link().notify(client.session, &authenticated()).unwrap();
        self.login.deliver(client.session, 0, &LoggedIn::default());
        client.expect::<LoggedIn>().await;
        client
    }

    /// A client whose player 9 is in the world.
    async fn playing(&mut self) -> Client {
        let mut client = self.logged_in().await;
        self.bind(&mut client).await;
        client
    }

    async fn bind<S: AsyncRead + AsyncWrite + Unpin>(&mut self, client: &mut Client<S>) {
        self.scene.link().notify(client.session, &SessionBound { player: 9, player_name: "Nine".into() }).unwrap();
        self.scene.deliver(client.session, 0, &proto::client::Entered::default());
        client.expect::<proto::client::Entered>().await;
    }
}

fn authenticated() -> SessionAuthenticated {
    SessionAuthenticated { account: 5, account_name: "five".into(), session_epoch: 3 }
}

impl TestGate {
    async fn start(zone: &Zone, id: &str, data: &Path) -> TestGate {
        let process = Process::for_test(zone, id, data);
        let Role::Gate(config) = process.config.role.clone() else { unreachable!() };
        let gate = Gate::new(process.clone(), config);
        let links = Links::start(&process, Arc::new(FromBackends(gate.clone()))).await.unwrap();
        TestGate { gate, _links: links }
    }

    fn client(&self) -> Client {
        self.client_with(64 * 1024)
    }

    /// A client between which and the gate this many bytes may be on their way.
    fn client_with(&self, bytes_max: usize) -> Client {
        self.client_until(bytes_max, Instant::now() + HANDSHAKE_WITHIN)
    }

    fn client_until(&self, bytes_max: usize, deadline: Instant) -> Client {
        let (ours, theirs) = tokio::io::duplex(bytes_max);
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Counted { io: theirs, writes: writes.clone() };
        let caller = Caller { address: "10.1.2.3".parse().unwrap(), deadline, tls: None, websocket: false };
        let (gate, held) = (self.gate.clone(), self.gate.connections.token());
        self.gate.process.tasks.spawn("client", async move {
            connection::run(gate, Accepted::Other(Box::new(counted)), caller).await;
            drop(held);
        });
        Client { io: ours, buffer: BytesMut::new(), session: 0, received: 0, tickets: Vec::new(), writes }
    }
}

/// Counts the writes of the gate.
struct Counted {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if written.is_ready() {
            self.writes.fetch_add(1, Ordering::SeqCst);
        }
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

// ---- clients

/// A client that counts as the protocol says.
struct Client<S = DuplexStream> {
    io: S,
    buffer: BytesMut,
    session: u64,
    received: u64,
    tickets: Vec<Bytes>,
    writes: Arc<AtomicUsize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send<M: ClientMessage>(&mut self, seq: u32, message: &M) {
        self.send_bytes(&Frame::encode(seq, message).into_bytes()).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        timeout(SOON, self.io.write_all(bytes)).await.expect("the gate reads soon").expect("the gate reads");
    }

    /// The next frame; `None`: the gate closed the connection.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, Direction::ToClient).unwrap() {
                self.note(&frame);
                return Some(frame);
            }
            let read = timeout(SOON, self.io.read_buf(&mut self.buffer)).await.expect("the gate says something soon");
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    fn note(&mut self, frame: &Frame) {
        match frame.kind() {
            Welcome::KIND => {
                self.session = frame.decode::<Welcome>().unwrap().session;
                self.received = 0;
            }
            Resumed::KIND => {
                let resumed = frame.decode::<Resumed>().unwrap();
                self.session = resumed.session;
                self.received *= u64::from(resumed.continued);
            }
            ResumeTicket::KIND => self.tickets.push(frame.decode::<ResumeTicket>().unwrap().ticket),
            _ => self.received += u64::from(frame.info().unwrap().delivery.is_reliable()),
        }
    }

    /// The next frame that is no heartbeat or ticket.
    async fn said(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind() != Heartbeat::KIND && frame.kind() != ResumeTicket::KIND {
                return Some(frame);
            }
        }
    }

    /// What is said next, which must be this.
    async fn expect<M: ClientMessage>(&mut self) -> (u32, M) {
        let frame = self.said().await.unwrap_or_else(|| panic!("closed where {} was expected", M::INFO.name));
        let message = frame.decode::<M>().unwrap_or_else(|_| panic!("{frame:?} where {} was expected", M::INFO.name));
        (frame.seq(), message)
    }

    async fn fault(&mut self, seq: u32) -> FaultCode {
        let (answered, fault) = self.expect::<Fault>().await;
        assert_eq!(answered, seq, "{fault:?}");
        fault.code()
    }

    /// The last frame, and the end of the connection after it.
    async fn closing(&mut self) -> Closing {
        let (_, closing) = self.expect::<Closing>().await;
        assert!(self.next().await.is_none(), "nothing follows the last frame");
        closing
    }

    async fn greet(&mut self) {
        self.send(1, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: "test".into() }).await;
        let (seq, welcome) = self.expect::<Welcome>().await;
        assert_eq!(seq, 1);
        assert!((1..proto::ids::SESSION_END).contains(&welcome.session));
    }

    async fn resume(&mut self, ticket: &Bytes, received: u64) {
        self.received = received;
        self.send(1, &Resume { protocol_version: proto::PROTOCOL_VERSION, ticket: ticket.clone(), received }).await;
    }

    fn ticket(&self) -> Bytes {
        self.tickets.last().expect("a logged-in client has a ticket").clone()
    }
}

/// Waits for a condition that nothing announces.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
