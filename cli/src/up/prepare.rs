//! What has to be there before the first process starts.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use service::{
    Zone,
    config::{self, ConfigError, DEV_ZONE},
    fs::Lock,
    process::SHUTDOWN_GRACE,
    secret::ZoneSecret,
};

use crate::target::Target;

/// A zone that can be started.
pub(super) struct Prepared {
    pub(super) zone: Zone,
    /// The zone file that all processes read.
    pub(super) file: PathBuf,
    pub(super) data: PathBuf,
    /// Keeps a second `zone up` out.
    pub(super) _lock: Lock,
}

/// Makes the data folder, takes its lock, writes the zone file that all processes read, makes the secret if the zone is one for development.
pub(super) fn prepare(free_ports: bool, target: &Target) -> anyhow::Result<Prepared> {
    let data = &target.data;
    service::fs::make_folder(data)?;
    let lock = match Lock::take(&data.join("up.lock"))? {
        Ok(lock) => lock,
        Err(holder) => bail!(
            "start the zone: process {holder} runs one on {} already; stop it (kill {holder}), or give another --data DIR",
            data.display()
        ),
    };
    let (zone, text) = read(free_ports, target).context("read the zone file")?;
    wait_for_earlier(&zone, data)?;
    let file = target.written_file();
    service::fs::replace(&file, text.as_bytes(), 0o644)?;
    ZoneSecret::load(&zone, data)?;
    Ok(Prepared { zone, file, data: data.clone(), _lock: lock })
}

fn read(free_ports: bool, target: &Target) -> anyhow::Result<(Zone, String)> {
    let (file, text) = match &target.zone {
        Some(file) => (file.as_path(), service::fs::read_text(file)?),
        None => (Path::new("deploy/zone.yaml (built in)"), DEV_ZONE.to_owned()),
    };
    let resolved = config::resolve(&text, file, free_ports)?;
    // The text before names the variables that set what is wrong.
    let named = |err: ConfigError| Zone::parse(&text, file, &target.data).err().unwrap_or(err);
    let zone = Zone::parse_resolved(&resolved, file, &target.data).map_err(named)?;
    let problems = scene::problems(&zone);
    if !problems.is_empty() {
        return Err(ConfigError { file: file.to_owned(), problems }.into());
    }
    if let Some(process) = zone.processes.values().find(|process| process.host.is_some()) {
        let entry = process.replica_of.as_ref().unwrap_or(&process.id.0);
        bail!(
            "{}: processes.{entry}.host: `zone up` starts all processes on this machine; this file is for `zone run ID`, one in each container",
            file.display()
        );
    }
    Ok((zone, resolved))
}

/// Processes of a `zone up` that was killed end by themselves, drained; until then they hold their folders.
fn wait_for_earlier(zone: &Zone, data: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + SHUTDOWN_GRACE;
    for id in zone.processes.keys() {
        let lock = data.join(&id.0).join("lock");
        let mut said = false;
        while lock.is_file() {
            let Err(holder) = Lock::take(&lock)? else { break };
            if !said {
                eprintln!("waiting for process {holder} to end, which is {id} of an earlier run");
                said = true;
            }
            if deadline < Instant::now() {
                bail!("start {id}: process {holder} of an earlier run does not end; kill it, or give another --data DIR");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
