//! `zone bench hostile`: what healthy clients of a gate notice of slow and hostile ones (I8, I9).

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    document::{Begun, Percentiles},
    gate::{
        clients::{Act, Clients},
        hostile_clients::{Harm, HostileClients},
        rig::{Rig, WALKING_BYTES},
    },
};
use crate::bots::span;

const TICK_HZ: f64 = 10.0;
/// Connections a second that the gate takes, as in a zone file that says nothing of it.
const ACCEPTS_PER_S: u32 = 2000;
/// Healthy clients for one that reads slowly, and for one that never ends its greeting.
const HEALTHY_OF_SLOW: u32 = 10;
/// Healthy clients for one that floods.
const HEALTHY_OF_FLOOD: u32 = 250;
/// Connections a second that are reset at once.
const RESETS_PER_S: u32 = 500;

/// How many, and how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many healthy clients; a tenth as many read 100 bytes a second, and others flood, reset and do not greet.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(10..=15_000))]
    connections: u32,
    /// How long is measured without the hostile ones, and again with them.
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = span)]
    duration: Duration,
}

#[derive(Serialize)]
struct Workload {
    connections: u32,
    slow: u32,
    floods: u32,
    half_open: u32,
    resets_per_s: u32,
    for_s: f64,
}

#[derive(Serialize)]
struct Figures {
    /// From the scene's publish to a healthy client, without hostile ones.
    latency_ms_calm: Percentiles,
    latency_ms_hostile: Percentiles,
    /// Hostile over calm.
    p99_ratio: f64,
    /// Healthy clients that lost their connection.
    healthy_lost: u64,
    harm: Harm,
    /// Memory of the gate before the hostile ones came, and the most that it had.
    rss_bytes_calm: u64,
    rss_bytes_peak: u64,
    /// Frames that slow clients did not get, or flooders sent too often.
    frames_dropped: f64,
    strikes: f64,
}

/// Measures.
pub(crate) fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let begun = Begun::now("hostile")?;
    let (slow, floods) = (args.connections / HEALTHY_OF_SLOW, args.connections.div_ceil(HEALTHY_OF_FLOOD));
    let rig = Rig::start(args.connections, ACCEPTS_PER_S)?;
    let mut healthy = Clients::of_gate(rig.address(), args.connections)?;
    let (latency_ms_calm, lost_calm) = watched(args, &rig, &mut healthy)?;
    let rss_bytes_calm = rig.usage()?.rss_bytes;
    let mut hostile = HostileClients::start(rig.address(), slow, floods, slow, RESETS_PER_S)?;
    let (latency_ms_hostile, lost) = watched(args, &rig, &mut healthy)?;
    let figures = Figures {
        latency_ms_calm,
        latency_ms_hostile,
        p99_ratio: latency_ms_hostile.p99 / latency_ms_calm.p99.max(0.001),
        healthy_lost: lost_calm + lost,
        harm: hostile.harm()?,
        rss_bytes_calm,
        rss_bytes_peak: rig.usage()?.rss_peak_bytes,
        frames_dropped: rig.metric("paifang_gate_frames_dropped_total")?,
        strikes: rig.metric("paifang_gate_strikes_total")?,
    };
    let workload = Workload {
        connections: args.connections,
        slow,
        floods,
        half_open: slow,
        resets_per_s: RESETS_PER_S,
        for_s: args.duration.as_secs_f64(),
    };
    begun.end(workload, figures)?.print(json, |document| told(&document.figures))?;
    Ok(ExitCode::SUCCESS)
}

/// Ticks for a while: what the healthy clients measured, and how many of them lost their connection.
fn watched(args: &Args, rig: &Rig, healthy: &mut Clients) -> anyhow::Result<(Percentiles, u64)> {
    healthy.begin(Act::Read, args.duration, 0.0)?;
    let (started, mut tick) = (Instant::now(), 0u32);
    while started.elapsed() < args.duration {
        tick += 1;
        rig.tick(tick.into(), WALKING_BYTES);
        std::thread::sleep((Duration::from_secs_f64(1.0 / TICK_HZ) * tick).saturating_sub(started.elapsed()));
    }
    let outcome = healthy.end()?;
    Ok((outcome.latency_ms(), outcome.lost))
}

fn told(figures: &Figures) -> String {
    let Figures { latency_ms_calm: calm, latency_ms_hostile: hostile, harm, .. } = figures;
    format!(
        "healthy clients: p99 {:.1} ms without hostile ones, {:.1} ms with them ({:.2} times); {} lost their connection\n\
         hostile ones: {} slow readers in the world, {} frames flooded, {} connections closed by the gate, {} resets\n\
         the gate: {} MiB without them, {} MiB at most; {:.0} frames dropped, {:.0} violations counted",
        calm.p99,
        hostile.p99,
        figures.p99_ratio,
        figures.healthy_lost,
        harm.slow_here,
        harm.frames_flooded,
        harm.closed,
        harm.resets,
        figures.rss_bytes_calm >> 20,
        figures.rss_bytes_peak >> 20,
        figures.frames_dropped,
        figures.strikes,
    )
}
