//! Facts in the models: what a store has of them, and what is so when the ledger lays over it what the store lacks.

use std::collections::{BTreeMap, BTreeSet};

use proto::internal::{AuditRecord, Relation, RelationTo, Sanction, SanctionKind};

use super::cast::PLAYERS;
use crate::{
    ledger::{
        Ledger,
        facts::{Fact, Numbers},
        sanctions::Wanted,
    },
    store::{Batch, RelationsOf},
};

/// What is so: lines of the audit log with their outcomes, sanctions in force, relations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct People {
    pub audits: BTreeMap<u64, String>,
    pub sanctions: BTreeSet<u64>,
    pub relations: BTreeMap<(u64, u64), Relation>,
}

/// What a store has of it: a fact that is given twice is there once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    people: People,
    lifted: BTreeSet<u64>,
    numbers: Numbers,
}

impl Stored {
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for pending in &batch.facts {
            match &*pending.fact {
                Fact::Audit(record) => _ = self.people.audits.entry(record.id).or_insert_with(|| record.outcome.clone()),
                Fact::Outcome(outcome) => {
                    *self.people.audits.get_mut(&outcome.id).expect("the record came before it") = outcome.outcome.clone();
                }
                Fact::Sanction(sanction) if self.lifted.contains(&sanction.id) => (),
                Fact::Sanction(sanction) => _ = self.people.sanctions.insert(sanction.id),
                Fact::Lift { sanctions, .. } => {
                    self.lifted.extend(sanctions);
                    self.people.sanctions.retain(|sanction| !sanctions.contains(sanction));
                }
                Fact::Relation { player, to, .. } => self.people.relate(*player, to.player, to.relation()),
            }
        }
        self.numbers = Numbers {
            audits: self.numbers.audits.max(batch.numbers.audits),
            sanctions: self.numbers.sanctions.max(batch.numbers.sanctions),
        };
    }

    /// Tells a ledger what it reads at its start.
    pub(crate) fn begin(&self, ledger: &mut Ledger) {
        let sanctions =
            self.people.sanctions.iter().map(|id| Sanction { id: *id, kind: SanctionKind::Ban.into(), account: 1, ..Sanction::default() });
        ledger.begin_facts(self.numbers, sanctions.collect(), Vec::new());
    }

    /// What a ledger says, read over this.
    pub(crate) fn seen(&self, ledger: &mut Ledger) -> People {
        let newest = self.people.audits.iter().rev();
        let stored = newest.map(|(id, outcome)| AuditRecord { id: *id, outcome: outcome.clone(), ..AuditRecord::default() }).collect();
        let audits = ledger.audits(stored, "", "", u32::MAX);
        assert!(audits.windows(2).all(|pair| pair[1].id < pair[0].id), "newest first, and each once");
        let mut seen = People { audits: audits.into_iter().map(|record| (record.id, record.outcome)).collect(), ..People::default() };
        let all = Wanted { limit: u32::MAX, ..Wanted::default() };
        seen.sanctions = ledger.sanctions(&all).iter().map(|sanction| sanction.id).collect();
        let mut incoming = Vec::new();
        for player in 1..=PLAYERS {
            let of = match ledger.known.relations(player) {
                Some(known) => known.clone(),
                None => ledger.know_relations(player, self.people.relations_of(player)).clone(),
            };
            of.outgoing.iter().for_each(|to| _ = seen.relations.insert((player, to.player), to.relation()));
            incoming.extend(of.befriended_by.iter().map(|from| ((*from, player), Relation::Friend)));
            incoming.extend(of.blocked_by.iter().map(|from| ((*from, player), Relation::Block)));
        }
        assert_eq!(incoming.into_iter().collect::<BTreeMap<_, _>>(), seen.relations, "both sides say the same");
        seen
    }
}

impl People {
    pub(crate) fn relate(&mut self, player: u64, other: u64, relation: Relation) {
        match relation {
            Relation::Unspecified => _ = self.relations.remove(&(player, other)),
            relation => _ = self.relations.insert((player, other), relation),
        }
    }

    fn relations_of(&self, player: u64) -> RelationsOf {
        let mut of = RelationsOf::default();
        for (&(from, other), &relation) in &self.relations {
            if from == player {
                of.outgoing.push(RelationTo { player: other, name: format!("p{other}"), relation: relation.into() });
            }
            match relation {
                Relation::Friend if other == player => of.befriended_by.push(from),
                Relation::Block if other == player => of.blocked_by.push(from),
                _ => (),
            }
        }
        of
    }
}
