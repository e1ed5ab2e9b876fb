//! The dc process alone: `dc --zone FILE --id dc-1`.

use clap::Parser;
use service::{ProcessArgs, ProcessKind};

/// Keeps what is true of every player.
#[derive(Parser)]
#[command(name = "dc", version)]
struct Args {
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> std::process::ExitCode {
    service::process::main(&Args::parse().process, ProcessKind::Dc, dc::run)
}
