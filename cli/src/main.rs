//! The `zone` program: brings a zone up, looks at it, works on it, and can be each of its processes.
//!
//! One module a command; [`target`] finds the zone that a command is about.
#![forbid(unsafe_code)]

mod bench;
mod bots;
mod check;
mod dc;
mod gates;
mod gm;
mod healthcheck;
mod http;
mod logs;
mod output;
mod prometheus;
mod replay;
mod run;
mod status;
mod tables;
mod target;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An MMO zone: brings one up, looks at it, works on it.
#[derive(Parser)]
#[command(name = "zone", version, after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.")]
struct Cli {
    #[command(flatten)]
    target: target::Target,
    /// Print one JSON document on standard output (`up` and `--watch`: one a line), for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring a zone up: start all its processes, restart those that die, stop them in order at Ctrl-C.
    Up(up::Args),
    /// Be one process of a zone.
    Run(run::Args),
    /// Tell by the exit code whether a process on this machine can serve; for a container's health check.
    Healthcheck(healthcheck::Args),
    /// Check a zone file.
    Check(check::Args),
    /// Tell how the running zone is.
    Status(status::Args),
    /// Give a GM's command, or list them.
    Gm(gm::Args),
    /// Show what dc has of a player, check a journal, or bring a dc back that refuses to start.
    Dc(dc::Args),
    /// See what happened: behaviour events, as they come or from the past.
    Logs(logs::Args),
    /// Play flows against a zone and say what is not as written.
    Replay(replay::Args),
    /// Let bots play, and measure what they see.
    Bots(bots::Args),
    /// Measure how fast the zone or a part of it is, beside the bare system calls.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let Cli { target, json, command } = Cli::parse();
    let done = match command {
        Command::Up(args) => up::run(&args, &target, json),
        Command::Run(args) => Ok(run::run(&args, &target)),
        Command::Healthcheck(args) => healthcheck::run(&args, &target),
        Command::Check(args) => Ok(check::run(&args, &target, json)),
        Command::Status(args) => status::run(&args, &target, json),
        Command::Gm(args) => gm::run(&args, &target, json),
        Command::Dc(args) => dc::run(&args, &target, json),
        Command::Logs(args) => logs::run(&args, &target, json),
        Command::Replay(args) => replay::run(&args, &target, json),
        Command::Bots(args) => bots::run(&args, &target, json),
        Command::Bench(args) => bench::run(&args, &target, json),
    };
    done.unwrap_or_else(|err| {
        eprintln!("zone: failed to {}", in_one_line(&err));
        ExitCode::FAILURE
    })
}

/// An error and its causes, each said once: some errors tell their cause themselves.
fn in_one_line(err: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in err.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// Runs a command's future to its end.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    use anyhow::Context;
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?.block_on(work)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn a_cause_is_told_once() {
        let refused = Err::<(), _>(std::io::Error::other("connect to 127.0.0.1:1: refused"));
        let err = refused.context("reach the zone: connect to 127.0.0.1:1: refused").context("run the bots").unwrap_err();
        assert_eq!(super::in_one_line(&err), "run the bots: reach the zone: connect to 127.0.0.1:1: refused");
    }
}
