//! Deals of held players: a trade between two, a mail that is sent or taken. One unit in dc is the whole deal: it has the next version of
//! each player in it, so it is applied to all of them or to none, and once.
//!
//! A held player is out of the saver, so nobody else writes its next version. What became of the deal is known from whoever committed it;
//! when that is not heard, [`Inquiry`] finds out: the scene itself writes the player's next version, without the deal. Either dc takes
//! it, and the unit comes too late for ever, or dc has that version already, and only the unit can have written it. So both scenes of a
//! trade come to the same end, whoever dies, and need neither center nor each other for it.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::{
    Frame,
    client::{Fault, FaultCode},
    ids::PlayerId,
    internal::{CallFaultCode, Commit, CommitUnit, Durability, PlayerSave, UnitFind},
    record::PlayerRecord,
};
use service::ProcessKind;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    leave,
    line::Line,
    players::Turn,
    saver::{Lost, Stamp, is_final},
    scene::Scene,
    world::{Deal, Sides},
};

/// How long what a player did before may take to be saved.
const SAVED_WITHIN: Duration = Duration::from_secs(3);
/// How long dc may take for one answer.
const DC_WITHIN: Duration = Duration::from_secs(3);
/// Times a unit is sent before its outcome is left to the inquiry.
const COMMITS_MAX: u32 = 3;
/// Mean pause before dc is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Names a deal, and the unit that is it.
pub(crate) type DealId = [u8; 16];

/// What is heard of a deal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// dc has applied it, and that is safe.
    Applied,
    /// dc has not, and nobody asks it to any more.
    NotApplied,
    /// Nobody can say.
    Unknown,
}

/// How a deal ended for a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It took place; this is where the player stands.
    Done(Stamp),
    /// It did not, and never will.
    Undone(Stamp),
    /// The player is not ours any more: what dc has is the truth.
    Lost,
}

/// How dc is asked what became of a deal.
#[derive(Debug)]
pub(crate) struct Inquiry {
    /// The player's last version before the deal.
    stamp: Stamp,
}

/// What dc is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// To take the player's next version, without the deal.
    Fence,
    /// Whether it has applied the unit.
    Find,
    /// Nothing more.
    Nothing(End),
}

impl Inquiry {
    pub(crate) fn new(stamp: Stamp) -> Self {
        Self { stamp }
    }

    fn next(&self) -> Stamp {
        Stamp { version: self.stamp.version + 1, ..self.stamp }
    }

    /// dc answered to [`Ask::Fence`]; none: it did not.
    pub(crate) fn fenced(&self, answer: Option<CallFaultCode>) -> Ask {
        match answer {
            Some(CallFaultCode::Unspecified) => Ask::Nothing(End::Undone(self.next())),
            // Somebody wrote this version: the unit, or whoever owns the player by now.
            Some(CallFaultCode::CallStaleVersion) => Ask::Find,
            Some(code) if is_final(code) => Ask::Nothing(End::Lost),
            _ => Ask::Fence,
        }
    }

    /// dc answered to [`Ask::Find`]; none: it did not.
    pub(crate) fn found(&self, answer: Option<bool>) -> Ask {
        match answer {
            Some(true) => Ask::Nothing(End::Done(self.next())),
            Some(false) => Ask::Nothing(End::Lost),
            None => Ask::Find,
        }
    }

    /// Where a verdict leads.
    pub(crate) fn heard(&self, verdict: Verdict) -> Ask {
        match verdict {
            Verdict::Applied => Ask::Nothing(End::Done(self.next())),
            // Should a unit be on its way all the same, the player's next save comes before it, or is refused.
            Verdict::NotApplied => Ask::Nothing(End::Undone(self.stamp)),
            Verdict::Unknown => Ask::Fence,
        }
    }
}

/// Who is held, and who waits to hear of a deal.
#[derive(Debug, Default)]
pub(crate) struct Deals {
    waiting: Mutex<BTreeMap<(DealId, u64), oneshot::Sender<Verdict>>>,
    held: Arc<AtomicUsize>,
}

/// Counts as held until dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Deals {
    /// Players that are held, or about to be.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// From here on the verdict on a player's deal is waited for; none: it is already.
    pub(crate) fn expect(&self, id: DealId, player: u64) -> Option<oneshot::Receiver<Verdict>> {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        let free = !waiting.contains_key(&(id, player));
        free.then(|| {
            let (tells, heard) = oneshot::channel();
            waiting.insert((id, player), tells);
            heard
        })
    }

    /// Nobody waits any more.
    pub(crate) fn forget(&self, id: DealId, player: u64) {
        self.waiting.lock().expect("no holder panics").remove(&(id, player));
    }

    /// The verdict; false: nobody waits for it.
    pub(crate) fn tell(&self, id: DealId, player: u64, verdict: Verdict) -> bool {
        let tells = self.waiting.lock().expect("no holder panics").remove(&(id, player));
        tells.is_some_and(|tells| tells.send(verdict).is_ok())
    }

    fn count(&self) -> Counted {
        self.held.fetch_add(1, Ordering::AcqRel);
        Counted(self.held.clone())
    }
}

/// A player of whom nothing changes until [`Scene::end_deal`].
pub(crate) struct Held {
    pub(crate) player: u64,
    line: Line,
    stamp: Stamp,
    sides: Box<Sides>,
    _turn: Turn,
    _counted: Counted,
}

impl Held {
    /// The player's next version, with the deal.
    pub(crate) fn save(&self, owner: String) -> PlayerSave {
        self.save_of(owner, &self.sides.after)
    }

    fn save_of(&self, owner: String, record: &PlayerRecord) -> PlayerSave {
        leave::save(owner, self.player, self.stamp, record.clone())
    }
}

impl Scene {
    /// Holds a player for a deal, with everything saved that it did before.
    ///
    /// # Errors
    /// With what its client is told; then it is not held.
    pub(crate) async fn hold(&self, player: u64, deal: Deal) -> Result<Held, Fault> {
        let away = || Fault::retry(FaultCode::NotNow, "on the way elsewhere, or in another deal", 1_000);
        // Counted before it is asked: a scene that drains afterwards waits for it.
        let counted = self.deals().count();
        if self.is_draining() {
            return Err(Fault::retry(FaultCode::Unavailable, "the scene is stopping", 1_000));
        }
        let turn = self.players().try_turn(player).ok_or_else(away)?;
        let seat = self.players().get(player).ok_or_else(away)?;
        let line = self.line(seat.line).ok_or_else(away)?;
        let sides = line.hold(PlayerId(player), deal).await.ok_or_else(away)??;
        match line.saver().take_out_within(player, SAVED_WITHIN).await {
            Ok(Some(stamp)) => Ok(Held { player, line, stamp, sides, _turn: turn, _counted: counted }),
            Ok(None) => {
                line.settle(PlayerId(player), false, None);
                Err(Fault::retry(FaultCode::Unavailable, "what you did is not saved yet", 1_000))
            }
            Err(Lost) => {
                line.settle(PlayerId(player), false, None);
                self.report_lost(player);
                Err(away())
            }
        }
    }

    /// Brings a deal to its end for a held player. `tell` makes what its client is told. True: it took place.
    pub(crate) async fn end_deal(&self, held: Held, id: DealId, verdict: Verdict, tell: impl FnOnce(bool) -> Option<Frame>) -> bool {
        let end = self.inquire(&held, id, verdict).await;
        let (stamp, done) = match end {
            End::Done(stamp) => (stamp, true),
            End::Undone(stamp) => (stamp, false),
            End::Lost => {
                self.report_lost(held.player);
                return false;
            }
        };
        // Before the player can do anything that is to be saved.
        held.line.saver().add(held.player, stamp);
        held.line.settle(PlayerId(held.player), done, tell(done));
        done
    }

    async fn inquire(&self, held: &Held, id: DealId, verdict: Verdict) -> End {
        let inquiry = Inquiry::new(held.stamp);
        let fence = CommitUnit { saves: vec![held.save_of(self.run_name(), &held.sides.before)], ..CommitUnit::default() };
        let mut ask = inquiry.heard(verdict);
        if matches!(ask, Ask::Fence) {
            tracing::info!(player = held.player, "asking dc what became of a deal");
            metrics::counter!("paifang_scene_deals_inquired_total").increment(1);
        }
        loop {
            ask = match ask {
                Ask::Nothing(end) => return end,
                Ask::Fence => inquiry.fenced(self.commit_unit(&fence).await.map(|(code, _)| code)),
                Ask::Find => {
                    let found = self.links().await.call(ProcessKind::Dc, &UnitFind { id: id.to_vec().into() }, DC_WITHIN).await;
                    inquiry.found(found.ok().map(|found| found.applied))
                }
            };
            if !matches!(ask, Ask::Nothing(_)) {
                sleep(self.random().jitter(RETRY_PAUSE)).await;
            }
        }
    }

    /// Has dc commit a deal of one player. The text is dc's reason, if it refuses.
    pub(crate) async fn commit_deal(&self, unit: &CommitUnit) -> (Verdict, String) {
        let mut unknown = false;
        for attempt in 1..=COMMITS_MAX {
            match self.commit_unit(unit).await {
                Some((CallFaultCode::Unspecified, _)) => return (Verdict::Applied, String::new()),
                // Refused this time; an earlier attempt may still be under way.
                Some((_, why)) if !unknown => return (Verdict::NotApplied, why),
                Some((code, why)) if is_final(code) => return (Verdict::Unknown, why),
                _ => unknown = true,
            }
            if attempt < COMMITS_MAX {
                sleep(self.random().jitter(RETRY_PAUSE)).await;
            }
        }
        (Verdict::Unknown, "it is not known yet".into())
    }

    /// What dc says to a unit, and why; none: it is not known whether it was applied, or not yet safe.
    async fn commit_unit(&self, unit: &CommitUnit) -> Option<(CallFaultCode, String)> {
        let commit = Commit { units: vec![unit.clone()], durability: Durability::D2.into() };
        let committed = self.links().await.call(ProcessKind::Dc, &commit, DC_WITHIN).await.ok()?;
        let safe = committed.durability() == Durability::D2;
        let result = committed.units.into_iter().next()?;
        let code = result.refused();
        (safe || code != CallFaultCode::Unspecified).then_some((code, result.text))
    }
}
