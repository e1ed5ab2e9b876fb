//! Relations, sanctions, GM accounts and the audit log; the journal, and the owners.

use std::sync::Arc;

use proto::internal::{AuditOutcome, AuditRecord, Relation, RelationTo, Sanction, SanctionKind};

use super::{super::*, Home, NOW, reader, row, rows, run, with_players};
use crate::{
    ledger::facts::{Fact, PendingFact},
    refusal::Refusal,
};

/// A batch with facts, numbered from here.
fn facts(lsn: Lsn, facts: &[Fact]) -> Batch {
    let numbered = facts.iter().zip(lsn..).map(|(fact, lsn)| PendingFact { lsn, fact: Arc::new(fact.clone()) }).collect::<Vec<_>>();
    let last = numbered.last().map_or(0, |pending| pending.lsn);
    Batch { lsn: last, now_ms: NOW, facts: numbered, numbers: Numbers { audits: last, sanctions: last }, ..Batch::default() }
}

fn relation(player: u64, other: u64, relation: Relation) -> Fact {
    let to = RelationTo { player: other, name: String::new(), relation: relation.into() };
    Fact::Relation { player, to, since_ms: NOW }
}

fn audit(id: u64, by: &str, command: &str) -> Fact {
    Fact::Audit(AuditRecord { id, at_ms: NOW, by: by.into(), command: command.into(), ..AuditRecord::default() })
}

fn ban(id: u64, account: u64, until_ms: i64) -> Fact {
    Fact::Sanction(Sanction { id, kind: SanctionKind::Ban.into(), account, until_ms, by: "gm".into(), ..Sanction::default() })
}

pub(crate) fn relations_are_one_a_pair_between_players_who_are_there(home: &dyn Home) {
    let mut opened = with_players(home);
    let set = |opened: &mut Opened, lsn, other, kind| opened.store.apply(&facts(lsn, &[relation(1, other, kind)])).unwrap();
    set(&mut opened, 1, 2, Relation::Friend);
    set(&mut opened, 2, 9, Relation::Friend);
    assert_eq!(reader(&opened).relations(2).unwrap().befriended_by, [1]);
    set(&mut opened, 3, 2, Relation::Block);
    let (mine, theirs) = (reader(&opened).relations(1).unwrap(), reader(&opened).relations(2).unwrap());
    assert_eq!((mine.outgoing.len(), mine.outgoing[0].name.as_str(), mine.outgoing[0].relation()), (1, "Bo", Relation::Block));
    assert_eq!((theirs.befriended_by.len(), theirs.blocked_by), (0, vec![1]));
    set(&mut opened, 4, 2, Relation::Unspecified);
    assert!(reader(&opened).relations(1).unwrap().outgoing.is_empty());
    let gone = Row { deleted: true, ..row(&opened, 2, 5, &[]) };
    opened.store.apply(&Batch { rows: vec![gone], ..facts(5, &[relation(1, 2, Relation::Friend)]) }).unwrap();
    assert_eq!(reader(&opened).relations(2).unwrap(), RelationsOf::default(), "a role that is deleted with it has no relations");
}

pub(crate) fn sanctions_are_read_while_they_are_in_force(home: &dyn Home) {
    let mut opened = with_players(home);
    let lift = Fact::Lift { sanctions: vec![2, 9], by: "gm".into(), at_ms: NOW };
    opened.store.apply(&facts(1, &[ban(1, 1, 2 * NOW), ban(2, 1, 0), ban(3, 77, 0), lift])).unwrap();
    let read = |now_ms, after, limit| -> Vec<(u64, String)> {
        let found = reader(&opened).sanctions(now_ms, after, limit).unwrap();
        found.into_iter().map(|sanction| (sanction.id, sanction.account_name)).collect()
    };
    assert_eq!(read(NOW, 0, 10), [(1, "alice".into()), (3, String::new())], "by number, without those that were lifted");
    assert_eq!(read(2 * NOW, 0, 10), [(3, String::new())], "the ban has ended");
    assert_eq!((read(NOW, 1, 10).len(), read(NOW, 0, 1).len(), read(NOW, 3, 10).len()), (1, 1, 0));
}

pub(crate) fn gm_accounts_are_kept(home: &dyn Home) {
    let mut opened = home.open();
    let gm = || Command::GmAccountCreate { name: "root".into(), password_hash: "x".into(), role: "admin".into() };
    assert_eq!(run(&mut opened, gm()), Ok(Reply::Done));
    assert_eq!(run(&mut opened, gm()), Err(Refusal::NameTaken));
    assert_eq!(reader(&opened).gm_account("root").unwrap().unwrap().role, "admin");
    assert_eq!(reader(&opened).gm_account("nobody").unwrap(), None);
    let all = reader(&opened).gm_accounts(9).unwrap();
    assert_eq!((all.len(), all[0].name.as_str(), reader(&opened).gm_accounts(0).unwrap().len()), (1, "root", 0));
}

pub(crate) fn the_audit_log_is_kept_and_filtered(home: &dyn Home) {
    let mut opened = home.open();
    let outcome = Fact::Outcome(AuditOutcome { id: 1, outcome: "done".into() });
    opened.store.apply(&facts(1, &[audit(1, "root", "kick"), audit(2, "helper", "kick"), outcome])).unwrap();
    let found = reader(&opened).audit("root", "", 10).unwrap();
    assert_eq!((found.len(), found[0].outcome.as_str(), found[0].at_ms), (1, "done", NOW));
    assert_eq!(reader(&opened).audit("", "kick", 1).unwrap()[0].by, "helper", "newest first");
    assert_eq!(reader(&opened).numbers().unwrap(), Numbers { audits: 3, sanctions: 3 });
    opened.store.apply(&Batch { numbers: Numbers { audits: 1, sanctions: 7 }, ..Batch::default() }).unwrap();
    assert_eq!(reader(&opened).numbers().unwrap(), Numbers { audits: 3, sanctions: 7 }, "they only rise");
}

pub(crate) fn facts_that_are_given_twice_are_there_once(home: &dyn Home) {
    let mut opened = with_players(home);
    let outcome = Fact::Outcome(AuditOutcome { id: 1, outcome: "done".into() });
    let lift = Fact::Lift { sanctions: vec![2], by: "gm".into(), at_ms: NOW };
    let (friend, ended) = (relation(1, 2, Relation::Friend), relation(1, 2, Relation::Unspecified));
    let all = [audit(1, "root", "kick"), outcome, ban(2, 1, 0), ban(3, 1, 0), lift, friend, ended, relation(2, 1, Relation::Block)];
    for _ in 0..2 {
        // The second time as after a commit whose outcome is unknown.
        opened.store.apply(&facts(1, &all)).unwrap();
        let audits = reader(&opened).audit("", "", 10).unwrap();
        assert_eq!((audits.len(), audits[0].outcome.as_str()), (1, "done"));
        let sanctions = reader(&opened).sanctions(NOW, 0, 10).unwrap();
        assert_eq!(sanctions.iter().map(|sanction| sanction.id).collect::<Vec<_>>(), [3], "what was lifted stays so");
        let relations = reader(&opened).relations(1).unwrap();
        assert_eq!((relations.outgoing.len(), relations.blocked_by), (0, vec![2]));
    }
    assert_eq!(opened.store.applied_lsn(), Ok(8));
}

pub(crate) fn more_facts_than_a_transaction_has_are_all_there(home: &dyn Home) {
    let mut opened = with_players(home);
    let mut all: Vec<Fact> = (1..=2_500).map(|id| audit(id, "root", "kick")).collect();
    all.insert(1_200, Fact::Outcome(AuditOutcome { id: 1_000, outcome: "done".into() }));
    let batch = Batch { rows: vec![row(&opened, 1, 2, &[1])], ..facts(1, &all) };
    opened.store.apply(&batch).unwrap();
    let newest = reader(&opened).audit("", "", LIST_MAX).unwrap();
    assert_eq!((newest.len(), newest[0].id, newest[999].id), (1_000, 2_500, 1_501));
    assert_eq!((opened.store.applied_lsn(), reader(&opened).player(1).unwrap().unwrap().version), (Ok(2_501), 2));
}

pub(crate) fn facts_that_are_refused_can_be_set_aside(home: &dyn Home) {
    let mut opened = home.open();
    opened.store.set_aside(&facts(1, &[audit(1, "root", "kick"), relation(1, 2, Relation::Friend)]), &"why ".repeat(500)).unwrap();
    assert_eq!(reader(&opened).audit("", "", 10).unwrap(), []);
}

pub(crate) fn a_journal_belongs_to_the_database_until_another_one_does(home: &dyn Home) {
    let mut opened = home.open();
    assert_eq!(opened.store.journal(), Ok(None));
    for id in [7, 3] {
        opened.store.take_journal(JournalId([id; 16]), NOW).unwrap();
        assert_eq!(opened.store.journal(), Ok(Some(JournalId([id; 16]))));
    }
    drop(opened);
    assert_eq!(home.open().store.journal(), Ok(Some(JournalId([3; 16]))));
}

pub(crate) fn players_are_taken_from_their_owners_with_epochs_that_they_never_had(home: &dyn Home) {
    let mut opened = with_players(home);
    opened.store.apply(&rows(vec![row(&opened, 2, 5, &[1])])).unwrap();
    assert_eq!(opened.store.dispossess(), Ok(2));
    let stored = reader(&opened).player(2).unwrap().unwrap();
    assert_eq!((stored.owner.as_str(), stored.version, stored.revision), ("", 5, 6));
    assert!(u64::from(u32::MAX) < stored.epoch, "{}", stored.epoch);
    assert!(matches!(opened.store.apply(&rows(vec![row(&opened, 2, 5, &[1])])), Err(StoreError::Refused(_))), "what was under way is late");
}
