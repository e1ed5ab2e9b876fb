//! The live links to backends, with the groups that each owns here.
//!
//! Groups live and die with their link. A scene publishes all that happened in a tick and then says that the tick is over: only then do
//! the members take it, so that each gets one write for a tick. What others publish, and what is for one session alone, is written as
//! soon as all that was read from the link with it is handed over.
//!
//! A tick is written by a task of its own ([`Backend::write_ticks`]), beside the one that reads the link. When writing takes longer than
//! a tick, the next ones gather meanwhile, and a client gets them in one write: fewer writes, and none that waits behind others.
//!
//! Full? Reading waits until what has gathered is written; then the scene's queue fills, and its link closes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use proto::{Frame, kinds::Delivery};
use service::{Link, ProcessKind};
use tokio::sync::Notify;

use crate::{
    groups::{Groups, MemberKey},
    mail::Post,
    metrics::Metrics,
    outbox::FrameKey,
    session::Session,
    wire::Written,
};

/// Bytes of published frames that may wait for the end of their tick.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sessions that may wait to be written to.
const WAITING_SESSIONS_MAX: usize = 64 * 1024;
/// Sessions that are written to before others get a turn.
const WRITTEN_AT_ONCE: usize = 64;
/// Sessions that are written to before the link's reader gets the groups.
const VISITED_AT_ONCE: usize = 16;

/// The links that are up. They are few: one for each process of the zone.
#[derive(Default)]
pub(crate) struct Backends {
    links: RwLock<HashMap<u64, Arc<Backend>>>,
}

/// One link.
pub(crate) struct Backend {
    /// The link.
    pub link: Link,
    desk: Mutex<Desk>,
    tick_ended: Notify,
    /// Something that waited was written.
    made_room: Notify,
    is_writing: AtomicBool,
    is_down: AtomicBool,
}

#[derive(Default)]
struct Desk {
    groups: Groups<Arc<Session>, Post>,
    /// Sessions whose outbox got something that goes when the tick is over.
    later: Vec<Arc<Session>>,
    /// Sessions whose outbox got something that goes now.
    soon: Vec<Arc<Session>>,
}

impl Backends {
    /// A link is up.
    pub(crate) fn add(&self, link: &Link) -> Arc<Backend> {
        let backend = Arc::new(Backend {
            link: link.clone(),
            desk: Mutex::default(),
            tick_ended: Notify::new(),
            made_room: Notify::new(),
            is_writing: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
        });
        self.links.write().expect("no holder panics").insert(link.number(), backend.clone());
        backend
    }

    /// A link is down; its groups vanish.
    pub(crate) fn remove(&self, number: u64) {
        let backend = self.links.write().expect("no holder panics").remove(&number);
        if let Some(backend) = backend {
            backend.hand_out();
        }
    }

    /// The link of this number.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<Backend>> {
        self.links.read().expect("no holder panics").get(&number).cloned()
    }

    /// All links.
    pub(crate) fn links(&self) -> Vec<Link> {
        self.links.read().expect("no holder panics").values().map(|backend| backend.link.clone()).collect()
    }

    /// The newest link to center.
    pub(crate) fn center(&self) -> Option<Link> {
        self.links_to(ProcessKind::Center).into_iter().max_by_key(Link::number)
    }

    /// The login for a session: the one that it has, or, by highest random weight, one that only sessions of a lost login change to.
    pub(crate) fn login(&self, has: Option<&Link>, session: u64) -> Option<Link> {
        if let Some(link) = has.filter(|link| link.is_up()) {
            return Some(link.clone());
        }
        self.links_to(ProcessKind::Login).into_iter().max_by_key(|link| weight(session, &link.peer().id.0))
    }

    /// How many links there are to processes of a kind.
    pub(crate) fn count(&self, kind: ProcessKind) -> usize {
        self.links_to(kind).len()
    }

    /// Takes a session out of all groups.
    pub(crate) fn leave_all(&self, session: u64) {
        for backend in self.links.read().expect("no holder panics").values() {
            backend.desk().groups.leave_all(session);
        }
    }

    /// Takes a session out of all groups of one link.
    pub(crate) fn leave_all_of(&self, number: u64, session: u64) {
        if let Some(backend) = self.get(number) {
            backend.desk().groups.leave_all(session);
        }
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        self.links.read().expect("no holder panics").values().map(|backend| backend.desk().groups.len()).sum()
    }

    fn links_to(&self, kind: ProcessKind) -> Vec<Link> {
        let links = self.links.read().expect("no holder panics");
        let to_kind = links.values().map(|backend| &backend.link).filter(|link| link.peer().kind == kind && link.is_up());
        to_kind.cloned().collect()
    }
}

impl Backend {
    /// Puts a session into a group. It is looked up by `find` while the groups are held, so that its end can't come in between.
    pub(crate) fn join(&self, group: u64, session: u64, find: impl FnOnce() -> Option<Arc<Session>>) {
        let mut desk = self.desk();
        if let Some(member) = find() {
            desk.groups.join(group, session, member);
        }
    }

    /// Takes a session out of a group.
    pub(crate) fn leave(&self, group: u64, session: u64) {
        let mut desk = self.desk();
        desk.catch_up(session);
        desk.groups.leave(group, session);
    }

    /// Ends a group.
    pub(crate) fn drop_group(&self, group: u64) {
        let mut desk = self.desk();
        for member in desk.groups.members_of(group) {
            desk.catch_up_member(member);
        }
        desk.groups.drop_group(group);
    }

    /// Publishes a frame to all of a group but one session; returns how many get it.
    pub(crate) fn publish(&self, group: u64, except: u64, frame: &Frame, delivery: Delivery) -> usize {
        let post = self.post(Some(group), frame, delivery);
        self.desk().groups.publish(group, except, post, frame.bytes().len())
    }

    /// Puts a frame into the outbox of one session, behind what was published before.
    pub(crate) fn deliver(&self, session: &Arc<Session>, frame: &Frame, delivery: Delivery) {
        let mut desk = self.desk();
        desk.catch_up(session.id);
        session.hold(&mut std::iter::once(&self.post(None, frame, delivery)));
        let waits = delivery == Delivery::Frame && self.has_ticks();
        let list = if waits { &mut desk.later } else { &mut desk.soon };
        if !list.last().is_some_and(|last| Arc::ptr_eq(last, session)) {
            list.push(session.clone());
        }
    }

    /// All that was read from the link is handed over: writes what does not wait for the end of a tick.
    pub(crate) async fn drained(&self, written: &mut Written) {
        if !self.has_ticks() {
            return self.write_due(written).await;
        }
        let soon = std::mem::take(&mut self.desk().soon);
        write_to(&soon, written).await;
    }

    /// A tick is over. False: the one before is still being written, and this one goes with it or after it.
    pub(crate) fn end_tick(&self) -> bool {
        self.tick_ended.notify_one();
        !self.is_writing.load(Ordering::Relaxed)
    }

    /// Ends when there is room for more, of a link with ticks.
    pub(crate) async fn room(&self) {
        while self.is_full() && !self.is_down.load(Ordering::Acquire) {
            self.tick_ended.notify_one();
            self.made_room.notified().await;
        }
    }

    /// Writes each tick when it is over, until the link is down.
    pub(crate) async fn write_ticks(&self, metrics: &Metrics) {
        loop {
            self.tick_ended.notified().await;
            if self.is_down.load(Ordering::Acquire) {
                return;
            }
            self.is_writing.store(true, Ordering::Relaxed);
            let mut written = Written::default();
            self.write_due(&mut written).await;
            written.settle(metrics);
            self.is_writing.store(false, Ordering::Relaxed);
            self.made_room.notify_one();
        }
    }

    /// Writes to all for whom something waits. More may be published meanwhile.
    pub(crate) async fn write_due(&self, written: &mut Written) {
        let round = self.desk().groups.due();
        for some in round.members.chunks(WRITTEN_AT_ONCE) {
            for few in some.chunks(VISITED_AT_ONCE) {
                let mut desk = self.desk();
                for member in few {
                    desk.groups.visit(*member, |session, posts| session.post(posts, written));
                }
            }
            tokio::task::yield_now().await;
        }
        let (soon, later) = {
            let mut desk = self.desk();
            desk.groups.clear(&round);
            (std::mem::take(&mut desk.soon), std::mem::take(&mut desk.later))
        };
        write_to(&soon, written).await;
        write_to(&later, written).await;
    }

    /// Whether so much waits that it has to be written before more is read.
    pub(crate) fn is_full(&self) -> bool {
        let desk = self.desk();
        WAITING_BYTES_MAX < desk.groups.waiting_bytes() || WAITING_SESSIONS_MAX < desk.later.len().max(desk.soon.len())
    }

    /// The link is down: what waits goes to the connections' own tasks.
    fn hand_out(&self) {
        self.is_down.store(true, Ordering::Release);
        self.tick_ended.notify_one();
        self.made_room.notify_one();
        let mut desk = self.desk();
        for member in desk.groups.due().members {
            desk.catch_up_member(member);
        }
        let Desk { soon, later, .. } = std::mem::take(&mut *desk);
        soon.iter().chain(&later).for_each(|session| session.wake());
    }

    fn post(&self, group: Option<u64>, frame: &Frame, delivery: Delivery) -> Post {
        Post { key: FrameKey { link: self.link.number(), group, kind: frame.kind() }, delivery, bytes: kept(frame) }
    }

    /// Only scenes have ticks; what others publish would wait for ever.
    pub(crate) fn has_ticks(&self) -> bool {
        self.link.peer().kind == ProcessKind::Scene
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("no holder panics")
    }
}

impl Desk {
    /// A session takes what was published to it, and is written to later.
    fn catch_up(&mut self, session: u64) {
        if let Some(member) = self.groups.member(session) {
            self.catch_up_member(member);
        }
    }

    fn catch_up_member(&mut self, member: MemberKey) {
        let later = &mut self.later;
        self.groups.visit(member, |session, posts| {
            session.hold(posts);
            later.push(session.clone());
        });
    }
}

/// Writes to sessions what waits for them.
async fn write_to(sessions: &[Arc<Session>], written: &mut Written) {
    for some in sessions.chunks(WRITTEN_AT_ONCE) {
        some.iter().for_each(|session| session.flush(written));
        if some.len() == WRITTEN_AT_ONCE {
            tokio::task::yield_now().await;
        }
    }
}

/// A copy, shared by all who get it: the frame shares the memory of everything that was read from the link with it, and a slow
/// client would keep all of that.
fn kept(frame: &Frame) -> Bytes {
    Bytes::copy_from_slice(frame.bytes())
}

/// Rendezvous weight of a process for a session: FNV-1a over both, then mixed, since FNV's low bits alone are weak.
fn weight(session: u64, process: &str) -> u64 {
    let bytes = session.to_le_bytes().into_iter().chain(process.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen<'a>(session: u64, logins: &[&'a str]) -> &'a str {
        logins.iter().copied().max_by_key(|login| weight(session, login)).unwrap()
    }

    #[test]
    fn sessions_spread_evenly_and_only_those_of_a_lost_login_move() {
        let logins = ["login-1", "login-2", "login-3"];
        let mut counts = [0; 3];
        for session in 1..3000 {
            let choice = chosen(session, &logins);
            counts[logins.iter().position(|login| *login == choice).unwrap()] += 1;
            if choice != "login-3" {
                assert_eq!(chosen(session, &logins[..2]), choice);
            }
        }
        assert!(counts.iter().all(|count| 800 < *count), "{counts:?}");
    }
}
