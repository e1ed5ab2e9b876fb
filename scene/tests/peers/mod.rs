//! The peers of a scene in tests: they answer as the protocol says, and remember what they were told.

mod dc;

use std::{
    any::Any,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use dc::FakeDc;
use proto::{
    ClientMessage, Frame,
    client::TimeFactor,
    event::{OverloadChanged, event::Body},
    internal::{
        CallFaultCode, Done, EventsAppend, EventsStored, LineOpen, LinePick, LinePicked, PlayerHanded, PlayerLeft, SceneReport,
        SessionBound, SessionUnbound,
    },
    link::{Call, DELIVER, FORWARD, GROUP_JOIN, GROUP_PUBLISH, LinkFrame, Notice, Publish, get_session},
};
use service::{CallError, Handler, IncomingCall, Link, Links, Process, ProcessId, ProcessKind, link::fault};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::WITHIN;

/// A decoded notice or call of any type.
pub struct Told(Box<dyn Any + Send>);

impl Told {
    pub fn is<N: 'static>(&self) -> bool {
        self.0.is::<N>()
    }
}

/// What a gate or a center was told.
pub enum Seen {
    Notice(u64, Told),
    Deliver(u64, Frame),
    Join(u64, u64),
    /// A frame for a group about the pace of time.
    Time(TimeFactor),
    /// A behaviour event.
    Overload(OverloadChanged),
}

/// What a peer was told, in order.
pub struct Log {
    receiver: mpsc::UnboundedReceiver<Seen>,
    kept: Vec<Seen>,
}

impl Log {
    /// The next that was not passed over yet.
    pub async fn next(&mut self) -> Seen {
        timeout(WITHIN, self.receiver.recv()).await.expect("something is seen in time").expect("the peer runs")
    }

    /// Whether something of the kind has been seen that nobody has asked for.
    pub fn has(&mut self, good: impl Fn(&Seen) -> bool) -> bool {
        while let Ok(seen) = self.receiver.try_recv() {
            self.kept.push(seen);
        }
        self.kept.iter().any(good)
    }

    /// Passes over what is not `good`.
    async fn find(&mut self, good: impl Fn(&Seen) -> bool) -> Seen {
        if let Some(at) = self.kept.iter().position(&good) {
            return self.kept.drain(..=at).next_back().expect("it is the last of these");
        }
        self.kept.clear();
        loop {
            let seen = self.next().await;
            if good(&seen) {
                return seen;
            }
        }
    }
}

struct Peer {
    sender: mpsc::UnboundedSender<Seen>,
    refuse_lines: Arc<AtomicBool>,
}

fn told<N: Notice>(frame: &LinkFrame) -> Option<Told> {
    (frame.kind == N::KIND).then(|| Told(Box::new(N::decode(frame.body.clone()).expect("a good notice"))))
}

impl Handler for Peer {
    async fn on_up(&self, _: &Link) {}
    async fn on_down(&self, _: &Link) {}

    async fn on_frame(&self, _: &Link, frame: LinkFrame) {
        let notice = told::<SessionBound>(&frame)
            .or_else(|| told::<SessionUnbound>(&frame))
            .or_else(|| told::<PlayerLeft>(&frame))
            .or_else(|| told::<SceneReport>(&frame));
        let seen = match frame.kind {
            DELIVER => Seen::Deliver(frame.id, Frame::from_bytes(frame.body).expect("a whole frame")),
            GROUP_PUBLISH => match Publish::decode(frame.body).expect("a whole frame").frame.decode() {
                Ok(factor) => Seen::Time(factor),
                Err(_) => return,
            },
            GROUP_JOIN => Seen::Join(frame.id, get_session(&frame.body).expect("a session")),
            _ => match notice {
                Some(told) => Seen::Notice(frame.id, told),
                None => return,
            },
        };
        let _ = self.sender.send(seen);
    }

    async fn on_call(&self, link: &Link, call: IncomingCall) {
        match call.kind {
            LinePick::KIND if self.refuse_lines.load(Ordering::Relaxed) => {
                call.answer::<LinePick>(Err(fault(CallFaultCode::CallNoLine, "all lines are full")));
            }
            LinePick::KIND => {
                let pick: LinePick = call.parse().expect("a good call");
                // The forest is another scene's. Whoever can't keep line 1 goes to line 2.
                let own = format!("{}/{}", link.peer().id, link.peer().incarnation);
                let scene = if pick.map == "forest" { "scene-2/77".into() } else { own };
                call.answer::<LinePick>(Ok(LinePicked { scene, line: 1 + pick.line }));
            }
            EventsAppend::KIND => {
                let append: EventsAppend = call.parse().expect("a good call");
                let highest_sequence = append.first_sequence + append.events.len() as u64 - 1;
                for event in append.events {
                    if let Some(Body::OverloadChanged(changed)) = event.body {
                        let _ = self.sender.send(Seen::Overload(changed));
                    }
                }
                call.answer::<EventsAppend>(Ok(EventsStored { highest_sequence }));
            }
            PlayerHanded::KIND => {
                let handed: PlayerHanded = call.parse().expect("a good call");
                let _ = self.sender.send(Seen::Notice(0, Told(Box::new(handed))));
                call.answer::<PlayerHanded>(Ok(Done {}));
            }
            _ => call.unknown(),
        }
    }
}

/// A gate or a center.
pub struct PeerProcess {
    process: Process,
    links: Links,
    log: Log,
    refuse_lines: Arc<AtomicBool>,
}

impl PeerProcess {
    async fn start(zone: &service::Zone, id: &str, data: &Path) -> Self {
        let process = Process::for_test(zone, id, data);
        let (sender, receiver) = mpsc::unbounded_channel();
        let refuse_lines = Arc::new(AtomicBool::new(false));
        let handler = Arc::new(Peer { sender, refuse_lines: refuse_lines.clone() });
        let links = Links::start(&process, handler).await.unwrap();
        Self { process, links, log: Log { receiver, kept: Vec::new() }, refuse_lines }
    }

    pub async fn next(&mut self) -> Seen {
        self.log.next().await
    }

    pub fn has(&mut self, good: impl Fn(&Seen) -> bool) -> bool {
        self.log.has(good)
    }

    pub async fn overload(&mut self) -> OverloadChanged {
        let Seen::Overload(changed) = self.log.find(|seen| matches!(seen, Seen::Overload(_))).await else {
            unreachable!("it was looked for")
        };
        changed
    }

    pub fn heard<N: 'static>(&mut self) -> bool {
        self.has(|seen| matches!(seen, Seen::Notice(_, told) if told.is::<N>()))
    }

    pub fn refuse_lines(&self, refuse: bool) {
        self.refuse_lines.store(refuse, Ordering::Relaxed);
    }

    async fn scene(&self) -> Link {
        let scene = ProcessId("scene-1".into());
        let found = async {
            loop {
                match self.links.get(&scene) {
                    Some(link) => return link,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(WITHIN, found).await.expect("the scene takes links")
    }
}

/// A scene, and its peers.
pub struct Zone {
    zone: service::Zone,
    data: TempDir,
    scene: Process,
    running: JoinHandle<anyhow::Result<()>>,
    pub dc: FakeDc,
    pub center: PeerProcess,
    pub gate: PeerProcess,
}

impl Zone {
    pub async fn start() -> Self {
        Self::start_with(("tick_hz: 50", "tick_hz: 50"), scene::game::open).await
    }

    /// With one text of the zone file in place of another, and with other rules.
    pub async fn start_with(change: (&str, &str), rules: scene::rules::OpenRules) -> Self {
        let text = service::config::DEV_ZONE.replace("tick_hz: 10", "tick_hz: 50").replace(change.0, change.1);
        let zone = service::Zone::for_test(&text).unwrap();
        let data = tempfile::tempdir().unwrap();
        let scene = Process::for_test(&zone, "scene-1", data.path());
        // Before its dc: the start order does not matter.
        let running = tokio::spawn(scene::run_with(scene.clone(), rules));
        let dc = FakeDc::start(&zone, &data).await;
        let center = PeerProcess::start(&zone, "center-1", data.path()).await;
        let gate = PeerProcess::start(&zone, "gate-1", data.path()).await;
        timeout(WITHIN, scene.ready.ready()).await.expect("ready when dc is linked");
        gate.scene().await;
        for map in ["meadow", "town"] {
            let open = LineOpen { map: map.into(), line: 1, opened_by: "center".into() };
            center.scene().await.call(&open, WITHIN).await.expect("the line opens");
        }
        Self { zone, data, scene, running, dc, center, gate }
    }

    pub async fn center_calls<C: Call>(&self, call: C) -> Result<C::Answer, CallError> {
        self.center.scene().await.call(&call, WITHIN).await
    }

    pub async fn center_hears<N: Clone + 'static>(&mut self) -> N {
        let seen = self.center.log.find(|seen| matches!(seen, Seen::Notice(_, told) if told.is::<N>())).await;
        let Seen::Notice(_, told) = seen else { unreachable!("it was looked for") };
        told.0.downcast_ref::<N>().expect("it was looked for").clone()
    }

    pub fn center_tells<N: Notice>(&self, notice: &N) {
        self.center.links.get(&ProcessId("scene-1".into())).unwrap().notify(0, notice).unwrap();
    }

    pub fn gate_says<N: Notice>(&self, session: u64, notice: &N) {
        self.gate.links.get(&ProcessId("scene-1".into())).unwrap().notify(session, notice).unwrap();
    }

    pub fn gate_forwards<M: ClientMessage>(&self, session: u64, seq: u32, message: &M) {
        let body = Frame::encode(seq, message).into_bytes();
        let frame = LinkFrame { kind: FORWARD, flags: 0, id: session, body };
        self.gate.links.get(&ProcessId("scene-1".into())).unwrap().send(frame).unwrap();
    }

    pub async fn gate_sees(&mut self, good: impl Fn(&Seen) -> bool) -> Seen {
        self.gate.log.find(good).await
    }

    pub async fn gate_delivers<M: ClientMessage>(&mut self, session: u64) -> M {
        let good = |seen: &Seen| matches!(seen, Seen::Deliver(to, frame) if *to == session && frame.kind() == M::KIND);
        let Seen::Deliver(_, frame) = self.gate_sees(good).await else { unreachable!("it was looked for") };
        frame.decode().unwrap()
    }

    /// The gate's link breaks and comes up again.
    pub async fn cut_gate(&mut self) {
        let link = self.gate.scene().await;
        link.close();
        timeout(WITHIN, async {
            while self.gate.links.of(ProcessKind::Scene).iter().all(|now| now.number() == link.number()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the gate dials again");
    }

    /// Another run of center takes the place of this one.
    pub async fn center_restarts(&mut self) {
        self.center.process.tasks.stop(WITHIN).await.unwrap();
        self.center = PeerProcess::start(&self.zone, "center-1", &self.data.path().join("again")).await;
        self.center.scene().await;
    }

    /// A logsvc, of which only what it was told is kept.
    pub async fn start_logsvc(&self) -> PeerProcess {
        PeerProcess::start(&self.zone, "logsvc-1", self.data.path()).await
    }

    pub async fn stop(mut self) {
        self.stop_while(|_| ()).await;
    }

    /// Stops the scene as SIGTERM does, and does something while it drains.
    pub async fn stop_while(&mut self, meanwhile: impl FnOnce(&Self)) {
        self.scene.tasks.stop_token().cancel();
        meanwhile(self);
        timeout(WITHIN, &mut self.running).await.expect("it drains in time").unwrap().expect("everybody is saved");
        self.scene.tasks.stop(WITHIN).await.unwrap();
    }
}
