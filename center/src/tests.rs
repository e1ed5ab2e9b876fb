//! A center with the neighbours it needs, played by the test, over links on loopback.

mod enter;
mod gm;
mod http;
mod lines;
#[path = "../../service/tests/support/redis.rs"]
mod redis;
mod social;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::{
    ClientMessage, Frame,
    internal::{
        AccountFind, AccountReply, AuditAppend, AuditOutcome, AuditRecord, AuditReply, CallFault, CallFaultCode, Done, GateReport,
        GmAccountFind, GmAccountReply, LineReport, PlayerEnter, PlayerEntered, PlayerProfile, ProfileFind, RankEntry, RankList, RankListed,
        RankRebuild, RankRebuilt, RelationList, RelationSet, Relations, SanctionAdd, SanctionList, Sanctions, SceneEnter, SceneEntered,
        SceneReport, SessionClaim,
    },
    link::{Call, DELIVER, GROUP_JOIN, LinkFrame, Notice},
};
use service::{
    CallError, Handler, IncomingCall, Link, Links, Process, ProcessId, ProcessKind, Zone as ZoneFile,
    cache::Cache,
    link::{LinkConfig, fault},
    members::{Member, Members, MembersSource},
    random::Random,
    secret::ZoneSecret,
    tasks::Tasks,
};
use tokio::sync::mpsc;

use crate::{center::Center, handler::LinkHandler, readiness, rehome};

const WITHIN: Duration = Duration::from_secs(20);

/// Hands everything to the test.
struct Ears {
    frames: mpsc::UnboundedSender<LinkFrame>,
    calls: mpsc::UnboundedSender<IncomingCall>,
}

impl Handler for Ears {
    async fn on_up(&self, _: &Link) {}

    async fn on_down(&self, _: &Link) {}

    async fn on_frame(&self, _: &Link, frame: LinkFrame) {
        // The test may have heard enough.
        _ = self.frames.send(frame);
    }

    async fn on_call(&self, _: &Link, call: IncomingCall) {
        _ = self.calls.send(call);
    }
}

/// A neighbour of center.
struct Neighbour {
    links: Links,
    frames: mpsc::UnboundedReceiver<LinkFrame>,
    calls: mpsc::UnboundedReceiver<IncomingCall>,
    tasks: Tasks,
    _members: MembersSource,
}

impl Neighbour {
    async fn start(id: &str, kind: ProcessKind, incarnation: u64, listen: &str, others: &[Member]) -> Self {
        let (source, members) = Members::new(others.to_vec());
        let tasks = Tasks::new();
        let config = LinkConfig {
            id: ProcessId(id.into()),
            kind,
            incarnation,
            zone: "dev".into(),
            listen: listen.parse().unwrap(),
            secret: ZoneSecret::new(b"the secret of the test's zone"),
            members,
            random: Random::new(incarnation),
            tasks: tasks.clone(),
        };
        let (frame_to, frames) = mpsc::unbounded_channel();
        let (call_to, calls) = mpsc::unbounded_channel();
        let links = Links::start_with(config, Arc::new(Ears { frames: frame_to, calls: call_to })).await.unwrap();
        Self { links, frames, calls, tasks, _members: source }
    }

    async fn center(&self) -> Link {
        self.links.wait(ProcessKind::Center, WITHIN).await.unwrap()
    }

    async fn ask<C: Call>(&self, call: &C) -> Result<C::Answer, CallError> {
        self.center().await.call(call, WITHIN).await
    }

    async fn tell<N: Notice>(&self, id: u64, notice: &N) {
        self.center().await.notify(id, notice).unwrap();
    }

    /// The next call, which has to be of this kind.
    async fn asked<C: Call>(&mut self) -> (C, IncomingCall) {
        let call = tokio::time::timeout(WITHIN, self.calls.recv()).await.expect("a call comes").unwrap();
        assert_eq!(call.kind, C::KIND, "not {}", C::NAME);
        (call.parse().unwrap(), call)
    }

    /// Answers the next SceneEnter.
    async fn takes_player(&mut self) -> SceneEnter {
        let (asked, call) = self.asked::<SceneEnter>().await;
        let (map, line) = (asked.map.clone(), asked.line);
        call.answer::<SceneEnter>(Ok(SceneEntered { map, line, level: 3, owner_epoch: 1 }));
        asked
    }

    async fn next_frame(&mut self) -> LinkFrame {
        tokio::time::timeout(WITHIN, self.frames.recv()).await.expect("a frame comes").unwrap()
    }

    /// The next notice, which has to be of this kind, and its session.
    async fn told<N: Notice>(&mut self) -> (u64, N) {
        let frame = self.next_frame().await;
        assert_eq!(frame.kind, N::KIND, "not {}", N::NAME);
        (frame.id, N::decode(frame.body).unwrap())
    }

    /// The next message to a client: its session, its seq, and what it says.
    async fn delivered<M: ClientMessage>(&mut self) -> (u64, u32, M) {
        let frame = self.next_frame().await;
        assert_eq!(frame.kind, DELIVER);
        let message = Frame::from_bytes(frame.body).unwrap();
        (frame.id, message.seq(), message.decode().unwrap_or_else(|_| panic!("{message:?} is no {}", M::INFO.name)))
    }

    /// A client's request.
    async fn forward<M: ClientMessage>(&self, session: u64, seq: u32, message: &M) {
        self.center().await.forward(session, Frame::encode(seq, message)).unwrap();
    }
}

/// What the dc of a test knows, and what it was asked, in order with what the test notes itself.
#[derive(Default)]
struct Dc {
    log: Mutex<Vec<String>>,
    relations: Mutex<BTreeMap<u64, Relations>>,
    gm_hash: Mutex<String>,
    audit_away: std::sync::atomic::AtomicBool,
    profiles: Mutex<BTreeMap<u64, PlayerProfile>>,
}

impl Dc {
    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn answer(&self, call: IncomingCall) {
        match call.kind {
            SanctionList::KIND => call.answer::<SanctionList>(Ok(Sanctions::default())),
            GmAccountFind::KIND => {
                let name = call.parse::<GmAccountFind>().unwrap().name;
                let password_hash = self.gm_hash.lock().unwrap().clone();
                let known = ["admin", "hilda"].contains(&name.as_str());
                let account = GmAccountReply { name, password_hash, role: "helper".into() };
                call.answer::<GmAccountFind>(if known { Ok(account) } else { Err(missing()) });
            }
            RelationList::KIND => {
                let of = call.parse::<RelationList>().unwrap().player;
                call.answer::<RelationList>(Ok(self.relations.lock().unwrap().get(&of).cloned().unwrap_or_default()));
            }
            RelationSet::KIND => {
                let of = call.parse::<RelationSet>().unwrap().player;
                call.answer::<RelationSet>(Ok(self.relations.lock().unwrap().get(&of).cloned().unwrap_or_default()));
            }
            ProfileFind::KIND => {
                let of = call.parse::<ProfileFind>().unwrap().player;
                call.answer::<ProfileFind>(self.profiles.lock().unwrap().get(&of).cloned().ok_or_else(missing));
            }
            RankList::KIND => {
                let list = call.parse::<RankList>().unwrap();
                let entry = RankEntry { player: 7, name: "Ann".into(), value: list.limit.into() };
                call.answer::<RankList>(Ok(RankListed { entries: vec![entry] }));
            }
            RankRebuild::KIND => call.answer::<RankRebuild>(Ok(RankRebuilt { players: 3, cached: true })),
            AccountFind::KIND => {
                let name = call.parse::<AccountFind>().unwrap().name;
                let account = if name == "alice" { 1 } else { 0 };
                call.answer::<AccountFind>(Ok(AccountReply { account, name, ..AccountReply::default() }));
            }
            SanctionAdd::KIND => {
                let add = call.parse::<SanctionAdd>().unwrap();
                self.note("sanction");
                call.answer::<SanctionAdd>(Ok(Sanctions { sanctions: add.sanction.into_iter().collect() }));
            }
            AuditAppend::KIND if self.audit_away.load(std::sync::atomic::Ordering::SeqCst) => {
                call.answer::<AuditAppend>(Err(fault(CallFaultCode::CallUnavailable, "the disk is full")));
            }
            AuditAppend::KIND => {
                let record = call.parse::<AuditAppend>().unwrap().record.unwrap();
                self.note(format!("audit {} by {} because {}", record.command, record.by, record.reason));
                call.answer::<AuditAppend>(Ok(AuditReply { records: vec![AuditRecord { id: 7, ..record }] }));
            }
            AuditOutcome::KIND => {
                let outcome = call.parse::<AuditOutcome>().unwrap();
                self.note(format!("outcome {}: {}", outcome.id, outcome.outcome));
                call.answer::<AuditOutcome>(Ok(Done {}));
            }
            _ => call.unknown(),
        }
    }
}

fn missing() -> CallFault {
    fault(CallFaultCode::CallNotFound, "not found")
}

/// A center and its neighbours.
struct Zone {
    center: Arc<Center>,
    dc: Arc<Dc>,
    gate: Neighbour,
    login: Neighbour,
    scene: Neighbour,
    center_member: Member,
    _dc: Neighbour,
    _folder: tempfile::TempDir,
}

impl Zone {
    async fn start() -> Self {
        Self::start_with(|_| Cache::None).await
    }

    /// With a cache whose URL is in the folder.
    async fn start_with(cache: impl FnOnce(&Path) -> Cache) -> Self {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let member = |id: &str, kind, link| Member { id: ProcessId(id.into()), kind, host: None, link };
        let center_member = member("center-1", ProcessKind::Center, nowhere);
        let asked = std::slice::from_ref(&center_member);
        let mut dc_links = Neighbour::start("dc-1", ProcessKind::Dc, 1, "127.0.0.1:0", asked).await;
        let scene = Neighbour::start("scene-1", ProcessKind::Scene, 1, "127.0.0.1:0", asked).await;
        let (dc_member, scene_member) = (dc_links.links.local_addr(), scene.links.local_addr());
        let (source, members) = Members::new(vec![
            member("dc-1", ProcessKind::Dc, dc_member),
            member("scene-1", ProcessKind::Scene, scene_member),
            member("gate-1", ProcessKind::Gate, nowhere),
            member("gate-2", ProcessKind::Gate, nowhere),
            member("login-1", ProcessKind::Login, nowhere),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let mut process = process(folder.path(), members);
        process.cache = cache(folder.path());
        let center = Arc::new(Center::new(process.clone()));
        let config = LinkConfig { listen: "127.0.0.1:0".parse().unwrap(), ..LinkConfig::of(&process) };
        let links = Links::start_with(config, Arc::new(LinkHandler::new(center.clone()))).await.unwrap();
        let center_member = Member { link: links.local_addr(), ..center_member };
        center.linked(links);
        process.tasks.spawn("readiness", readiness::run(center.clone()));
        process.tasks.spawn("rehome", rehome::run(center.clone()));
        let dc = Arc::new(Dc::default());
        let answering = dc.clone();
        let mut calls = std::mem::replace(&mut dc_links.calls, mpsc::unbounded_channel().1);
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                answering.answer(call);
            }
        });
        let dials = std::slice::from_ref(&center_member);
        let gate = Neighbour::start("gate-1", ProcessKind::Gate, 1, "127.0.0.1:0", dials).await;
        let login = Neighbour::start("login-1", ProcessKind::Login, 1, "127.0.0.1:0", dials).await;
        gate.tell(0, &GateReport::default()).await;
        scene.tell(0, &report()).await;
        tokio::time::timeout(WITHIN, center.process.ready.ready()).await.expect("center gets ready");
        // The members' source has to outlive the test.
        std::mem::forget(source);
        Self { center, dc, gate, login, scene, center_member, _dc: dc_links, _folder: folder }
    }

    async fn claims(&self, account: u64, session: u64) -> u64 {
        let claim = claim(account, session);
        self.login.ask(&claim).await.unwrap().session_epoch
    }

    /// Logs a player in, all the way: account N plays player N through session N.
    async fn player(&mut self, number: u64) {
        self.claims(number, number).await;
        self.enters(number, number).await.0.unwrap();
        let joined = self.gate.next_frame().await;
        assert_eq!((joined.kind, joined.id), (GROUP_JOIN, crate::center::ZONE_GROUP));
    }

    async fn enters(&mut self, account: u64, session: u64) -> (Result<PlayerEntered, CallError>, SceneEnter) {
        let call = enter(account, session);
        tokio::join!(self.login.ask(&call), self.scene.takes_player())
    }
}

fn process(folder: &Path, members: Members) -> Process {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/zone.yaml");
    let zone = ZoneFile::load(&file, folder).unwrap();
    let mut process = Process::for_test(&zone, "center-1", folder);
    process.members = members;
    process.secret = ZoneSecret::new(b"the secret of the test's zone");
    process
}

fn report() -> SceneReport {
    let line = |map: &str| LineReport { map: map.into(), line: 1, players_max: 100, ..LineReport::default() };
    let lines = vec![line("meadow"), line("town")];
    SceneReport { lines, actors: Vec::new(), more: false }
}

fn claim(account: u64, session: u64) -> SessionClaim {
    SessionClaim {
        session,
        account,
        account_name: format!("account{account}"),
        gate: "gate-1".into(),
        address: "9.9.9.9".into(),
        ..SessionClaim::default()
    }
}

fn enter(account: u64, session: u64) -> PlayerEnter {
    let name = format!("Player{account}");
    PlayerEnter { session, account, player: account, name, level: 1, map: "meadow".into(), line: 1, seq: 5 }
}
