//! A connection that is fetched from rather than awaited: what arrives waits in the kernel until [`QuietConnection::fetch`], and wakes
//! nobody.
//!
//! For programs with thousands of connections, such as bots: a gate writes to each client ten times a second, and a task that is woken for
//! every write costs more than what it does then. The kernel's buffer must hold what comes between two fetches.

use std::time::Duration;

use proto::{ClientMessage, Frame};
use tokio::time::Instant;

use crate::{connection::Connection, fault::ConnectionError, session::Session};

/// See the module.
pub struct QuietConnection(Connection);

impl QuietConnection {
    /// Takes a connection's socket from the runtime.
    ///
    /// # Errors
    /// When the runtime does not let it go.
    pub fn new(mut connection: Connection) -> Result<Self, ConnectionError> {
        connection.transport().tcp().quieten()?;
        Ok(Self(connection))
    }

    /// Gives the socket back to the runtime; the connection can be awaited again.
    ///
    /// # Errors
    /// When the runtime does not take it.
    pub fn into_connection(mut self) -> Result<Connection, ConnectionError> {
        self.0.transport().tcp().waken()?;
        Ok(self.0)
    }

    /// Gives `take` every frame that has arrived, answers heartbeats, and hands what is queued to the socket. Never waits.
    ///
    /// # Errors
    /// As [`Connection::next`]; frames that arrived before the end are given first.
    pub fn fetch(&mut self, now: Instant, take: impl FnMut(&Frame)) -> Result<(), ConnectionError> {
        self.0.fetch(now, take)
    }

    /// Queues a message and hands to the socket what it takes now; the rest goes with the next call of this or of `fetch`.
    ///
    /// # Errors
    /// When too much waits already. A socket that is broken is told of by [`QuietConnection::fetch`], with the gate's reason.
    ///
    /// # Panics
    /// As [`Connection::queue`].
    pub fn send<M: ClientMessage>(&mut self, message: &M) -> Result<(), ConnectionError> {
        self.0.queue(message)?;
        self.0.push_out();
        Ok(())
    }

    /// What is known of the session.
    pub fn session(&self) -> &Session {
        self.0.session()
    }

    /// Bytes received since the connection was made.
    pub fn received_bytes(&self) -> u64 {
        self.0.received_bytes()
    }

    /// As [`Connection::silent_for`]; what was not fetched is not heard.
    pub fn silent_for(&self) -> Duration {
        self.0.silent_for()
    }
}
