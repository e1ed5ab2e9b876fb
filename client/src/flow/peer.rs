//! The clients of a flow: each with its connection, what it received and has not been asked for yet, and the world as it sees it.
//!
//! The flow's one task owns them all. [`Peers::pump`] serves every connection at once, so that heartbeats are answered whoever acts.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    task::Poll,
};

use proto::{
    ClientMessage, Frame,
    client::{self, Position},
    kinds::{self, Delivery},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Zone,
    report::{Received, cut, millis},
};
use crate::{connection::Connection, events::Event, fault::ConnectionError, session::Session, world_view::WorldView};

/// Messages that may wait to be asked for. Full: Frame messages are not kept, any other one ends the connection, and with it the flow.
const INBOX_MAX: usize = 20_000;
/// How many messages a failure shows. Frame messages are not among them: they come with every tick and would be all that is seen.
const SHOWN: usize = 12;

/// A client of a flow.
pub(crate) struct Peer {
    connection: Option<Connection>,
    /// What is left of a connection that was closed.
    session: Session,
    pub(crate) inbox: VecDeque<Frame>,
    shown: VecDeque<(Instant, Frame)>,
    /// Why there is no connection any more; `None` as long as there is one, or none yet.
    pub(crate) ended: Option<String>,
    pub(crate) world: WorldView,
    /// Where the character is, as far as its own moves and the zone's corrections tell.
    pub(crate) position: Option<Position>,
    /// Number of the request that was sent last.
    pub(crate) last_seq: u32,
}

/// All clients of a flow.
pub(crate) struct Peers {
    started: Instant,
    all: BTreeMap<String, Peer>,
}

impl Peers {
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        Self { started: Instant::now(), all: names.map(|name| (name.clone(), Peer::new())).collect() }
    }

    /// The parser lets no other name through.
    pub(crate) fn get(&mut self, name: &str) -> &mut Peer {
        self.all.entry(name.to_owned()).or_insert_with(Peer::new)
    }

    /// Forgets a client and drops its connection.
    pub(crate) fn remove(&mut self, name: &str) {
        self.all.remove(name);
    }

    /// Waits until any client has received something, or lost its connection. False: `until` came first.
    pub(crate) async fn pump(&mut self, until: Instant) -> bool {
        let all = &mut self.all;
        let any = poll_fn(|cx| {
            let mut ready = Poll::Pending;
            for peer in all.values_mut() {
                let Some(connection) = &mut peer.connection else { continue };
                match connection.poll_next(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(frame)) => {
                        peer.take(frame);
                        ready = Poll::Ready(());
                    }
                    Poll::Ready(Err(error)) => {
                        peer.end(error.to_string());
                        ready = Poll::Ready(());
                    }
                }
            }
            ready
        });
        // Whoever is flooded would never see its time run out otherwise.
        timeout_at(until, any).await.is_ok() && Instant::now() < until
    }

    /// What a client received last, the newest last.
    pub(crate) fn last_received(&self, name: &str) -> Vec<Received> {
        let Some(peer) = self.all.get(name) else { return Vec::new() };
        let show = |(at, frame): &(Instant, Frame)| Received {
            at_ms: millis(at.saturating_duration_since(self.started)),
            message: frame.info().map_or_else(|| format!("kind {:#06x}", frame.kind()), |info| info.name.to_owned()),
            fields: kinds::body_to_json(frame.kind(), &frame.body()).map_or_else(|error| error.to_string(), |json| cut(&json.to_string())),
        };
        peer.shown.iter().map(show).collect()
    }
}

impl Peer {
    fn new() -> Self {
        Self {
            connection: None,
            session: Session::default(),
            inbox: VecDeque::new(),
            shown: VecDeque::new(),
            ended: None,
            world: WorldView::default(),
            position: None,
            last_seq: 0,
        }
    }

    /// Opens a connection; one that is still there is dropped, and what it brought is forgotten. The session's count and ticket stay, for
    /// a resume.
    pub(crate) async fn open(&mut self, zone: &Zone, gate: usize) -> Result<&mut Connection, ConnectionError> {
        self.close();
        let address = zone.against.get(gate.saturating_sub(1)).ok_or(ConnectionError::Unexpected("no such gate"))?;
        let mut connection = Box::pin(Connection::open(address, &zone.connect)).await?;
        connection.adopt(&self.session);
        self.inbox.clear();
        self.ended = None;
        Ok(self.connection.insert(connection))
    }

    /// Drops the socket without a goodbye.
    pub(crate) fn close(&mut self) {
        if self.connection.is_some() {
            self.end("the flow closed it".into());
        }
    }

    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_mut()
    }

    /// What is known of the session, connected or not.
    pub(crate) fn session(&self) -> &Session {
        self.connection.as_ref().map_or(&self.session, Connection::session)
    }

    pub(crate) fn is_new(&self) -> bool {
        self.connection.is_none() && self.ended.is_none()
    }

    fn end(&mut self, reason: String) {
        if let Some(connection) = self.connection.take() {
            self.session = connection.session().clone();
        }
        self.ended = Some(reason);
    }

    fn take(&mut self, frame: Frame) {
        let may_drop = frame.info().is_some_and(|info| info.delivery == Delivery::Frame);
        if !may_drop {
            self.show(&frame);
        }
        self.note(&frame);
        if self.inbox.len() < INBOX_MAX {
            self.inbox.push_back(frame);
        } else if !may_drop {
            self.end(format!("more than {INBOX_MAX} messages that the flow did not expect"));
        }
    }

    fn show(&mut self, frame: &Frame) {
        if self.shown.len() == SHOWN {
            self.shown.pop_front();
        }
        self.shown.push_back((Instant::now(), frame.clone()));
    }

    fn note(&mut self, frame: &Frame) {
        if !matches!(frame.kind(), client::Entered::KIND..=client::CellChanges::KIND) {
            return;
        }
        let Some(event) = Event::from_frame(frame) else { return };
        self.world.apply(&event);
        match event {
            Event::Entered(entered) => self.position = entered.position,
            Event::Corrected(corrected) => self.position = corrected.position,
            _ => {}
        }
    }
}
