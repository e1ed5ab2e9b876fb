//! The task behind a [`crate::Client`]: it owns the connection, pairs answers with requests, and hands everything else on as events.
//!
//! Its states: connected ([`Driver::serve`]), lost ([`Driver::lost`]: resuming by itself, or waiting to be told), over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use proto::{ClientMessage, Frame, client, kinds::Delivery};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    address::Address,
    client::ClientOptions,
    connection::Connection,
    events::{Event, Lost},
    fault::ConnectionError,
    random::Random,
    session::Session,
};

/// At this many open requests, those whose caller has gone are forgotten before one more is taken.
const PENDING_SWEEP: usize = 64;

#[derive(Debug)]
pub(crate) enum Command {
    Send(Frame),
    Request { frame: Frame, answer: oneshot::Sender<Frame> },
    Resume { gate: Address, done: oneshot::Sender<Result<(), ConnectionError>> },
    Drop,
}

/// Why [`Driver::serve`] came back.
enum Break {
    /// Every handle was dropped.
    HandlesDropped,
    /// The program dropped the socket, or the gate did.
    Lost(ConnectionError),
    /// The program does not read its events.
    NotRead,
    /// The program wants the session at this gate.
    Resume(Address, oneshot::Sender<Result<(), ConnectionError>>),
}

pub(crate) struct Driver {
    gate: Address,
    options: ClientOptions,
    connection: Option<Connection>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Bounded by the callers: each waits for its own answer, for a limited time.
    pending: HashMap<u32, oneshot::Sender<Frame>>,
    session: Arc<Mutex<Session>>,
    queued: Arc<Mutex<Option<Instant>>>,
    random: Random,
}

impl Driver {
    pub(crate) fn new(
        gate: Address,
        options: ClientOptions,
        connection: Connection,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        session: Arc<Mutex<Session>>,
        queued: Arc<Mutex<Option<Instant>>>,
    ) -> Self {
        let (pending, random) = (HashMap::new(), Random::fresh());
        Self { gate, options, connection: Some(connection), commands, events, pending, session, queued, random }
    }

    pub(crate) async fn run(mut self) {
        while let Some(mut connection) = self.connection.take() {
            let end = self.serve(&mut connection).await;
            let session = connection.session().clone();
            self.publish(&session);
            drop(connection);
            match end {
                Break::HandlesDropped => return,
                Break::Resume(gate, done) => self.resume(gate, done).await,
                Break::NotRead => self.lost(Lost::NotRead).await,
                Break::Lost(error) => {
                    let next = match (error.is_resumable() && session.ticket.is_some(), &self.options.reconnect) {
                        (false, _) => Lost::Over,
                        (true, None) => Lost::Resumable,
                        (true, Some(_)) => Lost::Resuming,
                    };
                    tracing::debug!("lost the connection to {}: {error}", self.gate);
                    self.lost(next).await;
                }
            }
        }
    }

    async fn serve(&mut self, connection: &mut Connection) -> Break {
        loop {
            let silence = connection.session().silence_max();
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => {
                        // What was said last (a goodbye) still goes out, if the socket takes it at once.
                        let _ = timeout(std::time::Duration::from_millis(200), connection.flush()).await;
                        return Break::HandlesDropped;
                    }
                    Some(Command::Drop) => return Break::Lost(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
                    Some(Command::Resume { gate, done }) => return Break::Resume(gate, done),
                    Some(Command::Send(frame)) => if let Err(error) = connection.queue_bytes(frame.bytes()) {
                        return Break::Lost(error);
                    },
                    Some(Command::Request { frame, answer }) => {
                        self.remember(frame.seq(), answer);
                        if let Err(error) = connection.queue_bytes(frame.bytes()) {
                            return Break::Lost(error);
                        }
                    }
                },
                frame = timeout(silence, connection.next()) => match frame {
                    Ok(Ok(frame)) => {
                        if !frame.info().is_some_and(|info| info.delivery == Delivery::Frame) {
                            self.publish(connection.session());
                        }
                        if !self.hand_on(&frame) {
                            return Break::NotRead;
                        }
                    }
                    Ok(Err(error)) => return Break::Lost(error),
                    Err(_) => return Break::Lost(ConnectionError::Silent(silence)),
                },
            }
        }
    }

    /// False: a message that must not be lost found no room.
    fn hand_on(&mut self, frame: &Frame) -> bool {
        let asked = (frame.seq() != 0).then(|| self.pending.remove(&frame.seq())).flatten();
        if let Some(answer) = asked {
            // The caller may have stopped waiting.
            let _ = answer.send(frame.clone());
            // The world begins anew for whoever follows the events, too.
            if frame.kind() != client::Entered::KIND {
                return true;
            }
        }
        if frame.kind() == client::Queued::KIND {
            *self.queued.lock().expect("no holder panics") = Some(Instant::now());
        }
        let Some(event) = Event::from_frame(frame) else { return true };
        match self.events.try_send(event) {
            // A program that dropped its events does not want them.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => frame.info().is_none_or(|info| info.delivery == Delivery::Frame),
        }
    }

    fn remember(&mut self, seq: u32, answer: oneshot::Sender<Frame>) {
        if PENDING_SWEEP <= self.pending.len() {
            self.pending.retain(|_, answer| !answer.is_closed());
        }
        self.pending.insert(seq, answer);
    }

    async fn lost(&mut self, lost: Lost) {
        // A full queue can't be told; its reader sees the silence and the failing requests.
        let _ = self.events.try_send(Event::Lost(lost));
        match (lost, self.options.reconnect.clone()) {
            (Lost::Over, _) => self.pending.clear(),
            (Lost::Resuming, Some(reconnect)) => {
                let mut gates = vec![self.gate.clone()];
                gates.extend(reconnect.gates.into_iter().filter(|gate| *gate != self.gate));
                let session = self.known();
                let back = Connection::reconnect(&gates, &self.options.connect, &session, &reconnect.backoff, &mut self.random);
                match Box::pin(back).await {
                    Ok((connection, resumed)) => self.is_back(connection, &resumed),
                    Err(error) => {
                        tracing::debug!("failed to resume: {error}");
                        self.pending.clear();
                        let _ = self.events.try_send(Event::Lost(Lost::Over));
                    }
                }
            }
            _ => self.wait_for_resume().await,
        }
    }

    async fn wait_for_resume(&mut self) {
        self.pending.clear();
        while self.connection.is_none() {
            match self.commands.recv().await {
                None => return,
                Some(Command::Resume { gate, done }) => self.resume(gate, done).await,
                // Dropping the request's sender tells its caller.
                Some(Command::Send(_) | Command::Request { .. } | Command::Drop) => {}
            }
        }
    }

    async fn resume(&mut self, gate: Address, done: oneshot::Sender<Result<(), ConnectionError>>) {
        let session = self.known();
        let result = match Box::pin(Connection::resume(&gate, &self.options.connect, &session)).await {
            Ok((connection, resumed)) => {
                self.gate = gate;
                self.is_back(connection, &resumed);
                Ok(())
            }
            Err(error) => Err(error),
        };
        let failed = result.is_err();
        // The caller may have stopped waiting.
        let _ = done.send(result);
        if failed {
            Box::pin(self.wait_for_resume()).await;
        }
    }

    fn is_back(&mut self, connection: Connection, resumed: &client::Resumed) {
        if !resumed.continued {
            // The new gate knows of no answers: dropping the senders tells the callers.
            self.pending.clear();
        }
        self.publish(connection.session());
        let _ = self.events.try_send(Event::Resumed { continued: resumed.continued, missed: resumed.missed });
        self.connection = Some(connection);
    }

    fn known(&self) -> Session {
        self.session.lock().expect("no holder panics").clone()
    }

    fn publish(&self, session: &Session) {
        self.session.lock().expect("no holder panics").clone_from(session);
    }
}
