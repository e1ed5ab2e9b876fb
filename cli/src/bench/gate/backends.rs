//! A login, a center, a scene and a logsvc that do the least that a gate needs of them: they let everybody in and answer at once.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use proto::{
    ClientMessage, Frame,
    client::{Corrected, Entered, LoggedIn, Login, Move},
    internal::{EventsAppend, EventsStored, SessionAuthenticated, SessionBound, SessionEnded, SessionResume, SessionResumed},
    link::{self, LinkFrame, Notice, Publish},
};
use service::{Handler, IncomingCall, Link, Links, ProcessId, ProcessKind, link::LinkConfig, members::Member};

/// Clients in a group of the scene: those who stand in one cell of a map where people walk.
pub(super) const CLIENTS_OF_GROUP: u32 = 10;
/// Center's group of all clients.
const ALL: u64 = 0;
/// A session that does not exist: the gate answers what is said about it, so that it is known to have handled all before.
const NOBODY: u64 = 1;

/// What the backends share.
pub(super) struct Backends {
    groups: u64,
    scenes: Mutex<HashMap<ProcessId, Link>>,
    centers: Mutex<HashMap<ProcessId, Link>>,
    entered: AtomicU64,
    settled: mpsc::Sender<()>,
}

impl Backends {
    /// For so many clients. The receiver hears each answer to [`Backends::ask_settled`].
    pub(super) fn new(clients: u32) -> (Self, mpsc::Receiver<()>) {
        let (settled, hears) = mpsc::channel();
        let groups = clients.div_ceil(CLIENTS_OF_GROUP).into();
        (Self { groups, scenes: Mutex::default(), centers: Mutex::default(), entered: AtomicU64::new(0), settled }, hears)
    }

    /// The groups of the scene; each client is in one of them, and no two that entered one after the other are in the same.
    pub(super) fn groups(&self) -> impl Iterator<Item = u64> {
        1..=self.groups
    }

    /// The scene publishes a frame to a group at every gate.
    pub(super) fn publish(&self, group: u64, frame: &Frame) {
        let publish = Publish { except: 0, frame: frame.clone() };
        for link in self.scenes.lock().expect("no holder panics").values() {
            // A gate that is away misses it.
            _ = link.group_publish(group, &publish);
        }
    }

    /// Center publishes a frame to all.
    pub(super) fn broadcast(&self, frame: &Frame) {
        let publish = Publish { except: 0, frame: frame.clone() };
        for link in self.centers.lock().expect("no holder panics").values() {
            _ = link.group_publish(ALL, &publish);
        }
    }

    /// The scene's tick is over.
    pub(super) fn end_tick(&self, tick: u64) {
        self.scenes.lock().expect("no holder panics").values().for_each(|link| _ = link.tick_end(tick));
    }

    /// Every gate answers when it has handled all that the scene sent.
    pub(super) fn ask_settled(&self) {
        self.scenes.lock().expect("no holder panics").values().for_each(|link| _ = link.notify(NOBODY, &SessionBound::default()));
    }

    fn log_in(&self, link: &Link, session: u64, seq: u32) {
        let authenticated = SessionAuthenticated { account: session, account_name: format!("bench{session}"), session_epoch: 1 };
        _ = link.notify(session, &authenticated);
        _ = link.deliver(session, Frame::encode(seq, &LoggedIn { account: session, ..LoggedIn::default() }));
        self.enter(&link.peer().id, session);
    }

    fn enter(&self, gate: &ProcessId, session: u64) {
        if let Some(center) = self.centers.lock().expect("no holder panics").get(gate) {
            _ = center.group_join(ALL, session);
        }
        let scenes = self.scenes.lock().expect("no holder panics");
        let Some(scene) = scenes.get(gate) else { return };
        _ = scene.notify(session, &SessionBound { player: session, player_name: format!("Bench{session}") });
        let entered = self.entered.fetch_add(1, Ordering::Relaxed);
        _ = scene.group_join(1 + entered % self.groups, session);
        _ = scene.deliver(session, Frame::encode(0, &Entered { player: session, ..Entered::default() }));
    }
}

/// Hears the links of one of the backends.
pub(super) struct Ear {
    pub(super) kind: ProcessKind,
    pub(super) backends: std::sync::Arc<Backends>,
}

impl Ear {
    fn links(&self) -> Option<&Mutex<HashMap<ProcessId, Link>>> {
        match self.kind {
            ProcessKind::Scene => Some(&self.backends.scenes),
            ProcessKind::Center => Some(&self.backends.centers),
            _ => None,
        }
    }
}

impl Handler for Ear {
    async fn on_up(&self, link: &Link) {
        if let Some(links) = self.links() {
            links.lock().expect("no holder panics").insert(link.peer().id.clone(), link.clone());
        }
    }

    async fn on_down(&self, link: &Link) {
        if let Some(links) = self.links() {
            links.lock().expect("no holder panics").remove(&link.peer().id);
        }
    }

    async fn on_frame(&self, link: &Link, frame: LinkFrame) {
        let session = frame.id;
        match frame.kind {
            link::FORWARD => {
                let Ok(frame) = Frame::from_bytes(frame.body) else { return };
                match frame.kind() {
                    Login::KIND => self.backends.log_in(link, session, frame.seq()),
                    Move::KIND => _ = link.deliver(session, Frame::from_body(Corrected::KIND, 0, &frame.body())),
                    _ => (),
                }
            }
            SessionEnded::KIND if session == NOBODY => _ = self.backends.settled.send(()),
            _ => (),
        }
    }

    async fn on_call(&self, link: &Link, call: IncomingCall) {
        match self.kind {
            ProcessKind::Center => {
                if let Ok(resume) = call.parse::<SessionResume>() {
                    self.backends.enter(&link.peer().id, resume.session);
                    let resumed = SessionResumed { account_name: format!("bench{}", resume.session), player: resume.session };
                    call.answer::<SessionResume>(Ok(resumed));
                }
            }
            ProcessKind::Logsvc => {
                if let Ok(events) = call.parse::<EventsAppend>() {
                    let highest_sequence = events.first_sequence + (events.events.len() as u64).saturating_sub(1);
                    call.answer::<EventsAppend>(Ok(EventsStored { highest_sequence }));
                }
            }
            _ => call.unknown(),
        }
    }
}

/// What a backend's links need to be dialled by the gates of a zone.
pub(super) fn link_config(
    kind: ProcessKind,
    gates: &[ProcessId],
    zone: &str,
    secret: &[u8],
    tasks: &service::tasks::Tasks,
) -> anyhow::Result<LinkConfig> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let member = |id: &ProcessId| Member { id: id.clone(), kind: ProcessKind::Gate, host: None, link: nowhere };
    // A list that never changes: nobody needs its source.
    let (_, members) = service::members::Members::new(gates.iter().map(member).collect());
    Ok(LinkConfig {
        id: ProcessId(format!("{}-1", kind.name())),
        kind,
        incarnation: 1,
        zone: zone.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        secret: service::secret::ZoneSecret::new(secret),
        members,
        random: service::random::Random::new(7),
        tasks: tasks.clone(),
    })
}

/// Starts a backend's links.
pub(super) async fn start(config: LinkConfig, backends: &std::sync::Arc<Backends>) -> anyhow::Result<Links> {
    let ear = Ear { kind: config.kind, backends: backends.clone() };
    Links::start_with(config, std::sync::Arc::new(ear)).await
}
