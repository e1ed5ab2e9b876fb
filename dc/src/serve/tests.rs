//! dc over a real SQLite database in a folder of its own: at the desk, and over links on loopback.

mod facts;
mod joined;
mod mail;

use std::{net::SocketAddr, path::Path, time::Duration};

use proto::{
    client::{Item, Position},
    internal::*,
};
use service::{
    CallError, Links, ProcessId, ProcessKind,
    link::LinkConfig,
    members::{Member, Members},
    random::{Random, Rng},
    secret::ZoneSecret,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::{journal::tests::config, start, store::sqlite};

const WITHIN: Duration = Duration::from_secs(10);
/// Mails that may wait for one player.
const MAIL_MAX: usize = 3;

/// A dc without links. It stores saves once an hour, so what a test finds after a kill was in the journal.
struct Dc {
    desk: Arc<Desk>,
    writer: JoinHandle<()>,
}

impl Dc {
    fn start(folder: &Path) -> Self {
        Self::start_with(folder, &config())
    }

    fn start_with(folder: &Path, config: &service::config::DcConfig) -> Self {
        let (desk, writer) = start::start(folder, config, MAIL_MAX, Rng::new(1), sqlite::open(folder).unwrap()).unwrap();
        Self { desk: Arc::new(desk), writer: tokio::spawn(writer.run()) }
    }

    /// As a kill leaves it: nothing more is stored, and the journal has what was written.
    async fn kill(self) {
        self.writer.abort();
        assert!(self.writer.await.is_err_and(|err| err.is_cancelled()));
    }

    fn desk(&self) -> Arc<Desk> {
        self.desk.clone()
    }

    async fn role(&self, account: u64, name: &str) -> u64 {
        let record = PlayerRecord { account, name: name.into(), map: "meadow".into(), coins: 100, ..PlayerRecord::default() };
        let created = self.desk().role_create(RoleCreate { record: Some(record), roles_max: 4 }).await.unwrap();
        created.role.unwrap().player
    }

    async fn claim(&self, player: u64) -> PlayerSave {
        let claim = PlayerClaim { player, owner: "scene-1/1".into() };
        let held = self.desk().claim(claim).await.unwrap().finish().await.unwrap();
        PlayerSave { player, owner: "scene-1/1".into(), epoch: held.epoch, version: held.version, record: held.record }
    }

    async fn commit(&self, durability: Durability, unit: &CommitUnit) -> UnitResult {
        let commit = Commit { units: vec![unit.clone()], durability: durability.into() };
        let committed = self.desk().commit(commit).await.unwrap().finish().await.unwrap();
        assert_eq!(committed.durability(), durability);
        committed.units.into_iter().next().unwrap()
    }

    async fn profile(&self, player: u64) -> PlayerProfile {
        self.desk().profile_find(ProfileFind { player, name: String::new() }).await.unwrap()
    }
}

/// A dc with the account `alice` and its roles Ann (1) and Bo (2).
async fn started() -> (TempDir, Dc) {
    let folder = tempfile::tempdir().unwrap();
    let dc = Dc::start(folder.path());
    let account = dc.desk().account_create(AccountCreate { name: "Alice".into(), password_hash: "hash".into() }).await.unwrap();
    assert_eq!((account.account, account.name.as_str()), (1, "alice"));
    assert_eq!((dc.role(1, "Ann").await, dc.role(1, "Bo").await), (1, 2));
    (folder, dc)
}

/// The next save of a player, changed.
fn next(save: &PlayerSave, change: impl FnOnce(&mut PlayerRecord)) -> PlayerSave {
    let mut next = PlayerSave { version: save.version + 1, ..save.clone() };
    change(next.record.as_mut().unwrap());
    next
}

fn plain(save: PlayerSave) -> CommitUnit {
    CommitUnit { id: Default::default(), saves: vec![save], ..CommitUnit::default() }
}

fn item(id: u8) -> Item {
    Item { id: vec![id; 16].into(), kind: "sword".into(), count: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_as_durable_is_there_after_a_kill() {
    let (folder, dc) = started().await;
    let (ann, bo) = (dc.claim(1).await, dc.claim(2).await);
    let (ann, bo) = (next(&ann, |ann| ann.coins = 70), next(&bo, |bo| (bo.coins, bo.items) = (130, vec![item(7)])));
    let trade = CommitUnit { id: vec![1; 16].into(), saves: vec![ann.clone(), bo], ..CommitUnit::default() };
    assert_eq!(dc.commit(Durability::D2, &trade).await, UnitResult::default());
    let walked = next(&ann, |ann| ann.position = Some(Position { x: 5, y: 5 }));
    assert_eq!(dc.commit(Durability::D0, &plain(walked.clone())).await, UnitResult::default());
    dc.kill().await;

    let dc = Dc::start(folder.path());
    let (ann, bo) = (dc.profile(1).await, dc.profile(2).await);
    assert_eq!((ann.owner.as_str(), ann.epoch, ann.version), ("scene-1/1", 1, 3), "the D0 save was written, if not synced");
    assert_eq!((ann.record.unwrap().coins, bo.record.unwrap().items.len()), (70, 1));
    assert_eq!(dc.commit(Durability::D2, &trade).await, UnitResult::default(), "its resend is harmless");
    let onward = next(&walked, |ann| ann.coins = 60);
    assert_eq!(dc.commit(Durability::D2, &plain(onward)).await, UnitResult::default(), "its owner goes on from what it was told");
    assert_eq!(dc.profile(1).await.version, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_stores_what_was_in_memory() {
    let (folder, dc) = started().await;
    let walked = next(&dc.claim(1).await, |ann| ann.level = 9);
    dc.commit(Durability::D0, &plain(walked)).await;
    dc.desk.shared.close().await.unwrap();
    assert_eq!(dc.desk().claim(PlayerClaim { player: 1, owner: "b".into() }).await.err().unwrap().code(), CallFaultCode::CallUnavailable);
    drop(dc);
    assert_eq!(Dc::start(folder.path()).profile(1).await.record.unwrap().level, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_of_a_player_who_is_not_in_memory_is_not_given_twice() {
    let (folder, dc) = started().await;
    let armed = next(&dc.claim(1).await, |ann| ann.items = vec![item(7)]);
    dc.commit(Durability::D2, &plain(armed)).await;
    dc.kill().await;
    let dc = Dc::start(folder.path());
    let doubled = next(&dc.claim(2).await, |bo| bo.items = vec![item(7)]);
    assert_eq!(dc.commit(Durability::D2, &plain(doubled)).await.refused(), CallFaultCode::CallInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_listed_as_they_are_now_and_deleted_only_out_of_the_world() {
    let (folder, dc) = started().await;
    let walked = next(&dc.claim(1).await, |ann| (ann.level, ann.position) = (5, Some(Position { x: 1, y: 2 })));
    dc.commit(Durability::D0, &plain(walked.clone())).await;
    let roles = dc.desk().role_list(RoleListCall { account: 1 }).await.unwrap().roles;
    assert_eq!((roles.len(), roles[0].level, roles[0].position), (2, 5, Some(Position { x: 1, y: 2 })));

    let delete = |player, account| dc.desk().role_delete(RoleDelete { player, account });
    assert_eq!(delete(1, 1).await.err().unwrap().code(), CallFaultCode::CallStaleOwner);
    assert_eq!(delete(2, 9).await.err().unwrap().code(), CallFaultCode::CallNotFound);
    let release = PlayerRelease { save: Some(next(&walked, |ann| ann.seen_ms = 3)) };
    dc.desk().release(release.clone()).await.unwrap().finish().await.unwrap();
    dc.desk().release(release).await.unwrap().finish().await.unwrap();
    delete(1, 1).await.unwrap().finish().await.unwrap();
    assert_eq!(delete(1, 1).await.err().unwrap().code(), CallFaultCode::CallNotFound);
    assert_eq!(dc.role(1, "ANN").await, 3, "the name is free, the number is not");
    dc.kill().await;
    let roles = Dc::start(folder.path()).desk().role_list(RoleListCall { account: 1 }).await.unwrap().roles;
    assert_eq!(roles.iter().map(|role| role.player).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_one_call_are_independent() {
    let (_folder, dc) = started().await;
    let (ann, bo) = (dc.claim(1).await, dc.claim(2).await);
    let stale = PlayerSave { epoch: 9, ..next(&ann, |ann| ann.coins = 1) };
    let units = vec![plain(stale), plain(next(&bo, |bo| bo.coins = 2)), plain(PlayerSave { player: 99, ..next(&bo, |_| ()) })];
    let committed = dc.desk().commit(Commit { units, durability: Durability::D1.into() }).await.unwrap().finish().await.unwrap();
    let refused: Vec<_> = committed.units.iter().map(UnitResult::refused).collect();
    assert_eq!(refused, [CallFaultCode::CallStaleOwner, CallFaultCode::Unspecified, CallFaultCode::CallNotFound]);
    assert_eq!(committed.durability(), Durability::D1);
}

/// A dc that takes links, and the links of a scene to it.
async fn linked(desk: Arc<Desk>) -> (Links, Links) {
    let member = |id: &str, kind, link: SocketAddr| Member { id: ProcessId(id.into()), kind, host: None, link };
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = |id: &str, kind, dc: SocketAddr| LinkConfig {
        id: ProcessId(id.into()),
        kind,
        incarnation: 1,
        zone: "test".into(),
        listen: any,
        secret: ZoneSecret::new(b"a secret of tests"),
        members: Members::new(vec![member("scene-1", ProcessKind::Scene, any), member("dc-1", ProcessKind::Dc, dc)]).1,
        random: Random::new(1),
        tasks: Tasks::new(),
    };
    let dc = Links::start_with(config("dc-1", ProcessKind::Dc, any), Arc::new(Calls::new(Tasks::new(), desk))).await.unwrap();
    let scene = Links::start_with(config("scene-1", ProcessKind::Scene, dc.local_addr()), Arc::new(Silent)).await.unwrap();
    (dc, scene)
}

/// A scene that is asked nothing.
struct Silent;

impl Handler for Silent {
    async fn on_up(&self, _: &Link) {}
    async fn on_down(&self, _: &Link) {}
    async fn on_frame(&self, _: &Link, _: LinkFrame) {}
    async fn on_call(&self, _: &Link, call: IncomingCall) {
        call.unknown();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_is_played_and_handed_over_by_calls() {
    let (_folder, dc) = started().await;
    let (_dc_links, scene) = linked(dc.desk()).await;
    let link = scene.wait(ProcessKind::Dc, WITHIN).await.unwrap();
    let owner = || "scene-1/1".to_owned();

    let held = link.call(&PlayerClaim { player: 1, owner: owner() }, WITHIN).await.unwrap();
    let start = PlayerSave { player: 1, owner: owner(), epoch: held.epoch, version: held.version, record: held.record };
    let saves: Vec<PlayerSave> =
        (1..=4u32).map(|n| PlayerSave { version: start.version + u64::from(n), ..next(&start, |ann| ann.level = n) }).collect();
    let commit = |save: &PlayerSave, class: Durability| Commit { units: vec![plain(save.clone())], durability: class.into() };
    let calls = [(0, Durability::D2), (1, Durability::D0), (2, Durability::D2)].map(|(n, class)| commit(&saves[n], class));
    // Sent one after the other without waiting: saves of a player stay in order whatever they wait for.
    let (one, two, three) = tokio::join!(biased; link.call(&calls[0], WITHIN), link.call(&calls[1], WITHIN), link.call(&calls[2], WITHIN));
    for committed in [one, two, three] {
        assert_eq!(committed.unwrap().units, [UnitResult::default()]);
    }

    let handoff = PlayerHandoff { save: Some(saves[3].clone()), to: "scene-2/5".into() };
    assert_eq!(link.call(&handoff, WITHIN).await.unwrap().epoch, 2);
    assert_eq!(link.call(&handoff, WITHIN).await.unwrap().epoch, 2, "done twice is done once");
    let take = |owner: &str, epoch| PlayerTake { player: 1, owner: owner.into(), epoch };
    let taken = link.call(&take("scene-2/5", 2), WITHIN).await.unwrap();
    assert_eq!((taken.version, taken.record.unwrap().level), (5, 4));
    assert_eq!(code(link.call(&take("scene-1/1", 1), WITHIN).await), CallFaultCode::CallStaleOwner);
    let profile = link.call(&ProfileFind { name: "aNN".into(), player: 0 }, WITHIN).await.unwrap();
    assert_eq!((profile.player, profile.owner.as_str(), profile.account_name.as_str()), (1, "scene-2/5", "alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_people_and_gms_are_served_by_calls() {
    let (_folder, dc) = started().await;
    let (_dc_links, scene) = linked(dc.desk()).await;
    let link = scene.wait(ProcessKind::Dc, WITHIN).await.unwrap();

    let again = AccountCreate { name: "ALICE".into(), password_hash: "x".into() };
    assert_eq!(code(link.call(&again, WITHIN).await), CallFaultCode::CallNameTaken);
    assert_eq!(code(link.call(&AccountCreate { name: "!".into(), ..again }, WITHIN).await), CallFaultCode::CallInvalid);
    let record = Some(PlayerRecord { account: 1, name: "bO".into(), ..PlayerRecord::default() });
    assert_eq!(code(link.call(&RoleCreate { record, roles_max: 4 }, WITHIN).await), CallFaultCode::CallNameTaken);

    let ban = Sanction { kind: SanctionKind::Ban.into(), address: "10.0.0.1".into(), reason: "bot".into(), ..Sanction::default() };
    let added = link.call(&SanctionAdd { sanction: Some(ban) }, WITHIN).await.unwrap();
    let find = |name: &str, address: &str| AccountFind { name: name.into(), address: address.into() };
    let nobody = link.call(&find("nobody", "10.0.0.1"), WITHIN).await.unwrap();
    assert_eq!((nobody.account, nobody.sanctions), (0, added.sanctions));
    let alice = link.call(&find("Alice", "10.0.0.2"), WITHIN).await.unwrap();
    assert_eq!((alice.account, alice.password_hash.as_str(), alice.sanctions.len()), (1, "hash", 0));
    let lift = SanctionLift { kind: SanctionKind::Ban.into(), account: 0, address: "10.0.0.1".into(), by: "gm".into() };
    assert_eq!(link.call(&lift, WITHIN).await.unwrap().sanctions.len(), 1);
    assert!(link.call(&SanctionList::default(), WITHIN).await.unwrap().sanctions.is_empty());

    let befriend = RelationSet { player: 1, other: 2, relation: Relation::Friend.into(), relations_max: 9 };
    assert_eq!(link.call(&befriend, WITHIN).await.unwrap().outgoing[0].name, "Bo");
    assert_eq!(link.call(&RelationList { player: 2 }, WITHIN).await.unwrap().befriended_by, [1]);

    let gm = GmAccountCreate { name: "root".into(), password_hash: "x".into(), role: "admin".into() };
    link.call(&gm, WITHIN).await.unwrap();
    assert_eq!(link.call(&GmAccountFind { name: "root".into() }, WITHIN).await.unwrap().role, "admin");
    let record = AuditRecord { by: "root".into(), command: "kick".into(), ..AuditRecord::default() };
    let appended = link.call(&AuditAppend { record: Some(record) }, WITHIN).await.unwrap();
    let id = appended.records[0].id;
    link.call(&AuditOutcome { id, outcome: "gone".into() }, WITHIN).await.unwrap();
    let listed = link.call(&AuditList { limit: 5, ..AuditList::default() }, WITHIN).await.unwrap();
    assert_eq!((listed.records.len(), listed.records[0].id, listed.records[0].outcome.as_str()), (1, id, "gone"));
    assert_eq!(code(link.call(&LinePick::default(), WITHIN).await), CallFaultCode::CallUnknown);
}

fn code<T: std::fmt::Debug>(result: Result<T, CallError>) -> CallFaultCode {
    result.unwrap_err().code().expect("the call was refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refused_is_read_only_after_a_restart_too() {
    let (folder, dc) = started().await;
    let newest = next(&dc.claim(1).await, |ann| ann.coins = 70);
    dc.desk.shared.close().await.unwrap();
    drop(dc);
    let mut opened = sqlite::open(folder.path()).unwrap();
    let (record, owner) = (Arc::new(newest.record.unwrap()), "scene-1/1".into());
    let (epoch, version, revision) = (newest.epoch, newest.version, 3);
    let row = crate::store::Row { player: 1, record, owner, epoch, version, revision, lsn: 3, items_changed: false, deleted: false };
    opened.store.set_aside(&crate::store::Batch { rows: vec![row], ..Default::default() }, "of a test").unwrap();
    drop(opened);
    let dc = Dc::start(folder.path());
    assert_eq!((dc.profile(1).await.version, dc.profile(1).await.record.unwrap().coins), (2, 70), "what was acknowledged is shown");
    let refused = dc.desk().claim(PlayerClaim { player: 1, owner: "scene-2/1".into() }).await.err().unwrap();
    assert!(refused.code() == CallFaultCode::CallUnavailable && refused.to_string().contains("read-only"), "{refused}");
    assert_eq!(dc.desk().show("ann").await.unwrap()["read_only"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_is_shown_with_where_it_is_safe() {
    let (_folder, dc) = started().await;
    let saved = next(&dc.claim(1).await, |ann| (ann.coins, ann.items) = (70, vec![item(7)]));
    dc.commit(Durability::D2, &plain(saved)).await;
    let shown = dc.desk().show("aNN").await.unwrap();
    assert_eq!(
        (&shown["name"], &shown["owner"], &shown["epoch"], &shown["version"]),
        (&"Ann".into(), &"scene-1/1".into(), &1.into(), &2.into())
    );
    assert_eq!(shown["safe"], "safe up to version 2 in journal, 1 in database");
    assert_eq!((&shown["record"]["coins"], &shown["record"]["items"][0]["kind"]), (&70.into(), &"sword".into()));
    dc.desk().account_create(AccountCreate { name: "bob".into(), password_hash: "x".into() }).await.unwrap();
    assert_eq!(dc.desk().show("1").await.unwrap()["safe"], "safe up to version 2 in journal, 2 in database", "a command brought a batch");
    assert_eq!(dc.desk().show("nobody").await.unwrap_err().code(), CallFaultCode::CallNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_d0_first_and_takes_again_what_the_store_makes_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let small = service::config::DcConfig { journal_bytes_max: 40_000, journal_segment_bytes: 4_000, ..config() };
    let dc = Dc::start_with(folder.path(), &small);
    dc.desk().account_create(AccountCreate { name: "alice".into(), password_hash: "hash".into() }).await.unwrap();
    dc.role(1, "Ann").await;
    let mut save = dc.claim(1).await;
    let (mut taken, mut last) = ([0, 0], None);
    while taken[0] + taken[1] < 500 {
        save = next(&save, |ann| ann.rules = vec![7; 500].into());
        let d0_is_taken = dc.desk.shared.look(|state| state.admit(Durability::D0).is_ok());
        let result = dc.commit(Durability::D2, &plain(save.clone())).await;
        if result.refused() != CallFaultCode::Unspecified {
            last = Some((d0_is_taken, result));
            break;
        }
        taken[usize::from(!d0_is_taken)] += 1;
    }
    let (d0_is_taken, refused) = last.expect("the quota holds");
    assert!(!d0_is_taken && 0 < taken[0] && 0 < taken[1], "D0 was refused while D2 was taken: {taken:?}");
    assert!(refused.refused() == CallFaultCode::CallUnavailable && refused.text.contains("the store is behind"), "{}", refused.text);
    assert_eq!(dc.commit(Durability::D0, &plain(save.clone())).await.refused(), CallFaultCode::CallUnavailable);
    assert_eq!(dc.profile(1).await.version, save.version - 1, "reads go on");

    dc.desk().account_create(AccountCreate { name: "bob".into(), password_hash: "x".into() }).await.unwrap();
    while dc.desk.shared.look(|state| state.admit(Durability::D0).is_err()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(dc.commit(Durability::D2, &plain(save)).await, UnitResult::default());
}
