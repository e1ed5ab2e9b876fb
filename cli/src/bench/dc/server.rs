//! The dc that is measured: this program's own `run dc-1`, with a zone file of its own, and links to it as its scenes have them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use proto::link::LinkFrame;
use serde_json::Value;
use service::{
    Handler, IncomingCall, Link, Links, ProcessId, ProcessKind, Zone,
    config::{self, DEV_ZONE},
    link::LinkConfig,
    members::Members,
    random::Random,
    secret::ZoneSecret,
    tasks::Tasks,
};
use tokio::{process::Child, time::Instant};

use crate::{bench::process::Usage, http};

/// The process that is measured.
const DC: &str = "dc-1";
/// How long it may take to start, which includes the replay of a long journal.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How often it is asked whether it serves.
const POLL_PERIOD: Duration = Duration::from_millis(5);
/// How long the links may take.
const LINKS_WITHIN: Duration = Duration::from_secs(10);

/// How a dc is set up.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    /// The program that is measured.
    pub program: &'a Path,
    /// The zone's folder.
    pub data: &'a Path,
    /// How many scenes have links to it: one each.
    pub scenes: usize,
    /// More keys of dc in the zone file, its store among them.
    pub keys: &'a str,
}

/// A dc that runs. It is killed when dropped.
pub(super) struct Server {
    child: Child,
    pid: u32,
    zone: Zone,
    data: PathBuf,
    /// From the start of the program until it served.
    pub ready_after: Duration,
}

impl Server {
    /// Starts it, and waits until it serves.
    pub(super) async fn start(setup: Setup<'_>) -> anyhow::Result<Self> {
        let Setup { program, data, .. } = setup;
        let (zone, file) = write_zone(setup)?;
        ZoneSecret::load(&zone, data)?;
        let mut command = tokio::process::Command::new(program);
        command.args(["run", DC, "--parent", &std::process::id().to_string()]);
        command.arg("--zone").arg(&file).arg("--data").arg(data);
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let pid = child.id().context("start dc: it has no process id")?;
        let mut server = Self { child, pid, zone, data: data.into(), ready_after: Duration::ZERO };
        while !server.is_ready().await {
            if let Some(status) = server.child.try_wait().context("watch dc")? {
                bail!("start dc: it ended with {status}; its log: {}", server.log());
            }
            ensure!(started.elapsed() < START_WITHIN, "start dc: it is not ready after {} s", START_WITHIN.as_secs());
            tokio::time::sleep(POLL_PERIOD).await;
        }
        server.ready_after = started.elapsed();
        Ok(server)
    }

    /// What its admin port says.
    pub(super) async fn status(&self) -> anyhow::Result<Value> {
        self.get("/status").await?.json()
    }

    /// Its counters, as they are now.
    pub(super) async fn counters(&self) -> anyhow::Result<Counters> {
        let status = self.status().await?; // which brings the counters up to date
        let metrics = self.get("/metrics").await?;
        let usage = Usage::of(self.pid)?;
        let of = |name: &str| metrics.metric(name);
        Ok(Counters {
            saves: of("paifang_dc_saves_total"),
            journal_bytes: of("paifang_dc_journal_written_bytes_total"),
            syncs: of("paifang_dc_journal_syncs_total"),
            rows: of("paifang_dc_rows_total"),
            batch_s: of("paifang_dc_batch_seconds_sum"),
            applied_lsn: detail(&status, "applied_lsn"),
            dirty: detail(&status, "dirty"),
            cpu_s: usage.cpu_s(),
        })
    }

    /// Memory and processor time.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.pid)
    }

    /// Ends it at once: what it had not stored stays in its journal.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("end dc")
    }

    /// Links to it, of one scene each.
    pub(super) async fn links(&self) -> anyhow::Result<Scenes> {
        let tasks = Tasks::new();
        let mut scenes = Scenes { links: Vec::new(), tasks: tasks.clone(), _all: Vec::new() };
        let secret = ZoneSecret::load(&self.zone, &self.data)?;
        for scene in self.zone.processes.values().filter(|process| process.kind() == ProcessKind::Scene) {
            let config = LinkConfig {
                id: scene.id.clone(),
                kind: scene.kind(),
                incarnation: 1,
                zone: self.zone.name.clone(),
                listen: scene.link,
                secret: secret.clone(),
                members: Members::of_zone(&self.zone).1,
                random: Random::new(scene.link.port().into()),
                tasks: tasks.clone(),
            };
            let links = Links::start_with(config, Arc::new(Silent)).await.context("start a scene's links")?;
            scenes.links.push(links.wait(ProcessKind::Dc, LINKS_WITHIN).await.context("link to dc")?);
            scenes._all.push(links);
        }
        Ok(scenes)
    }

    async fn is_ready(&self) -> bool {
        let status = self.status().await.unwrap_or_default();
        status["pid"] == self.pid && status["ready"] == Value::Bool(true)
    }

    async fn get(&self, path: &str) -> anyhow::Result<http::Answer> {
        let dc = self.zone.processes.get(&ProcessId(DC.into())).context("find dc in the zone file")?;
        http::get(dc.admin, path).await.context("ask dc")
    }

    /// The end of its log.
    fn log(&self) -> String {
        let file = self.data.join(DC).join(format!("{DC}.log"));
        let text = service::fs::read_text(&file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

/// Links of scenes, which end with it.
pub(super) struct Scenes {
    pub links: Vec<Link>,
    tasks: Tasks,
    _all: Vec<Links>,
}

impl Scenes {
    /// Ends the links, so that the next dc can have scenes of the same names.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.links.iter().for_each(Link::close);
        self.tasks.stop(LINKS_WITHIN).await
    }
}

/// What dc counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub saves: f64,
    pub journal_bytes: f64,
    pub syncs: f64,
    pub rows: f64,
    pub batch_s: f64,
    pub applied_lsn: u64,
    pub dirty: u64,
    pub cpu_s: f64,
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

/// The development zone with so many scenes and free ports.
fn write_zone(setup: Setup<'_>) -> anyhow::Result<(Zone, PathBuf)> {
    let (head, _) = DEV_ZONE.split_once("\nprocesses:\n").context("find the processes of the development zone")?;
    let at = "link: 127.0.0.1:0, admin: 127.0.0.1:0";
    let mut text = format!("{head}\nprocesses:\n  {DC}: {{ kind: dc, {at}, {} }}\n", setup.keys);
    text.push_str(&format!("  gate-1: {{ kind: gate, clients: 127.0.0.1:0, websocket: 127.0.0.1:0, {at}, sessions_max: 10 }}\n"));
    for kind in ["login", "center", "logsvc"] {
        text.push_str(&format!("  {kind}-1: {{ kind: {kind}, {at} }}\n"));
    }
    for scene in 1..=setup.scenes {
        text.push_str(&format!("  scene-{scene}: {{ kind: scene, {at}, maps: [meadow, forest, town] }}\n"));
    }
    let file = setup.data.join("zone.yaml");
    service::fs::make_folder(setup.data)?;
    let resolved = config::resolve(&text, &file, true).context("write the zone file")?;
    service::fs::replace(&file, resolved.as_bytes(), 0o600)?;
    Ok((Zone::load_resolved(&file, setup.data).context("read the zone file")?, file))
}

/// A number that only dc has in its `/status`.
fn detail(status: &Value, name: &str) -> u64 {
    status["detail"][name].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_has_as_many_scenes_as_links_are_wanted() {
        let data = tempfile::tempdir().unwrap();
        let setup = Setup { program: Path::new("zone"), data: data.path(), scenes: 3, keys: "storage: sqlite" };
        let (zone, _) = write_zone(setup).unwrap();
        assert_eq!(zone.processes.values().filter(|process| process.kind() == ProcessKind::Scene).count(), 3);
    }
}
