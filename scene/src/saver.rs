//! The saver of a line: one task, one commit under way at a time. [`plan`] decides what is saved next; this half asks dc.
//!
//! While dc is away play goes on: marks are coalesced in the plan, and the same units are sent until dc has answered.

pub(crate) mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use proto::internal::{Commit, Committed};
use service::random::Random;
use tokio::sync::{Notify, oneshot};

pub(crate) use self::plan::{Outcome, Plan, Stamp, is_final};
use crate::world::SaveUnit;

/// How long a commit may take before it is sent again.
pub(crate) const COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// Mean pause after a commit that was not applied whole.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The player's record has another owner: nothing of it may be written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the player's record has another owner")]
pub(crate) struct Lost;

/// Where commits go, and who is told what came of them.
pub(crate) trait Ledger: Send + Sync + 'static {
    /// Asks dc; `None` if what became of it is not known, or it may be taken when it is sent again.
    fn commit(&self, commit: &Commit) -> impl Future<Output = Option<Committed>> + Send;
    /// Something came of a commit.
    fn on_outcome(&self, outcome: Outcome);
}

/// The handle of a line's saver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Saver(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    plan: Plan,
    leaving: BTreeMap<u64, oneshot::Sender<Result<Stamp, Lost>>>,
    closed: bool,
}

impl Saver {
    /// A saver for players of `owner`; it saves while [`Saver::run`] runs.
    pub(crate) fn new(owner: String) -> Self {
        let state = State { plan: Plan::new(owner), leaving: BTreeMap::new(), closed: false };
        Self(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() }))
    }

    /// The player's saves are this saver's from here on.
    pub(crate) fn add(&self, player: u64, stamp: Stamp) {
        self.lock().plan.add(player, stamp);
    }

    /// Takes the marks of a tick. Never waits. Returns players that are lost by a tie to a lost one.
    pub(crate) fn mark(&self, units: Vec<SaveUnit>) -> Vec<u64> {
        if units.is_empty() {
            return Vec::new();
        }
        let mut state = self.lock();
        let lost: Vec<u64> = units.into_iter().flat_map(|unit| state.plan.mark(unit)).collect();
        state.settle();
        drop(state);
        self.0.wake.notify_one();
        lost
    }

    /// Takes a player out as soon as everything of it is saved. Whoever asks sees to it that no more is marked.
    ///
    /// # Errors
    /// When it turns out to have another owner.
    pub(crate) async fn take_out(&self, player: u64) -> Result<Stamp, Lost> {
        self.ask_out(player).await.unwrap_or(Err(Lost))
    }

    /// As [`Saver::take_out`], but gives up after a while: none, and the player's saves are still this saver's.
    ///
    /// # Errors
    /// When it turns out to have another owner.
    pub(crate) async fn take_out_within(&self, player: u64, within: Duration) -> Result<Option<Stamp>, Lost> {
        let mut saved = self.ask_out(player);
        if let Ok(answer) = tokio::time::timeout(within, &mut saved).await {
            return answer.unwrap_or(Err(Lost)).map(Some);
        }
        self.lock().leaving.remove(&player);
        // It may have been answered between the two.
        saved.try_recv().map_or(Ok(None), |answer| answer.map(Some))
    }

    /// Whether the player's saves are this saver's.
    pub(crate) fn has(&self, player: u64) -> bool {
        self.lock().plan.has(player)
    }

    /// Gives a player up without a save. Returns who is lost with it, itself included.
    pub(crate) fn lose(&self, player: u64) -> Vec<u64> {
        let mut state = self.lock();
        let lost = state.plan.lose(player);
        state.settle();
        lost
    }

    /// Players with something that dc has not acknowledged.
    pub(crate) fn dirty(&self) -> usize {
        self.lock().plan.dirty()
    }

    /// No more will be marked: [`Saver::run`] ends when everything is saved.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.0.wake.notify_one();
    }

    /// Saves until the saver is closed and everything is saved.
    pub(crate) async fn run(self, ledger: impl Ledger, random: Random) {
        loop {
            let (commit, closed) = {
                let mut state = self.lock();
                (state.plan.next(), state.closed)
            };
            let Some(commit) = commit else {
                if closed {
                    return;
                }
                self.0.wake.notified().await;
                continue;
            };
            let answer = ledger.commit(&commit).await;
            let outcome = {
                let mut state = self.lock();
                let outcome = state.plan.answered(answer);
                state.settle();
                outcome
            };
            let again = outcome.again;
            ledger.on_outcome(outcome);
            if again {
                tokio::time::sleep(random.jitter(RETRY_PAUSE)).await;
            }
        }
    }

    fn ask_out(&self, player: u64) -> oneshot::Receiver<Result<Stamp, Lost>> {
        let mut state = self.lock();
        let (asks, saved) = oneshot::channel();
        state.leaving.insert(player, asks);
        state.settle();
        saved
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of the plan panics")
    }
}

impl State {
    /// Answers those who wait for a player to be saved.
    fn settle(&mut self) {
        let waiting: Vec<u64> = self.leaving.keys().copied().collect();
        for player in waiting {
            let answer = match self.plan.has(player) {
                false => Err(Lost),
                true => match self.plan.take_out(player) {
                    Some(stamp) => Ok(stamp),
                    None => continue,
                },
            };
            if let Some(asks) = self.leaving.remove(&player) {
                // Who asked may have stopped waiting, as at the end of a stop that took too long.
                let _ = asks.send(answer);
            }
        }
    }
}
