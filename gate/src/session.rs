//! One client's session: what the gate knows of it, its outbox, and the connection that it has at the moment.
//!
//! A session lives `Resuming → Attached ⇄ Lost → Ended`. Its *socket* is the handle of one connection; a session has at most one, and
//! whoever holds an older one can no longer take from the outbox. Locks are taken in the order state, then mail, and held shortly.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::{Bytes, BytesMut};
use proto::{
    Frame,
    kinds::{Delivery, States},
};
use service::link::{Link, Peer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    limits::Limits,
    mail::{Mail, Post, WRITE_BYTES, put, write},
    outbox::{FrameKey, Outbox},
    socket::{End, Socket},
    ticket::UsedNonces,
    wire::{Wire, Written},
};

/// Requests that a session may await, as many as center keeps of one; older ones are forgotten (their client times out).
const AWAITING_MAX: usize = 32;

/// Where a session is in its life.
#[derive(Clone, Debug)]
pub(crate) enum Life {
    /// Center is asked whether it lives; what comes for it is kept.
    Resuming,
    /// It has a connection.
    Attached,
    /// It has none; the token ends the watch over its window.
    Lost(CancellationToken),
    /// It is out of the table.
    Ended,
}

/// Who a session is, as backends told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// 0: not logged in.
    pub account: u64,
    /// The account's name.
    pub account_name: String,
    /// Which of the account's sessions this is.
    pub session_epoch: u64,
    /// 0: not in the world.
    pub player: u64,
    /// The player's name.
    pub player_name: String,
}

/// What the gate knows of a session.
#[derive(Debug)]
pub(crate) struct State {
    /// Where it is in its life.
    pub life: Life,
    /// What its client may say.
    pub phase: States,
    /// Who it is.
    pub identity: Identity,
    /// Whether login or center vouched for the identity; before that it is only what a ticket says.
    pub vouched: bool,
    /// The client's address.
    pub address: IpAddr,
    /// The login that it keeps to.
    pub login: Option<Link>,
    /// The scene that has its player.
    pub scene: Option<Link>,
    /// The scene that had it when its link broke.
    pub was_at: Option<Peer>,
    /// Numbers of the links that were told of it.
    pub opened: Vec<u64>,
    /// Requests to login and center that were not answered yet: the link that took them, and their numbers.
    pub awaiting: Vec<(u64, u32)>,
    /// Requests that the gate answered for a link that went down. One that was passed on before may be answered once more, by another.
    pub given_up: Vec<u32>,
    /// Its budgets.
    pub limits: Limits,
    /// Its tickets that were used.
    pub used: UsedNonces,
}

impl State {
    /// A session in the greeting.
    pub(crate) fn new(life: Life, phase: States, identity: Identity, address: IpAddr, limits: Limits) -> Self {
        Self {
            life,
            phase,
            identity,
            vouched: false,
            address,
            login: None,
            scene: None,
            was_at: None,
            opened: Vec::new(),
            awaiting: Vec::new(),
            given_up: Vec::new(),
            limits,
            used: UsedNonces::default(),
        }
    }

    /// Whether it is over.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.life, Life::Ended)
    }

    /// Whether the account is known.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.phase != States::CONNECTED
    }

    /// A request is on its way. One without a number wants no answer.
    pub(crate) fn awaits(&mut self, link: u64, seq: u32) {
        if seq == 0 {
            return;
        }
        if self.awaiting.len() == AWAITING_MAX {
            self.awaiting.remove(0);
        }
        self.awaiting.push((link, seq));
    }

    /// An answer has come; `false`: the gate has given one before.
    pub(crate) fn answered(&mut self, seq: u32) -> bool {
        self.awaiting.retain(|(_, awaited)| *awaited != seq);
        let before = self.given_up.len();
        self.given_up.retain(|given_up| *given_up != seq);
        before == self.given_up.len()
    }

    /// The link is down: the requests that it took and nobody will answer.
    pub(crate) fn give_up(&mut self, link: u64) -> Vec<u32> {
        let owed: Vec<u32> = self.awaiting.extract_if(.., |(taker, _)| *taker == link).map(|(_, seq)| seq).collect();
        self.given_up.extend(&owed);
        let over = self.given_up.len().saturating_sub(AWAITING_MAX);
        self.given_up.drain(..over);
        owed
    }
}

/// What a connection's task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing waits.
    Idle,
    /// The kernel takes no more at the moment.
    Blocked,
    /// The connection broke.
    Broken,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its number.
    pub id: u64,
    state: Mutex<State>,
    mail: Mutex<Mail>,
}

impl Session {
    /// A session without a connection.
    pub(crate) fn new(id: u64, state: State, unsent_max: usize) -> Arc<Self> {
        let mail = Mail { outbox: Outbox::new(unsent_max), socket: None };
        Arc::new(Self { id, state: Mutex::new(state), mail: Mutex::new(mail) })
    }

    /// What the gate knows of it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    // ---- what comes in

    /// Puts messages into the outbox. Nobody is woken: whoever holds them sees to it that they are written.
    pub(crate) fn hold(&self, posts: &mut dyn Iterator<Item = &Post>) {
        let mut mail = self.mail();
        posts.for_each(|post| mail.push(post));
    }

    /// Writes messages at once, as far as the kernel takes them; or else they wait for the connection's task.
    pub(crate) fn post(&self, posts: &mut dyn Iterator<Item = &Post>, written: &mut Written) {
        let mut mail = self.mail();
        let Mail { outbox, socket } = &mut *mail;
        let Some(socket) = socket else { return posts.for_each(|post| put(outbox, None, post)) };
        let mut wire = socket.wire();
        let mut wire = wire.as_mut().filter(|wire| wire.is_free());
        written.buffer.clear();
        for post in posts {
            let is_reliable = post.delivery.is_reliable();
            if wire.is_none() || !outbox.pass(is_reliable, &post.bytes, &mut written.buffer, WRITE_BYTES) {
                put(outbox, Some(socket), post);
            }
        }
        match &mut wire {
            Some(wire) => write(outbox, socket, wire, written),
            None => socket.wake(),
        }
    }

    /// Writes what waits, as far as the kernel takes it; the connection's task does the rest.
    pub(crate) fn flush(&self, written: &mut Written) {
        self.post(&mut std::iter::empty(), written);
    }

    /// Puts a message of the gate's own into the outbox and wakes the connection.
    pub(crate) fn say<M: proto::ClientMessage>(&self, seq: u32, message: &M) {
        self.say_bytes(M::INFO.delivery, M::KIND, Frame::encode(seq, message).into_bytes());
    }

    /// The same with a message that is framed already.
    pub(crate) fn say_bytes(&self, delivery: Delivery, kind: u16, bytes: Bytes) {
        let mut mail = self.mail();
        mail.push(&Post { key: FrameKey { link: 0, group: None, kind }, delivery, bytes });
        if let Some(socket) = &mail.socket {
            socket.wake();
        }
    }

    /// Wakes the connection.
    pub(crate) fn wake(&self) {
        if let Some(socket) = &self.mail().socket {
            socket.wake();
        }
    }

    /// Ends the connection, if there is one.
    pub(crate) fn hang_up(&self, why: End) {
        if let Some(socket) = &self.mail().socket {
            socket.end(why);
        }
    }

    /// The client has received this many; `false`: that can't be.
    pub(crate) fn ack(&self, received: u64) -> bool {
        self.mail().outbox.ack(received).is_ok()
    }

    // ---- what goes out

    /// Moves what waits into `buffer`, which is empty; whether there was anything. A socket that was replaced gets nothing.
    pub(crate) fn take(&self, socket: &Arc<Socket>, buffer: &mut BytesMut, now: Instant) -> bool {
        let mut mail = self.mail();
        if !mail.is(socket) {
            return false;
        }
        if mail.outbox.wants_ack() {
            mail.outbox.push_control(socket.beat(now));
        }
        mail.outbox.take(buffer, WRITE_BYTES)
    }

    /// What was taken is written. Returns how many frames were dropped since the last time.
    pub(crate) fn written(&self, socket: &Arc<Socket>) -> u64 {
        let mut mail = self.mail();
        if !mail.is(socket) {
            return 0;
        }
        mail.outbox.written(0);
        mail.outbox.dropped_since()
    }

    /// For a connection with a wire: writes what waits. A socket that was replaced writes only what is left of its last write, so that
    /// no frame is cut.
    pub(crate) fn write_on(&self, socket: &Arc<Socket>, written: &mut Written) -> Next {
        let mut mail = self.mail();
        let mut wire = socket.wire();
        let Some(wire) = wire.as_mut() else { return Next::Idle };
        if wire.write_rest().is_err() {
            return Next::Broken;
        }
        if mail.is(socket) {
            mail.outbox.written(wire.waiting());
            written.buffer.clear();
            write(&mut mail.outbox, socket, wire, written);
        }
        if wire.is_free() { Next::Idle } else { Next::Blocked }
    }

    // ---- connections come and go; callers hold the state

    /// Its first connection.
    pub(crate) fn attach(&self, now: Instant, wire: Option<Wire>) -> Arc<Socket> {
        let socket = Socket::new(now, wire);
        let mut mail = self.mail();
        mail.outbox.attach();
        mail.socket = Some(socket.clone());
        socket
    }

    /// A new connection of a client that has received this many; an older connection ends. `None`: that can't be.
    pub(crate) fn reattach(
        &self,
        received: u64,
        greeting: impl FnOnce(u32) -> Bytes,
        now: Instant,
        wire: Option<Wire>,
    ) -> Option<(Arc<Socket>, u32)> {
        let mut mail = self.mail();
        let missed = mail.outbox.resume(received, greeting).ok()?;
        let socket = Socket::new(now, wire);
        if let Some(older) = mail.socket.replace(socket.clone()) {
            older.end(End::Replaced);
        }
        Some((socket, missed))
    }

    /// The connection is lost; `false`: it was not the session's any more.
    pub(crate) fn detach(&self, socket: &Arc<Socket>) -> bool {
        let mut mail = self.mail();
        let is = mail.is(socket);
        if is {
            mail.outbox.detach();
            mail.socket = None;
        }
        is
    }

    /// Whether this is its connection.
    pub(crate) fn is_on(&self, socket: &Arc<Socket>) -> bool {
        self.mail().is(socket)
    }

    /// Counting starts again with the next connection; what comes until then is kept for it. A connection that is still there ends.
    pub(crate) fn restart(&self) {
        let mut mail = self.mail();
        mail.outbox.restart();
        if let Some(older) = mail.socket.take() {
            older.end(End::Replaced);
        }
    }

    /// It can be resumed with full state only.
    pub(crate) fn make_stale(&self) {
        self.mail().outbox.make_stale();
    }

    /// Whether it can be resumed with full state only.
    pub(crate) fn is_stale(&self) -> bool {
        self.mail().outbox.is_stale()
    }

    /// Bytes that its outbox holds.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.mail().outbox.bytes()
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().expect("no holder panics")
    }
}
