//! `zone run`: this program as one process of a zone.

use std::process::ExitCode;

use clap::{CommandFactory, error::ErrorKind};
use service::{ProcessArgs, ProcessKind, Zone, process};

use crate::target::Target;

/// Which process to be.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which process of the zone file. The name of an entry with replicas: the first of them that nobody runs on the same --data DIR.
    #[arg(value_name = "ID")]
    id: String,
    /// All chance of the process follows from this number; a number of its own each time if absent.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// End when the process with this id does (set by `zone up`).
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<u32>,
}

/// Runs the process to its end.
pub(crate) fn run(args: &Args, target: &Target) -> ExitCode {
    let Some(zone) = target.zone.clone() else {
        let mut command = crate::Cli::command();
        // Built, its parts know the whole of their names.
        command.build();
        let run = command.find_subcommand_mut("run").expect("this is `zone run`");
        run.error(ErrorKind::MissingRequiredArgument, "which zone is missing: --zone FILE (`zone up` writes DATA/zone.yaml)").exit();
    };
    // Only its kind is wanted here: all problems of the file, and an id that is not in it, are the process' own to tell.
    let kind = Zone::load(&zone, &target.data).ok().and_then(|zone| Some(zone.named(&args.id).first()?.kind()));
    let args = ProcessArgs { zone, id: args.id.clone(), data: target.data.clone(), seed: args.seed, parent: args.parent };
    match kind.unwrap_or(ProcessKind::Gate) {
        ProcessKind::Gate => process::main(&args, ProcessKind::Gate, gate::run),
        ProcessKind::Login => process::main(&args, ProcessKind::Login, login::run),
        ProcessKind::Center => process::main(&args, ProcessKind::Center, center::run),
        ProcessKind::Scene => process::main(&args, ProcessKind::Scene, scene::run),
        ProcessKind::Dc => process::main(&args, ProcessKind::Dc, dc::run),
        ProcessKind::Logsvc => process::main(&args, ProcessKind::Logsvc, logsvc::run),
    }
}
