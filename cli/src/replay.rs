//! `zone replay`: plays flows against a zone and says what is not as written.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use client::flow::{self, Flow, GmAccess, RunOptions};

use crate::{
    gates::Gates,
    gm::{Access, Api, Credentials},
    output,
    target::Target,
};

/// What to play, and against what.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Flow files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    gates: Gates,
    /// Write the results as JUnit XML, as CI systems read it.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Flows that play at the same time; those that disturb others play alone, at the end.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

/// Plays the flows. Fails when one of them does.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let files = flow::files(&args.paths).context("list the flows")?;
    anyhow::ensure!(!files.is_empty(), "find flows: no *.yaml in {}", paths(&args.paths));
    let flows: Vec<Flow> = files.iter().map(|file| flow::load(file)).collect::<Result<_, _>>().context("read a flow")?;
    if let Some(folder) = args.junit.as_deref().and_then(std::path::Path::parent).filter(|folder| !folder.as_os_str().is_empty()) {
        // Not after minutes of flows.
        anyhow::ensure!(folder.is_dir(), "write the JUnit file: there is no folder {}", folder.display());
    }
    let mut options = RunOptions::new(flows, args.gates.addresses(target)?);
    options.connect = args.gates.options()?;
    options.parallel = args.parallel.into();
    options.gm = gm(target, &args.gates, json);
    let colour = std::io::stdout().is_terminal();
    if !json {
        options.on_result = Some(Arc::new(move |result| output::line(result.render(colour))));
    }
    let report = crate::block_on(async { flow::run_all(options).await.context("reach the zone") })?;
    if let Some(file) = &args.junit {
        service::fs::replace(file, report.to_junit().as_bytes(), 0o644)?;
    }
    if json {
        output::line(serde_json::to_string(&report).context("write the report")?);
    } else {
        output::line(report.summary(colour));
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The zone's GM commands, where there are credentials for them; flows that need them are skipped otherwise.
fn gm(target: &Target, gates: &Gates, json: bool) -> Option<Arc<dyn GmAccess>> {
    let access = || {
        let zone = target.zone()?;
        let credentials = Credentials::find(target, &zone, None, None)?;
        anyhow::Ok(Access::new(crate::block_on(Api::of(&zone))?, credentials))
    };
    match access() {
        Ok(access) => Some(Arc::new(access)),
        Err(err) => {
            if !json && !gates.are_named() {
                eprintln!("flows that need a GM are skipped: {err:#}");
            }
            None
        }
    }
}

fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
