//! Facts, within a transaction that is already begun, each under the number that dc gave it: given twice it is there once.

use mysql_async::Value;
use proto::internal::{AuditRecord, Relation, RelationTo, Sanction};

use super::{
    failure::Failure,
    pace::statements,
    pool::{Session, key, text},
};
use crate::{
    journal,
    ledger::facts::{Fact, PendingFact},
    store::{Batch, REASON_MAX},
};

/// Facts of one transaction.
pub(super) const FACTS_MAX: usize = 1000;

/// Writes the facts of a batch, in their order; lines of the audit log that follow each other in one statement.
pub(super) async fn write(session: &mut Session, facts: &[PendingFact]) -> Result<(), Failure> {
    for alike in facts.chunk_by(|one, other| is_audit(one) && is_audit(other)) {
        match &*alike[0].fact {
            Fact::Audit(_) => audits(session, alike).await?,
            Fact::Outcome(outcome) => {
                let values = vec![text(&outcome.outcome), key(outcome.id)];
                session.execute("UPDATE audit SET outcome = ? WHERE audit = ?", values).await?;
            }
            Fact::Sanction(sanction) => sanction_in_force(session, sanction).await?,
            Fact::Lift { sanctions, by, at_ms } => {
                for sanction in sanctions {
                    let sql = "UPDATE sanctions SET lifted_by = ?, lifted_ms = ? WHERE sanction = ? AND lifted_ms = 0";
                    session.execute(sql, vec![text(by), Value::Int(*at_ms), key(*sanction)]).await?;
                }
            }
            Fact::Relation { player, to, since_ms } => relation(session, *player, to, *since_ms).await?,
        }
    }
    Ok(())
}

fn is_audit(pending: &PendingFact) -> bool {
    matches!(&*pending.fact, Fact::Audit(_))
}

/// Keeps what the tables refused.
pub(super) async fn set_aside(session: &mut Session, batch: &Batch, reason: &str) -> Result<(), Failure> {
    for pending in &batch.facts {
        let reason: String = reason.chars().take(REASON_MAX).collect();
        let row = vec![key(pending.lsn), Value::Int(batch.now_ms), text(&reason), Value::Bytes(journal::fact::bytes(&pending.fact))];
        session.execute("INSERT INTO facts_set_aside (sequence, at_ms, reason, body) VALUES (?, ?, ?, ?)", row).await?;
    }
    Ok(())
}

async fn audits(session: &mut Session, facts: &[PendingFact]) -> Result<(), Failure> {
    let records: Vec<&AuditRecord> =
        facts.iter().filter_map(|pending| if let Fact::Audit(record) = &*pending.fact { Some(record) } else { None }).collect();
    let sizes: Vec<usize> = facts.iter().map(|pending| pending.fact.bytes()).collect();
    for range in statements(&sizes, FACTS_MAX) {
        let sql = format!(
            "INSERT INTO audit (audit, at_ms, made_by, role, address, command, arguments, reason, outcome) VALUES {}
             ON DUPLICATE KEY UPDATE audit = audit.audit",
            vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?)"; range.len()].join(", ")
        );
        let values = records[range].iter().flat_map(|record| {
            let AuditRecord { id, at_ms, by, role, address, command, arguments, reason, outcome } = record;
            let texts = [by, role, address, command, arguments, reason, outcome].map(|column| text(column));
            [key(*id), Value::Int(*at_ms)].into_iter().chain(texts)
        });
        session.execute(&sql, values.collect()).await?;
    }
    Ok(())
}

async fn sanction_in_force(session: &mut Session, sanction: &Sanction) -> Result<(), Failure> {
    let Sanction { id, kind, account, address, reason, by, from_ms, until_ms, .. } = sanction;
    let mut row = vec![key(*id), Value::Int((*kind).into()), key(*account)];
    row.extend([address, reason, by].map(|column| text(column)));
    row.extend([Value::Int(*from_ms), Value::Int(*until_ms)]);
    let sql = "INSERT INTO sanctions (sanction, kind, account, address, reason, made_by, from_ms, until_ms, lifted_by, lifted_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', 0) ON DUPLICATE KEY UPDATE sanction = sanctions.sanction";
    session.execute(sql, row).await.map(drop)
}

/// Between players who are there: a role that was deleted since has no relations.
async fn relation(session: &mut Session, player: u64, to: &RelationTo, since_ms: i64) -> Result<(), Failure> {
    if to.relation() == Relation::Unspecified {
        let values = vec![key(player), key(to.player)];
        return session.execute("DELETE FROM relations WHERE player = ? AND other = ?", values).await.map(drop);
    }
    // `since_ms` first: it looks at the relation that is still there.
    let sql = "INSERT INTO relations (player, other, relation, since_ms)
         SELECT one.player, two.player, ?, ? FROM players AS one JOIN players AS two WHERE one.player = ? AND two.player = ?
         ON DUPLICATE KEY UPDATE since_ms = IF(relations.relation <> VALUES(relation), VALUES(since_ms), relations.since_ms),
         relation = VALUES(relation)";
    let values = vec![Value::Int(to.relation.into()), Value::Int(since_ms), key(player), key(to.player)];
    session.execute(sql, values).await.map(drop)
}
