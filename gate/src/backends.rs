//! The live links to backends, with the groups that each owns here.
//!
//! Groups live and die with their link. A scene publishes all that happened in a tick and then says that the tick is over: only then are
//! the connections woken, so that each gets one write for a tick. What others publish wakes at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, RwLock},
};

use bytes::Bytes;
use proto::{Frame, kinds::Delivery};
use service::{Link, ProcessKind};

use crate::{groups::Groups, outbox::FrameKey, session::Session};

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
}

#[derive(Default)]
struct Desk {
    groups: Groups<Arc<Session>>,
    /// Sessions that got something in this tick and were not woken.
    touched: Vec<Arc<Session>>,
    tick: u64,
}

impl Backends {
    /// A link is up.
    pub(crate) fn add(&self, link: &Link) {
        let backend = Backend { link: link.clone(), desk: Mutex::default() };
        self.links.write().expect("no holder panics").insert(link.number(), Arc::new(backend));
    }

    /// A link is down; its groups vanish.
    pub(crate) fn remove(&self, number: u64) {
        let backend = self.links.write().expect("no holder panics").remove(&number);
        if let Some(backend) = backend {
            backend.tick_end();
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
        self.desk().groups.leave(group, session);
    }

    /// Ends a group.
    pub(crate) fn drop_group(&self, group: u64) {
        self.desk().groups.drop_group(group);
    }

    /// Puts a frame into the outbox of each member but one; returns how many got it.
    pub(crate) fn publish(&self, group: u64, except: u64, frame: &Frame, delivery: Delivery) -> usize {
        let key = FrameKey { link: self.link.number(), group: Some(group), kind: frame.kind() };
        let bytes = kept(frame);
        let waits = self.waits_for_tick_end();
        let mut desk = self.desk();
        let Desk { groups, touched, tick } = &mut *desk;
        let touch = waits.then_some((self.link.number(), *tick));
        let mut reached = 0;
        for member in groups.members(group, except) {
            if member.put(delivery, key, bytes.clone(), touch) {
                touched.push(member.clone());
            }
            reached += 1;
        }
        reached
    }

    /// Puts a frame into the outbox of one session. It is woken at once, unless the frame is one of a tick's.
    pub(crate) fn deliver(&self, session: &Arc<Session>, frame: &Frame, delivery: Delivery) {
        let key = FrameKey { link: self.link.number(), group: None, kind: frame.kind() };
        let waits = delivery == Delivery::Frame && self.waits_for_tick_end();
        let mut desk = self.desk();
        let touch = waits.then_some((self.link.number(), desk.tick));
        if session.put(delivery, key, kept(frame), touch) {
            desk.touched.push(session.clone());
        }
    }

    /// Wakes all that got something in this tick.
    pub(crate) fn tick_end(&self) {
        let touched = {
            let mut desk = self.desk();
            desk.tick = desk.tick.wrapping_add(1);
            let room = desk.touched.len();
            std::mem::replace(&mut desk.touched, Vec::with_capacity(room))
        };
        touched.iter().for_each(|session| session.wake());
    }

    /// Only scenes have ticks; what others publish would wait for ever.
    fn waits_for_tick_end(&self) -> bool {
        self.link.peer().kind == ProcessKind::Scene
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("no holder panics")
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
