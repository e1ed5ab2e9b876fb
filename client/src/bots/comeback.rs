//! How a bot whose connection is lost comes back: by its ticket, as the SDK does it, or else by logging in again.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Phase, Shared,
    login::{self, Account, LOGIN_WITHIN},
    walker::Walker,
};
use crate::{
    address::Address,
    connection::{Backoff, Connection},
    fault::ConnectionError,
    random::Random,
    session::Session,
};

/// So long a bot that is back reads at once, until it knows where it stands: when that was, is told to the moment.
const ARRIVE_WITHIN: Duration = Duration::from_secs(10);

/// How lost bots come back.
#[derive(Clone, Debug, Default)]
pub struct Comeback {
    /// Between attempts to resume.
    pub backoff: Backoff,
    /// The gates where they try; none: those of the run, each bot's own first.
    pub gates: Vec<Address>,
    /// Over so long a time their first attempts are spread, evenly, beside the backoff's own wait.
    pub spread: Duration,
}

/// Resumes, or logs in again, a bot that is missing; none: neither is possible or wanted, or the run ends meanwhile.
pub(super) async fn come_back(
    walker: &mut Walker,
    lost: &Session,
    error: &ConnectionError,
    phase: &mut watch::Receiver<Phase>,
) -> Option<Connection> {
    let shared = walker.shared.clone();
    let how = shared.options.reconnect.as_ref()?;
    let random = Random::new(walker.random.next_u64());
    let back = Box::pin(try_to_come_back(walker, &shared, how, lost, error, random));
    let back = tokio::select! {
        back = back => back,
        _ = phase.wait_for(|phase| *phase == Phase::Over) => return None,
    };
    if back.is_none() {
        walker.stays_away();
    }
    back
}

async fn try_to_come_back(
    walker: &mut Walker,
    shared: &Arc<Shared>,
    how: &Comeback,
    lost: &Session,
    error: &ConnectionError,
    mut random: Random,
) -> Option<Connection> {
    sleep(random.up_to(how.spread)).await;
    let resumed = if error.is_resumable() { resume(shared, walker.number, lost, how, &mut random).await } else { None };
    let mut connection = match resumed {
        Some((connection, continued)) => {
            if continued {
                walker.is_back();
            }
            connection
        }
        None => {
            let inside = login::login(shared, walker.number, Account::Exists, &mut random, Instant::now() + LOGIN_WITHIN).await;
            let inside = inside.inspect_err(|error| shared.totals.error(&error.name())).ok()?;
            shared.totals.error("logged in again");
            shared.totals.returns().anew();
            walker.entered(&inside.entered);
            inside.connection
        }
    };
    walker.reconnected();
    arrive(walker, &mut connection).await;
    Some(connection)
}

/// Reads until the bot has its place, or for a while. That the connection is lost, the next one to read it is told.
async fn arrive(walker: &mut Walker, connection: &mut Connection) {
    let until = Instant::now() + ARRIVE_WITHIN;
    while walker.is_missing() {
        let Ok(Ok(frame)) = timeout_at(until, connection.next()).await else { return };
        walker.take(&frame, Instant::now());
    }
}

/// With the connection, whether the session goes on where it was: then nothing is told anew.
async fn resume(shared: &Shared, number: usize, lost: &Session, how: &Comeback, random: &mut Random) -> Option<(Connection, bool)> {
    let (gates, totals) = (gates(shared, number, how), &shared.totals);
    let refused = |error: &ConnectionError| totals.returns().refused(&login::name_of(error));
    let back = Connection::reconnect_telling(&gates, &shared.options.connect, lost, &how.backoff, random, refused);
    match Box::pin(back).await {
        Ok((connection, resumed)) => {
            totals.resumed.fetch_add(1, Relaxed);
            totals.returns().resumed();
            Some((connection, resumed.continued))
        }
        Err(error) => {
            totals.error(&login::name_of(&error));
            None
        }
    }
}

/// Its own gate first, and the others in turn, where nothing else was said.
fn gates(shared: &Shared, number: usize, how: &Comeback) -> Vec<Address> {
    let mut gates = if how.gates.is_empty() { shared.options.gates.clone() } else { how.gates.clone() };
    let first = number % gates.len();
    gates.rotate_left(first);
    gates
}
