//! What all tasks of a gate share, and the ways of a session from its first connection to its end.
//!
//! Every change of a session's life is made here, under the lock of its state, together with the notices that tell the backends of it,
//! so that on each link the notices come in the order of the changes.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, RwLock},
    time::{Duration, SystemTime},
};

use proto::{
    client::{FaultCode, ResumeTicket, Welcome},
    event::{Disconnected, FaultShown, event::Body},
    ids::SESSION_END,
    internal::{SessionEnded, SessionLost},
    kinds::States,
    link::Notice,
};
use service::{Process, config::GateConfig, events::Subject, net::TcpStream};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backends::Backends,
    limits::{Addresses, Limits, TokenBucket},
    metrics::Metrics,
    session::{Identity, Life, Session, State},
    socket::{End, Socket},
    ticket::{Ticket, Tickets},
    wire::Wire,
};

/// The longest that a ticket is good.
const TICKET_VALID_MAX: Duration = Duration::from_secs(60);
/// A ticket is renewed after this part of its validity, so that a client that is lost has one that is good for most of it.
const TICKET_RENEW_PART: u32 = 4;

/// What all tasks of a gate share.
pub(crate) struct Gate {
    /// What the process was given.
    pub process: Process,
    /// Its entry in the zone file.
    pub config: GateConfig,
    /// The links to backends, with their groups.
    pub backends: Backends,
    /// Signs and checks resume tickets.
    pub tickets: Tickets,
    /// Connections of each address.
    pub addresses: Addresses,
    /// Connections a second.
    pub accepts: Mutex<TokenBucket>,
    /// Counts what happens.
    pub metrics: Metrics,
    /// The connections that are open: a stop waits for them.
    pub connections: TaskTracker,
    sessions: RwLock<HashMap<u64, Arc<Session>>>,
}

/// The gate has all the sessions that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Gate {
    /// A gate without sessions.
    pub(crate) fn new(process: Process, config: GateConfig) -> Arc<Self> {
        // A second's worth may come at once: clients come back together after an outage.
        let accepts = TokenBucket::new(config.accepts_per_s, config.accepts_per_s, Instant::now());
        Arc::new(Self {
            backends: Backends::default(),
            tickets: Tickets::new(&process.zone.name, &process.secret),
            addresses: Addresses::new(config.connections_per_address_max),
            accepts: Mutex::new(accepts),
            metrics: Metrics::new(),
            connections: TaskTracker::new(),
            sessions: RwLock::default(),
            process,
            config,
        })
    }

    // ---- the table

    /// The session of this number.
    pub(crate) fn session(&self, id: u64) -> Option<Arc<Session>> {
        self.sessions.read().expect("no holder panics").get(&id).cloned()
    }

    /// All sessions.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.sessions.read().expect("no holder panics").values().cloned().collect()
    }

    /// A new session with its first connection, welcomed.
    pub(crate) fn open(
        &self,
        seq: u32,
        address: IpAddr,
        limits: Limits,
        tcp: Option<&Arc<TcpStream>>,
    ) -> Result<(Arc<Session>, Arc<Socket>), Full> {
        let state = State::new(Life::Attached, States::CONNECTED, Identity::default(), address, limits);
        let (session, _) = self.enter(None, state)?;
        let socket = session.attach(Instant::now(), tcp.cloned().map(Wire::new));
        session.say(
            seq,
            &Welcome {
                session: session.id,
                zone: self.process.zone.name.clone(),
                heartbeat_ms: millis(self.config.heartbeat),
                resume_window_ms: millis(self.resume_window()),
            },
        );
        Ok((session, socket))
    }

    /// A session that a ticket names and that this gate does not know, without a connection. If it is known after all, it is that one.
    /// The second part says which.
    pub(crate) fn adopt(&self, ticket: &Ticket, address: IpAddr) -> Result<(Arc<Session>, bool), Full> {
        let identity = Identity { account: ticket.account, session_epoch: ticket.session_epoch, ..Identity::default() };
        let state = State::new(Life::Resuming, States::AUTHENTICATED, identity, address, Limits::new(Instant::now()));
        self.enter(Some(ticket.session), state)
    }

    /// The second part is whether the session was there before.
    fn enter(&self, id: Option<u64>, state: State) -> Result<(Arc<Session>, bool), Full> {
        let mut sessions = self.sessions.write().expect("no holder panics");
        let id = id.unwrap_or_else(|| {
            loop {
                let id = 1 + self.process.random.below(SESSION_END - 1);
                if !sessions.contains_key(&id) {
                    break id;
                }
            }
        });
        let is_full = self.config.sessions_max <= sessions.len();
        match sessions.entry(id) {
            Entry::Occupied(known) => Ok((known.get().clone(), true)),
            Entry::Vacant(_) if is_full => Err(Full),
            Entry::Vacant(place) => {
                let session = place.insert(Session::new(id, state, self.config.client_queue_bytes_max)).clone();
                self.metrics.sessions.increment(1);
                Ok((session, false))
            }
        }
    }

    // ---- the end of connections and sessions

    /// A connection has ended: the session is lost or over, unless it has another connection.
    pub(crate) fn settle(self: &Arc<Self>, session: &Arc<Session>, socket: &Arc<Socket>, end: &End) {
        let mut state = session.state();
        if state.is_ended() || !session.is_on(socket) || *end == End::Shutdown {
            return;
        }
        if end.is_resumable() && state.is_authenticated() {
            session.detach(socket);
            self.lose(session, &mut state);
        } else {
            self.end_locked(session, &mut state, end.code());
        }
    }

    /// The session has no connection: backends are told, and its window begins.
    pub(crate) fn lose(self: &Arc<Self>, session: &Arc<Session>, state: &mut State) {
        self.tell_holders(session.id, state, &SessionLost {});
        let back = CancellationToken::new();
        state.life = Life::Lost(back.clone());
        let (gate, session) = (self.clone(), session.clone());
        self.process.tasks.spawn("resume window", async move {
            tokio::select! {
                () = back.cancelled() => {}
                () = gate.process.tasks.stopped() => {}
                () = tokio::time::sleep(gate.resume_window()) => gate.end_lost(&session, &back),
            }
        });
    }

    fn end_lost(&self, session: &Session, back: &CancellationToken) {
        let mut state = session.state();
        // Under the lock it is certain whether it came back in the last moment.
        if !back.is_cancelled() && matches!(state.life, Life::Lost(_)) {
            self.end_locked(session, &mut state, FaultCode::TimedOut);
        }
    }

    /// Ends a session: it leaves the table and all groups, and backends are told. Its connection, if it has one, is ended by the caller.
    pub(crate) fn end(&self, session: &Session, reason: FaultCode) {
        self.end_locked(session, &mut session.state(), reason);
    }

    fn end_locked(&self, session: &Session, state: &mut State, reason: FaultCode) {
        if self.forget(session, state) {
            self.tell_knowing(session.id, state, &SessionEnded { reason: reason.into() });
        }
    }

    /// Takes a session out of the table and all groups without telling anybody; whether it was there.
    pub(crate) fn forget(&self, session: &Session, state: &mut State) -> bool {
        if let Life::Lost(back) = std::mem::replace(&mut state.life, Life::Ended) {
            back.cancel();
        }
        // The table before the groups: who joins a session to a group looks it up while it holds the groups.
        let was_there = self.sessions.write().expect("no holder panics").remove(&session.id).is_some();
        if was_there {
            self.backends.leave_all(session.id);
            self.metrics.sessions.decrement(1);
        }
        was_there
    }

    // ---- what backends are told

    /// Tells the scene that has the session's player, and center.
    pub(crate) fn tell_holders<N: Notice>(&self, id: u64, state: &State, notice: &N) {
        // A link that is down needs no notice: its peer takes all sessions of this gate for lost, or gets a full report.
        if let Some(scene) = &state.scene {
            let _ = scene.notify(id, notice);
        }
        if let Some(center) = self.backends.center()
            && state.is_authenticated()
        {
            let _ = center.notify(id, notice);
        }
    }

    /// Tells all who know the session.
    fn tell_knowing<N: Notice>(&self, id: u64, state: &State, notice: &N) {
        let scene = state.scene.as_ref().map(service::Link::number);
        for link in self.backends.links() {
            let is_center = link.peer().kind == service::ProcessKind::Center && state.is_authenticated();
            if is_center || scene == Some(link.number()) || state.opened.contains(&link.number()) {
                let _ = link.notify(id, notice);
            }
        }
    }

    // ---- tickets

    /// How long a session without a connection stays.
    pub(crate) fn resume_window(&self) -> Duration {
        self.process.zone.players.resume_window
    }

    /// How often a session gets a new ticket.
    pub(crate) fn ticket_period(&self) -> Duration {
        self.ticket_valid() / TICKET_RENEW_PART
    }

    fn ticket_valid(&self) -> Duration {
        self.resume_window().min(TICKET_VALID_MAX)
    }

    /// Gives the client a new ticket, if the session is logged in.
    pub(crate) fn give_ticket(&self, session: &Session) {
        let state = session.state();
        if !state.is_authenticated() || state.is_ended() {
            return;
        }
        let valid_ms = millis(self.ticket_valid());
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.process.random.next_u64().to_be_bytes());
        nonce[8..].copy_from_slice(&self.process.random.next_u64().to_be_bytes());
        let ticket = self.tickets.sign(&Ticket {
            session: session.id,
            account: state.identity.account,
            session_epoch: state.identity.session_epoch,
            expires_ms: unix_ms().saturating_add(valid_ms.into()),
            nonce,
        });
        session.say(0, &ResumeTicket { ticket, valid_ms });
    }

    // ---- behaviour events

    /// Emits: the client's connection ended.
    pub(crate) fn emit_disconnected(&self, session: &Session, end: &End) {
        let subject = subject(session.id, &session.state());
        let resumable = end.is_resumable() && subject.account != 0;
        self.process.events.emit(&subject, Body::Disconnected(Disconnected { reason: end.text().to_owned(), resumable }));
    }

    /// Emits: the gate itself has shown an error.
    pub(crate) fn emit_fault(&self, subject: &Subject, code: FaultCode, text: &str) {
        self.process.events.emit(subject, Body::FaultShown(FaultShown { code: code.into(), text: text.to_owned() }));
    }
}

/// Whom events about a session are about.
pub(crate) fn subject(session: u64, state: &State) -> Subject {
    Subject {
        account: state.identity.account,
        player: state.identity.player,
        player_name: state.identity.player_name.clone(),
        session,
        ..Subject::default()
    }
}

/// Wall clock, for time stamps only.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// For the wire.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
