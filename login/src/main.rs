//! The login program.
#![forbid(unsafe_code)]

use clap::Parser;
use service::{ProcessArgs, ProcessKind};

/// Accounts and roles of a Paifang zone.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> std::process::ExitCode {
    service::process::main(&Args::parse().process, ProcessKind::Login, login::run)
}
