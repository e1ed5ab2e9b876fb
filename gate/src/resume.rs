//! How a client gets its session back with a ticket: here, where nothing was lost, or by way of center, with full state.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use proto::{
    Frame,
    client::{Fault, FaultCode, Resume, Resumed},
    event::{self, event::Body},
    internal::{CallFaultCode, SessionBack, SessionResume},
    kinds::States,
};
use service::{CallError, net::TcpStream};
use tokio::time::Instant;

use crate::{
    forward::RETRY_MS,
    gate::{Gate, millis, subject, unix_ms},
    session::{Life, Session, State},
    socket::Socket,
    ticket::Ticket,
    wire::Wire,
};

/// How long center may take: it may have to ask a scene.
const CENTER_WITHIN: Duration = Duration::from_secs(5);

/// A session and its new connection.
pub(crate) type Back = (Arc<Session>, Arc<Socket>);

/// Where a client comes from, and its connection if that is plain TCP.
#[derive(Clone, Copy)]
struct From<'a> {
    address: IpAddr,
    tcp: Option<&'a Arc<TcpStream>>,
}

impl From<'_> {
    fn wire(self) -> Option<Wire> {
        self.tcp.cloned().map(Wire::new)
    }
}

enum Local {
    Back(Back),
    /// This gate can't bring it back by itself.
    AskCenter,
}

impl Gate {
    /// Brings a session back.
    ///
    /// # Errors
    /// With what the client is told.
    pub(crate) async fn resume(
        self: &Arc<Self>,
        seq: u32,
        resume: &Resume,
        address: IpAddr,
        tcp: Option<&Arc<TcpStream>>,
    ) -> Result<Back, Fault> {
        let ticket = self.tickets.verify(&resume.ticket, unix_ms()).map_err(|why| {
            tracing::debug!(?why, %address, "ticket refused");
            refused()
        })?;
        let from = From { address, tcp };
        let (session, socket) = match self.session(ticket.session) {
            None => self.bring_over(seq, &ticket, from).await?,
            Some(known) => match self.bring_back(seq, &known, &ticket, resume.received, from)? {
                Local::Back(back) => back,
                Local::AskCenter => self.bring_over(seq, &ticket, from).await?,
            },
        };
        self.give_ticket(&session);
        Ok((session, socket))
    }

    // ---- the session is here

    fn bring_back(&self, seq: u32, session: &Arc<Session>, ticket: &Ticket, received: u64, from: From<'_>) -> Result<Local, Fault> {
        let mut state = session.state();
        if state.identity.account != ticket.account || state.identity.session_epoch != ticket.session_epoch {
            return Err(refused());
        }
        if state.used.has(&ticket.nonce) {
            return Err(Fault::new(FaultCode::TicketUsed, "the ticket was used before"));
        }
        match &state.life {
            Life::Resuming => return Err(Fault::retry(FaultCode::Unavailable, "the session is being resumed", RETRY_MS)),
            Life::Ended => return Ok(Local::AskCenter),
            Life::Lost(_) | Life::Attached if session.is_stale() => return Ok(Local::AskCenter),
            Life::Lost(_) | Life::Attached => {}
        }
        let greeting = |missed| self.greeting(seq, session.id, true, missed);
        let Some((socket, missed)) = session.reattach(received, greeting, Instant::now(), from.wire()) else { return Err(refused()) };
        state.used.enter(ticket.nonce, ticket.expires_ms, unix_ms());
        if let Life::Lost(back) = std::mem::replace(&mut state.life, Life::Attached) {
            back.cancel();
        }
        state.address = from.address;
        self.tell_holders(session.id, &state, &SessionBack { nonce: Bytes::copy_from_slice(&ticket.nonce), expires_ms: ticket.expires_ms });
        self.emit_resumed(session, &state, true, missed);
        drop(state);
        Ok(Local::Back((session.clone(), socket)))
    }

    // ---- the session, or what it missed, is not here

    /// The session is made before center is asked, because the scene may bind it and send to it before center's answer is here.
    async fn bring_over(self: &Arc<Self>, seq: u32, ticket: &Ticket, from: From<'_>) -> Result<Back, Fault> {
        let center = self.backends.center().ok_or_else(unavailable)?;
        let (session, was_here) = self.begin_resuming(ticket, from.address)?;
        let call = SessionResume {
            session: ticket.session,
            account: ticket.account,
            session_epoch: ticket.session_epoch,
            nonce: Bytes::copy_from_slice(&ticket.nonce),
            expires_ms: ticket.expires_ms,
            address: from.address.to_string(),
        };
        let answer = center.call(&call, CENTER_WITHIN).await;
        let mut state = session.state();
        let resumed = match answer {
            _ if state.is_ended() => return Err(refused()),
            Ok(resumed) => resumed,
            Err(err) => {
                self.give_up_resuming(&session, &mut state, was_here, is_outcome_unknown(&err));
                return Err(fault_of(&err));
            }
        };
        let greeting = |_| self.greeting(seq, session.id, false, 0);
        let Some((socket, _)) = session.reattach(0, greeting, Instant::now(), from.wire()) else {
            // More came while center was asked than is kept for a client.
            self.give_up_resuming(&session, &mut state, was_here, true);
            return Err(unavailable());
        };
        state.life = Life::Attached;
        state.vouched = true;
        state.identity.account_name = resumed.account_name;
        state.used.enter(ticket.nonce, ticket.expires_ms, unix_ms());
        if resumed.player != 0 {
            state.identity.player = resumed.player;
            state.phase = States::PLAYING;
        } else if state.scene.is_none() {
            state.phase = States::AUTHENTICATED;
        }
        self.emit_resumed(&session, &state, false, 0);
        drop(state);
        Ok((session, socket))
    }

    /// Finds or makes the session, and claims it for this attempt. The second part is whether it was here before.
    fn begin_resuming(&self, ticket: &Ticket, address: IpAddr) -> Result<(Arc<Session>, bool), Fault> {
        let (session, was_here) =
            self.adopt(ticket, address).map_err(|_| Fault::new(FaultCode::TooManyConnections, "this gate is full"))?;
        if !was_here {
            return Ok((session, false));
        }
        let mut state = session.state();
        if state.identity.account != ticket.account || state.identity.session_epoch != ticket.session_epoch {
            return Err(refused());
        }
        match std::mem::replace(&mut state.life, Life::Resuming) {
            Life::Lost(back) => back.cancel(),
            Life::Attached => {}
            life @ (Life::Resuming | Life::Ended) => {
                state.life = life;
                return Err(unavailable());
            }
        }
        state.address = address;
        session.restart();
        drop(state);
        Ok((session, true))
    }

    /// A session that was made for nothing is forgotten. One that was here, or that center may have moved here without our hearing of
    /// it, is lost for another window; only full state can bring it back.
    fn give_up_resuming(self: &Arc<Self>, session: &Arc<Session>, state: &mut State, was_here: bool, is_unknown: bool) {
        if was_here || is_unknown {
            session.make_stale();
            self.lose(session, state);
        } else {
            self.forget(session, state);
        }
    }

    fn greeting(&self, seq: u32, session: u64, continued: bool, missed: u32) -> Bytes {
        let resumed = Resumed {
            session,
            continued,
            missed,
            heartbeat_ms: millis(self.config.heartbeat),
            resume_window_ms: millis(self.resume_window()),
        };
        Frame::encode(seq, &resumed).into_bytes()
    }

    fn emit_resumed(&self, session: &Session, state: &State, continued: bool, missed: u32) {
        let resumed = event::SessionResumed { continued, missed };
        self.process.events.emit(&subject(session.id, state), Body::SessionResumed(resumed));
    }
}

/// Whether center may have carried out the call.
fn is_outcome_unknown(err: &CallError) -> bool {
    matches!(err, CallError::Down(..) | CallError::Timeout(..) | CallError::Malformed(..))
}

fn fault_of(err: &CallError) -> Fault {
    match err.code() {
        Some(CallFaultCode::CallTicketUsed) => Fault::new(FaultCode::TicketUsed, "the ticket was used before"),
        Some(CallFaultCode::CallReplaced) => Fault::new(FaultCode::LoggedInElsewhere, "the account has logged in elsewhere"),
        Some(CallFaultCode::CallNotFound) => refused(),
        _ if err.is_transient() => unavailable(),
        _ => {
            tracing::warn!("failed to resume a session: {err:#}");
            Fault::new(FaultCode::Internal, "the session can't be resumed")
        }
    }
}

fn refused() -> Fault {
    Fault::new(FaultCode::TicketRefused, "the ticket is not good, or its session is over")
}

fn unavailable() -> Fault {
    Fault::retry(FaultCode::Unavailable, "the session can't be resumed at the moment", RETRY_MS)
}
