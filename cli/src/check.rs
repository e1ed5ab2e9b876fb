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
    let file = args.file.display().to_string();
    let (counts, problems) = match Zone::load(&args.file, &target.data) {
        Ok(zone) => ((zone.processes.len(), zone.world.maps.len()), scene::problems(&zone)),
        Err(err) => ((0, 0), err.problems),
    };
    let ((processes, maps), is_good) = (counts, problems.is_empty());
    if json {
        output::line(json!({ "file": file, "ok": is_good, "processes": processes, "maps": maps, "problems": problems }));
    } else if is_good {
        output::line(format_args!("{file}: ok, {processes} processes, {maps} maps"));
    } else {
        problems.iter().for_each(|problem| output::line(format_args!("{file}: {problem}")));
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
