//! What each request of a client does. A request ends in a [`Reply`] or in the fault that the client is shown.

mod enter;
pub(crate) mod login;
mod register;
mod roles;

use std::{sync::Arc, time::Duration};

use proto::{
    ClientMessage, Frame,
    client::{self, Fault, FaultCode},
    event::{LoginStep, event::Body},
    internal::SessionAuthenticated,
    link::Call,
};
use service::{ProcessId, ProcessKind, events::Subject};

use crate::{
    server::Desk,
    sessions::{Facts, Running},
};

/// How long dc and center may take for an answer that they find in memory or write once.
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// A request that runs.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) desk: Arc<Desk>,
    /// The gate that holds the session.
    pub(crate) gate: ProcessId,
    pub(crate) session: u64,
    /// The client's number for it.
    pub(crate) seq: u32,
    /// Who the session was when the request began.
    pub(crate) facts: Facts,
    pub(crate) running: Running,
}

/// What a request that succeeded leads to.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The client gets this.
    Message(Frame),
    /// The gate gets the notice, then the client this.
    LoggedIn {
        /// For the gate.
        authenticated: SessionAuthenticated,
        /// For the client.
        message: Frame,
    },
    /// Another process answers the client.
    Nothing,
    /// The password is good, and the zone has no room: the request waits for it.
    ZoneFull,
}

/// Carries a request out.
pub(crate) async fn answer(request: &Request, frame: &Frame) -> Result<Reply, Fault> {
    match frame.kind() {
        client::Register::KIND => register::register(request, decode(frame)?).await,
        client::Login::KIND => login::login(request, decode(frame)?).await,
        client::ListRoles::KIND => roles::list(request).await,
        client::CreateRole::KIND => roles::create(request, decode(frame)?).await,
        client::DeleteRole::KIND => roles::delete(request, decode(frame)?).await,
        client::Enter::KIND => enter::enter(request, decode(frame)?).await,
        other => Err(Fault::new(FaultCode::UnknownKind, format!("kind {other:#06x} is not for a login"))),
    }
}

fn decode<M: ClientMessage>(frame: &Frame) -> Result<M, Fault> {
    frame.decode().map_err(|err| Fault::new(FaultCode::Malformed, err.to_string()))
}

impl Request {
    /// The account of the session. The gate has checked the state; a login that trusts no gate checks it again.
    fn account(&self) -> Result<u64, Fault> {
        match self.facts.account {
            0 => Err(Fault::new(FaultCode::IllegalState, "log in first")),
            account => Ok(account),
        }
    }

    fn not_logged_in(&self) -> Result<(), Fault> {
        match self.facts.account {
            0 => Ok(()),
            _ => Err(Fault::new(FaultCode::IllegalState, "this session is logged in already")),
        }
    }

    async fn dc<C: Call>(&self, call: &C) -> Result<C::Answer, Fault> {
        self.desk.call(ProcessKind::Dc, call, CALL_WITHIN).await
    }

    fn subject(&self) -> Subject {
        Subject { account: self.facts.account, session: self.session, ..Subject::default() }
    }

    /// Emits a step of the login: `outcome` is what came of it, good or bad.
    fn step(&self, step: u32, account_name: &str, outcome: Result<&str, &str>, took: Duration) {
        let body = LoginStep {
            step,
            ok: outcome.is_ok(),
            detail: outcome.unwrap_or_else(|bad| bad).to_owned(),
            took_us: u32::try_from(took.as_micros()).unwrap_or(u32::MAX),
            account_name: account_name.to_owned(),
        };
        self.desk.events.emit(&self.subject(), Body::LoginStep(body));
    }
}
