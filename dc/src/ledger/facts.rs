//! Facts: what is true beside the records. Who is whose friend or blocks whom, sanctions, the audit log.
//!
//! A fact is a change like any other: numbered by the ledger, safe when the journal has it, given to the store with the next batch. Its own
//! number (of a sanction, of a line of the audit log) is dc's, so that the store has it once, however often it is given. What waits for the
//! store counts as dirty bytes; until then reads lay it over what the store says.

use std::{collections::VecDeque, sync::Arc};

use prost::Message;
use proto::internal::{AuditOutcome, AuditRecord, GmAccountReply, Relation, RelationTo, Sanction, SanctionKind};

use super::{
    Ledger, Lsn,
    known::{relate, retain},
    log::Entry,
    records::Life,
    sanctions::{Sanctions, Wanted},
};
use crate::{
    refusal::Refusal,
    store::{LIST_MAX, RelationsOf},
};

/// Bytes that a fact counts for beside its content.
const FACT_BYTES: usize = 192;

/// Something that is so from now on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fact {
    Audit(AuditRecord),
    Outcome(AuditOutcome),
    Sanction(Sanction),
    Lift { sanctions: Vec<u64>, by: String, at_ms: i64 },
    Relation { player: u64, to: RelationTo, since_ms: i64 },
}

impl Fact {
    /// What it counts for while it waits.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Fact::Audit(record) => record.encoded_len(),
            Fact::Outcome(outcome) => outcome.encoded_len(),
            Fact::Sanction(sanction) => sanction.encoded_len(),
            Fact::Lift { sanctions, by, .. } => sanctions.len() * size_of::<u64>() + by.len(),
            Fact::Relation { to, .. } => to.encoded_len(),
        };
        FACT_BYTES + content
    }
}

/// A fact that the store lacks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingFact {
    pub lsn: Lsn,
    pub fact: Arc<Fact>,
}

/// The numbers that were given last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub audits: u64,
    pub sanctions: u64,
}

/// What is known of facts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub numbers: Numbers,
    pub pending: VecDeque<PendingFact>,
    pub pending_bytes: usize,
    pub sanctions: Sanctions,
}

impl Facts {
    /// The store has the facts up to this change.
    pub(super) fn stored(&mut self, lsn: Lsn) {
        while let Some(stored) = self.pending.pop_front_if(|pending| pending.lsn <= lsn) {
            self.pending_bytes -= stored.fact.bytes();
        }
    }
}

impl Ledger {
    /// Takes what the store has of facts, before anything is replayed or changed.
    pub(crate) fn begin_facts(&mut self, numbers: Numbers, sanctions: Vec<Sanction>, gms: Vec<GmAccountReply>) {
        self.facts.numbers = numbers;
        sanctions.into_iter().for_each(|sanction| self.facts.sanctions.insert(sanction));
        gms.into_iter().for_each(|gm| self.known.put_gm_account(gm));
    }

    /// The sanctions in force.
    pub(crate) fn sanctions(&self, wanted: &Wanted) -> Vec<Sanction> {
        self.facts.sanctions.find(wanted)
    }

    /// Writes a line of the audit log. Returns its number, and the change.
    pub(crate) fn audit(&mut self, record: AuditRecord) -> Result<(u64, Lsn), Refusal> {
        self.admit()?;
        let id = next(self.facts.numbers.audits)?;
        Ok((id, self.write_fact(Fact::Audit(AuditRecord { id, ..record }))))
    }

    /// Writes into the audit log what came of a command.
    pub(crate) fn audit_outcome(&mut self, outcome: AuditOutcome) -> Result<Lsn, Refusal> {
        if outcome.id == 0 || self.facts.numbers.audits < outcome.id {
            return Err(Refusal::NotFound("audit record"));
        }
        self.admit()?;
        Ok(self.write_fact(Fact::Outcome(outcome)))
    }

    /// Puts a sanction in force. Returns its number, and the change.
    pub(crate) fn sanction(&mut self, sanction: Sanction, now_ms: i64) -> Result<(u64, Lsn), Refusal> {
        self.admit()?;
        self.facts.sanctions.admit(now_ms)?;
        let id = next(self.facts.numbers.sanctions)?;
        Ok((id, self.write_fact(Fact::Sanction(Sanction { id, ..sanction }))))
    }

    /// Lifts the sanctions of a kind against an account or an address. Returns those that it lifts, and the change.
    pub(crate) fn lift(
        &mut self,
        kind: SanctionKind,
        against: (u64, String),
        by: String,
        now_ms: i64,
    ) -> Result<(Vec<Sanction>, Lsn), Refusal> {
        let lifted = self.sanctions(&Wanted { kind: Some(kind), against: Some(against), now_ms, limit: LIST_MAX });
        if lifted.is_empty() {
            return Err(Refusal::NotFound("sanction"));
        }
        self.admit()?;
        let sanctions = lifted.iter().map(|sanction| sanction.id).collect();
        let lsn = self.write_fact(Fact::Lift { sanctions, by, at_ms: now_ms });
        Ok((lifted, lsn))
    }

    /// Makes a relation so. Returns the change after which it is. The player and its relations have to be in memory, and the other unless the
    /// relation ends.
    pub(crate) fn relate(&mut self, player: u64, other: u64, relation: Relation, max: u32, now_ms: i64) -> Result<Lsn, Refusal> {
        let unknown = || Refusal::Internal(format!("the relations of player {player} are not in memory"));
        let outgoing = &self.known.relations(player).ok_or_else(unknown)?.outgoing;
        let before = outgoing.iter().find(|to| to.player == other).cloned();
        let others = outgoing.len() - usize::from(before.is_some());
        let is_so = before.as_ref().map_or(Relation::Unspecified, RelationTo::relation) == relation;
        self.read(player)?;
        let name = match before {
            _ if relation != Relation::Unspecified => self.read(other)?.record.name.clone(),
            before => before.map(|to| to.name).unwrap_or_default(),
        };
        if relation != Relation::Unspecified && u32::try_from(others).map_or(true, |others| max <= others) {
            return Err(Refusal::Limit(max, "friends and blocks"));
        }
        if is_so {
            return Ok(self.lsn);
        }
        self.admit()?;
        let to = RelationTo { player: other, name, relation: relation.into() };
        Ok(self.write_fact(Fact::Relation { player, to, since_ms: now_ms }))
    }

    /// Takes what the store has of a player's relations, read while no batch was stored, and lays over it what the store lacks.
    pub(crate) fn know_relations(&mut self, player: u64, stored: RelationsOf) -> &RelationsOf {
        let mut of = stored;
        for pending in &self.facts.pending {
            if let Fact::Relation { player: from, to, .. } = &*pending.fact
                && (*from == player || to.player == player)
            {
                relate(&mut of, player, *from, to);
            }
        }
        retain(&mut of, |other| self.records.get(other).is_none_or(|hot| hot.life != Life::Deleted));
        self.known.put_relations(player, of);
        self.known.relations(player).expect("it was put there")
    }

    /// Lines of the audit log, newest first, given what the store says of it, read while no batch was stored.
    pub(crate) fn audits(&self, stored: Vec<AuditRecord>, by: &str, command: &str, limit: u32) -> Vec<AuditRecord> {
        let wanted = |record: &AuditRecord| (by.is_empty() || record.by == by) && (command.is_empty() || record.command == command);
        let mut all: Vec<AuditRecord> = stored.into_iter().rev().collect();
        for pending in &self.facts.pending {
            match &*pending.fact {
                Fact::Audit(record) if wanted(record) && all.last().is_none_or(|last| last.id < record.id) => all.push(record.clone()),
                Fact::Outcome(outcome) => {
                    let at = all.binary_search_by_key(&outcome.id, |record| record.id);
                    at.into_iter().for_each(|at| all[at].outcome.clone_from(&outcome.outcome));
                }
                _ => (),
            }
        }
        all.reverse();
        all.truncate(usize::try_from(limit.min(LIST_MAX)).unwrap_or(usize::MAX));
        all
    }

    fn write_fact(&mut self, fact: Fact) -> Lsn {
        self.lsn += 1;
        let fact = Arc::new(fact);
        self.log.push(Entry::of_fact(self.lsn, fact.clone()));
        self.keep_fact(self.lsn, fact);
        self.lsn
    }

    /// A fact is so from now on; the store lacks it.
    pub(super) fn keep_fact(&mut self, lsn: Lsn, fact: Arc<Fact>) {
        match &*fact {
            Fact::Audit(record) => self.facts.numbers.audits = self.facts.numbers.audits.max(record.id),
            Fact::Outcome(_) => (),
            Fact::Sanction(sanction) => {
                self.facts.numbers.sanctions = self.facts.numbers.sanctions.max(sanction.id);
                self.facts.sanctions.insert(sanction.clone());
            }
            Fact::Lift { sanctions, .. } => sanctions.iter().for_each(|sanction| self.facts.sanctions.remove(*sanction)),
            Fact::Relation { player, to, .. } => self.known.related(*player, to),
        }
        self.facts.pending_bytes += fact.bytes();
        self.facts.pending.push_back(PendingFact { lsn, fact });
    }
}

fn next(number: u64) -> Result<u64, Refusal> {
    number.checked_add(1).ok_or_else(|| Refusal::Internal("the numbers are used up".into()))
}
