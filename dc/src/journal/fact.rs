//! How a fact is in the body of a record.
//!
//! ```text
//! u8 1 | AuditRecord      u8 2 | AuditOutcome      u8 3 | Sanction        (protobuf)
//! u8 4 | i64 at | u32 sanctions | u64 each | by
//! u8 5 | u64 player | i64 since | RelationTo (protobuf)
//! ```
//! Fields are added to the protobuf; whatever else changes gets a new number.

use bytes::Buf;
use prost::Message;
use proto::internal::{AuditOutcome, AuditRecord, RelationTo, Sanction};

use crate::ledger::facts::Fact;

/// Appends a fact.
pub(crate) fn put(to: &mut Vec<u8>, fact: &Fact) {
    let room = "a vector has room";
    match fact {
        Fact::Audit(record) => {
            to.push(1);
            record.encode(to).expect(room);
        }
        Fact::Outcome(outcome) => {
            to.push(2);
            outcome.encode(to).expect(room);
        }
        Fact::Sanction(sanction) => {
            to.push(3);
            sanction.encode(to).expect(room);
        }
        Fact::Lift { sanctions, by, at_ms } => {
            to.push(4);
            to.extend_from_slice(&at_ms.to_le_bytes());
            to.extend_from_slice(&u32::try_from(sanctions.len()).expect("no more than a list has").to_le_bytes());
            sanctions.iter().for_each(|sanction| to.extend_from_slice(&sanction.to_le_bytes()));
            to.extend_from_slice(by.as_bytes());
        }
        Fact::Relation { player, to: other, since_ms } => {
            to.push(5);
            to.extend_from_slice(&player.to_le_bytes());
            to.extend_from_slice(&since_ms.to_le_bytes());
            other.encode(to).expect(room);
        }
    }
}

/// A fact as [`put`] appends it.
pub(crate) fn bytes(fact: &Fact) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fact.bytes());
    put(&mut bytes, fact);
    bytes
}

/// The fact; none if the body is no fact.
pub(crate) fn read(mut body: &[u8]) -> Option<Fact> {
    let from = &mut body;
    Some(match from.try_get_u8().ok()? {
        1 => Fact::Audit(AuditRecord::decode(*from).ok()?),
        2 => Fact::Outcome(AuditOutcome::decode(*from).ok()?),
        3 => Fact::Sanction(Sanction::decode(*from).ok()?),
        4 => {
            let (at_ms, sanctions) = (from.try_get_i64_le().ok()?, from.try_get_u32_le().ok()?);
            let sanctions = (0..sanctions).map(|_| from.try_get_u64_le().ok()).collect::<Option<Vec<_>>>()?;
            Fact::Lift { sanctions, by: std::str::from_utf8(from).ok()?.to_owned(), at_ms }
        }
        5 => {
            let (player, since_ms) = (from.try_get_u64_le().ok()?, from.try_get_i64_le().ok()?);
            Fact::Relation { player, to: RelationTo::decode(*from).ok()?, since_ms }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proto::internal::{Relation, SanctionKind};

    use super::*;

    #[test]
    fn what_was_put_is_read() {
        let to = RelationTo { player: 8, name: "Bo".into(), relation: Relation::Block.into() };
        let facts = [
            Fact::Audit(AuditRecord { id: 3, by: "eve".into(), command: "kick".into(), ..AuditRecord::default() }),
            Fact::Outcome(AuditOutcome { id: 3, outcome: "done".into() }),
            Fact::Sanction(Sanction { id: 4, kind: SanctionKind::Ban.into(), account: 7, ..Sanction::default() }),
            Fact::Lift { sanctions: vec![4, 5], by: "eve".into(), at_ms: -9 },
            Fact::Relation { player: 7, to, since_ms: 9 },
        ];
        for fact in facts {
            assert_eq!(read(&bytes(&fact)), Some(fact));
        }
    }

    #[test]
    fn what_is_no_fact_is_none() {
        let lift = bytes(&Fact::Lift { sanctions: vec![4, 5], by: String::new(), at_ms: 1 });
        assert!((0..lift.len()).all(|length| read(&lift[..length]).is_none()));
        assert_eq!((read(&[6, 0]), read(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255])), (None, None));
    }
}
