//! The process as its peers see it: what arrives on links, and to whom it goes.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prost::Message;
use proto::{
    client::FaultCode,
    ids::PlayerId,
    internal::{
        CallFault, CallFaultCode, Done, GoodsLook, LineClose, LineOpen, PlayerLevel, SceneChangeLine, SceneEnter, SceneLeave, SceneMute,
        SceneParty, SceneReport, SceneTeleport, SessionBack, SessionEnded, SessionLost, SessionOpened, TradePrepare, TradeSettle,
    },
    link::{Call, FORWARD, LinkFrame, Notice},
};
use service::{Handler, IncomingCall, Link, Links, Process, ProcessKind, Zone, events::Events, link::fault, random::Random};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SetOnce, mpsc},
    time::timeout,
};

use crate::{
    deal::Deals,
    enter,
    line::{Line, Order},
    lines::Lines,
    players::{Loss, Party, Players},
    world::Input,
};

/// Calls of center that may be under way. Full? One more is answered UNAVAILABLE, and center asks again.
const CALLS_MAX: usize = 4_096;
/// Requests about mail that may be under way. Full? One more is answered BUSY.
const MAILS_MAX: usize = 1_024;
/// How long a mute waits for a player that is on its way: less than center waits for the answer.
const MUTE_TURN_WITHIN: Duration = Duration::from_secs(3);
/// Players in one part of a report.
const REPORT_PART: usize = 500;

/// The whole process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scene(Arc<Inner>);

struct Inner {
    process: Process,
    lines: Lines,
    players: Players,
    links: SetOnce<Links>,
    calls: Arc<Semaphore>,
    deals: Deals,
    mails: Arc<Semaphore>,
    lost: mpsc::UnboundedSender<u64>,
    draining: AtomicBool,
}

impl Scene {
    /// A scene before it has links.
    pub(crate) fn new(process: Process, lines: Lines, players: Players, lost: mpsc::UnboundedSender<u64>) -> Self {
        let (links, calls, draining) = (SetOnce::new(), Arc::new(Semaphore::new(CALLS_MAX)), AtomicBool::new(false));
        Self(Arc::new(Inner {
            process,
            lines,
            players,
            links,
            calls,
            deals: Deals::default(),
            mails: Arc::new(Semaphore::new(MAILS_MAX)),
            lost,
            draining,
        }))
    }

    /// The links are there.
    pub(crate) fn set_links(&self, links: Links) {
        // Set once, by `run`.
        let _ = self.0.links.set(links);
    }

    /// The links, as soon as they are there.
    pub(crate) async fn links(&self) -> Links {
        self.0.links.wait().await.clone()
    }

    /// Players are taken no more.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Leave to have one more request about mail under way; none: there are too many.
    pub(crate) fn mail_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.0.mails.clone().try_acquire_owned().ok()
    }

    pub(crate) fn deals(&self) -> &Deals {
        &self.0.deals
    }

    pub(crate) fn players(&self) -> &Players {
        &self.0.players
    }

    pub(crate) fn lines(&self) -> &Lines {
        &self.0.lines
    }

    pub(crate) fn line(&self, index: u32) -> Option<Line> {
        self.0.lines.get(index)
    }

    pub(crate) fn events(&self) -> &Events {
        &self.0.process.events
    }

    pub(crate) fn random(&self) -> &Random {
        &self.0.process.random
    }

    pub(crate) fn zone(&self) -> &Zone {
        &self.0.process.zone
    }

    pub(crate) fn run_name(&self) -> String {
        self.0.process.run_name()
    }

    pub(crate) fn resume_window(&self) -> Duration {
        self.zone().players.resume_window
    }

    pub(crate) fn spawn_task(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end_token();
        self.0.process.tasks.spawn(name, async move {
            end.run_until_cancelled_owned(task).await;
        });
    }

    /// Is cancelled when the process has drained.
    pub(crate) fn end_token(&self) -> tokio_util::sync::CancellationToken {
        self.0.process.tasks.end_token()
    }

    /// A player turned out to have another owner.
    pub(crate) fn report_lost(&self, player: u64) {
        // Closed only when the process has ended.
        let _ = self.0.lost.send(player);
    }

    pub(crate) async fn tell_center<N: Notice>(&self, notice: &N) {
        for center in self.links().await.of(ProcessKind::Center) {
            // A center that is away learns it from the report on its next link.
            let _ = center.notify(0, notice);
        }
    }

    /// A player reached a level.
    pub(crate) async fn tell_level(&self, player: u64, level: u32) {
        self.players().change(player, |seat| seat.level = level);
        self.tell_center(&PlayerLevel { player, level }).await;
    }

    /// Says what this process hosts and who is here, in parts.
    fn report(&self, center: &Link) {
        let place = |index: u32| self.line(index).map(|line| (line.facts().map.clone(), line.facts().line));
        let actors = self.players().report(place);
        let mut parts: Vec<SceneReport> =
            actors.chunks(REPORT_PART).map(|actors| SceneReport { lines: Vec::new(), actors: actors.to_vec(), more: true }).collect();
        if parts.is_empty() {
            parts.push(SceneReport::default());
        }
        parts[0].lines = self.line_reports();
        if let Some(last) = parts.last_mut() {
            last.more = false;
        }
        for part in parts {
            // A link that is down already gets a new report when it is up again.
            let _ = center.notify(0, &part);
        }
    }

    /// The run of a gate is linked again: sessions that live there and were cut off are told everything anew.
    fn rebind_cut_off(&self, gate: &Link) {
        for player in self.players().cut_off(&gate.peer().id, gate.peer().incarnation) {
            let (scene, gate) = (self.clone(), gate.clone());
            self.spawn_task("rebind", async move { scene.rebind_one(player, &gate).await });
        }
    }

    async fn rebind_one(&self, player: u64, gate: &Link) {
        let _turn = self.players().turn(player).await;
        let Some(seat) = self.players().get(player) else { return };
        let still = seat.session.gate == gate.peer().id && seat.lost.is_some_and(|(loss, _)| loss == Loss::Gate);
        let Some(line) = self.line(seat.line).filter(|_| still) else { return };
        let session = crate::players::Session { link: gate.number(), ..seat.session.clone() };
        self.bind_again(&line, crate::players::Seat { session, out: None, lost: None, ..seat }, 0, gate).await;
    }

    fn on_gate_down(&self, link: &Link) {
        for line in self.lines().all() {
            line.order(Order::GateDown(link.number()));
        }
        for (player, line) in self.players().lose_gate(link.number(), self.resume_window()) {
            self.input(line, Input::SessionLost(PlayerId(player)));
        }
    }

    fn input(&self, line: u32, input: Input) {
        if let Some(line) = self.line(line) {
            line.order(Order::Input(input));
        }
    }

    fn on_notice(&self, link: &Link, frame: &LinkFrame) {
        let session = frame.id;
        match frame.kind {
            SessionLost::KIND => {
                if let Some((player, line)) = self.players().lose(session, link.number(), Loss::Socket, self.resume_window()) {
                    self.input(line, Input::SessionLost(PlayerId(player)));
                }
            }
            SessionBack::KIND => {
                if let Some((player, line)) = self.players().regain(session, link.number()) {
                    self.input(line, Input::SessionBack(PlayerId(player)));
                }
            }
            SessionEnded::KIND => match SessionEnded::decode(frame.body.clone()) {
                Ok(ended) => self.on_ended(link, session, ended.reason()),
                Err(err) => tracing::warn!(peer = %link.peer().id, "malformed SessionEnded: {err}"),
            },
            SceneParty::KIND => match SceneParty::decode(frame.body.clone()) {
                Ok(party) => self.on_party(&party),
                Err(err) => tracing::warn!(peer = %link.peer().id, "malformed SceneParty: {err}"),
            },
            // Who a session is, we know from center.
            SessionOpened::KIND => (),
            kind => tracing::warn!(peer = %link.peer().id, kind, "unexpected notice"),
        }
    }

    fn on_ended(&self, link: &Link, session: u64, reason: FaultCode) {
        if reason == FaultCode::LoggedInElsewhere {
            // The session that takes over enters in a moment.
            if let Some((player, line)) = self.players().lose(session, link.number(), Loss::Replaced, self.resume_window()) {
                self.players().change(player, |seat| seat.out = None);
                self.input(line, Input::SessionLost(PlayerId(player)));
            }
            return;
        }
        let Some((player, _)) = self.players().route(session, link.number()) else { return };
        let why = match reason {
            FaultCode::Unspecified => "logged out".to_owned(),
            reason => reason.as_str_name().to_lowercase().replace('_', " "),
        };
        let scene = self.clone();
        self.spawn_task("leave", async move {
            scene.leave(player, &why, Some(session)).await;
        });
    }

    /// What the player says after the answer comes behind the mute in its line's queue.
    async fn mute(&self, mute: SceneMute) -> Result<Done, CallFault> {
        let not_here = || fault(CallFaultCode::CallNotFound, "the player is not here");
        // One on its way is muted where it arrives.
        let turn = timeout(MUTE_TURN_WITHIN, self.players().turn(mute.player)).await;
        let _turn = turn.map_err(|_| fault(CallFaultCode::CallUnavailable, "the player is on its way, or in a deal"))?;
        let seat = self.players().get(mute.player).ok_or_else(not_here)?;
        let line = self.line(seat.line).ok_or_else(not_here)?;
        self.players().change(mute.player, |seat| seat.muted_until_ms = mute.until_ms);
        let ticks = enter::muted_ticks(mute.until_ms, line.facts().tick_hz);
        line.order(Order::Input(Input::Mute { player: PlayerId(mute.player), ticks }));
        Ok(Done {})
    }

    fn on_party(&self, party: &SceneParty) {
        let Some(seat) = self.players().get(party.player) else { return };
        let told = Party { id: party.party, leader: party.leader, friends: party.friends.clone() };
        self.players().change(party.player, |seat| seat.party = told.clone());
        self.input(seat.line, told.input(party.player));
    }

    /// Answers a call in a task of its own, if there is room.
    fn answer<C: Call, F>(&self, call: IncomingCall, answer: impl FnOnce(Scene, C) -> F)
    where
        F: Future<Output = Result<C::Answer, proto::internal::CallFault>> + Send + 'static,
    {
        let permit: Result<OwnedSemaphorePermit, _> = self.0.calls.clone().try_acquire_owned();
        let (Ok(permit), parsed) = (permit, call.parse::<C>()) else {
            return call.answer::<C>(Err(fault(CallFaultCode::CallUnavailable, "too many calls")));
        };
        match parsed {
            Ok(message) => {
                let answer = answer(self.clone(), message);
                self.spawn_task(C::NAME, async move {
                    call.answer::<C>(answer.await);
                    drop(permit);
                });
            }
            Err(malformed) => call.answer::<C>(Err(malformed)),
        }
    }

    /// Ready as long as dc is linked; `down` is a link that is about to go.
    async fn check_ready(&self, down: Option<&Link>) {
        let ready = &self.0.process.ready;
        let linked = self.links().await.of(ProcessKind::Dc).iter().any(|dc| down.is_none_or(|down| down.number() != dc.number()));
        if linked {
            return ready.set();
        }
        let members = self.0.process.members.now();
        let missing = members.iter().filter(|member| member.kind == ProcessKind::Dc).map(|member| member.id.0.clone()).collect();
        ready.wait_for(missing);
    }
}

impl Handler for Scene {
    async fn on_up(&self, link: &Link) {
        match link.peer().kind {
            ProcessKind::Center => self.report(link),
            ProcessKind::Gate => self.rebind_cut_off(link),
            ProcessKind::Dc => self.check_ready(None).await,
            _ => (),
        }
    }

    async fn on_down(&self, link: &Link) {
        match link.peer().kind {
            ProcessKind::Gate => self.on_gate_down(link),
            ProcessKind::Dc => self.check_ready(Some(link)).await,
            _ => (),
        }
    }

    async fn on_frame(&self, link: &Link, frame: LinkFrame) {
        match frame.kind {
            FORWARD => self.on_forward(link, &frame),
            _ => self.on_notice(link, &frame),
        }
    }

    async fn on_call(&self, _: &Link, call: IncomingCall) {
        match call.kind {
            SceneEnter::KIND => self.answer(call, |scene, call: SceneEnter| async move { scene.enter(call).await }),
            SceneLeave::KIND => self.answer(call, |scene, call: SceneLeave| async move {
                let left = scene.leave(call.player, &call.reason, None).await;
                if left { Ok(proto::internal::Done {}) } else { Err(fault(CallFaultCode::CallNotFound, "the player is not here")) }
            }),
            GoodsLook::KIND => self.answer(call, |scene, call: GoodsLook| async move { scene.goods_look(call).await }),
            TradePrepare::KIND => self.answer(call, |scene, call: TradePrepare| async move { scene.trade_prepare(call).await }),
            TradeSettle::KIND => self.answer(call, |scene, call: TradeSettle| async move { scene.trade_settle(&call) }),
            LineOpen::KIND => self.answer(call, |scene, call: LineOpen| async move { scene.open_line(call).await }),
            LineClose::KIND => self.answer(call, |scene, call: LineClose| async move { scene.close_line(call).await }),
            SceneMute::KIND => self.answer(call, |scene, call: SceneMute| async move { scene.mute(call).await }),
            SceneChangeLine::KIND => self.answer(call, |scene, call: SceneChangeLine| async move { scene.wish_line(call).await }),
            SceneTeleport::KIND => {
                self.answer(
                    call,
                    |scene, call: SceneTeleport| async move { scene.teleport(call).await.map(|()| proto::internal::Done {}) },
                );
            }
            _ => call.unknown(),
        }
    }
}
