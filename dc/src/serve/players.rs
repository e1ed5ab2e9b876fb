//! Calls about records: each loads what it needs, does its step in the ledger, and says what has to be stored before the answer.

use std::{collections::HashSet, sync::Arc};

use proto::internal::{
    Commit, Committed, Done, Durability, PlayerClaim, PlayerClaimed, PlayerHandedOff, PlayerHandoff, PlayerRelease, PlayerSave, PlayerTake,
    RoleDelete, UnitResult,
};

use proto::link::Call;
use service::kill;

use super::{Desk, Pending};
use crate::{
    ledger::{Elsewhere, Held, Lsn},
    refusal::Refusal,
    store::Reader,
    writer::State,
};

impl Desk {
    pub(crate) async fn claim(self: Arc<Self>, call: PlayerClaim) -> Result<Pending<PlayerClaimed>, Refusal> {
        let claim = |state: &mut State| {
            state.admit(Durability::D2)?;
            let held = state.ledger.claim(call.player, &call.owner)?;
            Ok(claimed(state, held))
        };
        self.with_records(&[call.player], claim).await
    }

    pub(super) async fn take(self: Arc<Self>, call: PlayerTake) -> Result<Pending<PlayerClaimed>, Refusal> {
        let take = |state: &mut State| {
            let held = state.ledger.take(call.player, &call.owner, call.epoch)?;
            Ok(claimed(state, held))
        };
        self.with_records(&[call.player], take).await
    }

    pub(crate) async fn commit(self: Arc<Self>, call: Commit) -> Result<Pending<Committed>, Refusal> {
        kill::point("recv");
        let saves = || call.units.iter().flat_map(|unit| &unit.saves);
        let mut players: Vec<u64> = saves().map(|save| save.player).collect();
        players.extend(self.load_mails(&call).await?);
        let elsewhere = self.elsewhere(saves()).await?;
        self.with_records(&players, |state| Ok(commit(state, &call, &elsewhere))).await
    }

    pub(super) async fn handoff(self: Arc<Self>, call: PlayerHandoff) -> Result<Pending<PlayerHandedOff>, Refusal> {
        let save = call.save.ok_or_else(|| Refusal::invalid("a handoff without a save"))?;
        let elsewhere = self.elsewhere([&save].into_iter()).await?;
        let handoff = |state: &mut State| {
            state.admit(Durability::D2)?;
            let (epoch, lsn) = state.ledger.handoff(&save, &call.to, &elsewhere)?;
            state.counts.units(1, 1);
            Ok(Pending { answer: PlayerHandedOff { epoch }, durable: state.journal.wait(lsn, Durability::D2) })
        };
        self.with_records(&[save.player], handoff).await
    }

    pub(super) async fn release(self: Arc<Self>, call: PlayerRelease) -> Result<Pending<Done>, Refusal> {
        let save = call.save.ok_or_else(|| Refusal::invalid("a release without a save"))?;
        let elsewhere = self.elsewhere([&save].into_iter()).await?;
        let release = |state: &mut State| {
            state.admit(Durability::D2)?;
            let lsn = state.ledger.release(&save, &elsewhere)?;
            state.counts.units(1, 1);
            Ok(Pending { answer: Done {}, durable: state.journal.wait(lsn, Durability::D2) })
        };
        self.with_records(&[save.player], release).await
    }

    pub(super) async fn role_delete(self: Arc<Self>, call: RoleDelete) -> Result<Pending<Done>, Refusal> {
        let delete = |state: &mut State| {
            state.admit(Durability::D2)?;
            let lsn = state.ledger.delete(call.account, call.player)?;
            Ok(Pending { answer: Done {}, durable: state.journal.wait(lsn, Durability::D2) })
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
        let read = move |reader: &dyn Reader| {
            let Some(stored) = reader.player(player)? else { return Ok(None) };
            let aside = reader.set_aside(player)?.filter(|aside| stored.version < aside.version);
            Ok(Some((stored, aside)))
        };
        let Some((stored, aside)) = self.read(read).await? else { return Ok(false) };
        self.shared.with(|state| match aside {
            None => state.ledger.load(stored),
            Some(aside) => {
                state.ledger.load_set_aside(stored, aside);
                Ok(())
            }
        })?;
        Ok(true)
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
    let (mut newest, mut taken, mut saves): (Lsn, _, _) = (0, 0, 0);
    // Whoever does not say gets the safest.
    let class = if call.durability() == Durability::Unspecified { Durability::D2 } else { call.durability() };
    for unit in &call.units {
        match state.admit(class).and_then(|()| state.ledger.commit(unit, elsewhere)) {
            Ok(lsn) => {
                newest = newest.max(lsn);
                (taken, saves) = (taken + 1, saves + unit.saves.len());
                units.push(UnitResult::default());
            }
            Err(refusal) => {
                super::count_refused(Commit::NAME, &refusal);
                units.push(UnitResult { refused: refusal.code().into(), text: refusal.to_string() });
            }
        }
    }
    state.counts.units(taken, saves);
    let durable = state.journal.wait(newest, class);
    Pending { answer: Committed { units, durability: class.into() }, durable }
}

fn claimed(state: &mut State, held: Held) -> Pending<PlayerClaimed> {
    let Held { record, epoch, version, lsn } = held;
    let answer = PlayerClaimed { record: Some((*record).clone()), epoch, version };
    Pending { answer, durable: state.journal.wait(lsn, Durability::D2) }
}
