//! The handle that a game's program talks through: cheap to clone, its task owns the connection.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use proto::{ClientMessage, Frame, client};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    address::Address,
    connection::{Backoff, ConnectOptions, Connection},
    driver::{Command, Driver},
    events::{EVENTS_MAX, Events},
    fault::{ConnectionError, Fault, RequestError},
    session::Session,
};

/// Requests that may wait for the task. Full: the caller waits.
const COMMANDS_MAX: usize = 256;
/// The zone tells a client that waits to log in of its place every ten seconds at least.
const QUEUED_SILENCE_MAX: Duration = Duration::from_secs(30);

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How connections are made.
    pub connect: ConnectOptions,
    /// How long a request waits for its answer.
    pub request_timeout: Duration,
    /// Resume by itself when the connection is lost; none: the program calls [`Client::resume`].
    pub reconnect: Option<Reconnect>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { connect: ConnectOptions::default(), request_timeout: Duration::from_secs(10), reconnect: None }
    }
}

/// How a lost connection is resumed.
#[derive(Clone, Debug, Default)]
pub struct Reconnect {
    /// Gates to try after the one that was lost, in this order.
    pub gates: Vec<Address>,
    /// How long to wait between attempts.
    pub backoff: Backoff,
}

/// A client of the zone. Clones talk over the same connection; it ends when the last one is dropped.
///
/// ```no_run
/// use client::{Client, ClientOptions, Event, WorldView};
///
/// #[tokio::main]
/// async fn main() -> anyhow::Result<()> {
///     let gate = "127.0.0.1:7000".parse()?;
///     let (client, mut events) = Client::connect(&gate, ClientOptions::default()).await?;
///     let logged_in = client.login("alice", "correct-horse").await?;
///     let role = match logged_in.roles.first() {
///         Some(role) => role.clone(),
///         None => client.create_role("Alia").await?,
///     };
///     let entered = client.enter(role.player).await?;
///     let at = entered.position.unwrap_or_default();
///     client.move_to(at.x + 50, at.y).await?;
///
///     let mut world = WorldView::default();
///     while let Some(event) = events.next().await {
///         world.apply(&event);
///         if let Event::Said(said) = event {
///             println!("{}: {}", said.from, said.text);
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    last_seq: Arc<AtomicU32>,
    session: Arc<Mutex<Session>>,
    request_timeout: Duration,
    /// When the zone last said that a login waits.
    queued: Arc<Mutex<Option<Instant>>>,
}

impl Client {
    /// Connects to a gate and greets it. The events must be read: see [`EVENTS_MAX`].
    ///
    /// # Errors
    /// When nobody answers there, or the gate refuses the greeting.
    pub async fn connect(gate: &Address, options: ClientOptions) -> Result<(Client, Events), ConnectionError> {
        let connection = Box::pin(Connection::greet(gate, &options.connect)).await?;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (events, stream) = mpsc::channel(EVENTS_MAX);
        let session = Arc::new(Mutex::new(connection.session().clone()));
        let client = Client {
            commands,
            // The greeting had number 1.
            last_seq: Arc::new(AtomicU32::new(1)),
            session: session.clone(),
            request_timeout: options.request_timeout,
            queued: Arc::default(),
        };
        let driver = Driver::new(gate.clone(), options, connection, inbox, events, session, Arc::clone(&client.queued));
        tokio::spawn(Box::pin(driver.run()));
        Ok((client, Events(stream)))
    }

    /// What is known of the session: its number, the newest ticket, the round trip.
    pub fn session(&self) -> Session {
        self.session.lock().expect("no holder panics").clone()
    }

    /// Sends a message that has no answer of its own, under a new number. If the zone refuses it, [`crate::Event::Fault`] names that number.
    ///
    /// # Errors
    /// When there is no connection, or the message is too long.
    pub async fn send<M: ClientMessage>(&self, message: &M) -> Result<u32, RequestError> {
        let seq = self.next_seq();
        let frame = frame(seq, message)?;
        let request = M::INFO.name;
        self.commands.send(Command::Send(frame)).await.map_err(|_| RequestError::NotConnected { request })?;
        Ok(seq)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the zone refuses it, does not answer in time, or there is no connection.
    pub async fn request<M: ClientMessage, A: ClientMessage>(&self, message: &M) -> Result<A, RequestError> {
        self.request_while(message, || false).await
    }

    /// As [`Client::request`], and waits on as long as the zone says that it has a place in the queue.
    pub(crate) async fn request_in_queue<M: ClientMessage, A: ClientMessage>(&self, message: &M) -> Result<A, RequestError> {
        let queued = || self.queued.lock().expect("no holder panics").is_some_and(|heard| heard.elapsed() < QUEUED_SILENCE_MAX);
        self.request_while(message, queued).await
    }

    /// Each time that the answer is overdue, `goes_on` says whether to wait as long again.
    async fn request_while<M: ClientMessage, A: ClientMessage>(&self, message: &M, goes_on: impl Fn() -> bool) -> Result<A, RequestError> {
        let request = M::INFO.name;
        let frame = frame(self.next_seq(), message)?;
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.commands.send(Command::Request { frame, answer }).await.ok()?;
            answered.await.ok()
        };
        tokio::pin!(asking);
        let after = self.request_timeout;
        let answered = loop {
            match timeout(after, &mut asking).await {
                Ok(answered) => break answered,
                Err(_) if goes_on() => (),
                Err(_) => return Err(RequestError::TimedOut { request, after }),
            }
        };
        read_answer(request, &answered.ok_or(RequestError::NotConnected { request })?)
    }

    /// Brings the session back, at this gate; a connection that is still there is dropped first.
    ///
    /// # Errors
    /// When the gate refuses the ticket or can't be reached.
    pub async fn resume(&self, gate: &Address) -> Result<(), ConnectionError> {
        let (done, result) = oneshot::channel();
        let over = || ConnectionError::Lost(std::io::ErrorKind::NotConnected.into());
        self.commands.send(Command::Resume { gate: gate.clone(), done }).await.map_err(|_| over())?;
        result.await.map_err(|_| over())?
    }

    /// Drops the socket without a goodbye, as a broken network does. The session can be resumed.
    pub async fn drop_connection(&self) {
        // A task that has ended has no connection.
        let _ = self.commands.send(Command::Drop).await;
    }

    fn next_seq(&self) -> u32 {
        loop {
            let seq = self.last_seq.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if seq != 0 {
                return seq;
            }
        }
    }
}

fn frame<M: ClientMessage>(seq: u32, message: &M) -> Result<Frame, RequestError> {
    let (length, max) = (message.encoded_len(), M::INFO.body_max);
    if max < length {
        return Err(RequestError::TooLong { request: M::INFO.name, length, max });
    }
    Ok(Frame::encode(seq, message))
}

fn read_answer<A: ClientMessage>(request: &'static str, frame: &Frame) -> Result<A, RequestError> {
    let answer = frame.info().map_or("an unknown kind", |info| info.name);
    let unexpected = RequestError::Unexpected { request, answer };
    if frame.kind() == client::Fault::KIND {
        let fault: client::Fault = frame.decode().map_err(|_| unexpected)?;
        return Err(Fault::from(fault).into());
    }
    frame.decode().map_err(|_| unexpected)
}
