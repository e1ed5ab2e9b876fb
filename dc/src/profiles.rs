//! What is to go to the cache: what the store has of a player, the newest of each, until [`crate::ranking::Keeper`] takes it there.
//!
//! Whoever publishes never waits. Full? A profile is dropped, and whoever asks for it finds an older one, or none, and asks dc; a standing
//! in the rankings is dropped too, and they are built anew.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use proto::record::{PlayerRecord, Profile};
use service::cache::{Entry, ranking::Standing};
use tokio::sync::{Notify, oneshot};

use crate::{ledger::records::Hot, refusal::Refusal, serve::role_of, store::Batch};

/// Players that may wait, at less than 1 KiB.
const WAITING_MAX: usize = 65_536;
/// Rebuilds that may be waited for.
const REBUILDS_MAX: usize = 16;
/// The version of a role's first record.
const FIRST: u64 = 1;

/// Takes what is to be published. Cheap to clone; publishes nothing until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Publisher(Arc<OnceLock<Inner>>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    work: Notify,
}

/// What waits.
#[derive(Default)]
pub(crate) struct Waiting {
    players: BTreeMap<u64, Publication>,
    /// A standing was dropped.
    pub lost: bool,
    /// Who waits for the rankings to be built anew.
    pub rebuilds: Vec<oneshot::Sender<Result<u64, Refusal>>>,
}

/// What is published of a player.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Publication {
    pub entry: Entry,
    /// It is a change: the rankings have to know of it. Otherwise the cache only lacked it.
    changed: bool,
    standing: Standing,
}

impl Publication {
    fn new(record: &PlayerRecord, version: u64, deleted: bool, changed: bool) -> Self {
        let profile = Profile { role: Some(role_of(record)), account: record.account, version };
        let of = (!deleted).then_some((record.level, record.coins));
        let standing = Standing { player: record.player, name: record.name.clone(), of };
        Self { entry: Entry { profile, deleted }, changed, standing }
    }

    /// What the rankings have to be told.
    pub(crate) fn standing(&self) -> Option<&Standing> {
        self.changed.then_some(&self.standing)
    }

    fn age(&self) -> (u64, bool) {
        (self.entry.profile.version, self.entry.deleted)
    }
}

impl Publisher {
    /// From now on somebody takes what is published.
    pub(crate) fn open(&self) {
        self.0.get_or_init(Inner::default);
    }

    /// Whether anybody takes it.
    pub(crate) fn is_open(&self) -> bool {
        self.0.get().is_some()
    }

    /// The store has a batch, but for the players that it refused.
    pub(crate) fn stored(&self, batch: &Batch, refused: &HashSet<u64>) {
        let rows = batch.rows.iter().filter(|row| !refused.contains(&row.player));
        self.publish(rows.map(|row| Publication::new(&row.record, row.version, row.deleted, true)));
    }

    /// The store has a new role.
    pub(crate) fn created(&self, record: &PlayerRecord) {
        self.publish([Publication::new(record, FIRST, false, true)].into_iter());
    }

    /// Somebody asked dc, as the cache lacked what the store has; a record that the store lacks is published when it has it.
    pub(crate) fn missed_hot(&self, hot: &Hot) {
        if hot.lsn <= hot.stored_lsn {
            self.publish([Publication::new(&hot.record, hot.version, false, false)].into_iter());
        }
    }

    /// Waits until the rankings are built anew; returns of how many players.
    pub(crate) async fn rebuild(&self) -> Result<u64, Refusal> {
        let away = || Refusal::Unavailable("the rankings can't be built now; try again later".into());
        let inner = self.0.get().ok_or_else(away)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = inner.lock();
            if REBUILDS_MAX <= waiting.rebuilds.len() {
                return Err(away());
            }
            waiting.rebuilds.push(answer);
        }
        inner.work.notify_one();
        answered.await.unwrap_or_else(|_| Err(away()))
    }

    /// Ends when something waits, or may. Cancel-safe.
    pub(crate) async fn work(&self) {
        match self.0.get() {
            Some(inner) => inner.work.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Takes some of what waits, and all wishes; `true`: there is more.
    pub(crate) fn take(&self, max: usize) -> (Vec<Publication>, Waiting, bool) {
        let Some(inner) = self.0.get() else { return Default::default() };
        let mut waiting = inner.lock();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((_, publication)) = waiting.players.pop_first()
        {
            taken.push(publication);
        }
        let (rebuilds, lost) = (std::mem::take(&mut waiting.rebuilds), std::mem::take(&mut waiting.lost));
        metrics::gauge!("paifang_dc_unpublished_players").set(waiting.players.len() as f64);
        (taken, Waiting { players: BTreeMap::new(), lost, rebuilds }, !waiting.players.is_empty())
    }

    fn publish(&self, publications: impl Iterator<Item = Publication>) {
        let Some(inner) = self.0.get() else { return };
        let mut waiting = inner.lock();
        publications.for_each(|publication| waiting.add(publication));
        drop(waiting);
        inner.work.notify_one();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics with it")
    }
}

impl Waiting {
    fn add(&mut self, new: Publication) {
        let full = WAITING_MAX <= self.players.len();
        match self.players.get_mut(&new.standing.player) {
            Some(old) if old.age() <= new.age() => *old = Publication { changed: old.changed || new.changed, ..new },
            Some(old) => old.changed |= new.changed,
            None if full => {
                self.lost |= new.changed;
                metrics::counter!("paifang_dc_unpublished_total").increment(1);
            }
            None => _ = self.players.insert(new.standing.player, new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(player: u64, version: u64, deleted: bool, changed: bool) -> Publication {
        Publication::new(&PlayerRecord { player, ..PlayerRecord::default() }, version, deleted, changed)
    }

    #[test]
    fn the_newest_of_a_player_waits_and_a_change_is_not_forgotten() {
        let mut waiting = Waiting::default();
        for publication in [publication(1, 3, false, true), publication(1, 2, false, false), publication(1, 3, false, false)] {
            waiting.add(publication);
        }
        assert_eq!(waiting.players[&1], publication(1, 3, false, true));
        waiting.add(publication(1, 3, true, true));
        waiting.add(publication(1, 3, false, false));
        assert!(waiting.players[&1].entry.deleted, "what was read before it was deleted does not bring it back");
        assert_eq!(waiting.players[&1].standing().unwrap().of, None);
    }

    #[test]
    fn a_change_that_has_no_room_is_known_to_be_lost() {
        let mut waiting = Waiting::default();
        (0..WAITING_MAX as u64).for_each(|player| waiting.add(publication(player, 1, false, true)));
        waiting.add(publication(7, 2, false, true));
        waiting.add(publication(u64::MAX, 1, false, false));
        assert!(!waiting.lost, "a newer one of the same player has room, and what the cache only lacked is no loss");
        waiting.add(publication(u64::MAX, 1, false, true));
        assert!(waiting.lost && waiting.players.len() == WAITING_MAX);
    }
}
