//! A gate and the zone behind it in one small object, for tests of this crate: it says what `client.proto` says, over real sockets on
//! loopback, and knows accounts, roles, one place, chat, heartbeats and resumes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use proto::{
    ClientMessage, Frame, FrameError,
    client::{self, Entity, EntityKind, FaultCode, Position},
    frame,
    kinds::{self, Direction},
    moves::Moved,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

use crate::address::{Address, Scheme};

pub(crate) const START: Position = Position { x: 10_000, y: 10_000 };
const CELL: u32 = 1;

/// Everything that the tests may look at.
#[derive(Default)]
pub(crate) struct State {
    accounts: HashMap<String, Account>,
    sessions: HashMap<u64, Session>,
    last_number: u64,
    used_tickets: Vec<Bytes>,
    pub(crate) acks: Vec<client::HeartbeatAck>,
    pub(crate) programs: Vec<String>,
    /// Who waits to log in: whoever asks is told each place down to the first.
    pub(crate) waiting: u32,
    /// Where the next character is said to be in place of where it is.
    pub(crate) lie: Option<Position>,
}

struct Account {
    number: u64,
    password: String,
    roles: Vec<client::Role>,
}

#[derive(Default)]
struct Session {
    account: Option<String>,
    out: Option<mpsc::UnboundedSender<Bytes>>,
    connection: u64,
    reliable: Vec<Frame>,
    player: Option<Entity>,
}

#[derive(Clone)]
pub(crate) struct FakeZone {
    pub(crate) address: Address,
    state: Arc<Mutex<State>>,
}

impl FakeZone {
    pub(crate) async fn start() -> Self {
        Self::start_with(Scheme::Tcp, None, Arc::default()).await
    }

    /// A second gate of the same zone: it knows no session, so resumes are not continued.
    pub(crate) async fn second_gate(&self) -> Self {
        Self::start_with(Scheme::Tcp, None, self.state.clone()).await
    }

    pub(crate) async fn start_with(scheme: Scheme, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address { scheme, host: "127.0.0.1".into(), port, path: "/".into() };
        let zone = Self { address, state };
        let serving = zone.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (zone, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => zone.accept(tls.accept(socket).await.unwrap()).await,
                        None => zone.accept(socket).await,
                    }
                });
            }
        });
        zone
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Says something to every character.
    pub(crate) fn broadcast<M: ClientMessage>(&self, message: &M) {
        self.state().broadcast(message);
    }

    /// Breaks every connection, as a killed gate does.
    pub(crate) fn break_all(&self) {
        self.state().sessions.values_mut().for_each(|session| session.out = None);
    }

    async fn accept<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: S) {
        let (out, mut outbox) = mpsc::unbounded_channel::<Bytes>();
        let (inbox, incoming) = mpsc::unbounded_channel();
        if self.address.scheme.is_websocket() {
            let (mut sink, mut source) = tokio_tungstenite::accept_async(stream).await.unwrap().split();
            tokio::spawn(async move {
                while let Some(bytes) = outbox.recv().await {
                    sink.send(Message::Binary(bytes)).await.ok();
                }
                sink.close().await.ok();
            });
            tokio::spawn(async move {
                while let Some(Ok(Message::Binary(bytes))) = source.next().await {
                    frame::split_all(bytes, Direction::ToServer).unwrap().into_iter().for_each(|frame| drop(inbox.send(Ok(frame))));
                }
            });
        } else {
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::spawn(async move {
                while let Some(bytes) = outbox.recv().await {
                    writer.write_all(&bytes).await.ok();
                }
                writer.shutdown().await.ok();
            });
            tokio::spawn(async move {
                let mut buffer = BytesMut::new();
                loop {
                    match frame::split(&mut buffer, Direction::ToServer) {
                        Ok(Some(frame)) => drop(inbox.send(Ok(frame))),
                        Ok(None) => match reader.read_buf(&mut buffer).await {
                            Ok(read) if read > 0 => {}
                            _ => return,
                        },
                        Err(error) => return drop(inbox.send(Err(error))),
                    }
                }
            });
        }
        self.serve(out, incoming).await;
    }

    async fn serve(&self, out: mpsc::UnboundedSender<Bytes>, mut incoming: mpsc::UnboundedReceiver<Result<Frame, FrameError>>) {
        let mut id = 0;
        let connection = self.state().number();
        // The session holds the only sender from the greeting on, so that dropping it there closes the socket.
        let mut out = Some(out);
        while let Some(frame) = incoming.recv().await {
            let mut state = self.state();
            let frame = match frame {
                Ok(frame) => frame,
                Err(FrameError::UnknownKind(_)) => {
                    state.close(id, FaultCode::UnknownKind);
                    continue;
                }
                Err(_) => {
                    state.close(id, FaultCode::Oversize);
                    continue;
                }
            };
            match frame.kind() {
                client::Hello::KIND => {
                    state.programs.push(frame.decode::<client::Hello>().unwrap().client);
                    id = state.number();
                    state.sessions.insert(id, Session { out: out.take(), connection, ..Session::default() });
                    state.say(
                        id,
                        frame.seq(),
                        &client::Welcome { session: id, zone: "fake".into(), heartbeat_ms: 60_000, resume_window_ms: 1000 },
                    );
                }
                client::Resume::KIND => {
                    if let Some(out) = out.take() {
                        id = self.resume(&mut state, &frame, out, connection);
                    }
                }
                _ => state.request(id, &frame),
            }
        }
        // A session that was resumed meanwhile has another connection.
        if let Some(session) = self.state().sessions.get_mut(&id).filter(|session| session.connection == connection) {
            session.out = None;
        }
    }

    fn resume(&self, state: &mut State, frame: &Frame, out: mpsc::UnboundedSender<Bytes>, connection: u64) -> u64 {
        let resume: client::Resume = frame.decode().unwrap();
        let id = resume.ticket.first_chunk::<8>().map_or(0, |id| u64::from_le_bytes(*id));
        let used = state.used_tickets.contains(&resume.ticket);
        let Some(session) = state.sessions.get_mut(&id).filter(|_| !used) else {
            let code = if used { FaultCode::TicketUsed } else { FaultCode::TicketRefused };
            out.send(Frame::encode(frame.seq(), &client::Fault::new(code, "said the fake zone")).into_bytes()).ok();
            return 0;
        };
        (session.out, session.connection) = (Some(out), connection);
        let missed: Vec<Frame> = session.reliable.iter().skip(resume.received as usize).cloned().collect();
        let resumed =
            client::Resumed { session: id, continued: true, missed: missed.len() as u32, heartbeat_ms: 60_000, resume_window_ms: 1000 };
        let out = session.out.clone().unwrap();
        out.send(Frame::encode(frame.seq(), &resumed).into_bytes()).ok();
        missed.into_iter().for_each(|frame| drop(out.send(frame.into_bytes())));
        state.used_tickets.push(resume.ticket);
        state.ticket(id);
        id
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn say<M: ClientMessage>(&mut self, id: u64, seq: u32, message: &M) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let frame = Frame::encode(seq, message);
        if M::INFO.delivery.is_reliable() {
            session.reliable.push(frame.clone());
        }
        if let Some(out) = &session.out {
            out.send(frame.into_bytes()).ok();
        }
    }

    fn fault(&mut self, id: u64, seq: u32, code: FaultCode) {
        self.say(id, seq, &client::Fault::new(code, "said the fake zone"));
    }

    fn close(&mut self, id: u64, code: FaultCode) {
        self.say(id, 0, &client::Closing { code: code.into(), text: String::new(), resumable: false });
        if let Some(session) = self.sessions.get_mut(&id) {
            session.out = None;
        }
    }

    /// A ticket is the session's number, and how many numbers there were so that no two are alike.
    fn ticket(&mut self, id: u64) {
        let ticket = [id.to_le_bytes(), self.number().to_le_bytes()].concat();
        self.say(id, 0, &client::ResumeTicket { ticket: ticket.into(), valid_ms: 1000 });
    }

    fn broadcast<M: ClientMessage>(&mut self, message: &M) {
        let playing: Vec<u64> = self.sessions.iter().filter(|(_, session)| session.player.is_some()).map(|(id, _)| *id).collect();
        playing.into_iter().for_each(|id| self.say(id, 0, message));
    }

    fn request(&mut self, id: u64, frame: &Frame) {
        let Some(session) = self.sessions.get(&id) else { return };
        let legal = match (&session.account, &session.player) {
            (_, Some(_)) => kinds::States::PLAYING,
            (Some(_), _) => kinds::States::AUTHENTICATED,
            _ => kinds::States::CONNECTED,
        };
        if !frame.info().unwrap().states.has(legal) {
            return self.fault(id, frame.seq(), FaultCode::IllegalState);
        }
        match frame.kind() {
            client::HeartbeatAck::KIND => self.acks.push(frame.decode().unwrap()),
            client::Register::KIND => self.register(id, frame),
            client::Login::KIND => self.login(id, frame),
            client::CreateRole::KIND => self.create_role(id, frame),
            client::Enter::KIND => self.enter(id, frame),
            client::Move::KIND => self.walk(id, frame),
            client::Say::KIND => match frame.decode::<client::Say>() {
                Ok(say) => self.broadcast(&client::Said { text: say.text, ..client::Said::default() }),
                Err(_) => self.fault(id, frame.seq(), FaultCode::Malformed),
            },
            client::Bye::KIND => {
                let left = self.sessions.get_mut(&id).and_then(|session| session.player.take());
                if let Some(left) = left {
                    self.broadcast(&client::CellChanges { left: vec![left.entity], ..client::CellChanges::default() });
                }
                self.close(id, FaultCode::Unspecified);
            }
            client::FriendList::KIND => self.say(id, frame.seq(), &client::Friends::default()),
            // Whispers are never answered, so that a test can wait in vain.
            client::Whisper::KIND => {}
            _ => self.fault(id, frame.seq(), FaultCode::Unavailable),
        }
    }

    fn register(&mut self, id: u64, frame: &Frame) {
        let register: client::Register = frame.decode().unwrap();
        if self.accounts.contains_key(&register.account) {
            return self.fault(id, frame.seq(), FaultCode::NameTaken);
        }
        let account = Account { number: self.number(), password: register.password, roles: Vec::new() };
        self.accounts.insert(register.account, account);
        self.say(id, frame.seq(), &client::Registered {});
    }

    fn login(&mut self, id: u64, frame: &Frame) {
        let login: client::Login = frame.decode().unwrap();
        let good = self.accounts.get(&login.account).filter(|account| account.password == login.password);
        let Some(account) = good else { return self.fault(id, frame.seq(), FaultCode::BadCredentials) };
        let logged_in = client::LoggedIn { account: account.number, roles: account.roles.clone(), roles_max: 4 };
        let same = |session: &Session| session.account.as_ref() == Some(&login.account) && session.out.is_some();
        let older: Vec<u64> = self.sessions.iter().filter(|(_, session)| same(session)).map(|(id, _)| *id).collect();
        older.into_iter().for_each(|older| self.close(older, FaultCode::LoggedInElsewhere));
        self.sessions.get_mut(&id).unwrap().account = Some(login.account);
        for position in (1..=self.waiting).rev() {
            self.say(id, 0, &client::Queued { position, ..client::Queued::default() });
        }
        self.say(id, frame.seq(), &logged_in);
        self.ticket(id);
    }

    fn create_role(&mut self, id: u64, frame: &Frame) {
        let name = frame.decode::<client::CreateRole>().unwrap().name;
        if self.accounts.values().flat_map(|account| &account.roles).any(|role| role.name == name) {
            return self.fault(id, frame.seq(), FaultCode::NameTaken);
        }
        let role = client::Role { player: self.number(), name, position: Some(START), ..client::Role::default() };
        let account = self.sessions[&id].account.clone().unwrap();
        self.accounts.get_mut(&account).unwrap().roles.push(role.clone());
        self.say(id, frame.seq(), &client::RoleCreated { role: Some(role) });
    }

    fn enter(&mut self, id: u64, frame: &Frame) {
        let player = frame.decode::<client::Enter>().unwrap().player;
        let account = self.sessions[&id].account.clone().unwrap();
        let role = self.accounts[&account].roles.iter().find(|role| role.player == player).cloned();
        let Some(role) = role else { return self.fault(id, frame.seq(), FaultCode::NotFound) };
        let number = self.number() as u32;
        let entity = Entity {
            entity: number,
            kind: EntityKind::Player.into(),
            name: role.name.clone(),
            position: Some(START),
            cell: CELL,
            ..Entity::default()
        };
        self.broadcast(&client::CellChanges { entered: vec![entity.clone()], ..client::CellChanges::default() });
        self.sessions.get_mut(&id).unwrap().player = Some(entity);
        let entered = client::Entered {
            player,
            entity: number,
            name: role.name,
            map: "meadow".into(),
            position: Some(START),
            width: 40_000,
            height: 40_000,
            speed_max: 800,
            ..client::Entered::default()
        };
        self.say(id, frame.seq(), &entered);
        let entities = self.sessions.values().filter_map(|session| session.player.clone()).collect();
        self.say(id, 0, &client::CellSnapshot { cell: CELL, tick: 1, entities });
    }

    fn walk(&mut self, id: u64, frame: &Frame) {
        let to = frame.decode::<client::Move>().unwrap().to.unwrap_or_default();
        let at = self.sessions.get_mut(&id).and_then(|session| session.player.as_mut()).unwrap();
        if to.x < 0 {
            let position = at.position;
            return self.say(id, 0, &client::Corrected { position });
        }
        at.position = Some(to);
        let (entity, seen) = (at.entity, self.lie.take().unwrap_or(to));
        let moved = proto::moves::pack(&[Moved { entity, x: seen.x, y: seen.y }]);
        self.broadcast(&client::CellMoves { tick: 2, moved });
    }
}
