//! The whole process: starts, is ready, serves a call, stops with everything stored, and starts again.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use proto::{
    internal::{AccountCreate, AccountFind, PlayerClaim, RoleCreate},
    link::LinkFrame,
    record::PlayerRecord,
};
use service::{Handler, IncomingCall, Link, Links, Process, ProcessId, ProcessKind, Zone, link::LinkConfig};

const WITHIN: Duration = Duration::from_secs(10);

/// A login that is asked nothing.
struct Silent;

impl Handler for Silent {
    async fn on_up(&self, _: &Link) {}
    async fn on_down(&self, _: &Link) {}
    async fn on_frame(&self, _: &Link, _: LinkFrame) {}
    async fn on_call(&self, _: &Link, call: IncomingCall) {
        call.unknown();
    }
}

/// The development zone with dc and login on free ports.
fn zone(data: &Path) -> Zone {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/zone.yaml");
    let mut zone = Zone::load(&file, data).unwrap();
    zone.processes.retain(|id, _| ["dc-1", "login-1"].contains(&id.0.as_str()));
    for process in zone.processes.values_mut() {
        (process.link, process.admin) = (free(), free());
    }
    zone
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs dc while `with` does its work, and stops it.
async fn while_running<F: Future<Output = ()>>(zone: &Zone, data: &Path, with: impl FnOnce(Links) -> F) {
    let process = Process::for_test(zone, "dc-1", data);
    let running = tokio::spawn(dc::run(process.clone()));
    process.ready.ready().await;
    let login = Process::for_test(zone, "login-1", data);
    let links = Links::start_with(LinkConfig::of(&login), Arc::new(Silent)).await.unwrap();
    with(links).await;
    process.tasks.stop_token().cancel();
    running.await.unwrap().unwrap();
    process.tasks.stop(WITHIN).await.unwrap();
    login.tasks.stop(WITHIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dc_starts_serves_stops_and_finds_everything_again() {
    let data = tempfile::tempdir().unwrap();
    let zone = zone(data.path());
    assert!(zone.processes.contains_key(&ProcessId("dc-1".into())));
    while_running(&zone, data.path(), async |links| {
        let create = AccountCreate { name: "alice".into(), password_hash: "hash".into() };
        links.call(ProcessKind::Dc, &create, WITHIN).await.unwrap();
    })
    .await;
    while_running(&zone, data.path(), async |links| {
        let find = AccountFind { name: "alice".into(), address: String::new() };
        assert_eq!(links.call(ProcessKind::Dc, &find, WITHIN).await.unwrap().password_hash, "hash");
    })
    .await;
}

/// The status line's code and the body of a GET.
fn get(address: SocketAddr, path: &str) -> (String, serde_json::Value) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().into(), serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_a_player_how_dc_stands_and_what_the_journal_holds() {
    let data = tempfile::tempdir().unwrap();
    let zone = zone(data.path());
    let admin = zone.processes[&ProcessId("dc-1".into())].admin;
    while_running(&zone, data.path(), async |links| {
        let create = AccountCreate { name: "alice".into(), password_hash: "hash".into() };
        let account = links.call(ProcessKind::Dc, &create, WITHIN).await.unwrap().account;
        let record = PlayerRecord { account, name: "Ann".into(), coins: 5, ..PlayerRecord::default() };
        links.call(ProcessKind::Dc, &RoleCreate { record: Some(record), roles_max: 4 }, WITHIN).await.unwrap();
        links.call(ProcessKind::Dc, &PlayerClaim { player: 1, owner: "scene-1/1".into() }, WITHIN).await.unwrap();
        tokio::task::spawn_blocking(move || {
            let (code, shown) = get(admin, "/players/ann");
            assert_eq!((code.as_str(), &shown["owner"], &shown["epoch"]), ("200", &"scene-1/1".into(), &1.into()), "{shown}");
            assert_eq!(shown["safe"], "safe up to version 1 in journal, 1 in database");
            assert_eq!(get(admin, "/players/nobody").0, "404");
            let detail = get(admin, "/status").1["detail"].clone();
            assert_eq!((&detail["synced_lsn"], &detail["journal_segments"]), (&1.into(), &1.into()), "{detail}");
            assert!(0 < detail["journal_bytes"].as_u64().unwrap() && detail["sync_us"]["max"].is_u64(), "{detail}");
        })
        .await
        .unwrap();
    })
    .await;
    let report = dc::journal::verify(&data.path().join("dc-1")).unwrap();
    assert!(report.is_sound() && report.torn.is_none());
    assert_eq!((report.changes, report.last, report.epoch), (1, 1, 1));
}
