//! What arrives on the links, and the life of a request: begun, run in a task of its own, ended, answered.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::{
    Frame,
    client::{Fault, FaultCode},
    event::{FaultShown, event::Body},
    internal::{CallFaultCode, SessionClaim, SessionEnded, SessionOpened},
    link::{self, Call, LinkFrame, Notice},
};
use service::{
    CallError, Handler, IncomingCall, Link, Links, Process, ProcessKind,
    cache::Cache,
    config::Zone,
    events::{Events, Subject},
    random::Random,
    tasks::Tasks,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use crate::{
    budget::Budget,
    faults,
    password::Hashers,
    peers::Peers,
    requests::{self, Reply, Request},
    sessions::{Facts, NoBegin, Sessions},
    waiting::{self, Waiting},
};

/// Requests that run at once, each a task of a few kilobytes. Full? One more is answered BUSY.
const REQUESTS_MAX: u32 = 4096;
/// How long a stop waits for the requests that run.
const DRAIN: Duration = Duration::from_secs(10);
/// When a client may try again what could not be done now; spread, so that not all come back at once.
const RETRY: Duration = Duration::from_millis(1000);

/// What every request works with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) zone: Arc<Zone>,
    pub(crate) cache: Cache,
    pub(crate) events: Events,
    pub(crate) hashers: Hashers,
    pub(crate) budget: Mutex<Budget>,
    pub(crate) peers: Peers,
    sessions: Sessions,
    links: OnceLock<Links>,
    random: Random,
    tasks: Tasks,
    places: Arc<Semaphore>,
    waiting_for_room: AtomicUsize,
}

impl Desk {
    /// Without links: requests are answered UNAVAILABLE until [`Desk::serve_with`].
    pub(crate) fn new(process: &Process, hashers: Hashers, failures_per_minute: u32) -> Self {
        Self {
            zone: Arc::clone(&process.zone),
            cache: process.cache.clone(),
            events: process.events.clone(),
            hashers,
            budget: Mutex::new(Budget::new(failures_per_minute)),
            peers: Peers::new(process),
            sessions: Sessions::default(),
            links: OnceLock::new(),
            random: process.random.clone(),
            tasks: process.tasks.clone(),
            places: Arc::new(Semaphore::new(REQUESTS_MAX as usize)),
            waiting_for_room: AtomicUsize::new(0),
        }
    }

    /// Gives it the links on which it asks others.
    pub(crate) fn serve_with(&self, links: Links) {
        // Set once, by `run`.
        let _ = self.links.set(links);
    }

    /// Waits until the requests that run are answered.
    pub(crate) async fn drain(&self) {
        if tokio::time::timeout(DRAIN, self.places.acquire_many(REQUESTS_MAX)).await.is_err() {
            tracing::warn!(running = self.running(), "stopped with requests unanswered");
        }
    }

    /// What `/status` says; `waiting` is said of the queues.
    pub(crate) fn status(&self, waiting: &serde_json::Value) -> serde_json::Value {
        serde_json::json!({
            "sessions": self.sessions.count(),
            "requests": self.running(),
            "waiting": waiting,
        })
    }

    /// The process' source of chance.
    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    /// What ends with the process.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// How many good logins wait for room in the zone.
    pub(crate) fn waiting_for_room(&self) -> usize {
        self.waiting_for_room.load(Ordering::Relaxed)
    }

    /// Says how many good logins wait for room in the zone.
    pub(crate) fn set_waiting_for_room(&self, count: usize) {
        self.waiting_for_room.store(count, Ordering::Relaxed);
    }

    /// When a client should try again.
    pub(crate) fn retry_ms(&self) -> u32 {
        u32::try_from(self.random.jitter(RETRY).as_millis()).unwrap_or(u32::MAX)
    }

    /// Asks another process; a failure is already what the client is told.
    pub(crate) async fn call<C: Call>(&self, kind: ProcessKind, call: &C, within: Duration) -> Result<C::Answer, Fault> {
        let Some(links) = self.links.get() else { return Err(faults::unavailable(self.retry_ms())) };
        links.call(kind, call, within).await.map_err(|err| self.fault_of(&err, C::NAME))
    }

    /// Asks center for the account's live session; its epoch, or none when the zone is full.
    pub(crate) async fn claim(&self, claim: &SessionClaim, within: Duration) -> Result<Option<u64>, Fault> {
        let Some(links) = self.links.get() else { return Err(faults::unavailable(self.retry_ms())) };
        match links.call(ProcessKind::Center, claim, within).await {
            Ok(claimed) => Ok(Some(claimed.session_epoch)),
            Err(CallError::Refused(refusal)) if refusal.code() == CallFaultCode::CallZoneFull => Ok(None),
            Err(err) => Err(self.fault_of(&err, SessionClaim::NAME)),
        }
    }

    /// A defect of the zone: the client gets a number that the log has too.
    pub(crate) fn defect(&self, what: &str) -> Fault {
        let number = self.random.below(1 << 32);
        tracing::error!(defect = format!("{number:08x}"), "failed to {what}");
        Fault::new(FaultCode::Internal, format!("internal fault {number:08x}"))
    }

    fn fault_of(&self, err: &CallError, call: &str) -> Fault {
        match faults::of_call(err, self.retry_ms()) {
            Some(fault) => {
                tracing::debug!("call {call}: {err}");
                fault
            }
            None => self.defect(&format!("call {call}: {err}")),
        }
    }

    fn running(&self) -> usize {
        (REQUESTS_MAX as usize).saturating_sub(self.places.available_permits())
    }

    /// Room for one more request that runs.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Fault> {
        if self.tasks.is_stopping() {
            return Err(faults::unavailable(self.retry_ms()));
        }
        let busy = |_| Fault::retry(FaultCode::Busy, "too many requests at once", self.retry_ms());
        Arc::clone(&self.places).try_acquire_owned().map_err(busy)
    }

    fn refuse(&self, link: &Link, session: u64, facts: &Facts, seq: u32, fault: &Fault) {
        let subject = Subject { account: facts.account, session, ..Subject::default() };
        let shown = FaultShown { code: fault.code, text: fault.text.clone() };
        self.events.emit(&subject, Body::FaultShown(shown));
        let _ = link.deliver(session, faults::frame(seq, fault));
    }
}

/// Takes what the links bring.
#[derive(Debug)]
pub(crate) struct Door {
    desk: Arc<Desk>,
    waiting: Arc<Waiting>,
}

impl Door {
    /// Hands everything to `desk`, and what costs a hash to `waiting`.
    pub(crate) fn new(desk: Arc<Desk>, waiting: Arc<Waiting>) -> Self {
        Self { desk, waiting }
    }

    fn on_request(&self, link: &Link, session: u64, frame: Frame) {
        let desk = &self.desk;
        let begun = desk.sessions.begin(link.number(), session).map_err(|no| match no {
            NoBegin::Unknown => faults::unavailable(desk.retry_ms()),
            NoBegin::Running => Fault::new(FaultCode::IllegalState, "an earlier request of this session is not yet answered"),
        });
        let (facts, running) = match begun {
            Ok(begun) => begun,
            Err(fault) => {
                count(&frame, fault.code().as_str_name());
                return desk.refuse(link, session, &Facts::default(), frame.seq(), &fault);
            }
        };
        let request = Request { desk: Arc::clone(desk), gate: link.peer().id.clone(), session, seq: frame.seq(), facts, running };
        let link = link.clone();
        if let Some(account) = waiting::account(&frame).filter(|_| request.facts.account == 0) {
            return self.waiting.join(request, frame, link, account);
        }
        let place = match desk.place() {
            Ok(place) => place,
            Err(fault) => return finish(request, &link, &frame, Err(fault)),
        };
        let span = tracing::info_span!("request", session, name = frame.info().map(|info| info.name));
        let task = async move {
            let answer = requests::answer(&request, &frame).await;
            finish(request, &link, &frame, answer);
            drop(place);
        };
        desk.tasks.spawn("request", task.instrument(span));
    }
}

impl Handler for Door {
    async fn on_up(&self, link: &Link) {
        self.desk.peers.up(link);
    }

    async fn on_down(&self, link: &Link) {
        self.desk.sessions.link_down(link.number());
        self.waiting.link_gone(link.number());
        self.desk.peers.down(link);
    }

    async fn on_frame(&self, link: &Link, frame: LinkFrame) {
        match frame.kind {
            link::FORWARD => match Frame::from_bytes(frame.body) {
                Ok(request) => self.on_request(link, frame.id, request),
                Err(err) => tracing::warn!(gate = %link.peer().id, "forwarded bytes: {err}"),
            },
            SessionOpened::KIND => match <SessionOpened as prost::Message>::decode(frame.body) {
                Ok(opened) => {
                    let SessionOpened { address, account, account_name, player: _ } = opened;
                    self.desk.sessions.opened(link.number(), frame.id, Facts { address, account, account_name });
                }
                Err(err) => tracing::warn!(gate = %link.peer().id, "malformed SessionOpened: {err}"),
            },
            SessionEnded::KIND => {
                self.desk.sessions.ended(link.number(), frame.id);
                self.waiting.gone(link.number(), frame.id);
            }
            other => tracing::trace!(peer = %link.peer().id, "link frame {other:#06x} is not for a login"),
        }
        metrics::gauge!("paifang_login_sessions_count").set(self.desk.sessions.count() as f64);
    }

    async fn on_call(&self, _link: &Link, call: IncomingCall) {
        call.unknown();
    }
}

/// Ends the request before its answer leaves: the client may send the next one as soon as it has it.
pub(crate) fn finish(request: Request, link: &Link, frame: &Frame, answer: Result<Reply, Fault>) {
    let Request { desk, session, seq, facts, running, .. } = request;
    let lives = running.lives();
    if let Ok(Reply::LoggedIn { authenticated, .. }) = &answer {
        running.authenticated(authenticated.account, &authenticated.account_name);
    }
    drop(running);
    count(frame, answer.as_ref().map_or_else(|fault| fault.code().as_str_name(), |_| "ok"));
    if !lives {
        // Nobody is there to be shown anything. But center has the claim, and hears from the gate that the session is over.
        if let Ok(Reply::LoggedIn { authenticated, .. }) = &answer {
            let _ = link.notify(session, authenticated);
        }
        return;
    }
    match answer {
        Ok(Reply::Message(message)) => {
            let _ = link.deliver(session, message);
        }
        Ok(Reply::LoggedIn { authenticated, message }) => {
            // In this order: the gate must know the account before the client can act as it.
            if link.notify(session, &authenticated).is_ok() {
                let _ = link.deliver(session, message);
            }
        }
        Ok(Reply::Nothing) => (),
        Ok(Reply::ZoneFull) => {
            let fault = Fault::retry(FaultCode::Busy, "the zone is full", desk.retry_ms());
            desk.refuse(link, session, &facts, seq, &fault);
        }
        Err(fault) => desk.refuse(link, session, &facts, seq, &fault),
    }
}

fn count(frame: &Frame, outcome: &'static str) {
    let request = frame.info().map_or("unknown", |info| info.name);
    metrics::counter!("paifang_login_requests_total", "request" => request, "outcome" => outcome).increment(1);
}
