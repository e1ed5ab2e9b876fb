//! Relations, sanctions, the audit log, and what is answered of accounts without the store. The store of these tests gets nothing before
//! they want it, so what is read lies over what it says.

use rusqlite::Connection;

use super::*;

fn friend(player: u64, other: u64, relation: Relation) -> RelationSet {
    RelationSet { player, other, relation: relation.into(), relations_max: 2 }
}

fn sanction(kind: SanctionKind, account: u64, address: &str) -> SanctionAdd {
    let sanction = Sanction { kind: kind.into(), account, address: address.into(), by: "eve".into(), ..Sanction::default() };
    SanctionAdd { sanction: Some(sanction) }
}

fn audit(by: &str, command: &str) -> AuditAppend {
    AuditAppend { record: Some(AuditRecord { by: by.into(), command: command.into(), ..AuditRecord::default() }) }
}

fn list(by: &str, limit: u32) -> AuditList {
    AuditList { limit, by: by.into(), command: String::new() }
}

/// A command brings a batch.
async fn flush(dc: &Dc, name: &str) {
    dc.desk().account_create(AccountCreate { name: name.into(), password_hash: "x".into() }).await.unwrap();
}

/// Runs something in the database behind dc's back.
fn behind(folder: &TempDir, sql: &str) {
    Connection::open(folder.path().join(sqlite::FILE)).unwrap().execute_batch(sql).unwrap();
}

async fn names(dc: &Dc, player: u64) -> Vec<String> {
    let relations = dc.desk().relation_list(RelationList { player }).await.unwrap();
    relations.outgoing.iter().map(|to| format!("{} {}", to.name, to.relation().as_str_name())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_lie_over_what_the_store_says_before_and_after_a_kill() {
    let (folder, dc) = started().await;
    assert_eq!(dc.role(1, "Cid").await, 3);
    let made = dc.desk().relation_set(friend(1, 2, Relation::Friend)).await.unwrap();
    assert_eq!((made.outgoing.len(), made.outgoing[0].name.as_str()), (1, "Bo"));
    flush(&dc, "bob").await;
    dc.desk().relation_set(friend(1, 3, Relation::Block)).await.unwrap();
    assert_eq!(dc.desk().relation_set(friend(1, 9, Relation::Friend)).await.unwrap_err().code(), CallFaultCode::CallNotFound);
    assert_eq!(dc.role(1, "Dee").await, 4);
    assert_eq!(dc.desk().relation_set(friend(1, 4, Relation::Friend)).await.unwrap_err(), Refusal::Limit(2, "friends and blocks"));
    dc.desk().relation_set(friend(1, 2, Relation::Unspecified)).await.unwrap();
    dc.desk().relation_set(friend(2, 1, Relation::Friend)).await.unwrap();
    dc.kill().await;

    let dc = Dc::start(folder.path());
    assert_eq!(names(&dc, 1).await, ["Cid BLOCK"]);
    let of = dc.desk().relation_list(RelationList { player: 1 }).await.unwrap();
    assert_eq!((of.befriended_by, of.blocked_by), (vec![2], vec![]));
    flush(&dc, "carl").await;
    dc.kill().await;
    let dc = Dc::start(folder.path());
    assert_eq!(
        (names(&dc, 1).await, names(&dc, 2).await),
        (vec!["Cid BLOCK".to_owned()], vec!["Ann FRIEND".to_owned()]),
        "the store has them"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_go_with_the_role() {
    let (folder, dc) = started().await;
    dc.desk().relation_set(friend(1, 2, Relation::Friend)).await.unwrap();
    dc.desk().relation_set(friend(2, 1, Relation::Friend)).await.unwrap();
    dc.desk().role_delete(RoleDelete { player: 2, account: 1 }).await.unwrap().finish().await.unwrap();
    let nobody = Relations::default();
    assert_eq!(dc.desk().relation_list(RelationList { player: 1 }).await.unwrap(), nobody);
    dc.kill().await;
    let dc = Dc::start(folder.path());
    assert_eq!(dc.desk().relation_list(RelationList { player: 1 }).await.unwrap(), nobody, "the deletion is not in the store yet");
    flush(&dc, "bob").await;
    dc.kill().await;
    assert_eq!(Dc::start(folder.path()).desk().relation_list(RelationList { player: 1 }).await.unwrap(), nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn sanctions_are_in_force_at_once_and_after_a_kill() {
    let (folder, dc) = started().await;
    let added = dc.desk().sanction_add(sanction(SanctionKind::Ban, 1, "")).await.unwrap().sanctions;
    assert_eq!((added[0].id, added[0].account_name.as_str()), (1, "alice"));
    flush(&dc, "bob").await;
    assert_eq!(dc.desk().sanction_add(sanction(SanctionKind::Mute, 1, "")).await.unwrap().sanctions[0].id, 2);
    assert_eq!(dc.desk().sanction_add(sanction(SanctionKind::Mute, 77, "")).await.unwrap_err().code(), CallFaultCode::CallNotFound);
    let lift = SanctionLift { kind: SanctionKind::Ban.into(), account: 1, by: "eve".into(), ..SanctionLift::default() };
    assert_eq!(dc.desk().sanction_lift(lift.clone()).await.unwrap().sanctions[0].id, 1);
    assert_eq!(dc.desk().sanction_lift(lift).await.unwrap_err().code(), CallFaultCode::CallNotFound);
    dc.kill().await;
    for number in 3..5 {
        let dc = Dc::start(folder.path());
        let found = dc.desk().account_find(AccountFind { name: "alice".into(), address: String::new() }).await.unwrap();
        assert_eq!(found.sanctions.iter().map(|sanction| sanction.id).collect::<Vec<_>>(), [2]);
        assert_eq!(dc.profile(1).await.sanctions, found.sanctions);
        let added = dc.desk().sanction_add(sanction(SanctionKind::Ban, 0, "10.0.0.1")).await.unwrap();
        assert_eq!(added.sanctions[0].id, number, "numbers go on");
        flush(&dc, &format!("bob{number}")).await;
        dc.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_read_with_what_the_store_lacks_once_each() {
    let (folder, dc) = started().await;
    let append = async |dc: &Dc, by: &str| dc.desk().audit_append(audit(by, "kick")).await.unwrap().records[0].id;
    let read = async |dc: &Dc, call: AuditList| {
        let records = dc.desk().audit_list(call).await.unwrap().records;
        records.iter().map(|record| (record.id, record.outcome.clone())).collect::<Vec<_>>()
    };
    let outcome = |id, outcome: &str| AuditOutcome { id, outcome: outcome.into() };
    assert_eq!((append(&dc, "eve").await, append(&dc, "adam").await), (1, 2));
    flush(&dc, "bob").await;
    assert_eq!(append(&dc, "eve").await, 3);
    for (id, text) in [(1, "one"), (3, "three")] {
        dc.desk().audit_outcome(outcome(id, text)).await.unwrap();
    }
    assert_eq!(dc.desk().audit_outcome(outcome(4, "four")).await.unwrap_err().code(), CallFaultCode::CallNotFound);
    let all = [(3, "three".to_owned()), (2, String::new()), (1, "one".to_owned())];
    assert_eq!(read(&dc, list("", 9)).await, all);
    assert_eq!(read(&dc, list("eve", 1)).await, all[..1]);
    assert_eq!(read(&dc, list("adam", 9)).await, all[1..2]);
    dc.kill().await;
    let dc = Dc::start(folder.path());
    assert_eq!(read(&dc, list("", 9)).await, all, "after a kill");
    flush(&dc, "carl").await;
    assert_eq!(read(&dc, list("", 9)).await, all, "in the store");
    assert_eq!(append(&dc, "eve").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_a_batch_overtook_is_done_again() {
    let (_folder, dc) = started().await;
    dc.desk().audit_append(audit("eve", "kick")).await.unwrap();
    let (has_read, read) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = Arc::new(std::sync::Mutex::new(Some(may_go_on)));
    let desk = dc.desk();
    let slow = move |reader: &dyn Reader| {
        let stored = reader.audit("", "", 9);
        if let Some(may_go_on) = may_go_on.lock().unwrap().take() {
            has_read.send(stored.as_ref().unwrap().len()).unwrap();
            may_go_on.recv().unwrap();
        }
        stored
    };
    let reading = tokio::spawn(async move { desk.read_over(slow, |ledger, stored| ledger.audits(stored, "", "", 9)).await });
    assert_eq!(tokio::task::spawn_blocking(move || read.recv()).await.unwrap(), Ok(0), "the store lacks it");
    flush(&dc, "bob").await;
    go_on.send(()).unwrap();
    assert_eq!(reading.await.unwrap().unwrap().len(), 1, "it is neither in what was read first nor pending any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_of_an_account_is_answered_without_the_store() {
    let (folder, dc) = started().await;
    let find = |name: &str| AccountFind { name: name.into(), address: "10.0.0.1".into() };
    let gm = GmAccountCreate { name: "root".into(), password_hash: "x".into(), role: "admin".into() };
    dc.desk().gm_account_create(gm).await.unwrap();
    flush(&dc, "unseen").await;
    dc.desk.shared.close().await.unwrap();
    drop(dc);
    let dc = Dc::start(folder.path());
    assert_eq!(dc.role(1, "Cid").await, 3);
    let before = dc.desk().account_find(find("Alice")).await.unwrap();
    let roles = dc.desk().role_list(RoleListCall { account: 1 }).await.unwrap();
    assert_eq!((before.roles.len(), roles.roles.len()), (3, 3));
    dc.desk().relation_set(friend(1, 2, Relation::Friend)).await.unwrap();

    behind(&folder, "ALTER TABLE accounts RENAME TO accounts_away; ALTER TABLE players RENAME TO players_away;");
    behind(&folder, "ALTER TABLE relations RENAME TO relations_away; ALTER TABLE gm_accounts RENAME TO gm_away;");
    assert!(dc.desk().account_find(find("unseen")).await.is_err(), "the tables are away");
    let walked = next(&dc.claim(1).await, |ann| ann.level = 9);
    dc.commit(Durability::D2, &plain(walked)).await;
    dc.desk().sanction_add(sanction(SanctionKind::Ban, 1, "")).await.unwrap();
    let now = dc.desk().account_find(find("ALICE")).await.unwrap();
    assert_eq!((now.password_hash.as_str(), now.sanctions.len(), now.roles[0].version), ("hash", 1, 2));
    assert_eq!(dc.desk().role_list(RoleListCall { account: 1 }).await.unwrap().roles[0].level, 9);
    assert_eq!(dc.profile(1).await.account_name, "alice");
    assert_eq!(dc.desk().profile_find(ProfileFind { player: 0, name: "cID".into() }).await.unwrap().player, 3);
    dc.desk().relation_set(friend(1, 2, Relation::Block)).await.unwrap();
    dc.desk().relation_set(friend(1, 3, Relation::Friend)).await.unwrap();
    assert_eq!(names(&dc, 1).await, ["Bo BLOCK", "Cid FRIEND"]);
    assert_eq!(dc.desk().gm_account_find(GmAccountFind { name: "root".into() }).await.unwrap().role, "admin", "read at the start");
    dc.desk().role_delete(RoleDelete { player: 2, account: 1 }).await.unwrap().finish().await.unwrap();
    assert_eq!(dc.desk().account_find(find("alice")).await.unwrap().roles.len(), 2);
    assert_eq!(names(&dc, 1).await, ["Cid FRIEND"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_wait_count_as_dirty_and_are_refused_above_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let small = service::config::DcConfig { dirty_bytes_max: 4_000, ..config() };
    let (desk, _writer) = start::start(folder.path(), &small, MAIL_MAX, Rng::new(1), sqlite::open(folder.path()).unwrap()).unwrap();
    let desk = Arc::new(desk); // and nobody stores anything
    let mut taken = 0;
    let refusal = loop {
        match desk.clone().audit_append(audit("eve", "kick")).await {
            Ok(_) => taken += 1,
            Err(refusal) => break refusal,
        }
        assert!(taken < 100, "the limit holds");
    };
    assert!(0 < taken && refusal.to_string().contains("wait for the store"), "{taken}: {refusal}");
    assert!(4_000 <= desk.shared.look(|state| state.ledger.dirty_bytes()));
}
