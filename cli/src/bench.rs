//! `zone bench`: how fast, measured so that it can be compared (deploy/bench.md).
//!
//! One module a benchmark. What they share: [`document`] is what each prints, [`machine`] tells where it ran and whether it was idle,
//! [`compare`] runs it and its reference in turn, [`process`] reads what a process has used, [`part`] starts what needs a process of its own,
//! [`installed`] finds the programs of others.

mod broadcast;
mod compare;
mod dc;
mod document;
mod gate;
mod hostile;
mod idle;
mod installed;
mod login;
mod machine;
mod part;
mod process;
mod scene;
mod storm;
mod zone;

use std::process::ExitCode;

use crate::target::Target;

/// Which benchmark.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Tell what this machine is, and whether it is idle enough to measure on.
    Machine,
    /// Measure a gate: forwarding, fan-out, idle connections, resume tickets.
    Gate(gate::Args),
    /// Measure dc: saves acknowledged, records read, replay, drain into MySQL.
    Dc(dc::Args),
    /// Measure logins: beside a bare loop of the same hash, a burst of them, and resumes by ticket.
    Login(login::Args),
    /// Measure a whole zone full of players from separate processes.
    Zone(zone::Args),
    /// Measure what a zone does when very many come at once: back from a gate that died, or to log in.
    Storm(storm::Args),
    /// Measure the ticks of a scene, without sockets.
    Scene(scene::Args),
    /// Measure what very many connections cost that nobody uses, and a broadcast to all of them.
    Idle(idle::Args),
    /// Measure how soon what center says to all is with every client.
    Broadcast(broadcast::Args),
    /// Measure what healthy clients notice of slow and hostile ones.
    Hostile(hostile::Args),
    /// Be a part of a benchmark.
    #[command(hide = true)]
    Part(part::Args),
}

/// Runs a benchmark. None of them fails because of a figure.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    match &args.bench {
        Bench::Machine => machine::run(json),
        Bench::Gate(args) => gate::run(args, json),
        Bench::Dc(args) => dc::run(args, target, json),
        Bench::Login(args) => login::run(args, json),
        Bench::Zone(args) => zone::run(args, target, json),
        Bench::Storm(args) => storm::run(args, target, json),
        Bench::Scene(args) => scene::run(args, json),
        Bench::Idle(args) => idle::run(args, json),
        Bench::Broadcast(args) => broadcast::run(args, json),
        Bench::Hostile(args) => hostile::run(args, json),
        Bench::Part(args) => part::run(args),
    }
}
