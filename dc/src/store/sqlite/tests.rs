use std::sync::Arc;

use proto::{
    client::Item,
    ids::ItemId,
    internal::{AuditRecord, Relation, Sanction, SanctionKind},
    record::PlayerRecord,
};
use tempfile::TempDir;

use super::*;
use crate::{
    refusal::Refusal,
    store::{Command, PendingUnit, Reader, Reply, SanctionsWanted},
};

const NOW: i64 = 1_000;

fn opened() -> (TempDir, Opened) {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path()).unwrap();
    (folder, opened)
}

fn run(opened: &mut Opened, command: Command) -> CommandResult {
    opened.store.apply(&Batch { now_ms: NOW, commands: vec![command], ..Batch::default() }).unwrap().pop().unwrap()
}

fn number(result: CommandResult) -> u64 {
    match result {
        Ok(Reply::Number(number)) => number,
        other => panic!("{other:?}"),
    }
}

fn account(opened: &mut Opened, name: &str) -> u64 {
    number(run(opened, Command::AccountCreate { name: name.into(), password_hash: "hash".into() }))
}

fn role(opened: &mut Opened, account: u64, name: &str) -> CommandResult {
    let record = PlayerRecord { account, name: name.into(), map: "meadow".into(), ..PlayerRecord::default() };
    run(opened, Command::RoleCreate { record, roles_max: 3 })
}

/// Two players of one account.
fn with_players() -> (TempDir, Opened) {
    let (folder, mut opened) = opened();
    let account = account(&mut opened, "alice");
    assert_eq!(number(role(&mut opened, account, "Ann")), 1);
    assert_eq!(number(role(&mut opened, account, "Bo")), 2);
    (folder, opened)
}

fn reader(opened: &Opened) -> &dyn Reader {
    &*opened.readers[0]
}

fn row(opened: &Opened, player: u64, revision: u64, items: &[u8]) -> Row {
    let items = items.iter().map(|id| Item { id: vec![*id; 16].into(), kind: "sword".into(), count: 1 }).collect();
    let record = PlayerRecord { items, level: 7, ..reader(opened).player(player).unwrap().unwrap().record };
    let (owner, items_changed, deleted) = ("scene-1/7".into(), true, false);
    Row { player, record: Arc::new(record), owner, epoch: 3, version: revision, revision, lsn: revision, items_changed, deleted }
}

fn rows(rows: Vec<Row>) -> Batch {
    Batch { lsn: 1, now_ms: NOW, rows, ..Batch::default() }
}

#[test]
fn opening_again_migrates_nothing_and_finds_everything() {
    let (folder, mut opened) = with_players();
    let row = row(&opened, 1, 5, &[1, 2]);
    let unit = PendingUnit { lsn: 9, id: Some(UnitId([7; 16])), players: vec![1] };
    opened.store.apply(&Batch { units: vec![unit], ..rows(vec![row.clone()]) }).unwrap();
    drop(opened);
    let again = open(folder.path()).unwrap();
    let stored = reader(&again).player(1).unwrap().unwrap();
    assert_eq!((stored.owner.as_str(), stored.epoch, stored.version, stored.revision), ("scene-1/7", 3, 5, 5));
    assert_eq!(stored.record, *row.record);
    assert_eq!(again.applied, [(UnitId([7; 16]), 9)]);
    assert_eq!(reader(&again).holders(&[ItemId::from_bytes(&[2; 16]).unwrap(), ItemId(5)]).unwrap().len(), 1);
}

#[test]
fn two_processes_never_have_one_database() {
    let (folder, _opened) = opened();
    let refused = open(folder.path()).err().unwrap();
    assert!(refused.to_string().contains("another dc"), "{refused:#}");
}

#[test]
fn newer_and_edited_databases_are_refused() {
    let (folder, opened) = opened();
    drop(opened);
    let older = open_with(folder.path(), &MIGRATIONS[..2]).err().unwrap();
    assert!(format!("{older:#}").contains("start a newer program"), "{older:#}");
    let mut edited = MIGRATIONS.to_vec();
    edited[0].sql = "SELECT 1";
    let edited = open_with(folder.path(), &edited).err().unwrap();
    assert!(format!("{edited:#}").contains("sql/ was edited"), "{edited:#}");
}

#[test]
fn a_migration_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let bad = [MIGRATIONS[0], Migration { number: 2, name: "bad", sql: "CREATE TABLE half (a BIGINT); CREATE TABLE half (a BIGINT);" }];
    assert!(open_with(folder.path(), &bad).is_err());
    let good = [MIGRATIONS[0], Migration { number: 2, name: "good", sql: "CREATE TABLE half (a BIGINT);" }];
    open_with(folder.path(), &good).unwrap();
}

#[test]
fn an_older_revision_changes_nothing_and_the_same_is_harmless() {
    let (_folder, mut opened) = with_players();
    let newest = rows(vec![row(&opened, 1, 5, &[1])]);
    opened.store.apply(&newest).unwrap();
    opened.store.apply(&newest).unwrap();
    let older = rows(vec![row(&opened, 1, 4, &[])]);
    assert!(matches!(opened.store.apply(&older), Err(StoreError::Refused(_))));
    let stored = reader(&opened).player(1).unwrap().unwrap();
    assert_eq!((stored.version, stored.record.items.len()), (5, 1));
    assert_eq!(reader(&opened).holders(&[ItemId::from_bytes(&[1; 16]).unwrap()]).unwrap().len(), 1);
    let gone = Row { player: 9, ..row(&opened, 1, 6, &[]) };
    assert!(matches!(opened.store.apply(&rows(vec![gone])), Err(StoreError::Refused(_))));
}

#[test]
fn an_item_moves_in_one_batch_and_is_never_at_two_players() {
    let (_folder, mut opened) = with_players();
    let batch = rows(vec![row(&opened, 1, 2, &[1]), row(&opened, 2, 2, &[2])]);
    opened.store.apply(&batch).unwrap();
    let swapped = rows(vec![row(&opened, 1, 3, &[2]), row(&opened, 2, 3, &[1])]);
    opened.store.apply(&swapped).unwrap();
    let doubled = rows(vec![row(&opened, 1, 4, &[1, 2])]);
    assert!(matches!(opened.store.apply(&doubled), Err(StoreError::Refused(_))));
    opened.store.set_aside(&doubled, "item 1 is at player 2").unwrap();
    let stored = reader(&opened).player(1).unwrap().unwrap();
    assert_eq!((stored.version, stored.record.items[0].id[0]), (3, 2), "the refused batch left nothing");
}

#[test]
fn units_below_the_floor_are_forgotten() {
    let (folder, mut opened) = with_players();
    let unit = |n: u8| PendingUnit { lsn: u64::from(n), id: Some(UnitId([n; 16])), players: vec![1] };
    opened.store.apply(&Batch { units: vec![unit(1), unit(2)], ..Batch::default() }).unwrap();
    opened.store.apply(&Batch { units: vec![unit(2), unit(3)], units_floor: 2, ..Batch::default() }).unwrap();
    drop(opened);
    assert_eq!(open(folder.path()).unwrap().applied, [(UnitId([2; 16]), 2), (UnitId([3; 16]), 3)]);
}

#[test]
fn names_are_unique_whatever_their_case_until_the_role_is_deleted() {
    let (_folder, mut opened) = with_players();
    assert_eq!(run(&mut opened, Command::AccountCreate { name: "alice".into(), password_hash: "x".into() }), Err(Refusal::NameTaken));
    assert_eq!(role(&mut opened, 1, "ANN"), Err(Refusal::NameTaken));
    assert_eq!(role(&mut opened, 9, "Cid"), Err(Refusal::NotFound("account")));
    let batch = rows(vec![row(&opened, 1, 5, &[1])]);
    opened.store.apply(&batch).unwrap();
    let deleted = Row { deleted: true, ..row(&opened, 1, 6, &[1]) };
    opened.store.apply(&rows(vec![deleted.clone()])).unwrap();
    opened.store.apply(&rows(vec![deleted])).unwrap();
    assert_eq!(number(role(&mut opened, 1, "ANN")), 3, "numbers are never given twice");
    assert_eq!(number(role(&mut opened, 1, "Cid")), 4);
    assert_eq!(role(&mut opened, 1, "Dan"), Err(Refusal::Limit(3, "roles")));
    assert!(reader(&opened).holders(&[ItemId::from_bytes(&[1; 16]).unwrap()]).unwrap().is_empty());
    assert_eq!(reader(&opened).player_named("ann").unwrap(), Some(3));
    assert_eq!(reader(&opened).players_of(1).unwrap().len(), 3);
}

#[test]
fn a_refused_command_does_not_disturb_the_others() {
    let (_folder, mut opened) = opened();
    let create = |name: &str| Command::AccountCreate { name: name.into(), password_hash: "x".into() };
    let batch = Batch { commands: vec![create("a"), create("a"), create("b")], ..Batch::default() };
    let results = opened.store.apply(&batch).unwrap();
    assert_eq!(results, [Ok(Reply::Number(1)), Err(Refusal::NameTaken), Ok(Reply::Number(2))]);
}

#[test]
fn relations_are_one_a_pair_and_bounded() {
    let (_folder, mut opened) = with_players();
    assert_eq!(number(role(&mut opened, 1, "Cid")), 3);
    let set = |other, relation| Command::RelationSet { player: 1, other, relation, relations_max: 1 };
    assert_eq!(run(&mut opened, set(2, Relation::Friend)), Ok(Reply::Done));
    assert_eq!(run(&mut opened, set(3, Relation::Friend)), Err(Refusal::Limit(1, "friends and blocks")));
    assert_eq!(run(&mut opened, set(9, Relation::Friend)), Err(Refusal::NotFound("player")));
    assert_eq!(reader(&opened).relations(2).unwrap().befriended_by, [1]);
    assert_eq!(run(&mut opened, set(2, Relation::Block)), Ok(Reply::Done));
    let (mine, theirs) = (reader(&opened).relations(1).unwrap(), reader(&opened).relations(2).unwrap());
    assert_eq!((mine.outgoing.len(), mine.outgoing[0].name.as_str(), mine.outgoing[0].relation()), (1, "Bo", Relation::Block));
    assert_eq!((theirs.befriended_by.len(), theirs.blocked_by), (0, vec![1]));
    assert_eq!(run(&mut opened, set(2, Relation::Unspecified)), Ok(Reply::Done));
    assert!(reader(&opened).relations(1).unwrap().outgoing.is_empty());
}

#[test]
fn sanctions_are_found_while_they_are_in_force() {
    let (_folder, mut opened) = with_players();
    let ban = Sanction { kind: SanctionKind::Ban.into(), account: 1, until_ms: 2 * NOW, ..Sanction::default() };
    let by_address = Sanction { kind: SanctionKind::Mute.into(), address: "10.0.0.1".into(), ..Sanction::default() };
    number(run(&mut opened, Command::SanctionAdd { sanction: ban.clone() }));
    number(run(&mut opened, Command::SanctionAdd { sanction: by_address }));
    let nobody = Sanction { account: 77, ..ban };
    assert_eq!(run(&mut opened, Command::SanctionAdd { sanction: nobody }), Err(Refusal::NotFound("account")));
    let count = |opened: &Opened, now_ms, kind, against: Option<(u64, &str)>| {
        let against = against.map(|(account, address)| (account, address.to_owned()));
        reader(opened).sanctions(&SanctionsWanted { kind, against, now_ms, limit: 10 }).unwrap().len()
    };
    assert_eq!(count(&opened, NOW, None, None), 2);
    assert_eq!(count(&opened, NOW, None, Some((1, "10.0.0.1"))), 2);
    assert_eq!(count(&opened, 2 * NOW, None, Some((1, "10.0.0.1"))), 1, "the ban has ended");
    assert_eq!(count(&opened, NOW, Some(SanctionKind::Ban), Some((0, "10.0.0.1"))), 0);
    assert_eq!(count(&opened, NOW, None, Some((0, ""))), 0, "nobody is not everybody");
    let lift = Command::SanctionLift { kind: SanctionKind::Ban, account: 1, address: String::new(), by: "gm".into() };
    assert!(matches!(run(&mut opened, lift.clone()), Ok(Reply::Lifted(lifted)) if lifted[0].account_name == "alice"));
    assert_eq!(run(&mut opened, lift), Err(Refusal::NotFound("sanction")));
    assert_eq!(count(&opened, NOW, None, Some((1, ""))), 0);
}

#[test]
fn gm_accounts_and_the_audit_log_are_kept() {
    let (_folder, mut opened) = opened();
    let gm = || Command::GmAccountCreate { name: "root".into(), password_hash: "x".into(), role: "admin".into() };
    assert_eq!(run(&mut opened, gm()), Ok(Reply::Done));
    assert_eq!(run(&mut opened, gm()), Err(Refusal::NameTaken));
    assert_eq!(reader(&opened).gm_account("root").unwrap().unwrap().role, "admin");
    let record = |by: &str, command: &str| AuditRecord { by: by.into(), command: command.into(), ..AuditRecord::default() };
    let first = number(run(&mut opened, Command::AuditAppend { record: record("root", "kick") }));
    number(run(&mut opened, Command::AuditAppend { record: record("helper", "kick") }));
    assert_eq!(run(&mut opened, Command::AuditOutcome { audit: first, outcome: "done".into() }), Ok(Reply::Done));
    assert_eq!(run(&mut opened, Command::AuditOutcome { audit: 99, outcome: "done".into() }), Err(Refusal::NotFound("audit record")));
    let found = reader(&opened).audit("root", "", 10).unwrap();
    assert_eq!((found.len(), found[0].outcome.as_str(), found[0].at_ms), (1, "done", NOW));
    assert_eq!(reader(&opened).audit("", "kick", 1).unwrap()[0].by, "helper", "newest first");
}

#[test]
fn a_full_disk_changes_nothing_and_can_be_tried_again() {
    let (_folder, mut opened) = with_players();
    let before = reader(&opened).player(1).unwrap().unwrap();
    let full = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None);
    assert!(matches!(StoreError::from(full), StoreError::Unavailable(_)));
    let sync = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None);
    assert!(matches!(StoreError::from(sync), StoreError::Fatal(_)), "a failed sync is never tried again");
    let unique = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CONSTRAINT_UNIQUE), None);
    assert!(matches!(StoreError::from(unique), StoreError::Refused(_)));
    opened.store.close().unwrap();
    assert_eq!(reader(&opened).player(1).unwrap().unwrap(), before);
}
