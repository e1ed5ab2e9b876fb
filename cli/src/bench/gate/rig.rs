//! A real gate in a process of its own, with made-up backends over real links, in a folder that is removed afterwards.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use proto::{
    Frame,
    client::{CellMoves, WorldChatted},
};
use service::{Links, ProcessId, ProcessKind, tasks::Tasks};
use tokio::runtime::Runtime;

use super::backends::{self, ALL, Backends, CELLS_OF_CLIENT};
use crate::{bench::process::Usage, http};

/// The zone of benchmarks.
const ZONE: &str = "bench";
const SECRET: &[u8] = b"a secret of benchmarks";
/// As many as a zone file may allow.
pub(crate) const ACCEPTS_PER_S_MAX: u32 = 1_000_000;
/// Whatever has to come about must have by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// The gate and its backends.
pub(crate) struct Rig {
    gate: Child,
    clients: SocketAddr,
    admin: SocketAddr,
    backends: Arc<Backends>,
    settled: mpsc::Receiver<()>,
    runtime: Runtime,
    tasks: Tasks,
    _links: Vec<Links>,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// Starts a gate for so many clients, which lets in so many in a second.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) fn start(clients: u32, accepts_per_s: u32) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("start the runtime")?;
        let (backends, settled) = Backends::new(clients);
        let (backends, tasks) = (Arc::new(backends), Tasks::new());
        let id = ProcessId("gate-1".into());
        let kinds = [ProcessKind::Login, ProcessKind::Center, ProcessKind::Scene, ProcessKind::Logsvc];
        let links = runtime.block_on(async {
            let mut links = Vec::new();
            for kind in kinds {
                let config = backends::link_config(kind, std::slice::from_ref(&id), ZONE, SECRET, &tasks)?;
                links.push(backends::start(config, &backends).await?);
            }
            anyhow::Ok(links)
        })?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let [clients_at, link_at, admin] = free_ports()?;
        let mut file = head(clients, clients_at, link_at, admin, accepts_per_s);
        // Nobody asks the backends how they are, but no two entries may have one port.
        for (port, (kind, links)) in (1..).zip(kinds.iter().zip(&links)) {
            let maps = if *kind == ProcessKind::Scene { ", maps: [meadow]" } else { "" };
            file.push_str(&format!("  {kind}-1: {{ kind: {kind}, link: {}, admin: 127.0.0.1:{port}{maps} }}\n", links.local_addr()));
        }
        file.push_str("  dc-1: { kind: dc, link: 127.0.0.1:8, admin: 127.0.0.1:9, storage: sqlite }\n");
        let gate = spawn(folder.path(), &file, &id)?;
        let rig = Self { gate, clients: clients_at, admin, backends, settled, runtime, tasks, _links: links, _folder: folder };
        rig.until("the gate is ready", || Ok(rig.get("/readyz")?.status.is_success()))?;
        Ok(rig)
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.clients
    }

    /// What the gate has used so far.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.gate.id())
    }

    /// A counter or gauge of the gate, its series added up; 0 if it has none.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let body = self.get("/metrics")?.body;
        let text = String::from_utf8_lossy(&body);
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        Ok(text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// A tick in which each client gets `bytes`: from one group that all are in, or from the nine cells that each sees.
    pub(crate) fn tick(&self, tick: u64, bytes: usize, cells: bool) {
        if cells {
            let moves = moves(bytes / usize::try_from(CELLS_OF_CLIENT).expect("nine"));
            (1..=self.backends.cells()).for_each(|cell| self.backends.publish(cell, &moves));
        } else {
            self.backends.publish(ALL, &moves(bytes));
        }
        self.backends.end_tick(tick);
    }

    /// Center says something to all.
    pub(crate) fn broadcast(&self, frame: &Frame) {
        self.backends.broadcast(frame);
    }

    /// Ends when the gate has handled all that the scene sent before.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        self.backends.ask_settled();
        self.settled.recv_timeout(PATIENCE).context("wait for the gate to handle what was sent")
    }

    /// Waits until something holds.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // What can't be asked yet does not hold yet.
        while !holds().unwrap_or(false) {
            if deadline < Instant::now() {
                bail!("{what}: not within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn get(&self, path: &str) -> anyhow::Result<http::Answer> {
        self.runtime.block_on(http::get(self.admin, path))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        _ = self.gate.kill();
        _ = self.gate.wait();
        _ = self.runtime.block_on(self.tasks.stop(Duration::from_secs(1)));
    }
}

/// A chat to all, whose text is the time, by [`stamp_us`].
pub(crate) fn chat() -> Frame {
    Frame::encode(0, &WorldChatted { from: "bench".into(), text: (stamp_us() | STAMP_TOP).to_string() })
}

/// A frame of positions of this length, or the shortest; its tick is the time, by [`stamp_us`].
pub(crate) fn moves(bytes: usize) -> Frame {
    let tick = stamp_us() | STAMP_TOP;
    let with = |padding| Frame::encode(0, &CellMoves { tick, moved: vec![1; padding].into() });
    let around = with(bytes).bytes().len() - bytes;
    with(bytes.saturating_sub(around))
}

/// Keeps all stamps as long as each other on the wire.
const STAMP_TOP: u32 = 1 << 31;

/// Wall clock in microseconds, without its high half: for times between processes of one machine.
fn stamp_us() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_micros() % u128::from(STAMP_TOP)).expect("31 bits")
}

/// Microseconds since a stamp of [`moves`].
pub(crate) fn age_us(stamp: u32) -> u64 {
    let now = u64::from(stamp_us() | STAMP_TOP);
    (now + u64::from(STAMP_TOP) - u64::from(stamp)) % u64::from(STAMP_TOP)
}

fn head(clients: u32, clients_at: SocketAddr, link: SocketAddr, admin: SocketAddr, accepts_per_s: u32) -> String {
    format!(
        "zone: {ZONE}\nenvironment: dev\nsecret: {{ file: secret }}\n\
         world:\n  start: {{ map: meadow, x_m: 1, y_m: 1 }}\n  maps:\n    meadow: {{ width_m: 100, height_m: 100, players_max: 2000 }}\n\
         processes:\n  gate-1: {{ kind: gate, clients: {clients_at}, link: {link}, admin: {admin}, sessions_max: {}, \
         connections_per_address_max: 1000000, accepts_per_s: {accepts_per_s} }}\n",
        clients.saturating_mul(2).max(1000)
    )
}

fn spawn(folder: &Path, file: &str, id: &ProcessId) -> anyhow::Result<Child> {
    let zone = folder.join("zone.yaml");
    service::fs::replace(&zone, file.as_bytes(), 0o600).context("write the zone file")?;
    service::fs::replace(&folder.join("secret"), SECRET, 0o600).context("write the secret")?;
    let mut command = Command::new(std::env::current_exe().context("find this program's file")?);
    command.args(["run", &id.0, "--parent", &std::process::id().to_string()]);
    command.arg("--zone").arg(&zone).arg("--data").arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().context("start the gate")
}

/// Ports that nobody has at the moment.
fn free_ports<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let held: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("find free ports")?;
    let addresses: Vec<SocketAddr> = held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().context("find free ports")?;
    Ok(addresses.try_into().expect("as many as were asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_have_the_length_that_is_asked_for() {
        for bytes in [64, 111, 200, 1000] {
            assert_eq!(moves(bytes).bytes().len(), bytes);
        }
        assert!(age_us(stamp_us() | STAMP_TOP) < 10_000_000);
    }
}
