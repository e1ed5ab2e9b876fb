//! `zone bench gate`: what a gate's forwarding, fan-out, idle connections and tickets cost, beside what does only the system calls.
//!
//! The gate is a real one in a process of its own ([`rig`], with made-up [`backends`] behind it), and so are its clients
//! ([`clients`], each a [`client`], and [`tickets`]) and what it is compared with ([`reference`]). Rates are for each second of processor
//! time of the measured process, so that clients on the same machine do not count.

mod backends;
pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod hostile_clients;
pub(crate) mod reference;
pub(crate) mod rig;
mod schedule;
mod tickets;

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use serde::Serialize;

use self::{
    clients::{Act, Clients, Outcome},
    reference::{Reference, Sending},
    rig::{ACCEPTS_PER_S_MAX, Rig, WALKING_BYTES},
};
use super::{
    compare::Compared,
    document::{Begun, Percentiles},
    process::Usage,
};
use crate::{bots::span, tables::bytes};

/// Messages a second of each client that sends; the zone's limit for moves is 25.
const SENDS_PER_S: f64 = 20.0;
/// Ticks a second, where they are not as many as go.
const TICK_HZ: f64 = 10.0;
/// Bytes of the one frame that each client is sent in a tick, and ticks a second (0: as many as go).
const FAN_OUTS: [(usize, f64); 4] = [(64, TICK_HZ), (WALKING_BYTES, TICK_HZ), (1000, TICK_HZ), (WALKING_BYTES, 0.0)];
/// Until what connecting has left behind is over.
const CALM: Duration = Duration::from_millis(500);

/// How many, and how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many clients; a relay beside which the gate is measured has two sockets for each.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=9_500))]
    connections: u32,
    /// How long each round of each figure measures.
    #[arg(long = "for", value_name = "TIME", default_value = "2s", value_parser = span)]
    duration: Duration,
    /// Rounds of each figure and its reference, in turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

#[derive(Serialize)]
struct Workload {
    connections: u32,
    for_s: f64,
    rounds: u32,
}

#[derive(Serialize)]
struct Figures {
    idle: Idle,
    forward: Vec<Forward>,
    fan_out: Vec<FanOut>,
    tickets: Tickets,
    storm: Storm,
}

/// What a connection costs that nobody uses.
#[derive(Serialize)]
struct Idle {
    /// Memory of the gate's process for each client, logged in, in the world, in its group and in that of all.
    bytes_each: f64,
    /// The same after all that was measured.
    bytes_each_afterwards: f64,
}

/// A message from a client to a backend and its answer.
#[derive(Serialize)]
struct Forward {
    /// What the gate is compared with.
    beside: &'static str,
    round_trips_per_cpu_s: Compared,
    latency_ms: Percentiles,
    latency_ms_reference: Percentiles,
}

/// One frame to every client in each tick, from the group of those who stand where it stands.
#[derive(Serialize)]
struct FanOut {
    frame_bytes: usize,
    clients_of_group: u32,
    /// 0: as many as go.
    ticks_per_s: f64,
    /// What came to the clients in the last round.
    frames: u64,
    bytes: u64,
    /// Beside bare sends of as many bytes.
    frames_per_cpu_s: Compared,
    latency_ms: Percentiles,
    latency_ms_reference: Percentiles,
}

/// Resume tickets that are not good.
#[derive(Serialize)]
struct Tickets {
    checked_per_s: f64,
    checked_per_cpu_s: f64,
}

/// All clients lose their connections, and come back by ticket.
#[derive(Serialize)]
struct Storm {
    clients: u32,
    over_s: f64,
    all_back_s: f64,
    cpu_us_each: f64,
}

/// Measures.
pub(crate) fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let begun = Begun::now("gate")?;
    let rig = Rig::start(args.connections, ACCEPTS_PER_S_MAX)?;
    let before = rig.usage()?;
    let mut clients = Clients::of_gate(rig.address(), args.connections)?;
    std::thread::sleep(CALM);
    let each = |usage: Usage| usage.rss_bytes.saturating_sub(before.rss_bytes) as f64 / f64::from(args.connections);
    let bytes_each = each(rig.usage()?);
    let forward = forward(args, &rig, &mut clients)?;
    let fan_out = fan_out(args, &rig, &mut clients)?;
    let tickets = tickets(args, &rig, &mut clients)?;
    let storm = storm(args, &rig, &mut clients)?;
    let idle = Idle { bytes_each, bytes_each_afterwards: each(rig.usage()?) };
    let workload = Workload { connections: args.connections, for_s: args.duration.as_secs_f64(), rounds: args.rounds };
    let document = begun.end(workload, Figures { idle, forward, fan_out, tickets, storm })?;
    document.print(json, |document| told(&document.figures))?;
    Ok(ExitCode::SUCCESS)
}

// ---- forwarding

fn forward(args: &Args, rig: &Rig, clients: &mut Clients) -> anyhow::Result<Vec<Forward>> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let echo = Reference::echo()?;
    let mut beside = vec![("a bare relay", Reference::relay(echo.address())?)];
    beside.extend(Reference::haproxy(echo.address(), folder.path())?.map(|haproxy| ("haproxy (tcp)", haproxy)));
    beside.extend(Reference::nginx(echo.address(), folder.path())?.map(|nginx| ("nginx (stream)", nginx)));
    let mut measured = Vec::new();
    for (name, reference) in &beside {
        let mut raw = Clients::raw(reference.address(), args.connections)?;
        let (mut ours, mut theirs) = (Percentiles::default(), Percentiles::default());
        let round_trips_per_cpu_s = Compared::measure(
            args.rounds as usize,
            || round_trips(args, clients, &mut ours, || rig.usage()),
            || round_trips(args, &mut raw, &mut theirs, || reference.usage()),
        )?;
        measured.push(Forward { beside: name, round_trips_per_cpu_s, latency_ms: ours, latency_ms_reference: theirs });
    }
    Ok(measured)
}

/// The latencies are those of the last round.
fn round_trips(
    args: &Args,
    clients: &mut Clients,
    latency: &mut Percentiles,
    usage: impl Fn() -> anyhow::Result<Usage>,
) -> anyhow::Result<f64> {
    let before = usage()?;
    clients.begin(Act::Echo, args.duration, SENDS_PER_S)?;
    let outcome = clients.end()?;
    *latency = outcome.latency_ms();
    Ok(per_cpu_s(outcome.frames, &before, &usage()?))
}

// ---- fan-out

fn fan_out(args: &Args, rig: &Rig, clients: &mut Clients) -> anyhow::Result<Vec<FanOut>> {
    let mut sender = Reference::sender()?;
    let mut raw = Clients::raw(sender.address(), args.connections)?;
    let mut measured = Vec::new();
    for (frame_bytes, ticks_per_s) in FAN_OUTS {
        let (mut ours, mut theirs) = (Outcome::default(), Outcome::default());
        let frames_per_cpu_s = Compared::measure(
            args.rounds as usize,
            || {
                let before = rig.usage()?;
                ours = published(args, rig, clients, frame_bytes, ticks_per_s)?;
                Ok(per_cpu_s(ours.frames, &before, &rig.usage()?))
            },
            || {
                let rate;
                (theirs, rate) = bare_round(&mut sender, &mut raw, &Sending::lasting(frame_bytes, args.duration, ticks_per_s))?;
                Ok(rate)
            },
        )?;
        measured.push(FanOut {
            frame_bytes,
            clients_of_group: backends::CLIENTS_OF_GROUP,
            ticks_per_s,
            frames: ours.frames,
            bytes: ours.bytes,
            frames_per_cpu_s,
            latency_ms: ours.latency_ms(),
            latency_ms_reference: theirs.latency_ms(),
        });
    }
    Ok(measured)
}

fn published(args: &Args, rig: &Rig, clients: &mut Clients, frame_bytes: usize, hz: f64) -> anyhow::Result<Outcome> {
    clients.begin(Act::Read, args.duration, 0.0)?;
    let (started, mut tick) = (std::time::Instant::now(), 0u32);
    while started.elapsed() < args.duration {
        tick += 1;
        rig.tick(tick.into(), frame_bytes);
        if 0.0 < hz {
            std::thread::sleep((Duration::from_secs_f64(1.0 / hz) * tick).saturating_sub(started.elapsed()));
        } else {
            rig.settle()?;
        }
    }
    clients.end()
}

/// A bare sender sends: what came to its clients, and how many frames for a second of its processor time.
pub(crate) fn bare_round(sender: &mut Reference, raw: &mut Clients, sending: &Sending) -> anyhow::Result<(Outcome, f64)> {
    let before = sender.usage()?;
    raw.begin(Act::Read, Duration::from_millis(sending.for_ms), 0.0)?;
    sender.send(sending)?;
    let outcome = raw.end()?;
    let rate = per_cpu_s(outcome.frames, &before, &sender.usage()?);
    Ok((outcome, rate))
}

// ---- tickets

fn tickets(args: &Args, rig: &Rig, clients: &mut Clients) -> anyhow::Result<Tickets> {
    let before = rig.usage()?;
    clients.begin(Act::Forge, args.duration, 0.0)?;
    let outcome = clients.end()?;
    let checked_per_s = outcome.frames as f64 / outcome.took_s;
    Ok(Tickets { checked_per_s, checked_per_cpu_s: per_cpu_s(outcome.frames, &before, &rig.usage()?) })
}

fn storm(args: &Args, rig: &Rig, clients: &mut Clients) -> anyhow::Result<Storm> {
    let before = rig.usage()?;
    clients.begin(Act::Resume, args.duration, 0.0)?;
    let outcome = clients.end()?;
    let cpu_s = rig.usage()?.cpu_s() - before.cpu_s();
    Ok(Storm {
        clients: args.connections,
        over_s: args.duration.as_secs_f64(),
        all_back_s: outcome.took_s,
        cpu_us_each: cpu_s * 1e6 / f64::from(args.connections),
    })
}

/// The kernel counts processor time in hundredths of a second.
pub(crate) fn per_cpu_s(count: u64, before: &Usage, after: &Usage) -> f64 {
    count as f64 / (after.cpu_s() - before.cpu_s()).max(0.01)
}

// ---- for people

fn told(figures: &Figures) -> String {
    let Figures { idle, forward, fan_out, tickets, storm } = figures;
    let mut lines = vec![format!("an idle client: {:.0} bytes ({:.0} after all this)", idle.bytes_each, idle.bytes_each_afterwards)];
    for Forward { beside, round_trips_per_cpu_s: compared, latency_ms, latency_ms_reference } in forward {
        lines.push(format!(
            "forward, beside {beside}: {} round trips; p99 {:.2} ms to {:.2} ms",
            rates(compared),
            latency_ms.p99,
            latency_ms_reference.p99
        ));
    }
    for FanOut { frame_bytes, clients_of_group, ticks_per_s, frames, bytes: came, frames_per_cpu_s, latency_ms, latency_ms_reference } in
        fan_out
    {
        let pace = if *ticks_per_s == 0.0 { "flat out".to_owned() } else { format!("at {ticks_per_s} Hz") };
        lines.push(format!(
            "fan-out of one frame of {frame_bytes} bytes a tick to groups of {clients_of_group} {pace}: {frames} frames and {} came in a round; \
             {} frames; p99 {:.1} ms to {:.1} ms",
            bytes(*came),
            rates(frames_per_cpu_s),
            latency_ms.p99,
            latency_ms_reference.p99
        ));
    }
    lines.push(format!("resume tickets: {:.0} refused a second, {:.0} a second of CPU", tickets.checked_per_s, tickets.checked_per_cpu_s));
    lines.push(format!(
        "storm: {} clients that come back over {:.0} s are all back after {:.1} s, {:.0} us of CPU each",
        storm.clients, storm.over_s, storm.all_back_s, storm.cpu_us_each
    ));
    lines.join("\n")
}

pub(crate) fn rates(compared: &Compared) -> String {
    let Compared { ours, reference, ratio } = compared;
    format!(
        "{:.0} to {:.0} a second of CPU, {:.2} times ({:.2} to {:.2})",
        ours.median, reference.median, ratio.median, ratio.min, ratio.max
    )
}
