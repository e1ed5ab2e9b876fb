//! What backends say: frames for clients, groups, and notices about sessions. And what follows when a link comes up or goes down.

use std::{collections::HashSet, sync::Arc};

use prost::Message;
use proto::{
    Frame,
    client::{Fault, FaultCode, Rehoming},
    internal::{SessionAuthenticated, SessionBound, SessionClose, SessionEnded, SessionLost, SessionUnbound},
    kinds::{Delivery, Direction, States},
    link::{self, LinkFrame, Notice, Publish},
};
use service::{Handler, IncomingCall, Link, ProcessKind};

use crate::{
    backends::Backend,
    forward::{RETRY_MS, open_on},
    gate::{Gate, subject},
    report,
    session::{Life, Session},
    socket::{End, shortened},
    wire::Written,
};

/// Hands what arrives on links to the gate.
pub(crate) struct FromBackends(pub Arc<Gate>);

impl Handler for FromBackends {
    async fn on_up(&self, link: &Link) {
        match link.peer().kind {
            ProcessKind::Center => self.0.center_up(link),
            ProcessKind::Scene => self.0.scene_up(link),
            _ => drop(self.0.backends.add(link)),
        }
        self.0.check_ready();
    }

    async fn on_down(&self, link: &Link) {
        self.0.backends.remove(link.number());
        self.0.check_ready();
        for session in self.0.all() {
            self.0.link_down(&session, link);
        }
    }

    async fn on_frame(&self, link: &Link, frame: LinkFrame) {
        let ends_tick = frame.kind == link::TICK_END;
        if self.0.take(link, frame).is_none() {
            self.0.metrics.backend_refused.increment(1);
            tracing::debug!(peer = %link.peer().id, "frame of a backend makes no sense");
        }
        self.0.write(link, ends_tick).await;
    }

    async fn on_drained(&self, link: &Link) {
        let Some(backend) = self.0.backends.get(link.number()) else { return };
        let mut written = Written::default();
        backend.drained(&mut written).await;
        written.settle(&self.0.metrics);
    }

    async fn on_call(&self, _: &Link, call: IncomingCall) {
        call.unknown();
    }
}

impl Gate {
    /// Can serve with a login, center and a scene. A client whose request needs one that is away gets UNAVAILABLE.
    pub(crate) fn check_ready(&self) {
        let needed = [ProcessKind::Login, ProcessKind::Center, ProcessKind::Scene];
        let members = self.process.members.now();
        let name = |kind: ProcessKind| {
            members.iter().find(|member| member.kind == kind).map_or(kind.name().to_owned(), |member| member.id.to_string())
        };
        let missing: Vec<String> = needed.into_iter().filter(|kind| self.backends.count(*kind) == 0).map(name).collect();
        if missing.is_empty() { self.process.ready.set() } else { self.process.ready.wait_for(missing) }
    }

    // ---- links come and go

    /// The report goes before all else on the link; then center is told what changed while it was made.
    fn center_up(&self, link: &Link) {
        let reported = report::send(&self.all(), link);
        self.backends.add(link);
        let mut gone: HashSet<u64> = reported.into_iter().collect();
        for session in self.all() {
            gone.remove(&session.id);
            if matches!(session.state().life, Life::Lost(_)) {
                let _ = link.notify(session.id, &SessionLost {});
            }
        }
        for id in gone {
            let _ = link.notify(id, &SessionEnded { reason: FaultCode::TimedOut.into() });
        }
    }

    /// If only the link had broken, the scene still has its players, and hears which sessions of this gate they belong to.
    fn scene_up(self: &Arc<Self>, link: &Link) {
        let (gate, backend) = (self.clone(), self.backends.add(link));
        self.process.tasks.spawn("write ticks", async move { backend.write_ticks(&gate.metrics).await });
        for session in self.all() {
            let mut state = session.state();
            if state.was_at.as_ref() == Some(link.peer()) && state.scene.is_none() {
                open_on(link, session.id, &mut state);
            }
        }
    }

    fn link_down(&self, session: &Session, link: &Link) {
        let mut state = session.state();
        state.opened.retain(|number| *number != link.number());
        if state.scene.as_ref().is_some_and(|scene| scene.number() == link.number()) {
            state.scene = None;
            state.was_at = Some(link.peer().clone());
            session.say(0, &Rehoming { text: format!("{} is away; you will be back in the world soon", link.peer().id) });
        }
        if state.login.as_ref().is_some_and(|login| login.number() == link.number()) {
            state.login = None;
        }
        let about = subject(session.id, &state);
        for seq in state.give_up(link.number()) {
            let text = format!("the {} service went away before it answered", link.peer().kind);
            self.emit_fault(&about, FaultCode::Unavailable, &text);
            session.say(seq, &Fault::retry(FaultCode::Unavailable, text, RETRY_MS));
        }
    }

    // ---- frames; `None`: it makes no sense

    fn take(self: &Arc<Self>, link: &Link, frame: LinkFrame) -> Option<()> {
        let backend = self.backends.get(link.number())?;
        match frame.kind {
            link::DELIVER => self.deliver(&backend, frame)?,
            link::GROUP_PUBLISH => {
                let publish = Publish::decode(frame.body)?;
                let reached = backend.publish(frame.id, publish.except, &publish.frame, to_client(&publish.frame)?);
                self.metrics.frames_out.increment(reached as u64);
                self.metrics.fan_out.record(reached as f64);
            }
            // See `write`.
            link::TICK_END => {}
            link::GROUP_JOIN => {
                let session = link::get_session(&frame.body)?;
                backend.join(frame.id, session, || self.session(session));
            }
            link::GROUP_LEAVE => backend.leave(frame.id, link::get_session(&frame.body)?),
            link::GROUP_DROP => backend.drop_group(frame.id),
            SessionAuthenticated::KIND if link.peer().kind == ProcessKind::Login => {
                self.authenticated(frame.id, SessionAuthenticated::decode(frame.body).ok()?);
            }
            SessionBound::KIND if link.peer().kind == ProcessKind::Scene => {
                self.bound(link, frame.id, SessionBound::decode(frame.body).ok()?);
            }
            SessionUnbound::KIND => self.unbound(link, frame.id),
            SessionClose::KIND => self.close(frame.id, &SessionClose::decode(frame.body).ok()?),
            _ => return None,
        }
        Some(())
    }

    /// Sees to it that what a tick has brought is written, and that not too much waits.
    async fn write(&self, link: &Link, ends_tick: bool) {
        let Some(backend) = self.backends.get(link.number()) else { return };
        if backend.has_ticks() {
            if ends_tick && !backend.end_tick() {
                self.metrics.ticks_gathered.increment(1);
            }
            backend.room().await;
        } else if ends_tick || backend.is_full() {
            let mut written = Written::default();
            backend.write_due(&mut written).await;
            written.settle(&self.metrics);
        }
    }

    fn deliver(&self, backend: &Backend, frame: LinkFrame) -> Option<()> {
        let id = frame.id;
        let frame = Frame::from_bytes(frame.body).ok()?;
        let delivery = to_client(&frame)?;
        // A session that has just ended is no mistake of the backend.
        let Some(session) = self.session(id) else { return Some(()) };
        // A request has one answer: what comes after it, as of an enter whose login died, is news that nobody asked for.
        let is_late = frame.seq() != 0 && !session.state().answered(frame.seq());
        let frame = if is_late { Frame::from_body(frame.kind(), 0, &frame.body()) } else { frame };
        backend.deliver(&session, &frame, delivery);
        self.metrics.frames_out.increment(1);
        Some(())
    }

    // ---- notices

    fn authenticated(&self, id: u64, notice: SessionAuthenticated) {
        let Some(session) = self.session(id) else {
            // It ended while its password was checked: center has its claim and would keep it.
            if let Some(center) = self.backends.center() {
                let _ = center.notify(id, &SessionEnded { reason: FaultCode::TimedOut.into() });
            }
            return;
        };
        {
            let mut state = session.state();
            let known = state.identity.account;
            if known != 0 && known != notice.account {
                // Two logins of one session raced; neither is to be trusted with the other's character.
                drop(state);
                self.close_session(&session, FaultCode::IllegalState, "logged in twice on one connection");
                return;
            }
            state.identity.account = notice.account;
            state.identity.account_name = notice.account_name;
            state.identity.session_epoch = notice.session_epoch;
            state.vouched = true;
            if state.phase == States::CONNECTED {
                state.phase = States::AUTHENTICATED;
            }
            // Center forgets a claim of which no gate says that the session is there.
            if let Some(center) = self.backends.center() {
                open_on(&center, id, &mut state);
            }
        }
        self.give_ticket(&session);
    }

    fn bound(&self, link: &Link, id: u64, notice: SessionBound) {
        let session = self.session(id);
        let state = session.as_ref().map(|session| session.state()).filter(|state| !state.is_ended());
        let Some(mut state) = state else {
            // It ended while its player entered: without this the scene would wait for nobody.
            let _ = link.notify(id, &SessionEnded { reason: FaultCode::TimedOut.into() });
            return;
        };
        if let Some(before) = state.scene.replace(link.clone()).filter(|before| before.number() != link.number()) {
            // A scene that was cut off from center still shows its old copy of the world, until dc's fence tells it.
            self.backends.leave_all_of(before.number(), id);
        }
        state.was_at = None;
        state.phase = States::PLAYING;
        state.identity.player = notice.player;
        state.identity.player_name = notice.player_name;
        if matches!(state.life, Life::Lost(_)) {
            let _ = link.notify(id, &SessionLost {});
        }
    }

    fn unbound(&self, link: &Link, id: u64) {
        let Some(session) = self.session(id) else { return };
        let mut state = session.state();
        if state.scene.as_ref().is_some_and(|scene| scene.number() == link.number()) {
            state.scene = None;
        }
    }

    fn close(&self, id: u64, notice: &SessionClose) {
        if let Some(session) = self.session(id) {
            self.close_session(&session, notice.code(), &notice.text);
        }
    }

    /// Ends a session, and its connection with the reason.
    fn close_session(&self, session: &Session, code: FaultCode, text: &str) {
        self.end(session, code);
        session.hang_up(End::Closed(code, shortened(text).to_owned()));
    }
}

/// How a backend's frame is delivered; `None` if it is none for clients. Control messages are the gate's own.
fn to_client(frame: &Frame) -> Option<Delivery> {
    let info = frame.info().filter(|info| info.direction == Direction::ToClient)?;
    (info.delivery != Delivery::Control).then_some(info.delivery)
}
