//! How a bot gets into the world: an account and a character, made where they are missing, then `Login` and `Enter`.

use std::time::Duration;

use proto::{
    ClientMessage,
    client::{self, FaultCode},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Shared, role};
use crate::{
    connection::Connection,
    fault::{ConnectionError, Fault},
    random::Random,
};

/// A bot that is not in by then has failed.
pub(crate) const LOGIN_WITHIN: Duration = Duration::from_secs(60);
/// How long one answer may take, from the request or from the last word of a place in the queue.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Between attempts where the zone says nothing of when to try again.
const RETRY: Duration = Duration::from_millis(500);

/// A bot in the world.
pub(crate) struct In {
    pub(crate) connection: Connection,
    pub(crate) entered: client::Entered,
    /// From asking to log in to standing in the world.
    pub(crate) took: Duration,
}

/// Why a bot is not in the world.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("connection")]
    Connection(#[from] ConnectionError),
    #[error("fault")]
    Fault(Fault),
    #[error("{0} is not answered")]
    Silent(&'static str),
    #[error("{0} is answered with something else")]
    Unexpected(&'static str),
}

impl LoginError {
    /// Its name in the report.
    pub(crate) fn name(&self) -> String {
        match self {
            LoginError::Connection(error) => name_of(error),
            LoginError::Fault(fault) => fault.code.as_str_name().to_owned(),
            LoginError::Silent(request) => format!("{request} not answered"),
            LoginError::Unexpected(request) => format!("{request} answered wrongly"),
        }
    }

    fn retry(&self) -> Option<Duration> {
        match self {
            LoginError::Fault(fault) => fault.retry,
            LoginError::Connection(ConnectionError::Closing { .. } | ConnectionError::Refused(_)) => None,
            LoginError::Connection(_) | LoginError::Silent(_) => Some(RETRY),
            LoginError::Unexpected(_) => None,
        }
    }
}

/// The name of a connection's end in the report.
pub(crate) fn name_of(error: &ConnectionError) -> String {
    match error {
        ConnectionError::Connect { .. } => "connect".into(),
        ConnectionError::Closing { fault, .. } => format!("closed: {}", fault.code.as_str_name()),
        ConnectionError::Lost(_) => "lost".into(),
        ConnectionError::Silent(_) => "silent".into(),
        ConnectionError::Refused(fault) => format!("refused: {}", fault.code.as_str_name()),
        ConnectionError::Unexpected(_) => "unexpected message".into(),
        ConnectionError::NoTicket => "no ticket".into(),
        ConnectionError::Full => "gate does not read".into(),
    }
}

/// Whether the account may have to be made first. That costs the zone a password hash, as a login does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    MayBeMissing,
    Exists,
}

/// Logs in and enters, as often as it takes, until `give_up`.
pub(crate) async fn login(
    shared: &Shared,
    number: usize,
    account: Account,
    random: &mut Random,
    give_up: Instant,
) -> Result<In, LoginError> {
    let mut tries = number;
    loop {
        let error = match Box::pin(attempt(shared, number, account, tries)).await {
            Ok(inside) => return Ok(inside),
            Err(error) => error,
        };
        let Some(wait) = error.retry().filter(|_| Instant::now() < give_up) else { return Err(error) };
        // Spread out, so that those that were refused together do not come back together.
        sleep(wait + random.up_to(wait)).await;
        tries = tries.wrapping_add(1);
    }
}

async fn attempt(shared: &Shared, number: usize, known: Account, tries: usize) -> Result<In, LoginError> {
    let gates = &shared.options.gates;
    let gate = &gates[tries % gates.len()];
    let (account, password) = (shared.account(number), shared.password());
    let mut connection = Box::pin(Connection::greet(gate, &shared.options.connect)).await?;
    if known == Account::MayBeMissing {
        register(&mut connection, &account, &password).await?;
    }
    let asked = Instant::now();
    let logged_in: client::LoggedIn = ask(&mut connection, &client::Login { account, password }).await?;
    let name = role(&shared.prefix, number);
    let player = match logged_in.roles.iter().find(|role| role.name == name) {
        Some(role) => role.player,
        None => {
            let created: client::RoleCreated = ask(&mut connection, &client::CreateRole { name }).await?;
            created.role.ok_or(LoginError::Unexpected("CreateRole"))?.player
        }
    };
    let entered: client::Entered = ask(&mut connection, &client::Enter { player }).await?;
    Ok(In { connection, entered, took: asked.elapsed() })
}

async fn register(connection: &mut Connection, account: &str, password: &str) -> Result<(), LoginError> {
    let register = client::Register { account: account.into(), password: password.into() };
    match ask::<_, client::Registered>(connection, &register).await {
        // An earlier run made it, or an earlier attempt did; where clients may not register it must be there.
        Err(LoginError::Fault(fault)) if matches!(fault.code, FaultCode::NameTaken | FaultCode::RegistrationClosed) => Ok(()),
        other => other.map(drop),
    }
}

async fn ask<M: ClientMessage, A: ClientMessage>(connection: &mut Connection, message: &M) -> Result<A, LoginError> {
    let request = M::INFO.name;
    let seq = connection.queue(message)?;
    let mut overdue = Instant::now() + ANSWER_WITHIN;
    let answer = loop {
        let frame = timeout_at(overdue, connection.next()).await.map_err(|_| LoginError::Silent(request))??;
        if frame.seq() == seq {
            break frame;
        }
        if frame.kind() == client::Queued::KIND {
            overdue = Instant::now() + ANSWER_WITHIN;
        }
    };
    if answer.kind() == client::Fault::KIND {
        let fault: client::Fault = answer.decode().map_err(|_| LoginError::Unexpected(request))?;
        return Err(LoginError::Fault(fault.into()));
    }
    answer.decode().map_err(|_| LoginError::Unexpected(request))
}
