//! `zone check`: whether a zone file is good, and if not, every problem with its key and what to do.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;
use service::Zone;

use crate::{output, target::Target};

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The zone file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Exits with 1 if there is a problem.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> ExitCode {
    let (file, checked) = (args.file.display().to_string(), Zone::load(&args.file, &target.data));
    if json {
        let (processes, maps) = checked.as_ref().map_or((0, 0), |zone| (zone.processes.len(), zone.world.maps.len()));
        let problems = checked.as_ref().err().map(|err| err.problems.as_slice()).unwrap_or_default();
        output::line(json!({ "file": file, "ok": checked.is_ok(), "processes": processes, "maps": maps, "problems": problems }));
    } else {
        match &checked {
            Ok(zone) => output::line(format_args!("{file}: ok, {} processes, {} maps", zone.processes.len(), zone.world.maps.len())),
            Err(err) => err.problems.iter().for_each(|problem| output::line(format_args!("{file}: {problem}"))),
        }
    }
    if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
