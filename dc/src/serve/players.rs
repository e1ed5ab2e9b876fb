//! Calls about records: each loads what it needs, does its step in the ledger, and says what has to be stored before the answer.

use std::{collections::HashSet, sync::Arc};

use proto::internal::{
    Commit, Committed, Done, Durability, PlayerClaim, PlayerClaimed, PlayerHandedOff, PlayerHandoff, PlayerRelease, PlayerSave, PlayerTake,
    RoleDelete, UnitResult,
};

use super::{Desk, Pending};
use crate::{
    ledger::{Elsewhere, Held, Lsn},
    refusal::Refusal,
    writer::State,
};

impl Desk {
    pub(super) async fn claim(self: Arc<Self>, call: PlayerClaim) -> Result<Pending<PlayerClaimed>, Refusal> {
        let claim = |state: &mut State| {
            let held = state.ledger.claim(call.player, &call.owner)?;
            Ok(claimed(state, call.player, held))
        };
        self.with_records(&[call.player], claim).await
    }

    pub(super) async fn take(self: Arc<Self>, call: PlayerTake) -> Result<Pending<PlayerClaimed>, Refusal> {
        let take = |state: &mut State| {
            let held = state.ledger.take(call.player, &call.owner, call.epoch)?;
            Ok(claimed(state, call.player, held))
        };
        self.with_records(&[call.player], take).await
    }

    pub(super) async fn commit(self: Arc<Self>, call: Commit) -> Result<Pending<Committed>, Refusal> {
        let saves = || call.units.iter().flat_map(|unit| &unit.saves);
        let players: Vec<u64> = saves().map(|save| save.player).collect();
        let elsewhere = self.elsewhere(saves()).await?;
        self.with_records(&players, |state| Ok(commit(state, &call, &elsewhere))).await
    }

    pub(super) async fn handoff(self: Arc<Self>, call: PlayerHandoff) -> Result<Pending<PlayerHandedOff>, Refusal> {
        let save = call.save.ok_or_else(|| Refusal::invalid("a handoff without a save"))?;
        let elsewhere = self.elsewhere([&save].into_iter()).await?;
        let handoff = |state: &mut State| {
            let (epoch, lsn) = state.ledger.handoff(&save, &call.to, &elsewhere)?;
            state.counts.unit(1);
            Ok(Pending { answer: PlayerHandedOff { epoch }, durable: state.wait(lsn, vec![save.player]) })
        };
        self.with_records(&[save.player], handoff).await
    }

    pub(super) async fn release(self: Arc<Self>, call: PlayerRelease) -> Result<Pending<Done>, Refusal> {
        let save = call.save.ok_or_else(|| Refusal::invalid("a release without a save"))?;
        let elsewhere = self.elsewhere([&save].into_iter()).await?;
        let release = |state: &mut State| {
            let lsn = state.ledger.release(&save, &elsewhere)?;
            state.counts.unit(1);
            Ok(Pending { answer: Done {}, durable: state.wait(lsn, vec![save.player]) })
        };
        self.with_records(&[save.player], release).await
    }

    pub(super) async fn role_delete(self: Arc<Self>, call: RoleDelete) -> Result<Pending<Done>, Refusal> {
        let delete = |state: &mut State| {
            let lsn = state.ledger.delete(call.account, call.player)?;
            Ok(Pending { answer: Done {}, durable: state.wait(lsn, vec![call.player]) })
        };
        self.with_records(&[call.player], delete).await
    }

    /// Does something with records, which are loaded first; those of players that there are not stay missing.
    pub(super) async fn with_records<T>(&self, players: &[u64], work: impl FnOnce(&mut State) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut work = Some(work);
        let mut absent = HashSet::new();
        loop {
            let missing = self.shared.with(|state| {
                let mut missing = state.ledger.missing(players);
                missing.retain(|player| !absent.contains(player));
                match (missing.is_empty(), work.take()) {
                    (true, Some(work)) => work(state).map(Ok),
                    (_, kept) => {
                        work = kept;
                        Ok(Err(missing))
                    }
                }
            })?;
            let missing = match missing {
                Ok(done) => return Ok(done),
                Err(missing) => missing,
            };
            for player in missing {
                if !self.load(player).await? {
                    absent.insert(player);
                }
            }
        }
    }

    /// Brings a record into memory; false: there is no such player. Many who want the same player at once read it once.
    async fn load(&self, player: u64) -> Result<bool, Refusal> {
        let stripe = usize::try_from(player % self.loads.len() as u64).expect("less than the number of locks");
        let _one_at_a_time = self.loads[stripe].lock().await;
        if self.shared.look(|state| state.ledger.peek(player).is_some()) {
            return Ok(true);
        }
        match self.read(move |reader| reader.player(player)).await? {
            Some(stored) => self.shared.with(|state| state.ledger.load(stored)).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whom the store has as holders of items that no record in memory has.
    async fn elsewhere<'a>(&self, saves: impl Iterator<Item = &'a PlayerSave>) -> Result<Elsewhere, Refusal> {
        let unknown = self.shared.look(|state| state.ledger.unknown_items(saves));
        if unknown.is_empty() {
            return Ok(Elsewhere::new());
        }
        self.read(move |reader| reader.holders(&unknown)).await
    }
}

fn commit(state: &mut State, call: &Commit, elsewhere: &Elsewhere) -> Pending<Committed> {
    let mut units = Vec::with_capacity(call.units.len());
    let (mut newest, mut players): (Lsn, Vec<u64>) = (0, Vec::new());
    for unit in &call.units {
        match state.ledger.commit(unit, elsewhere) {
            Ok(lsn) => {
                newest = newest.max(lsn);
                players.extend(unit.saves.iter().map(|save| save.player));
                state.counts.unit(unit.saves.len());
                units.push(UnitResult::default());
            }
            Err(refusal) => units.push(UnitResult { refused: refusal.code().into(), text: refusal.to_string() }),
        }
    }
    // The store has no class between memory and synced: whoever asks for D1 gets D2.
    let in_memory = call.durability() == Durability::D0;
    let durability = if in_memory { Durability::D0 } else { Durability::D2 };
    let durable = if in_memory { None } else { state.wait(newest, players) };
    Pending { answer: Committed { units, durability: durability.into() }, durable }
}

fn claimed(state: &mut State, player: u64, held: Held) -> Pending<PlayerClaimed> {
    let Held { record, epoch, version, lsn } = held;
    let answer = PlayerClaimed { record: Some((*record).clone()), epoch, version };
    Pending { answer, durable: state.wait(lsn, vec![player]) }
}
