//! `zone up`: all processes of a zone as children of this one, restarted when they die, stopped in order at the end.
//!
//! [`prepare`] makes the folder, the lock, the zone file with ports and the secret; [`supervisor`] is the life of the zone;
//! [`child`] is one process; [`restarts`] is the rule for those that die; [`report`] is what people and scripts are told.

mod child;
mod prepare;
mod report;
mod restarts;
mod supervisor;

use std::process::ExitCode;

use crate::target::Target;

/// How to bring the zone up.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Give every address a free port, whatever the zone file says (port 0 in the file does so for one).
    #[arg(long)]
    free_ports: bool,
}

/// Runs the zone to its end. Exits with 1 if a process could not be stopped in order.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let prepared = prepare::prepare(args.free_ports, target)?;
    // One thread: the kernel ends children with the thread that made them, and this one lives as long as the program.
    crate::block_on(supervisor::run(prepared, report::Report::new(json)))
}
