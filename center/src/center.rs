//! What all parts of center share, and how the actions that presence asks for are carried out.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::{
    client::FaultCode,
    ids::{PlayerId, SessionId},
    internal::{CallFault, CallFaultCode, SceneLeave, SessionClose},
    link::Call,
};
use service::{CallError, Link, Links, Process, ProcessId, ProcessKind, config::Role, events::Subject, link::fault};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::Request,
    gm::shutdown::Countdown,
    keyed::{Lanes, Locks},
    presence::{Action, Presence, Run, Speaker, parties::PartyId},
    relations::Cache,
    report::Reports,
    trades::Trades,
};

/// How long a scene may take to answer.
pub(crate) const SCENE_WITHIN: Duration = Duration::from_secs(5);
/// How long a scene may take to let a player in: longer than its own waits for the gate, the player's turn and dc, so that it is the
/// scene that says no. A player who is let in after center gave up would have to be sent out again before its client's eyes.
pub(crate) const ENTER_WITHIN: Duration = Duration::from_secs(20);
/// How long dc may take to answer.
pub(crate) const DC_WITHIN: Duration = Duration::from_secs(5);
/// The group of everybody in the world.
pub(crate) const ZONE_GROUP: u64 = 1;
/// Calls and client requests carried out at once. Full? A call is answered UNAVAILABLE, a client's request BUSY.
const REQUESTS_MAX: usize = 4096;

/// The shared state of a center.
pub(crate) struct Center {
    pub process: Process,
    pub accounts: Locks,
    pub lanes: Lanes<Request>,
    pub relations: Cache,
    pub reports: Mutex<Reports>,
    pub countdown: Countdown,
    /// Somebody may be homeless.
    pub homeless: Notify,
    /// Something changed on which readiness depends.
    pub changed: Notify,
    gone: Notify,
    pub started: Instant,
    presence: Mutex<Presence>,
    trades: Mutex<Trades>,
    links: OnceLock<Links>,
    requests: Arc<Semaphore>,
    rebuilt: AtomicBool,
    closing: AtomicBool,
    finish: CancellationToken,
    broadcasts: AtomicU64,
}

impl Center {
    pub(crate) fn new(process: Process) -> Self {
        Self {
            accounts: Locks::default(),
            lanes: Lanes::default(),
            relations: Cache::default(),
            reports: Mutex::default(),
            countdown: Countdown::default(),
            homeless: Notify::new(),
            changed: Notify::new(),
            gone: Notify::new(),
            started: Instant::now(),
            presence: Mutex::new(Presence::of_zone(&process.zone, now_ms())),
            trades: Mutex::default(),
            links: OnceLock::new(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            rebuilt: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            finish: CancellationToken::new(),
            broadcasts: AtomicU64::new(0),
            process,
        }
    }

    /// Somebody has gone: a session is over, or a player has left the world.
    pub(crate) fn note_gone(&self) {
        self.gone.notify_waiters();
    }

    /// Waits until enough have gone for presence to be as asked; `false`: it is not in time.
    pub(crate) async fn until_gone(&self, within: Duration, gone: impl Fn(&Presence) -> bool) -> bool {
        let all = async {
            loop {
                let next = self.gone.notified();
                if gone(&self.presence()) {
                    return;
                }
                next.await;
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }

    /// Gives it its links, which are started with a handler that knows it.
    pub(crate) fn linked(&self, links: Links) {
        // A second call would be a defect without harm: the first links stay.
        _ = self.links.set(links);
        self.changed.notify_one();
    }

    /// Who is online and where. Not held over an await.
    pub(crate) fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().expect("no holder panics")
    }

    /// Who trades with whom. Not held over an await; where presence is held too, that is locked first.
    pub(crate) fn trades(&self) -> MutexGuard<'_, Trades> {
        self.trades.lock().expect("no holder panics")
    }

    pub(crate) fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().expect("no holder panics")
    }

    pub(crate) fn links_of(&self, kind: ProcessKind) -> Vec<Link> {
        self.links.get().map(|links| links.of(kind)).unwrap_or_default()
    }

    pub(crate) fn link(&self, id: &ProcessId) -> Option<Link> {
        self.links.get().and_then(|links| links.get(id))
    }

    /// Whether presence has been rebuilt since the start.
    pub(crate) fn is_rebuilt(&self) -> bool {
        self.rebuilt.load(Ordering::Acquire)
    }

    pub(crate) fn set_rebuilt(&self) {
        self.rebuilt.store(true, Ordering::Release);
    }

    /// Whether players may be brought in now.
    ///
    /// # Errors
    /// UNAVAILABLE before presence is rebuilt, and once the zone shuts down.
    pub(crate) fn open(&self) -> Result<(), CallFault> {
        if self.closing.load(Ordering::Acquire) {
            return Err(unavailable("the zone is shutting down"));
        }
        if self.is_rebuilt() { Ok(()) } else { Err(unavailable("center is still learning who is online")) }
    }

    /// No player comes in any more.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Ends the process, as if all were done.
    pub(crate) fn finish(&self) {
        self.finish.cancel();
    }

    /// Ends when [`Center::finish`] was called. Cancel-safe.
    pub(crate) async fn finished(&self) {
        self.finish.cancelled().await;
    }

    /// A number that no broadcast had before, in this run or another.
    pub(crate) fn next_broadcast(&self) -> u64 {
        let now = u64::try_from(now_ms()).unwrap_or(0);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let last = self.broadcasts.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).unwrap_or(0);
        now.max(last.saturating_add(1))
    }

    pub(crate) fn rehome_after(&self) -> Duration {
        match &self.process.config.role {
            Role::Center(center) => center.rehome_after,
            _ => Duration::ZERO,
        }
    }

    /// Runs something that waits for others; `false`: too much is under way.
    pub(crate) fn spawn_request(&self, name: &'static str, request: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(permit) = self.requests.clone().try_acquire_owned() else { return false };
        self.spawn(name, async move {
            request.await;
            drop(permit);
        });
        true
    }

    /// Runs something of which as much is under way as there are players at the most; it ends with the process.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.process.tasks.end_token();
        self.process.tasks.spawn(name, async move {
            // Cut off only when the process ends, and with it all that waits for the outcome.
            _ = end.run_until_cancelled_owned(task).await;
        });
    }

    /// Asks dc.
    ///
    /// # Errors
    /// When there is no good answer in time.
    pub(crate) async fn dc<C: Call>(&self, call: &C) -> Result<C::Answer, CallError> {
        self.dc_within(call, DC_WITHIN).await
    }

    /// As [`Center::dc`], for what takes its time.
    ///
    /// # Errors
    /// When there is no good answer in time.
    pub(crate) async fn dc_within<C: Call>(&self, call: &C, within: Duration) -> Result<C::Answer, CallError> {
        match self.links.get() {
            Some(links) => links.call(ProcessKind::Dc, call, within).await,
            None => Err(CallError::NoLink(ProcessKind::Dc)),
        }
    }

    /// Asks this run of a scene.
    ///
    /// # Errors
    /// When it is not linked, or there is no good answer in time.
    pub(crate) async fn scene<C: Call>(&self, scene: &Run, call: &C, within: Duration) -> Result<C::Answer, CallError> {
        let link = self.link(&scene.id).filter(|link| link.peer().incarnation == scene.incarnation);
        link.ok_or(CallError::NoLink(ProcessKind::Scene))?.call(call, within).await
    }

    /// Makes a scene give a player up, and takes it out of presence. Done too when the scene has no such player.
    ///
    /// # Errors
    /// When the scene gives no good answer.
    pub(crate) async fn leave(self: &Arc<Self>, scene: &Run, player: PlayerId, reason: &str) -> Result<(), CallError> {
        match self.scene(scene, &SceneLeave { player: player.0, reason: reason.into() }, SCENE_WITHIN).await {
            Ok(_) => (),
            Err(err) if err.code() == Some(CallFaultCode::CallNotFound) => (),
            Err(err) => return Err(err),
        }
        let actions = self.presence().sent_out(scene, player);
        self.act(actions);
        self.note_gone();
        Ok(())
    }

    /// Carries out what presence asks for. Never waits.
    pub(crate) fn act(self: &Arc<Self>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Close { gate, session, code, text } => self.close_session(&gate, session, code, text),
                Action::Leave { scene, player, reason } => self.leave_later(scene, player, reason),
                Action::JoinZone { gate, session } => self.join_zone(&gate, session),
                Action::LeaveZone { gate, session, party } => self.leave_zone(&gate, session, party),
                Action::TellFriends { player, name, online } => self.tell_friends_later(player, name, online),
                Action::Rehome => self.homeless.notify_one(),
                Action::OpenLine(opening) => self.open_line_later(opening),
                Action::CloseLine { scene, map, line } => self.close_line_later(scene, map, line),
                Action::LineChanged { what, map, line, scene, by } => self.log_line(what, map, line, &scene, by),
                Action::TellParty(change) => self.tell_party(&change, None),
                Action::TellScene { player } => self.tell_scene_later(player),
            }
        }
    }

    /// Ends a session at its gate. A gate that is away has no sessions to end.
    pub(crate) fn close_session(&self, gate: &ProcessId, session: SessionId, code: FaultCode, text: String) {
        self.at_gate(gate, |link| link.notify(session.0, &SessionClose { code: code.into(), text }));
    }

    /// Sends something to a gate, if it is linked. What is not sent is made up for by the gate's report on its next link.
    pub(crate) fn at_gate(&self, gate: &ProcessId, send: impl FnOnce(&Link) -> Result<(), service::link::SendError>) {
        if let Some(link) = self.link(gate)
            && let Err(err) = send(&link)
        {
            tracing::debug!(%gate, "failed to send: {err}");
        }
    }

    fn join_zone(&self, gate: &ProcessId, session: SessionId) {
        self.at_gate(gate, |link| link.group_join(ZONE_GROUP, session.0));
        let party = self.presence().party_of_session(session);
        if let Some(party) = party {
            self.at_gate(gate, |link| link.group_join(party.0, session.0));
        }
        if let Some(notice) = self.countdown.notice() {
            self.at_gate(gate, |link| link.deliver(session.0, proto::Frame::encode(0, &notice)));
        }
    }

    fn leave_zone(&self, gate: &ProcessId, session: SessionId, party: Option<PartyId>) {
        self.at_gate(gate, |link| link.group_leave(ZONE_GROUP, session.0));
        if let Some(party) = party {
            self.at_gate(gate, |link| link.group_leave(party.0, session.0));
        }
    }

    fn leave_later(self: &Arc<Self>, scene: Run, player: PlayerId, reason: &'static str) {
        let center = self.clone();
        self.spawn("scene leave", async move {
            if let Err(err) = center.leave(&scene, player, reason).await {
                tracing::warn!(%player, %scene, "failed to make the scene give the player up: {err}");
            }
        });
    }

    fn tell_friends_later(self: &Arc<Self>, player: PlayerId, name: String, online: bool) {
        let center = self.clone();
        self.spawn("friend notice", async move { center.tell_friends(player, &name, online).await });
    }
}

/// The wall clock in Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The fault for what may well work later.
pub(crate) fn unavailable(text: impl Into<String>) -> CallFault {
    fault(CallFaultCode::CallUnavailable, text)
}

/// Whom an event about a speaker is about.
pub(crate) fn subject(speaker: &Speaker) -> Subject {
    Subject {
        account: speaker.account.0,
        player: speaker.player.0,
        player_name: speaker.name.clone(),
        session: speaker.session.0,
        map: speaker.map.clone(),
        line: speaker.line,
    }
}
