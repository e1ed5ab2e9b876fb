//! The `gate` program: `gate --zone FILE --id gate-1`.
#![forbid(unsafe_code)]

use clap::Parser;
use service::{ProcessArgs, ProcessKind};

/// A gate of a zone: takes clients, and forwards between them and the zone's other processes.
#[derive(Parser)]
#[command(name = "gate", version)]
struct Args {
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> std::process::ExitCode {
    service::process::main(&Args::parse().process, ProcessKind::Gate, gate::run)
}
