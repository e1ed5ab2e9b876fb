//! dc is killed at every named point (FAULTS 9) and at a sync that fails (FAULTS 44), in a process of its own, while two players trade,
//! befriend and part, and are written down in the audit log. Then: all that was acknowledged is there exactly once, at most the one under
//! way beside it, whole or not at all (I1, I2, I12); two recoveries find the same (I6).

use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output},
};

use proto::internal::{
    AccountCreate, AuditAppend, AuditRecord, Commit, CommitUnit, Durability, PlayerClaim, PlayerSave, Relation, RelationSet, RoleCreate,
};

use super::*;
use crate::{
    ledger::{Ledger, tests::LIMITS},
    serve::Desk,
    start,
    store::sqlite,
    writer::Writer,
};

/// Tells the child its folder.
const FOLDER_VARIABLE: &str = "PAIFANG_TEST_FOLDER";
/// Tells the child that syncs fail.
const EIO_VARIABLE: &str = "PAIFANG_TEST_EIO";
const COINS: u64 = 100_000;
/// Far more than there are before any of the points is passed.
const TRADES: u64 = 20_000;
/// SIGABRT.
const ABORTED: i32 = 6;

/// Small segments and short pauses, so that a child passes every point many times.
fn busy() -> DcConfig {
    DcConfig { flush_period: Duration::from_millis(5), journal_segment_bytes: 16 << 10, ..config() }
}

async fn running(folder: &Path) -> (Arc<Desk>, tokio::task::JoinHandle<()>) {
    let opened = sqlite::open(folder).unwrap();
    let (desk, writer) = match std::env::var(EIO_VARIABLE) {
        Err(_) => start::start(folder, &busy(), LIMITS.mail_max, Rng::new(1), opened).unwrap(),
        Ok(_) => on_a_failing_disk(opened),
    };
    (Arc::new(desk), tokio::spawn(writer.run()))
}

fn on_a_failing_disk(opened: crate::store::Opened) -> (Desk, Writer) {
    let memory = Memory::default();
    let (journal, _) = open_memory(&memory, 1 << 20, 0).unwrap();
    memory.fail_syncs();
    start::assemble(Ledger::new(LIMITS, &[]), journal, 0, &DcConfig { flush_period: Duration::from_secs(3600), ..busy() }, opened).unwrap()
}

/// Two roles of one account, with [`COINS`] each.
async fn populate(folder: &Path) {
    let (desk, writer) = running(folder).await;
    desk.clone().account_create(AccountCreate { name: "alice".into(), password_hash: "x".into() }).await.unwrap();
    for name in ["Ann", "Bo"] {
        let record = PlayerRecord { account: 1, name: name.into(), coins: COINS, ..PlayerRecord::default() };
        desk.clone().role_create(RoleCreate { record: Some(record), roles_max: 4 }).await.unwrap();
    }
    desk.shared.close().await.unwrap();
    writer.await.unwrap();
}

/// Moves a coin from player 1 to player 2 and says so when it is acknowledged, again and again.
async fn trade(folder: &Path) {
    let (desk, _writer) = running(folder).await;
    let mut saves = Vec::new();
    for player in 1..=2 {
        let held = desk.clone().claim(PlayerClaim { player, owner: "scene-1/1".into() }).await.unwrap().finish().await.unwrap();
        saves.push(PlayerSave { player, owner: "scene-1/1".into(), epoch: held.epoch, version: held.version, record: held.record });
    }
    for number in 1..=TRADES {
        for (save, sign) in saves.iter_mut().zip([-1i64, 1]) {
            save.version += 1;
            let record = save.record.as_mut().unwrap();
            record.coins = record.coins.checked_add_signed(sign).unwrap();
            record.rules = vec![7; 1000].into();
        }
        let id = u128::from(number).to_be_bytes().to_vec().into();
        let unit = CommitUnit { id, saves: saves.clone(), ..CommitUnit::default() };
        let commit = Commit { units: vec![unit], durability: Durability::D2.into() };
        let committed = desk.clone().commit(commit).await.unwrap().finish().await.unwrap();
        assert_eq!(committed.units[0].refused, 0, "{}", committed.units[0].text);
        println!("acked {number}");
        let relation = if number % 2 == 1 { Relation::Friend } else { Relation::Unspecified };
        let relate = RelationSet { player: 1, other: 2, relation: relation.into(), relations_max: 9 };
        desk.clone().relation_set(relate).await.unwrap();
        println!("related {number}");
        let record = AuditRecord { command: "trade".into(), arguments: number.to_string(), ..AuditRecord::default() };
        desk.clone().audit_append(AuditAppend { record: Some(record) }).await.unwrap();
        println!("audited {number}");
    }
    desk.shared.close().await.unwrap();
}

/// What the child runs; without the variable it is no test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the tests of this file, in a process that is killed"]
async fn child() {
    if let Ok(folder) = std::env::var(FOLDER_VARIABLE) {
        trade(Path::new(&folder)).await;
    }
}

fn run_child(folder: &Path, variable: (&str, &str)) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "journal::tests::kills::child", "--ignored", "--nocapture"]);
    command.env(FOLDER_VARIABLE, folder).env(variable.0, variable.1).output().unwrap()
}

/// The last trade, relation and line of the audit log that the child knew to be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    acked: u64,
    related: u64,
    audited: u64,
}

fn told(output: &Output) -> Told {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = |what: &str| text.lines().filter_map(|line| line.split_once(what)?.1.parse().ok()).max().unwrap_or(0);
    Told { acked: last("acked "), related: last("related "), audited: last("audited ") }
}

/// What is there after a recovery: the state, hashed; the coins of both players with their versions; whether they are friends; the trades
/// in the audit log.
#[derive(Debug, PartialEq)]
struct Found {
    hash: String,
    players: [(u64, u64); 2],
    friends: bool,
    audits: Vec<u64>,
}

fn recovered(folder: &Path) -> Found {
    let mut opened = sqlite::open(folder).unwrap();
    let start::Recovered { mut ledger, .. } =
        start::recover(super::super::Folder::take(folder).unwrap(), &busy(), LIMITS.mail_max, Rng::new(1), &mut opened).unwrap();
    let reader = &opened.readers[0];
    for player in 1..=2 {
        let stored = reader.player(player).unwrap().unwrap();
        let version = stored.version;
        ledger.load(stored).unwrap();
        assert!(version <= ledger.peek(player).unwrap().version, "the store is never ahead of memory");
    }
    let player = |player| ledger.peek(player).map(|hot| (hot.record.coins, hot.version)).unwrap();
    let (hash, players) = (ledger.state_hash(), [player(1), player(2)]);
    let friends = !ledger.know_relations(1, reader.relations(1).unwrap()).outgoing.is_empty();
    let mut audits: Vec<u64> = Vec::new();
    for record in ledger.audits(reader.audit("", "", u32::MAX).unwrap(), "", "", u32::MAX) {
        audits.insert(0, record.arguments.parse().unwrap());
    }
    Found { hash, players, friends, audits }
}

fn check(folder: &Path, told: Told, place: &str) {
    let found = recovered(folder);
    let (acked, [ann, bo]) = (told.acked, found.players);
    assert_eq!(ann.0 + bo.0, 2 * COINS, "{place}: coins were made or lost");
    assert_eq!(ann.1, bo.1, "{place}: half of a trade");
    let trades = COINS - ann.0;
    assert!(acked <= trades && trades <= acked + 1, "{place}: {acked} trades were acknowledged, {trades} are there");
    let audited = found.audits.last().copied().unwrap_or(0);
    assert_eq!(found.audits, (audited.saturating_sub(999).max(1)..=audited).collect::<Vec<_>>(), "{place}: each once");
    assert!(told.audited <= audited && audited <= told.audited + 1, "{place}: {told:?} and the audit log has {audited}");
    let [told_friends, next] = [told.related, told.related + 1].map(|number| number % 2 == 1);
    assert!(found.friends == told_friends || told.related < acked && found.friends == next, "{place}: {told:?} and {}", found.friends);
    assert_eq!(recovered(folder), found, "{place}: the second recovery differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_named_point_loses_nothing_that_was_acknowledged() {
    let points = [
        "recv:20",
        "published:20",
        "journal_append:20",
        "journal_torn:20",
        "journal_written:20",
        "journal_synced:20",
        "acked:20",
        "batch:3",
        "store_begin:3",
        "store_rows:3",
        "store_committed:3",
        "checkpoint:2",
        "journal_remove:1",
        "journal_remove:2",
        "journal_make:1",
        "journal_make:2",
    ];
    let prepared = tempfile::tempdir().unwrap();
    populate(prepared.path()).await;
    let kill = |point: &'static str| {
        let folder = tempfile::tempdir().unwrap();
        copy(prepared.path(), folder.path());
        move || {
            let output = run_child(folder.path(), (kill::VARIABLE, point));
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.signal(), Some(ABORTED), "{point} was not passed: {errors}");
            assert!(errors.contains("ending at the kill point"), "{point}: {errors}");
            check(folder.path(), told(&output), point);
            told(&output)
        }
    };
    let kills: Vec<_> = points.map(kill).into_iter().map(tokio::task::spawn_blocking).collect();
    let mut moments = BTreeSet::new();
    for kill in kills {
        moments.insert(kill.await.unwrap());
    }
    assert!(2 < moments.len(), "they die at different moments: {moments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_aborts_and_acknowledges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    populate(folder.path()).await;
    let output = run_child(folder.path(), (EIO_VARIABLE, "1"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(ABORTED), "{errors}");
    assert!(errors.contains("the sync of 00000001.seg failed") && told(&output).acked == 0, "{errors}");
    check(folder.path(), told(&output), "a failed sync");
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
