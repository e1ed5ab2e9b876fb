//! Which zone a command is about: the one whose state is in `--data DIR`, or the one of `--zone FILE`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use service::Zone;

/// Finds the zone.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// The zone's state: each process has its own folder in it, and `zone up` writes DIR/zone.yaml there.
    #[arg(long, global = true, value_name = "DIR", default_value = "./data", env = "PAIFANG_DATA")]
    pub(crate) data: PathBuf,
    /// The zone file (`up`: the built-in development zone if absent; other commands: DIR/zone.yaml if absent).
    #[arg(long, global = true, value_name = "FILE", env = "PAIFANG_ZONE")]
    pub(crate) zone: Option<PathBuf>,
}

impl Target {
    /// The file that `zone up` writes, with the addresses of the running zone.
    pub(crate) fn written_file(&self) -> PathBuf {
        self.data.join("zone.yaml")
    }

    /// The zone, which should be running.
    pub(crate) fn zone(&self) -> anyhow::Result<Zone> {
        if let Some(file) = &self.zone {
            return Zone::load(file, &self.data).context("read the zone file");
        }
        let file = self.written_file();
        if !file.is_file() {
            bail!("find the zone: {}", self.none_is_running());
        }
        Zone::load_resolved(&file, &self.data).context("read the zone file")
    }

    /// The zone, which need not run: the one of `--zone`, the one that ran here last, or the built-in one.
    pub(crate) fn stopped_zone(&self) -> anyhow::Result<Zone> {
        if self.zone.is_some() || self.written_file().is_file() {
            return self.zone();
        }
        let built_in = Path::new("deploy/zone.yaml (built in)");
        Zone::parse(service::config::DEV_ZONE, built_in, &self.data).context("read the zone file")
    }

    /// What to tell who does not reach a process of the zone.
    pub(crate) fn not_reached(&self, process: &service::ProcessId) -> String {
        let option = match &self.zone {
            Some(file) => format!(" --zone {}", file.display()),
            None if self.data == Path::new("./data") => String::new(),
            None => format!(" --data {}", self.data.display()),
        };
        format!("reach {process} (`zone status{option}` tells what is running)")
    }

    /// What to tell who looks for a zone that does not run.
    pub(crate) fn none_is_running(&self) -> String {
        match &self.zone {
            Some(file) => format!("no zone of {} is running: start it with `zone up --zone {0}`", file.display()),
            None if self.data == Path::new("./data") => "no zone is running on ./data: start one with `zone up`".into(),
            None => format!("no zone is running on {}: start one with `zone up --data {0}`", self.data.display()),
        }
    }
}
