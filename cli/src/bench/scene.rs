//! `zone bench scene`: what a tick costs, in process, with inputs that follow from a seed, and no sockets. Measured in processor time of the
//! thread, so that a busy machine does it little harm. The reference is a loop that only copies the bytes that the gates were given.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use scene::load::{Load, Shape, TICK_HZ, Traffic};
use serde::Serialize;

use super::{
    compare::{Compared, Spread},
    document::Begun,
};

/// Parts of a run, each with its reference.
const ROUNDS: usize = 5;

/// What to measure.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Players that walk, all of them in every tick.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    walkers: u32,
    /// Where they are: everywhere with a hundred around each, in towns of 250, or all within sight of each other.
    #[arg(long, value_enum, default_value_t = Place::Uniform)]
    shape: Place,
    /// Ticks that are measured.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(5..=100_000))]
    ticks: u32,
    /// Bytes a second that a client may be told, as `world.client_bytes_max_s` in the zone file.
    #[arg(long, default_value_t = 30_000)]
    client_bytes_max_s: u32,
    /// Where the walkers go follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Place {
    Uniform,
    Towns,
    Crowd,
}

impl From<Place> for Shape {
    fn from(place: Place) -> Self {
        match place {
            Place::Uniform => Shape::Uniform,
            Place::Towns => Shape::Towns,
            Place::Crowd => Shape::Crowd,
        }
    }
}

#[derive(Serialize)]
struct Workload {
    walkers: u32,
    shape: Place,
    ticks: u32,
    tick_hz: u32,
    client_bytes_max_s: u32,
    seed: u64,
}

#[derive(Serialize)]
struct Figures {
    /// Processor time of a tick.
    tick_cpu_ms: Ticks,
    /// Of one core, at this rate of ticks.
    core_share: f64,
    ns_per_move: Spread,
    /// Others that a walker has around it.
    neighbours: f64,
    client_bytes_s: f64,
    client_updates_s: f64,
    client_frames_s: f64,
    link_frames_s: f64,
    /// Nanoseconds a move, beside copying the same bytes.
    beside_copying: Compared,
}

/// Of the ticks of a run.
#[derive(Serialize)]
struct Ticks {
    p50: f64,
    p99: f64,
    max: f64,
}

/// Runs it. Fails when the line refused what it should have taken.
pub(super) fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let begun = Begun::now("scene")?;
    let mut load = Load::open(args.walkers as usize, args.shape.into(), args.client_bytes_max_s, args.seed)?;
    let mut sum = Sum::default();
    let per_round = args.ticks.div_ceil(ROUNDS as u32);
    let rounds = (0..ROUNDS).map(|_| round(&mut load, per_round, &mut sum)).collect::<anyhow::Result<Vec<_>>>()?;
    anyhow::ensure!(load.is_true(), "run the walkers: the line refused some of their steps");
    let moves = f64::from(args.walkers) * f64::from(per_round);
    let rounds: Vec<(f64, f64)> = rounds.iter().map(|(ours, reference)| (ours * 1e9 / moves, reference * 1e9 / moves)).collect();
    let figures = sum.figures(&load, args.walkers, &rounds);
    let &Args { walkers, shape, ticks, client_bytes_max_s, seed } = args;
    let document = begun.end(Workload { walkers, shape, ticks, tick_hz: TICK_HZ, client_bytes_max_s, seed }, figures)?;
    document.print(json, |document| told(&document.figures))?;
    Ok(ExitCode::SUCCESS)
}

/// Some ticks, and then their copies: seconds of either.
fn round(load: &mut Load, ticks: u32, sum: &mut Sum) -> anyhow::Result<(f64, f64)> {
    let (mut ours, mut reference) = (0.0, 0.0);
    for _ in 0..ticks {
        let inputs = load.inputs();
        let began = cpu_s()?;
        load.tick(&inputs);
        let took = cpu_s()? - began;
        let (traffic, bodies) = load.traffic();
        sum.add(took, traffic);
        ours += took;
        let began = cpu_s()?;
        std::hint::black_box(copy(&bodies));
        reference += cpu_s()? - began;
    }
    // A round too short for the clock would be divided by nothing.
    Ok((ours, reference.max(1e-9)))
}

/// Each body into memory of its own, as the least that a gate's link needs.
fn copy(bodies: &[Bytes]) -> Vec<Bytes> {
    bodies.iter().map(|body| Bytes::copy_from_slice(body)).collect()
}

/// Processor time that this thread has used.
fn cpu_s() -> anyhow::Result<f64> {
    let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read the thread's processor time")?;
    Ok(Duration::from(used).as_secs_f64())
}

/// What the ticks took and told.
#[derive(Default)]
struct Sum {
    took_s: Vec<f64>,
    traffic: Traffic,
}

impl Sum {
    fn add(&mut self, took_s: f64, traffic: Traffic) {
        self.took_s.push(took_s);
        self.traffic.client_bytes += traffic.client_bytes;
        self.traffic.updates += traffic.updates;
        self.traffic.client_frames += traffic.client_frames;
        self.traffic.link_frames += traffic.link_frames;
    }

    fn figures(&self, load: &Load, walkers: u32, rounds: &[(f64, f64)]) -> Figures {
        let mut sorted = self.took_s.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize] * 1e3;
        let seconds = self.took_s.len() as f64 / f64::from(TICK_HZ);
        let a_client = |count: u64| count as f64 / seconds / f64::from(walkers);
        let beside_copying = Compared::of(rounds);
        Figures {
            tick_cpu_ms: Ticks { p50: at(0.5), p99: at(0.99), max: at(1.0) },
            core_share: self.took_s.iter().sum::<f64>() / seconds,
            ns_per_move: beside_copying.ours,
            neighbours: load.neighbours(),
            client_bytes_s: a_client(self.traffic.client_bytes),
            client_updates_s: a_client(self.traffic.updates),
            client_frames_s: a_client(self.traffic.client_frames),
            link_frames_s: self.traffic.link_frames as f64 / seconds,
            beside_copying,
        }
    }
}

fn told(figures: &Figures) -> String {
    let Figures { tick_cpu_ms: Ticks { p50, p99, max }, core_share, ns_per_move, neighbours, .. } = figures;
    format!(
        "a tick takes {p50:.2} ms of processor time (p99 {p99:.2}, max {max:.2}): {:.0} % of a core, {:.0} ns a move ({:.1} times copying the same bytes)\n\
         each of the clients has {neighbours:.0} around it and is sent {:.0} bytes, {:.0} updates and {:.0} frames a second",
        core_share * 100.0,
        ns_per_move.median,
        figures.beside_copying.ratio.median,
        figures.client_bytes_s,
        figures.client_updates_s,
        figures.client_frames_s,
    )
}
