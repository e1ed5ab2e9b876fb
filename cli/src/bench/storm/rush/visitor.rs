//! One client of the rush: it asks to log in, hears how it stands, and gets in. Some drop their connection while they wait, and come back.

use std::{sync::Arc, time::Duration};

use client::{Address, AskError, ConnectOptions, Connection, RequestError};
use proto::client::{LoggedIn, Login, Queued, Register, Registered};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{Told, leaves, line::Waited};

/// Nothing that was heard for so long: it is lost. A login speaks to those who wait every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Words of one client that are kept; later ones say nothing new.
const WORDS_MAX: usize = 250;
/// The password of all accounts.
const PASSWORD: &str = "correct horse";

/// What all clients of the rush share.
pub(super) struct Rush {
    pub(super) gates: Vec<Address>,
    pub(super) options: ConnectOptions,
    /// When the first of them asked.
    pub(super) began: Instant,
    /// How many have heard of a place in the line.
    pub(super) told: watch::Sender<usize>,
}

impl Rush {
    /// Before anybody has asked.
    pub(super) fn new(gates: Vec<Address>) -> Self {
        Self { gates, options: ConnectOptions::default(), began: Instant::now(), told: watch::Sender::new(0) }
    }

    /// One more has heard of its place for the first time: which one it is, from 0.
    fn tells_one_more(&self) -> usize {
        let mut nth = 0;
        self.told.send_modify(|told| nth = std::mem::replace(told, *told + 1));
        nth
    }

    /// Where a client connects.
    pub(super) fn gate(&self, number: usize) -> Address {
        self.gates[number % self.gates.len()].clone()
    }
}

/// A client whose connection is made.
pub(super) struct Visitor {
    account: String,
    gate: Address,
    connection: Connection,
}

impl Told {
    fn of(queued: &Queued, at: Duration) -> Self {
        let wait = (0 < queued.wait_ms).then(|| Duration::from_millis(queued.wait_ms.into()));
        Self { at, position: queued.position, waiting: queued.waiting, wait }
    }
}

/// Makes an account.
pub(super) async fn register(gate: &Address, options: &ConnectOptions, account: String) -> anyhow::Result<()> {
    let mut connection = Box::pin(Connection::greet(gate, options)).await?;
    let register = Register { account, password: PASSWORD.into() };
    loop {
        let Err(error) = connection.ask::<_, Registered>(&register, SILENCE_MAX).await else { return Ok(()) };
        sleep(when_to_ask_again(error)?).await;
    }
}

impl Visitor {
    /// Connects, and says nothing yet.
    pub(super) async fn new(gate: Address, options: &ConnectOptions, account: String) -> anyhow::Result<Self> {
        let connection = Box::pin(Connection::greet(&gate, options)).await?;
        Ok(Self { account, gate, connection })
    }

    /// Asks to log in, and waits to be let in. Some of those that may leave drop their connection at the first word of their place, and
    /// come back on a new one.
    pub(super) async fn log_in(mut self, rush: Arc<Rush>, may_leave: bool) -> (Waited, anyhow::Result<()>) {
        let mut waited = Waited { asked: rush.began.elapsed(), ..Waited::default() };
        let result = self.until_in(&rush, may_leave, &mut waited).await;
        (waited, result)
    }

    async fn until_in(&mut self, rush: &Rush, may_leave: bool, waited: &mut Waited) -> anyhow::Result<()> {
        let login = Login { account: self.account.clone(), password: PASSWORD.into() };
        loop {
            let leaves_now = Notify::new();
            let on_queued = |queued: &Queued| {
                if waited.words.is_empty() && leaves(rush.tells_one_more()) && may_leave {
                    leaves_now.notify_one();
                }
                if waited.words.len() < WORDS_MAX {
                    waited.words.push(Told::of(queued, rush.began.elapsed()));
                }
            };
            let answer = tokio::select! {
                biased;
                answer = self.connection.ask_in_queue::<_, LoggedIn>(&login, SILENCE_MAX, on_queued) => Some(answer),
                () = leaves_now.notified() => None,
            };
            match answer {
                Some(Ok(_)) => {
                    waited.answered = Some(rush.began.elapsed());
                    return Ok(());
                }
                Some(Err(error)) => {
                    let pause = when_to_ask_again(error)?;
                    waited.put_off += 1;
                    sleep(pause).await;
                }
                None => {
                    waited.left_after = Some(waited.words.len());
                    self.connection = Box::pin(Connection::greet(&self.gate, &rush.options)).await?;
                }
            }
        }
    }
}

/// If the zone says so; or the error.
fn when_to_ask_again(error: AskError) -> Result<Duration, AskError> {
    match error {
        AskError::Request(RequestError::Fault(fault)) if fault.retry.is_some() => Ok(fault.retry.unwrap_or_default()),
        error => Err(error),
    }
}
