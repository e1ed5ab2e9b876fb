//! The center process.

use clap::Parser;
use service::{ProcessArgs, ProcessKind};

/// Presence, lines, social, broadcast and GM commands of a zone.
#[derive(clap::Parser)]
#[command(name = "center", version)]
struct Args {
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> std::process::ExitCode {
    service::process::main(&Args::parse().process, ProcessKind::Center, center::run)
}
