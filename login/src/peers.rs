//! Whether the process can serve: it needs a link to center and one to dc.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use service::{Link, Process, ProcessKind, admin::Ready, members::Members};

/// Whom login needs.
const NEEDED: [ProcessKind; 2] = [ProcessKind::Center, ProcessKind::Dc];

/// The links that are up, and what follows from them for readiness.
#[derive(Debug)]
pub(crate) struct Peers {
    members: Members,
    ready: Ready,
    /// Kind by link number.
    up: Mutex<BTreeMap<u64, ProcessKind>>,
}

impl Peers {
    /// No link is up.
    pub(crate) fn new(process: &Process) -> Self {
        Self { members: process.members.clone(), ready: process.ready.clone(), up: Mutex::default() }
    }

    /// A link is up.
    pub(crate) fn up(&self, link: &Link) {
        self.lock().insert(link.number(), link.peer().kind);
        self.tell();
    }

    /// A link is down.
    pub(crate) fn down(&self, link: &Link) {
        self.lock().remove(&link.number());
        self.tell();
    }

    /// Says whether the process is ready, or for whom it waits.
    pub(crate) fn tell(&self) {
        let up = self.lock();
        match self.missing(&up) {
            missing if missing.is_empty() => self.ready.set(),
            missing => self.ready.wait_for(missing),
        }
    }

    fn missing(&self, up: &BTreeMap<u64, ProcessKind>) -> Vec<String> {
        let members = self.members.now();
        let mut missing = Vec::new();
        for kind in NEEDED.into_iter().filter(|kind| !up.values().any(|up| up == kind)) {
            let before = missing.len();
            missing.extend(members.iter().filter(|member| member.kind == kind).map(|member| member.id.to_string()));
            if missing.len() == before {
                missing.push(format!("a {kind}, which the zone does not have"));
            }
        }
        missing
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, ProcessKind>> {
        self.up.lock().expect("no holder of the links panics")
    }
}
