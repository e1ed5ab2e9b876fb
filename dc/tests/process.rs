//! The whole process: starts, is ready, serves a call, stops with everything stored, and starts again.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use proto::{
    internal::{AccountCreate, AccountFind},
    link::LinkFrame,
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
