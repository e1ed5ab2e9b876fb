//! The scene process.

use clap::Parser;
use service::{ProcessArgs, ProcessKind};

/// A scene of a zone: the authoritative ticks of its maps.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> std::process::ExitCode {
    service::process::main(&Args::parse().process, ProcessKind::Scene, scene::run)
}
