//! While MariaDB is away dc goes on with accounts, sanctions, relations and the audit log, as far as it knows them; once it is back, all of it
//! is in the database exactly once, whether dc went on or was started anew.

#[path = "support/load.rs"]
mod load;
#[path = "support/mariadb.rs"]
mod mariadb;

use load::{Dc, WITHIN, eventually};
use mariadb::MariaDb;
use proto::{internal::*, link::Call, record::PlayerRecord};
use service::{CallError, ProcessKind};

const DATABASE: &str = "zone_away";

async fn call<C: Call>(dc: &Dc, call: C) -> Result<C::Answer, CallError> {
    dc.links.call(ProcessKind::Dc, &call, WITHIN).await
}

/// Refused for want of the database: the text says so, and that it ends by itself; of the database's address it says nothing.
async fn away<C: Call>(dc: &Dc, asked: C, why: &str)
where
    C::Answer: std::fmt::Debug,
{
    let refused = call(dc, asked).await.unwrap_err();
    let text = refused.to_string();
    assert_eq!(refused.code(), Some(CallFaultCode::CallUnavailable), "{text}");
    assert!(text.contains(why) && text.contains("works again by itself") && !text.contains("127.0.0.1"), "{text}");
}

fn audit(command: &str) -> AuditAppend {
    AuditAppend { record: Some(AuditRecord { by: "eve".into(), command: command.into(), ..AuditRecord::default() }) }
}

fn relate(player: u64, other: u64, relation: Relation) -> RelationSet {
    RelationSet { player, other, relation: relation.into(), relations_max: 9 }
}

fn find(name: &str) -> AccountFind {
    AccountFind { name: name.into(), address: "10.0.0.9".into() }
}

fn sanction(kind: SanctionKind, account: u64) -> SanctionAdd {
    SanctionAdd { sanction: Some(Sanction { kind: kind.into(), account, by: "eve".into(), ..Sanction::default() }) }
}

fn role(account: u64, name: &str) -> RoleCreate {
    let record = PlayerRecord { account, name: name.into(), map: "meadow".into(), ..PlayerRecord::default() };
    RoleCreate { record: Some(record), roles_max: 4 }
}

/// The accounts alice and bob, each with a role (1 and 2), which dc has seen.
async fn populate(dc: &Dc) {
    for (number, (account, name)) in (1..).zip([("alice", "Ann"), ("bob", "Bo")]) {
        let create = AccountCreate { name: account.into(), password_hash: "hash".into() };
        assert_eq!(call(dc, create).await.unwrap().account, number);
        call(dc, role(number, name)).await.unwrap();
        assert_eq!(call(dc, RoleListCall { account: number }).await.unwrap().roles.len(), 1);
    }
    call(dc, GmAccountCreate { name: "eve".into(), password_hash: "hash".into(), role: "gm".into() }).await.unwrap();
    call(dc, relate(2, 1, Relation::Friend)).await.unwrap();
    call(dc, RelationList { player: 1 }).await.unwrap();
    call(dc, sanction(SanctionKind::Ban, 2)).await.unwrap();
    call(dc, audit("before")).await.unwrap();
}

/// A GM works, friends are made and parted, and those whom dc has seen log in.
async fn go_on(dc: &Dc) {
    assert_eq!(call(dc, GmAccountFind { name: "eve".into() }).await.unwrap().role, "gm");
    let id = call(dc, audit("broadcast")).await.unwrap().records[0].id;
    assert_eq!(id, 2);
    call(dc, AuditOutcome { id, outcome: "done".into() }).await.unwrap();
    let lift = SanctionLift { kind: SanctionKind::Ban.into(), account: 2, by: "eve".into(), ..SanctionLift::default() };
    assert_eq!(call(dc, lift).await.unwrap().sanctions.len(), 1);
    let muted = call(dc, sanction(SanctionKind::Mute, 1)).await.unwrap().sanctions;
    assert_eq!((muted[0].id, muted[0].account_name.as_str()), (2, "alice"));
    call(dc, relate(2, 1, Relation::Unspecified)).await.unwrap();
    let related = call(dc, relate(1, 2, Relation::Friend)).await.unwrap();
    assert_eq!((related.outgoing[0].name.as_str(), related.befriended_by.len()), ("Bo", 0));

    let alice = call(dc, find("alice")).await.unwrap();
    assert_eq!((alice.account, alice.password_hash.as_str(), alice.roles.len(), &alice.sanctions), (1, "hash", 1, &muted));
    assert_eq!(call(dc, RoleListCall { account: 1 }).await.unwrap().roles[0].name, "Ann");
    let claimed = call(dc, PlayerClaim { player: 1, owner: "scene-1/1".into() }).await.unwrap();
    assert_eq!((claimed.epoch, claimed.version), (1, 1));
    let profile = call(dc, ProfileFind { name: "ann".into(), player: 0 }).await.unwrap();
    assert_eq!((profile.player, profile.account_name.as_str(), profile.sanctions), (1, "alice", muted));

    away(dc, find("carol"), "accounts that were not seen lately").await;
    away(dc, AccountCreate { name: "carol".into(), password_hash: "x".into() }, "no account can be made now").await;
    away(dc, role(1, "Cid"), "no role can be made now").await;
    away(dc, ProfileFind { name: "Nobody".into(), player: 0 }, "nobody can be asked about now").await;
    away(dc, AuditList::default(), "the audit log can't be read now").await;
}

/// What the database has at the end, exactly once each.
fn check(server: &MariaDb) {
    let found = |sql: &str| server.try_sql(&format!("USE {DATABASE}; {sql}")).unwrap();
    assert_eq!(found("SELECT audit, command, outcome FROM audit ORDER BY audit"), "1\tbefore\t\n2\tbroadcast\tdone");
    assert_eq!(found("SELECT sanction, account, lifted_by FROM sanctions ORDER BY sanction"), "1\t2\teve\n2\t1");
    assert_eq!(found("SELECT player, other, relation FROM relations"), "1\t2\t1");
    assert_eq!(found("SELECT owner, epoch FROM players WHERE player = 1"), "scene-1/1\t1");
    assert_eq!(found("SELECT COUNT(*) FROM facts_set_aside"), "0");
}

fn is_all_there(server: &MariaDb) -> bool {
    server.try_sql(&format!("USE {DATABASE}; SELECT epoch FROM players WHERE player = 1")).is_ok_and(|epoch| epoch == "1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_known_goes_on_and_the_database_has_it_once_it_is_back() {
    let Some(mut server) = MariaDb::missing().map_or_else(|| Some(MariaDb::start()), |why| none(&why)) else { return };
    let data = tempfile::tempdir().unwrap();
    let dc = Dc::start(data.path(), &server.database(DATABASE, server.port)).await;
    populate(&dc).await;
    server.stop();
    go_on(&dc).await;
    server.up();
    eventually("the database has it", || is_all_there(&server)).await;
    check(&server);
    assert_eq!(call(&dc, audit("after")).await.unwrap().records[0].id, 3);
    assert_eq!(call(&dc, find("carol")).await.unwrap().account, 0, "it works again by itself");
    assert_eq!(call(&dc, AuditList::default()).await.unwrap().records.len(), 3);
    dc.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_comes_from_the_journal_when_dc_is_started_anew() {
    let Some(mut server) = MariaDb::missing().map_or_else(|| Some(MariaDb::start()), |why| none(&why)) else { return };
    let data = tempfile::tempdir().unwrap();
    let url = server.database(DATABASE, server.port);
    let dc = Dc::start(data.path(), &url).await;
    populate(&dc).await;
    server.stop();
    go_on(&dc).await;
    dc.stop().await;
    server.up();
    let dc = Dc::start(data.path(), &url).await;
    let alice = call(&dc, find("alice")).await.unwrap();
    assert_eq!((alice.sanctions.len(), alice.sanctions[0].account_name.as_str()), (1, "alice"));
    assert_eq!(call(&dc, RelationList { player: 1 }).await.unwrap().outgoing.len(), 1);
    eventually("the database has it", || is_all_there(&server)).await;
    check(&server);
    dc.stop().await;
}

/// No server, with the reason.
fn none(why: &str) -> Option<MariaDb> {
    println!("skipped: {why}");
    None
}
