//! What clients say: is it legal now, is it too much, and where does it go. Bodies that are not the gate's own pass undecoded.

use std::sync::Arc;

use proto::{
    ClientMessage, Frame,
    client::{Fault, FaultCode, HeartbeatAck, Login},
    event::{LoginStep, event::Body},
    internal::SessionOpened,
    kinds::{Delivery, Destination, KindInfo},
};
use service::Link;
use tokio::time::Instant;

use crate::{
    framing::Incoming,
    gate::{Gate, millis, subject},
    limits::Strike,
    session::{Session, State},
    socket::{End, Socket},
};

/// When a client may ask again for a backend that is away.
pub(crate) const RETRY_MS: u32 = 500;

impl Gate {
    /// Handles what a client said.
    ///
    /// # Errors
    /// With the reason when the connection is to end.
    pub(crate) fn on_client(&self, session: &Session, socket: &Arc<Socket>, incoming: Incoming) -> Result<(), End> {
        let now = Instant::now();
        socket.heard(now);
        self.metrics.frames_in.increment(1);
        let mut state = session.state();
        match incoming {
            Incoming::Frame(frame) => {
                self.metrics.received_bytes.increment(frame.bytes().len() as u64);
                self.on_frame(session, socket, &mut state, frame, now)
            }
            Incoming::Unknown { kind, seq } => {
                let fault = Fault::new(FaultCode::UnknownKind, format!("no message that a client may send has kind {kind:#06x}"));
                self.violation(session, &mut state, seq, &fault, now)
            }
        }
    }

    fn on_frame(&self, session: &Session, socket: &Socket, state: &mut State, frame: Frame, now: Instant) -> Result<(), End> {
        let seq = frame.seq();
        let Some(info) = frame.info() else { return Ok(()) };
        if let Err(wait) = state.limits.message(info.bucket, now) {
            if info.delivery == Delivery::Frame {
                return self.dropped(state, now);
            }
            let fault = Fault::retry(FaultCode::RateLimited, format!("too many {}", info.name), millis(wait).max(1));
            return self.violation(session, state, seq, &fault, now);
        }
        if frame.flags() != 0 {
            let fault = Fault::new(FaultCode::Malformed, "flags are reserved and must be 0");
            return self.violation(session, state, seq, &fault, now);
        }
        if !info.states.has(state.phase) {
            let fault = Fault::new(FaultCode::IllegalState, format!("{} is not possible now", info.name));
            return self.violation(session, state, seq, &fault, now);
        }
        if info.destination == Destination::Gate {
            return self.own(session, socket, state, &frame, now);
        }
        self.route(session, state, frame, info);
        Ok(())
    }

    // ---- the gate's own kinds

    fn own(&self, session: &Session, socket: &Socket, state: &mut State, frame: &Frame, now: Instant) -> Result<(), End> {
        if frame.kind() != HeartbeatAck::KIND {
            // The table allows `Bye` alone beside it after the greeting.
            return Err(End::Bye);
        }
        let Ok(ack) = frame.decode::<HeartbeatAck>() else {
            let fault = Fault::new(FaultCode::Malformed, "body is no HeartbeatAck");
            return self.violation(session, state, frame.seq(), &fault, now);
        };
        socket.beat_answered(ack.stamp_us, now);
        if session.ack(ack.received) {
            return Ok(());
        }
        let fault = Fault::new(FaultCode::Invalid, format!("{} messages were not sent yet", ack.received));
        self.violation(session, state, frame.seq(), &fault, now)
    }

    // ---- to the backends

    fn route(&self, session: &Session, state: &mut State, frame: Frame, info: &KindInfo) {
        let seq = frame.seq();
        let link = match info.destination {
            Destination::Login => self.backends.login(state.login.as_ref(), session.id),
            Destination::Center => self.backends.center(),
            Destination::Scene | Destination::Gate => state.scene.clone(),
        };
        let is_sent = link.as_ref().is_some_and(|link| open_on(link, session.id, state) && link.forward(session.id, frame).is_ok());
        if info.kind == Login::KIND {
            self.emit_login_steps(session, state, is_sent);
        }
        if is_sent {
            match (info.destination, link) {
                (Destination::Login, Some(link)) => {
                    state.awaits(link.number(), seq);
                    state.login = Some(link);
                }
                (Destination::Center, Some(link)) => state.awaits(link.number(), seq),
                _ => (),
            }
            return;
        }
        if info.delivery == Delivery::Frame {
            self.metrics.dropped.increment(1);
            return;
        }
        let text = format!("the zone can't take {} at the moment", info.name);
        self.emit_fault(&subject(session.id, state), FaultCode::Unavailable, &text);
        session.say(seq, &Fault::retry(FaultCode::Unavailable, text, RETRY_MS));
    }

    fn emit_login_steps(&self, session: &Session, state: &State, is_sent: bool) {
        let about = subject(session.id, state);
        let step = |step: u32, ok: bool| LoginStep { step, ok, ..LoginStep::default() };
        let cause = self.process.events.emit(&about, Body::LoginStep(step(1, true)));
        self.process.events.emit_caused(&about, Body::LoginStep(step(2, is_sent)), cause);
    }

    // ---- violations

    fn violation(&self, session: &Session, state: &mut State, seq: u32, fault: &Fault, now: Instant) -> Result<(), End> {
        self.metrics.strikes.increment(1);
        if !state.limits.strike(Strike::Violation, now) {
            return Err(End::Violation(fault.code(), format!("too many violations; the last: {}", fault.text)));
        }
        self.emit_fault(&subject(session.id, state), fault.code(), &fault.text);
        session.say(seq, fault);
        Ok(())
    }

    fn dropped(&self, state: &mut State, now: Instant) -> Result<(), End> {
        self.metrics.dropped.increment(1);
        if state.limits.strike(Strike::Dropped, now) {
            return Ok(());
        }
        Err(End::Violation(FaultCode::RateLimited, "a flood of messages".to_owned()))
    }
}

/// Makes sure that the link's peer was told of the session; whether the link is up.
pub(crate) fn open_on(link: &Link, session: u64, state: &mut State) -> bool {
    if state.opened.contains(&link.number()) {
        return true;
    }
    let opened = SessionOpened {
        address: state.address.to_string(),
        account: state.identity.account,
        account_name: state.identity.account_name.clone(),
        player: state.identity.player,
    };
    let is_told = link.notify(session, &opened).is_ok();
    if is_told {
        state.opened.push(link.number());
    }
    is_told
}
