//! `zone bench broadcast`: how soon what center says to all is with every client of a gate, and what that costs.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    compare::Compared,
    document::{Begun, Percentiles},
    gate::{
        bare_round,
        clients::{Act, Clients},
        per_cpu_s, rates,
        reference::{Reference, Sending},
        rig::{ACCEPTS_PER_S_MAX, Rig, chat},
    },
};
use crate::bots::span;

/// Broadcasts a second.
const BROADCASTS_HZ: f64 = 2.0;

/// How many, and how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many clients, at one gate.
    #[arg(long, value_name = "N", default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    connections: u32,
    /// How long each round lasts.
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = span)]
    duration: Duration,
    /// Rounds, each with its reference.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

#[derive(Serialize)]
struct Workload {
    connections: u32,
    broadcasts_per_s: f64,
    for_s: f64,
    rounds: u32,
}

#[derive(Serialize)]
struct Figures {
    /// From center's send to each client; the most is when the last has it. Of the last round.
    reach_ms: Percentiles,
    /// The same for bare sends of as many bytes to as many sockets; only every tenth client looks.
    reach_ms_reference: Percentiles,
    /// Messages that did not come within the round.
    missed: u64,
    messages_per_cpu_s: Compared,
}

/// Measures.
pub(crate) fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let begun = Begun::now("broadcast")?;
    let rig = Rig::start(args.connections, ACCEPTS_PER_S_MAX)?;
    let mut clients = Clients::of_gate(rig.address(), args.connections)?;
    let mut sender = Reference::sender()?;
    let mut raw = Clients::raw(sender.address(), args.connections)?;
    let (mut reach_ms, mut reach_ms_reference, mut missed) = (Percentiles::default(), Percentiles::default(), 0);
    let messages_per_cpu_s = Compared::measure(
        args.rounds as usize,
        || {
            let before = rig.usage()?;
            clients.begin(Act::Read, args.duration, 0.0)?;
            let said = broadcast_for(&rig, args.duration);
            let outcome = clients.end()?;
            reach_ms = outcome.latency_ms();
            missed += (said * u64::from(args.connections)).saturating_sub(outcome.frames);
            Ok(per_cpu_s(outcome.frames, &before, &rig.usage()?))
        },
        || {
            let sending = Sending::lasting(chat().bytes().len(), args.duration, BROADCASTS_HZ);
            let (outcome, rate) = bare_round(&mut sender, &mut raw, &sending)?;
            reach_ms_reference = outcome.latency_ms();
            Ok(rate)
        },
    )?;
    let workload = Workload {
        connections: args.connections,
        broadcasts_per_s: BROADCASTS_HZ,
        for_s: args.duration.as_secs_f64(),
        rounds: args.rounds,
    };
    let figures = Figures { reach_ms, reach_ms_reference, missed, messages_per_cpu_s };
    begun.end(workload, figures)?.print(json, |document| told(&document.figures))?;
    Ok(ExitCode::SUCCESS)
}

/// Broadcasts, the last time early enough for it to arrive; says how often.
fn broadcast_for(rig: &Rig, duration: Duration) -> u64 {
    let (started, period) = (Instant::now(), Duration::from_secs_f64(1.0 / BROADCASTS_HZ));
    let mut said = 0u32;
    while started.elapsed() + period / 2 < duration {
        rig.broadcast(&chat());
        said += 1;
        std::thread::sleep((period * said).saturating_sub(started.elapsed()));
    }
    said.into()
}

fn told(figures: &Figures) -> String {
    let Figures { reach_ms: ours, reach_ms_reference: bare, missed, messages_per_cpu_s } = figures;
    format!(
        "a broadcast is with a client after p50 {:.1} ms, p99 {:.1} ms, with the last after {:.1} ms (bare sends: {:.1}, {:.1}, {:.1}); \
         {missed} missed\n{} messages",
        ours.p50,
        ours.p99,
        ours.max,
        bare.p50,
        bare.p99,
        bare.max,
        rates(messages_per_cpu_s)
    )
}
