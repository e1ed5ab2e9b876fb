//! Real gates, each in a process of its own, with made-up backends over real links, in a folder that is removed afterwards.

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

use super::backends::{self, Backends};
use crate::{bench::process::Usage, http};

/// The zone of benchmarks.
const ZONE: &str = "bench";
const ZONE_FILE: &str = "zone.yaml";
const SECRET: &[u8] = b"a secret of benchmarks";
/// As many as a zone file may allow.
pub(crate) const ACCEPTS_PER_S_MAX: u32 = 1_000_000;
/// Whatever has to come about must have by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client that walks among others is sent in a tick: bytes of one frame.
pub(crate) const WALKING_BYTES: usize = 450;

/// The gates and their backends.
pub(crate) struct Rig {
    gates: Vec<Gate>,
    backends: Arc<Backends>,
    settled: mpsc::Receiver<()>,
    runtime: Runtime,
    tasks: Tasks,
    _links: Vec<Links>,
    folder: tempfile::TempDir,
}

struct Gate {
    process: Child,
    ports: Ports,
}

/// Where a gate listens.
struct Ports {
    id: ProcessId,
    clients: SocketAddr,
    link: SocketAddr,
    admin: SocketAddr,
}

impl Rig {
    /// Starts a gate for so many clients, which lets in so many in a second.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) fn start(clients: u32, accepts_per_s: u32) -> anyhow::Result<Self> {
        Self::start_gates(1, clients, accepts_per_s)
    }

    /// As [`Rig::start`], with so many gates for the clients to spread over.
    ///
    /// # Errors
    /// When one of them does not become ready.
    pub(crate) fn start_gates(gates: u32, clients: u32, accepts_per_s: u32) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("start the runtime")?;
        let (backends, settled) = Backends::new(clients);
        let (backends, tasks) = (Arc::new(backends), Tasks::new());
        let ports = free_ports(gates)?;
        let ids: Vec<ProcessId> = ports.iter().map(|ports| ports.id.clone()).collect();
        let kinds = [ProcessKind::Login, ProcessKind::Center, ProcessKind::Scene, ProcessKind::Logsvc];
        let links = runtime.block_on(async {
            let mut links = Vec::new();
            for kind in kinds {
                let config = backends::link_config(kind, &ids, ZONE, SECRET, &tasks)?;
                links.push(backends::start(config, &backends).await?);
            }
            anyhow::Ok(links)
        })?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let mut file = head(clients.div_ceil(gates), accepts_per_s, &ports);
        // Nobody asks the backends how they are, but no two entries may have one port.
        for (port, (kind, links)) in (1..).zip(kinds.iter().zip(&links)) {
            let maps = if *kind == ProcessKind::Scene { ", maps: [meadow]" } else { "" };
            file.push_str(&format!("  {kind}-1: {{ kind: {kind}, link: {}, admin: 127.0.0.1:{port}{maps} }}\n", links.local_addr()));
        }
        file.push_str("  dc-1: { kind: dc, link: 127.0.0.1:8, admin: 127.0.0.1:9, storage: sqlite }\n");
        service::fs::replace(&folder.path().join(ZONE_FILE), file.as_bytes(), 0o600).context("write the zone file")?;
        service::fs::replace(&folder.path().join("secret"), SECRET, 0o600).context("write the secret")?;
        let mut rig = Self { gates: Vec::new(), backends, settled, runtime, tasks, _links: links, folder };
        for ports in ports {
            rig.gates.push(Gate { process: spawn(rig.folder.path(), &ports.id)?, ports });
        }
        rig.until("the gates are ready", || Ok(rig.get("/readyz")?.iter().all(|answer| answer.status.is_success())))?;
        Ok(rig)
    }

    /// Where clients of the first gate connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.gates[0].ports.clients
    }

    /// Where clients connect.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.gates.iter().map(|gate| gate.ports.clients)
    }

    /// What the gates have used so far.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        self.gates.iter().try_fold(Usage::default(), |sum, gate| Ok(sum + Usage::of(gate.process.id())?))
    }

    /// A counter or gauge of the gates, its series added up; 0 if it has none.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        Ok(self.get("/metrics")?.iter().map(|answer| answer.metric(name)).sum())
    }

    /// A tick in which each client gets one frame of `bytes` from the group that it is in.
    pub(crate) fn tick(&self, tick: u64, bytes: usize) {
        let moves = moves(bytes);
        self.backends.groups().for_each(|group| self.backends.publish(group, &moves));
        self.backends.end_tick(tick);
    }

    /// Center says something to all.
    pub(crate) fn broadcast(&self, frame: &Frame) {
        self.backends.broadcast(frame);
    }

    /// Ends when the gates have handled all that the scene sent before.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        self.backends.ask_settled();
        self.gates.iter().try_for_each(|_| self.settled.recv_timeout(PATIENCE).context("wait for a gate to handle what was sent"))
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

    /// What each gate answers at its admin port.
    fn get(&self, path: &str) -> anyhow::Result<Vec<http::Answer>> {
        self.gates.iter().map(|gate| self.runtime.block_on(http::get(gate.ports.admin, path))).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for gate in &mut self.gates {
            _ = gate.process.kill();
            _ = gate.process.wait();
        }
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

/// The zone file down to its gates, each for so many clients and as many more.
fn head(clients: u32, accepts_per_s: u32, gates: &[Ports]) -> String {
    let mut file = format!(
        "zone: {ZONE}\nenvironment: dev\nsecret: {{ file: secret }}\n\
         world:\n  start: {{ map: meadow, x_m: 1, y_m: 1 }}\n  maps:\n    meadow: {{ width_m: 100, height_m: 100, players_max: 2000 }}\n\
         processes:\n"
    );
    let sessions_max = clients.saturating_mul(2).max(1000);
    for Ports { id, clients, link, admin } in gates {
        file.push_str(&format!(
            "  {id}: {{ kind: gate, clients: {clients}, link: {link}, admin: {admin}, sessions_max: {sessions_max}, \
             connections_per_address_max: 1000000, accepts_per_s: {accepts_per_s} }}\n"
        ));
    }
    file
}

fn spawn(folder: &Path, id: &ProcessId) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe().context("find this program's file")?);
    command.args(["run", &id.0, "--parent", &std::process::id().to_string()]);
    command.arg("--zone").arg(folder.join(ZONE_FILE)).arg("--data").arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().with_context(|| format!("start {id}"))
}

/// Ports for so many gates that nobody has at the moment.
fn free_ports(gates: u32) -> anyhow::Result<Vec<Ports>> {
    // All are held until the last is found, or one would be found twice.
    let mut held = Vec::new();
    let mut next = || {
        let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let address = listener.local_addr().context("find a free port")?;
        held.push(listener);
        anyhow::Ok(address)
    };
    (1..=gates).map(|gate| Ok(Ports { id: ProcessId(format!("gate-{gate}")), clients: next()?, link: next()?, admin: next()? })).collect()
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
