//! How a bot gets into the world: an account and a character, made where they are missing, then `Login` and `Enter`.

use std::time::Duration;

use proto::client::{self, FaultCode};
use tokio::time::{Instant, sleep};

use super::{Shared, role};
use crate::{
    connection::Connection,
    fault::{AskError, ConnectionError, RequestError},
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
#[error(transparent)]
pub(crate) struct LoginError(AskError);

impl LoginError {
    /// Its name in the report.
    pub(crate) fn name(&self) -> String {
        match &self.0 {
            AskError::Connection(error) => name_of(error),
            AskError::Request(RequestError::Fault(fault)) => fault.code.as_str_name().to_owned(),
            AskError::Request(RequestError::TimedOut { request, .. }) => format!("{request} not answered"),
            AskError::Request(RequestError::Unexpected { request, .. }) => format!("{request} answered wrongly"),
            AskError::Request(error) => error.to_string(),
        }
    }

    fn retry(&self) -> Option<Duration> {
        match &self.0 {
            AskError::Request(RequestError::Fault(fault)) => fault.retry,
            AskError::Connection(ConnectionError::Closing { .. } | ConnectionError::Refused(_)) => None,
            AskError::Connection(_) | AskError::Request(RequestError::TimedOut { .. }) => Some(RETRY),
            AskError::Request(_) => None,
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
            Err(error) => LoginError(error),
        };
        let Some(wait) = error.retry().filter(|_| Instant::now() < give_up) else { return Err(error) };
        // Spread out, so that those that were refused together do not come back together.
        sleep(wait + random.up_to(wait)).await;
        tries = tries.wrapping_add(1);
    }
}

async fn attempt(shared: &Shared, number: usize, known: Account, tries: usize) -> Result<In, AskError> {
    let gates = shared.gates(known);
    let gate = &gates[tries % gates.len()];
    let (account, password) = (shared.account(number), shared.password());
    let mut connection = Box::pin(Connection::greet(gate, &shared.options.connect)).await?;
    if known == Account::MayBeMissing {
        register(&mut connection, &account, &password).await?;
    }
    let asked = Instant::now();
    let logged_in: client::LoggedIn = connection.ask(&client::Login { account, password }, ANSWER_WITHIN).await?;
    let name = role(&shared.prefix, number);
    let player = match logged_in.roles.iter().find(|role| role.name == name) {
        Some(role) => role.player,
        None => {
            let created: client::RoleCreated = connection.ask(&client::CreateRole { name }, ANSWER_WITHIN).await?;
            created.role.ok_or(RequestError::Unexpected { request: "CreateRole", answer: "RoleCreated without a role" })?.player
        }
    };
    let entered: client::Entered = connection.ask(&client::Enter { player }, ANSWER_WITHIN).await?;
    Ok(In { connection, entered, took: asked.elapsed() })
}

async fn register(connection: &mut Connection, account: &str, password: &str) -> Result<(), AskError> {
    let register = client::Register { account: account.into(), password: password.into() };
    match connection.ask::<_, client::Registered>(&register, ANSWER_WITHIN).await {
        // An earlier run made it, or an earlier attempt did; where clients may not register it must be there.
        Err(AskError::Request(RequestError::Fault(fault)))
            if matches!(fault.code, FaultCode::NameTaken | FaultCode::RegistrationClosed) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}
