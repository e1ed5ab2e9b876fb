//! Which peers are linked, and whose turn it is: one live link a peer, the newest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{OwnedMutexGuard, watch};

use super::{Link, connection::End};
use crate::config::{ProcessId, ProcessKind};

/// Held by a peer's link from before its `on_up` until after its `on_down`.
pub(super) type PeerTurn = OwnedMutexGuard<()>;

pub(super) struct Directory {
    // One slot a member that was ever linked.
    slots: Mutex<BTreeMap<ProcessId, Slot>>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Slot {
    newest: u64,
    turn: Arc<tokio::sync::Mutex<()>>,
    link: Option<Link>,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self { slots: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Puts the link in the place of the peer's older one, once that is through; `None` when a newer one came meanwhile.
    pub(super) async fn enter(&self, link: &Link) -> Option<PeerTurn> {
        let turn = {
            let mut slots = self.lock();
            let slot = slots.entry(link.peer().id.clone()).or_default();
            slot.newest = slot.newest.max(link.number());
            if let Some(older) = &slot.link {
                older.shared.close(End::Replaced);
            }
            slot.turn.clone()
        };
        let turn = turn.lock_owned().await;
        {
            let mut slots = self.lock();
            let slot = slots.entry(link.peer().id.clone()).or_default();
            if slot.newest != link.number() {
                return None;
            }
            slot.link = Some(link.clone());
        }
        self.changed.send_replace(());
        Some(turn)
    }

    /// Forgets the link, which is down.
    pub(super) fn leave(&self, link: &Link) {
        if let Some(slot) = self.lock().get_mut(&link.peer().id) {
            slot.link = None;
        }
        self.changed.send_replace(());
    }

    pub(super) fn get(&self, id: &ProcessId) -> Option<Link> {
        self.lock().get(id)?.link.as_ref().filter(|link| link.is_up()).cloned()
    }

    pub(super) fn of(&self, kind: ProcessKind) -> Vec<Link> {
        self.all().into_iter().filter(|link| link.peer().kind == kind).collect()
    }

    /// All links that are up, by id.
    pub(super) fn all(&self) -> Vec<Link> {
        self.lock().values().filter_map(|slot| slot.link.clone()).filter(Link::is_up).collect()
    }

    /// Told whenever a link came or went.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Slot>> {
        self.slots.lock().expect("no holder of the directory panics")
    }
}
