//! Many clients that log in, over the SDK's connections, and come back by ticket.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use client::{Address, AskError, ConnectOptions, Connection, RequestError, Session};
use proto::{
    ClientMessage,
    client::{FaultCode, LoggedIn, Login, Register, Registered, ResumeTicket},
};
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Nothing that was heard of a request for so long: it is lost. Words about a place in the queue count.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Requests under way at once where it is not the storm itself that is measured.
const AT_ONCE: usize = 64;
/// Two who asked within so long of each other may be answered in either order: their frames crossed several sockets.
const TOGETHER: Duration = Duration::from_secs(1);

/// The clients.
#[derive(Debug)]
pub(super) struct Storm {
    gates: Vec<Address>,
    options: ConnectOptions,
}

/// Somebody who logged in.
#[derive(Debug)]
pub(super) struct LoginDone {
    number: usize,
    asked: Instant,
    pub(super) took: Duration,
    pub(super) queued_told: u64,
    session: Session,
}

impl LoginDone {
    /// Which client, and what it resumes with.
    pub(super) fn into_session(self) -> (usize, Session) {
        (self.number, self.session)
    }
}

impl Storm {
    pub(super) fn new(gates: Vec<Address>) -> Self {
        Self { gates, options: ConnectOptions::default() }
    }

    /// Makes so many accounts.
    pub(super) async fn register(self: &Arc<Self>, count: usize) -> anyhow::Result<()> {
        self.each(count, |storm, number| async move {
            let mut connection = storm.connect(number).await?;
            let register = Register { account: account(number), password: PASSWORD.into() };
            ask::<_, Registered>(&mut connection, &register).await?;
            connection.leave().await;
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Each of so many accounts logs in and out for a time, again and again; returns how many logins there were.
    pub(super) async fn log_in_for(self: &Arc<Self>, accounts: usize, span: Duration) -> anyhow::Result<u64> {
        let end = Instant::now() + span;
        let counts = self.each(accounts, move |storm, number| async move {
            let mut logins = 0;
            while Instant::now() < end {
                let mut connection = storm.connect(number).await?;
                ask::<_, LoggedIn>(&mut connection, &login(number)).await?;
                connection.leave().await;
                logins += 1;
            }
            Ok(logins)
        });
        Ok(counts.await?.into_iter().sum())
    }

    /// So many accounts connect, and then log in at once. Connections are dropped without a word once they are in.
    pub(super) async fn all_at_once(self: &Arc<Self>, count: usize) -> Vec<LoginDone> {
        let ready = Arc::new(Barrier::new(count));
        let mut clients = JoinSet::new();
        for number in 0..count {
            let (storm, ready) = (Arc::clone(self), Arc::clone(&ready));
            clients.spawn(async move {
                let connection = storm.connect(number).await;
                ready.wait().await;
                storm.log_in(connection?, number).await
            });
        }
        let mut done = Vec::with_capacity(count);
        while let Some(login) = clients.join_next().await {
            match login.context("a client").flatten() {
                Ok(login) => done.push(login),
                Err(err) => eprintln!("zone bench: failed to log in: {err:#}"),
            }
        }
        done
    }

    /// Brings all sessions back at another gate than their own; returns how long each took.
    pub(super) async fn resume_all(self: &Arc<Self>, sessions: Vec<(usize, Session)>) -> Vec<Duration> {
        let mut clients = JoinSet::new();
        for (number, session) in sessions {
            let storm = Arc::clone(self);
            clients.spawn(async move {
                let began = Instant::now();
                // The one after its own.
                let gate = &storm.gates[(number + 1) % storm.gates.len()];
                Box::pin(Connection::resume(gate, &storm.options, &session)).await.map(|(connection, _)| (connection, began.elapsed()))
            });
        }
        let (mut took, mut open) = (Vec::new(), Vec::new());
        while let Some(resumed) = clients.join_next().await {
            match resumed {
                Ok(Ok((connection, time))) => {
                    took.push(time);
                    open.push(connection);
                }
                Ok(Err(err)) => eprintln!("zone bench: failed to resume: {err}"),
                Err(err) => eprintln!("zone bench: failed to resume: {err}"),
            }
        }
        took
    }

    async fn log_in(&self, mut connection: Connection, number: usize) -> anyhow::Result<LoginDone> {
        let asked = Instant::now();
        let (_, queued_told) = ask::<_, LoggedIn>(&mut connection, &login(number)).await?;
        let took = asked.elapsed();
        // The ticket comes with the login or just after it.
        while connection.session().ticket.is_none() {
            let frame = timeout(SILENCE_MAX, connection.next()).await.context("wait for a ticket")??;
            tracing::trace!(is_ticket = frame.kind() == ResumeTicket::KIND, "after a login");
        }
        Ok(LoginDone { number, asked, took, queued_told, session: connection.session().clone() })
    }

    async fn connect(&self, number: usize) -> anyhow::Result<Connection> {
        let gate = &self.gates[number % self.gates.len()];
        Ok(Box::pin(Connection::greet(gate, &self.options)).await?)
    }

    /// Does something for each number, some at once.
    async fn each<T, F>(self: &Arc<Self>, count: usize, act: impl Fn(Arc<Self>, usize) -> F) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (turns, work) = (Arc::clone(&turns), act(Arc::clone(self), number));
            tasks.spawn(async move {
                let _turn = turns.acquire().await.context("the turns are never closed")?;
                work.await
            });
        }
        let mut all = Vec::with_capacity(count);
        while let Some(done) = tasks.join_next().await {
            all.push(done.context("a client")??);
        }
        Ok(all)
    }
}

/// How many were answered after somebody who had asked more than a moment later.
pub(super) fn overtaken(logins: &[LoginDone]) -> usize {
    let mut by_answer: Vec<&LoginDone> = logins.iter().collect();
    by_answer.sort_by_key(|login| login.asked + login.took);
    let mut latest: Option<Instant> = None;
    let mut overtaken = 0;
    for login in by_answer {
        overtaken += usize::from(latest.is_some_and(|latest| login.asked + TOGETHER < latest));
        latest = latest.max(Some(login.asked));
    }
    overtaken
}

const PASSWORD: &str = "correct horse";

fn account(number: usize) -> String {
    format!("bench-{number}")
}

fn login(number: usize) -> Login {
    Login { account: account(number), password: PASSWORD.into() }
}

/// Asks, and asks again when the zone says that it can't now; with the answer, how often the client was told of a place in the queue.
async fn ask<M: ClientMessage, A: ClientMessage>(connection: &mut Connection, message: &M) -> anyhow::Result<(A, u64)> {
    let mut told = 0;
    loop {
        match connection.ask_in_queue(message, SILENCE_MAX, |_| told += 1).await {
            Err(AskError::Request(RequestError::Fault(fault))) if is_passing(fault.code) => sleep(fault.retry.unwrap_or_default()).await,
            answer => return Ok((answer?, told)),
        }
    }
}

fn is_passing(code: FaultCode) -> bool {
    matches!(code, FaultCode::Busy | FaultCode::Unavailable | FaultCode::RateLimited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_much_earlier_and_is_answered_later_was_overtaken() {
        let now = Instant::now();
        let login = |asked: u64, answered: u64| LoginDone {
            number: 0,
            asked: now + Duration::from_millis(asked),
            took: Duration::from_millis(answered - asked),
            queued_told: 0,
            session: Session::default(),
        };
        assert_eq!(overtaken(&[login(0, 900), login(5, 20), login(500, 600)]), 0, "they came together");
        assert_eq!(overtaken(&[login(0, 3000), login(1500, 2000)]), 1);
    }
}
