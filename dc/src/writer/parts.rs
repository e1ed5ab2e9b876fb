//! A batch that the store refuses as a whole: as much of it as the store takes, and the rest set aside.

use std::collections::HashSet;

use tracing::error;

use super::Stored;
use crate::{
    ledger::facts::PendingFact,
    refusal::Refusal,
    store::{Batch, Store, StoreError},
};

/// Each part alone; those that are refused alone are set aside.
pub(super) fn store_parts(store: &mut dyn Store, batch: &Batch) -> Result<Stored, StoreError> {
    let mut refused = HashSet::new();
    for part in batch.parts() {
        let Err(err) = store.apply(&part) else { continue };
        let StoreError::Refused(reason) = err else { return Err(err) };
        let players: Vec<u64> = part.rows.iter().map(|row| row.player).collect();
        error!(?players, %reason, "set aside: the store refuses these records; their players are read-only until their rows in the table set_aside are gone and dc is restarted");
        metrics::counter!("paifang_dc_set_aside_total").increment(players.len() as u64);
        store.set_aside(&part, &reason)?;
        refused.extend(players);
    }
    store_facts(store, batch.now_ms, &batch.facts)?;
    let mut commands = Vec::with_capacity(batch.commands.len());
    for command in &batch.commands {
        let alone = Batch { now_ms: batch.now_ms, commands: vec![command.clone()], ..Batch::default() };
        match store.apply(&alone) {
            Ok(results) => commands.extend(results),
            Err(StoreError::Refused(reason)) => {
                error!(?reason, "the store refuses a command");
                commands.push(Err(Refusal::Internal(format!("the store refuses: {reason}"))));
            }
            Err(err) => return Err(err),
        }
    }
    // Now it has all that it will take.
    store.apply(&Batch { lsn: batch.lsn, now_ms: batch.now_ms, numbers: batch.numbers, ..Batch::default() })?;
    Ok(Stored { commands, refused })
}

/// Facts together if the store takes them, otherwise halves, down to those that it refuses: they are set aside.
fn store_facts(store: &mut dyn Store, now_ms: i64, facts: &[PendingFact]) -> Result<(), StoreError> {
    if facts.is_empty() {
        return Ok(());
    }
    let batch = Batch { now_ms, facts: facts.to_vec(), ..Batch::default() };
    match (facts, store.apply(&batch)) {
        (_, Ok(_)) => Ok(()),
        ([fact], Err(StoreError::Refused(reason))) => {
            error!(change = fact.lsn, fact = ?fact.fact, %reason, "set aside: the store refuses this; it is in the table facts_set_aside");
            metrics::counter!("paifang_dc_set_aside_total").increment(1);
            store.set_aside(&batch, &reason)
        }
        (_, Err(StoreError::Refused(_))) => {
            let (first, second) = facts.split_at(facts.len() / 2);
            store_facts(store, now_ms, first)?;
            store_facts(store, now_ms, second)
        }
        (_, Err(err)) => Err(err),
    }
}
