//! `zone healthcheck`: whether a process on this machine, or in this container, can serve.

use std::process::ExitCode;

use anyhow::Context;
use service::Zone;

use crate::{http, target::Target};

/// Which process.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A process of the zone file, or an entry with replicas: the one that runs here.
    #[arg(value_name = "ID")]
    id: String,
}

/// Fails when it can't serve, and says for whom it waits.
pub(crate) fn run(args: &Args, target: &Target) -> anyhow::Result<ExitCode> {
    let zone: Zone = target.zone()?;
    let processes = zone.named(&args.id);
    let process = processes.first().with_context(|| format!("find `{}` in the zone file", args.id))?;
    // Not at its host: that is the name which the others know, and of several replicas any one.
    let answer = crate::block_on(http::get(http::reachable(process.admin), "/readyz")).with_context(|| format!("ask {}", args.id))?;
    let waiting_for = answer.json().unwrap_or_default()["waiting_for"].to_string();
    anyhow::ensure!(answer.status.is_success(), "find {} ready: it waits for {waiting_for}", args.id);
    Ok(ExitCode::SUCCESS)
}
