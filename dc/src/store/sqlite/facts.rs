//! Facts on SQLite, each under the number that dc gave it: given twice it is there once.

use proto::internal::{AuditRecord, Relation, RelationTo, Sanction};
use rusqlite::{Params, Transaction};

use super::{key, unsigned};
use crate::{
    journal,
    ledger::facts::{Fact, Numbers},
    store::{Batch, StoreError},
};

/// Writes the facts of a batch, in their order, and the numbers that were given last.
pub(super) fn write(to: &Transaction<'_>, batch: &Batch) -> Result<(), StoreError> {
    for pending in &batch.facts {
        match &*pending.fact {
            Fact::Audit(record) => audit(to, record)?,
            Fact::Outcome(outcome) => execute(to, "UPDATE audit SET outcome = ?2 WHERE audit = ?1", (key(outcome.id), &outcome.outcome))?,
            Fact::Sanction(sanction) => sanction_in_force(to, sanction)?,
            Fact::Lift { sanctions, by, at_ms } => {
                for sanction in sanctions {
                    let sql = "UPDATE sanctions SET lifted_by = ?2, lifted_ms = ?3 WHERE sanction = ?1 AND lifted_ms = 0";
                    execute(to, sql, (key(*sanction), by, at_ms))?;
                }
            }
            Fact::Relation { player, to: other, since_ms } => relation(to, *player, other, *since_ms)?,
        }
    }
    let Numbers { audits, sanctions } = batch.numbers;
    for (name, number) in [("audit", audits), ("sanction", sanctions)] {
        execute(to, "UPDATE counters SET value = ?2 WHERE name = ?1 AND value < ?2", (name, key(number)))?;
    }
    Ok(())
}

/// The numbers that were given last.
pub(super) fn numbers(connection: &rusqlite::Connection) -> Result<Numbers, StoreError> {
    let number = |name: &str| {
        let mut statement = connection.prepare_cached("SELECT value FROM counters WHERE name = ?1")?;
        statement.query_row([name], |row| row.get(0).map(unsigned))
    };
    Ok(Numbers { audits: number("audit")?, sanctions: number("sanction")? })
}

/// Keeps what the tables refused.
pub(super) fn set_aside(to: &Transaction<'_>, batch: &Batch, reason: &str) -> Result<(), StoreError> {
    for pending in &batch.facts {
        let row = (key(pending.lsn), batch.now_ms, reason, journal::fact::bytes(&pending.fact));
        execute(to, "INSERT INTO facts_set_aside (sequence, at_ms, reason, body) VALUES (?1, ?2, ?3, ?4)", row)?;
    }
    Ok(())
}

fn audit(to: &Transaction<'_>, record: &AuditRecord) -> Result<(), StoreError> {
    let AuditRecord { id, at_ms, by, role, address, command, arguments, reason, outcome } = record;
    execute(
        to,
        "INSERT INTO audit (audit, at_ms, made_by, role, address, command, arguments, reason, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (audit) DO NOTHING",
        (key(*id), at_ms, by, role, address, command, arguments, reason, outcome),
    )
}

fn sanction_in_force(to: &Transaction<'_>, sanction: &Sanction) -> Result<(), StoreError> {
    let Sanction { id, kind, account, address, reason, by, from_ms, until_ms, .. } = sanction;
    execute(
        to,
        "INSERT INTO sanctions (sanction, kind, account, address, reason, made_by, from_ms, until_ms, lifted_by, lifted_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, '', 0) ON CONFLICT (sanction) DO NOTHING",
        (key(*id), kind, key(*account), address, reason, by, from_ms, until_ms),
    )
}

/// Between players who are there: a role that was deleted since has no relations.
fn relation(to: &Transaction<'_>, player: u64, other: &RelationTo, since_ms: i64) -> Result<(), StoreError> {
    if other.relation() == Relation::Unspecified {
        return execute(to, "DELETE FROM relations WHERE player = ?1 AND other = ?2", (key(player), key(other.player)));
    }
    execute(
        to,
        "INSERT INTO relations (player, other, relation, since_ms)
         SELECT one.player, two.player, ?3, ?4 FROM players AS one JOIN players AS two WHERE one.player = ?1 AND two.player = ?2
         ON CONFLICT (player, other) DO UPDATE SET relation = excluded.relation, since_ms = excluded.since_ms
         WHERE excluded.relation <> relations.relation",
        (key(player), key(other.player), other.relation, since_ms),
    )
}

fn execute(to: &Transaction<'_>, sql: &str, values: impl Params) -> Result<(), StoreError> {
    to.prepare_cached(sql)?.execute(values)?;
    Ok(())
}
