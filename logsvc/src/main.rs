//! The logsvc program.
#![forbid(unsafe_code)]

use clap::Parser;
use service::{ProcessArgs, ProcessKind};

/// Behaviour events of a Paifang zone.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> std::process::ExitCode {
    service::process::main(&Args::parse().process, ProcessKind::Logsvc, logsvc::run)
}
