//! The zone that is measured: `zone up` in a folder of its own, with the processes that it says it has.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use crate::http;

/// A zone that is not ready by then never will be.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// For the zone to save everything.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// Events of `zone up` that may wait; they are few, and more wait in the pipe.
const EVENTS_MAX: usize = 1024;

/// The running zone.
pub(in crate::bench) struct Rig {
    up: Child,
    events: mpsc::Receiver<Value>,
    pub(in crate::bench) processes: Vec<ZoneProcess>,
}

/// One of its processes.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::bench) struct ZoneProcess {
    pub(in crate::bench) id: String,
    pub(in crate::bench) kind: String,
    pub(in crate::bench) pid: u32,
    addresses: std::collections::BTreeMap<String, std::net::SocketAddr>,
}

impl Rig {
    /// Brings the zone of a file up, and waits until it is ready.
    pub(in crate::bench) async fn start(folder: &Path, zone_file: &str) -> anyhow::Result<Self> {
        let file = folder.join("bench.yaml");
        service::fs::replace(&file, zone_file.as_bytes(), 0o600).context("write the zone file")?;
        let mut command = Command::new(std::env::current_exe().context("find this program's file")?);
        command.args(["up", "--json", "--zone"]).arg(&file).arg("--data").arg(folder.join("data"));
        // A group of its own: at Ctrl-C this program stops it.
        command.process_group(0).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut up = command.spawn().context("start the zone")?;
        let mut lines = BufReader::new(up.stdout.take().context("hear the zone")?).lines();
        let (heard, events) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(event) = serde_json::from_str(&line) else { continue };
                if heard.send(event).await.is_err() {
                    return;
                }
            }
        });
        let mut rig = Self { up, events, processes: Vec::new() };
        timeout(READY_WITHIN, rig.until_ready()).await.context("wait for the zone to be ready")??;
        Ok(rig)
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.events.recv().await {
            match event["event"].as_str() {
                Some("ready") => {
                    self.processes = serde_json::from_value(event["processes"].clone()).context("understand what the zone is made of")?;
                    return Ok(());
                }
                Some("not_whole" | "gave_up") => bail!("bring the zone up: {event}"),
                _ => {}
            }
        }
        bail!("bring the zone up: it ended")
    }

    /// The processes that died since this was last asked.
    pub(in crate::bench) fn deaths(&mut self) -> Vec<String> {
        let mut deaths = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if event["event"] == "died" {
                deaths.push(event["id"].as_str().unwrap_or("a process").to_owned());
            }
        }
        deaths
    }

    /// Where clients connect.
    pub(in crate::bench) fn gates(&self, tls: bool) -> anyhow::Result<Vec<client::Address>> {
        let scheme = if tls { "tls" } else { "tcp" };
        let clients = self.processes.iter().filter_map(|process| process.addresses.get("clients"));
        clients.map(|address| format!("{scheme}://{address}").parse().context("read a gate's address")).collect()
    }

    /// Stops it in order.
    pub(in crate::bench) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.up.id().and_then(|pid| i32::try_from(pid).ok()).context("stop the zone: it has ended")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("stop the zone")?;
        let events = &mut self.events;
        // It must not wait for somebody to hear what it says.
        let hear = async { while events.recv().await.is_some() {} };
        let (_, ended) = timeout(STOP_WITHIN, async { tokio::join!(hear, self.up.wait()) }).await.context("wait for the zone to stop")?;
        anyhow::ensure!(ended.context("wait for the zone to stop")?.success(), "stop the zone in order");
        Ok(())
    }
}

impl ZoneProcess {
    /// Asks its admin port.
    pub(in crate::bench) async fn get(&self, path: &str) -> anyhow::Result<http::Answer> {
        let admin = self.addresses.get("admin").with_context(|| format!("ask {}: it has no admin port", self.id))?;
        http::get(*admin, path).await
    }
}
