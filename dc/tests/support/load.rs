//! A dc on a database, and scenes that save to it as fast as it answers and write down what was acknowledged.
//!
//! Players are in pairs. Every save of a pair is one unit with an id of its own, class D2: a coin goes from the first to the second, and an
//! item that only this pair has goes to and fro. So what was lost, done twice or done by half is seen in the database at the end.
#![allow(dead_code, reason = "every test that takes this file in uses another part of it")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::{
    client::Item,
    internal::{AccountCreate, Commit, CommitUnit, Durability, PlayerClaim, PlayerSave, RoleCreate},
    link::LinkFrame,
    record::PlayerRecord,
};
use service::{Handler, IncomingCall, Link, Links, Process, ProcessKind, Zone, link::LinkConfig};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// No single step takes longer.
pub const WITHIN: Duration = Duration::from_secs(40);
/// Coins of a player at the start.
pub const COINS: u64 = 1_000_000;
const OWNER: &str = "scene-1/1";

/// A dc that runs, and a link to it.
pub struct Dc {
    pub links: Links,
    process: Process,
    scene: Process,
    running: JoinHandle<anyhow::Result<()>>,
    admin: SocketAddr,
}

impl Dc {
    /// Starts dc with its data in `data`, on the database of this URL, and waits until it serves.
    pub async fn start(data: &Path, url: &str) -> Self {
        let zone = zone(data, url);
        let process = Process::for_test(&zone, "dc-1", data);
        let mut running = tokio::spawn(dc::run(process.clone()));
        tokio::select! {
            () = process.ready.ready() => (),
            ended = &mut running => panic!("dc ended: {ended:?}"),
        }
        let scene = Process::for_test(&zone, "scene-1", data);
        let links = Links::start_with(LinkConfig::of(&scene), Arc::new(Silent)).await.unwrap();
        let admin = process.config.admin;
        Self { links, process, scene, running, admin }
    }

    /// Whether dc says that its store fails.
    pub fn fails(&self) -> bool {
        let mut text = String::new();
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET /status HTTP/1.1\r\nHost: dc\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("\"store_failing\":"), "{text}");
        !text.contains("\"store_failing\":null")
    }

    /// Stops dc as an operator does; it has stored everything then.
    pub async fn stop(self) {
        self.process.tasks.stop_token().cancel();
        tokio::time::timeout(WITHIN, self.running).await.expect("dc stops").unwrap().unwrap();
        self.process.tasks.stop(WITHIN).await.unwrap();
        self.scene.tasks.stop(WITHIN).await.unwrap();
    }
}

/// The development zone, of which only dc and a scene are started.
fn zone(data: &Path, url: &str) -> Zone {
    std::fs::write(data.join("mysql-url"), url).unwrap();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/zone.yaml")).unwrap();
    let storage = "storage: mysql, flush_period_s: 0.05, mysql: { url_file: mysql-url, connections_max: 3, statement_timeout_s: 2 }";
    let file = data.join("zone.yaml");
    assert!(text.contains("storage: sqlite"));
    std::fs::write(&file, text.replace("storage: sqlite", storage)).unwrap();
    let mut zone = Zone::load(&file, data).unwrap();
    zone.processes.retain(|id, _| ["dc-1", "scene-1"].contains(&id.0.as_str()));
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for process in zone.processes.values_mut() {
        (process.link, process.admin) = (free(), free());
    }
    zone
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

/// Pairs of players that are being saved.
pub struct Load {
    pub data: TempDir,
    pairs: Vec<JoinHandle<Pair>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    acknowledged: AtomicU64,
    /// Bytes that each record has beside what it needs.
    ballast: AtomicUsize,
}

/// What was acknowledged of a pair.
pub struct Pair {
    pub players: [u64; 2],
    pub units: u64,
    saves: [PlayerSave; 2],
    /// Why nothing more was taken.
    pub refused: Option<String>,
}

impl Load {
    /// Makes the players, and begins.
    pub async fn start(dc: &Dc, data: TempDir, pairs: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = Vec::new();
        for n in 1..=pairs {
            let mut pair = Pair::make(&dc.links, n).await;
            let (links, shared) = (dc.links.clone(), shared.clone());
            tasks.push(tokio::spawn(async move {
                while !shared.ends.load(Ordering::SeqCst) && pair.refused.is_none() {
                    pair.save(&links, shared.ballast.load(Ordering::SeqCst)).await;
                    shared.acknowledged.fetch_add(1, Ordering::SeqCst);
                    // As fast as a busy player, not as fast as the machine.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                pair
            }));
        }
        Self { data, pairs: tasks, shared }
    }

    /// Waits until so many more units were acknowledged.
    pub async fn more(&self, units: u64) {
        let until = self.shared.acknowledged.load(Ordering::SeqCst) + units;
        eventually("units are acknowledged", || until <= self.shared.acknowledged.load(Ordering::SeqCst)).await;
    }

    /// How many pairs are saved no more, as nothing more was taken of them.
    pub fn ended(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.is_finished()).count()
    }

    /// From now on every record has so many bytes more.
    pub fn ballast(&self, bytes: usize) {
        self.shared.ballast.store(bytes, Ordering::SeqCst);
    }

    /// Ends the load; returns what was acknowledged.
    pub async fn end(self) -> (TempDir, Vec<Pair>) {
        self.shared.ends.store(true, Ordering::SeqCst);
        let mut pairs = Vec::new();
        for pair in self.pairs {
            pairs.push(tokio::time::timeout(WITHIN, pair).await.expect("the pair ends").unwrap());
        }
        (self.data, pairs)
    }
}

impl Pair {
    async fn make(links: &Links, n: u64) -> Self {
        let create = AccountCreate { name: format!("account{n}"), password_hash: "hash".into() };
        let account = links.call(ProcessKind::Dc, &create, WITHIN).await.unwrap().account;
        let mut saves = Vec::new();
        for name in ["Ann", "Bo"] {
            let name = format!("{name}{n}");
            let record = PlayerRecord { account, name, map: "meadow".into(), coins: COINS, ..PlayerRecord::default() };
            let made = links.call(ProcessKind::Dc, &RoleCreate { record: Some(record), roles_max: 4 }, WITHIN).await.unwrap();
            let player = made.role.unwrap().player;
            let held = links.call(ProcessKind::Dc, &PlayerClaim { player, owner: OWNER.into() }, WITHIN).await.unwrap();
            saves.push(PlayerSave { player, owner: OWNER.into(), epoch: held.epoch, version: held.version, record: held.record });
        }
        let saves: [PlayerSave; 2] = saves.try_into().unwrap();
        let players = [saves[0].player, saves[1].player];
        Self { players, units: 0, saves, refused: None }
    }

    /// The next unit, sent again until it is answered.
    async fn save(&mut self, links: &Links, ballast: usize) {
        let mut next = self.saves.clone();
        let number = self.units + 1;
        let item = Item { id: u128::from(self.players[0]).to_be_bytes().to_vec().into(), kind: "sword".into(), count: 1 };
        for (n, save) in next.iter_mut().enumerate() {
            save.version += 1;
            let record = save.record.as_mut().unwrap();
            record.coins = if n == 0 { COINS - number } else { COINS + number };
            record.items = if number % 2 == n as u64 { vec![item.clone()] } else { Vec::new() };
            record.rules = vec![7; ballast].into();
        }
        let id = (u128::from(self.players[0]) << 64 | u128::from(number)).to_be_bytes().to_vec();
        let unit = CommitUnit { id: id.into(), saves: next.to_vec(), ..CommitUnit::default() };
        let commit = Commit { units: vec![unit], durability: Durability::D2.into() };
        let started = std::time::Instant::now();
        loop {
            let answer = links.call(ProcessKind::Dc, &commit, Duration::from_secs(5)).await;
            match answer.map(|committed| committed.units.into_iter().next().unwrap()) {
                Ok(result) if result == Default::default() => break,
                Ok(result) if result.text.contains("read-only") => {
                    self.refused = Some(result.text);
                    return;
                }
                other => assert!(started.elapsed() < WITHIN, "the unit is not taken: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (self.saves, self.units) = (next, number);
    }

    /// The rows that the database must have at the end: player, version and coins.
    pub fn rows(&self) -> Vec<String> {
        let row = |save: &PlayerSave| format!("{}\t{}\t{}", save.player, save.version, save.record.as_ref().unwrap().coins);
        self.saves.iter().map(row).collect()
    }

    /// The item, and who has it at the end.
    pub fn item(&self) -> String {
        let holder = self.saves.iter().find(|save| !save.record.as_ref().unwrap().items.is_empty()).unwrap();
        format!("{:032X}\t{}", self.players[0], holder.player)
    }

    pub fn version(&self) -> u64 {
        self.saves[0].version
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < WITHIN, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
