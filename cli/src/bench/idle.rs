//! `zone bench idle`: what very many connections cost that nobody uses, over as many gates as it takes, and how soon one broadcast is
//! with all of them.
//!
//! The clients of each gate are a process of their own, and connect from an address of their own of the loopback range, so that neither
//! files nor ports run out. The reference has as many sockets, and a bare sender in place of each gate.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Serialize;

use super::{
    compare::Compared,
    document::{Begun, Percentiles},
    gate::{
        clients::{Act, Clients, Outcome},
        reference::{Reference, Sending},
        rig::{ACCEPTS_PER_S_MAX, Rig, chat},
    },
    process::Usage,
};
use crate::{bots::span, tables::bytes};

/// Connections of a gate, and of a process of clients, where a process may open 20,000 files.
const A_PROCESS_MAX: u32 = 19_000;
/// From the clients' being told to listen to the broadcast, so that it does not find them at something else.
const LISTENING: Duration = Duration::from_millis(500);

/// How many, and how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many clients.
    #[arg(long, value_name = "N", default_value_t = 57_000, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    connections: u32,
    /// How many gates they spread over (one for 19,000).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    gates: Option<u32>,
    /// How long the idle gates are watched, and how long a broadcast may take.
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = span)]
    duration: Duration,
    /// Broadcasts, each beside one by bare senders.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

impl Args {
    fn gates(&self) -> anyhow::Result<u32> {
        let needed = self.connections.div_ceil(A_PROCESS_MAX);
        let gates = self.gates.unwrap_or(needed);
        anyhow::ensure!(needed <= gates, "hold {} connections: give --gates {needed} or more", self.connections);
        Ok(gates)
    }
}

#[derive(Serialize)]
struct Workload {
    connections: u32,
    gates: u32,
    for_s: f64,
    rounds: u32,
}

#[derive(Serialize)]
struct Figures {
    /// Until all were logged in, in the world and in their groups.
    connected_s: f64,
    /// Memory of the gates' processes for each client; what the kernel keeps for its socket is not in it.
    bytes_each: f64,
    /// The same after the broadcasts.
    bytes_each_afterwards: f64,
    /// Processor time of all gates for a second of idling: heartbeats.
    idle_cores: f64,
    /// Connections that ended since all were there.
    lost: u64,
    broadcast: Broadcast,
}

/// One message from center to everybody.
#[derive(Serialize)]
struct Broadcast {
    /// From center's send to a client. All rounds.
    reach_ms: Percentiles,
    /// From a bare sender's write of as many bytes to a client; only every tenth client looks.
    reach_ms_reference: Percentiles,
    /// Round by round; the ratio is the better the smaller it is.
    reach_p99_ms: Compared,
    /// Messages that did not come within the round.
    missed: u64,
}

/// Measures.
pub(crate) fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let gates = args.gates()?;
    let begun = Begun::now("idle")?;
    let rig = Rig::start_gates(gates, args.connections, ACCEPTS_PER_S_MAX)?;
    let before = rig.usage()?;
    let each = |usage: Usage| usage.rss_bytes.saturating_sub(before.rss_bytes) as f64 / f64::from(args.connections);
    let began = Instant::now();
    let mut crowd = Crowd::of_gates(&rig, args.connections)?;
    let connected_s = began.elapsed().as_secs_f64();
    let (idle_cores, lost_idle) = watched(args, &rig, &mut crowd)?;
    let bytes_each = each(rig.usage()?);
    let (broadcast, lost) = broadcasts(args, gates, &rig, &mut crowd)?;
    let bytes_each_afterwards = each(rig.usage()?);
    let figures = Figures { connected_s, bytes_each, bytes_each_afterwards, idle_cores, lost: lost_idle + lost, broadcast };
    let workload = Workload { connections: args.connections, gates, for_s: args.duration.as_secs_f64(), rounds: args.rounds };
    begun.end(workload, figures)?.print(json, |document| told(&document.workload, &document.figures))?;
    Ok(ExitCode::SUCCESS)
}

/// What the gates use while nobody does anything, and how many connections end.
fn watched(args: &Args, rig: &Rig, crowd: &mut Crowd) -> anyhow::Result<(f64, u64)> {
    let (before, began) = (rig.usage()?, Instant::now());
    crowd.begin(args.duration)?;
    let outcome = crowd.end()?;
    Ok(((rig.usage()?.cpu_s() - before.cpu_s()) / began.elapsed().as_secs_f64(), outcome.lost))
}

/// Also says how many connections ended meanwhile.
fn broadcasts(args: &Args, gates: u32, rig: &Rig, crowd: &mut Crowd) -> anyhow::Result<(Broadcast, u64)> {
    let mut senders = (0..gates).map(|_| Reference::sender()).collect::<anyhow::Result<Vec<_>>>()?;
    let mut raw = Crowd::raw(&senders, args.connections)?;
    let (mut ours, mut theirs) = (Outcome::default(), Outcome::default());
    let reach_p99_ms = Compared::measure(
        args.rounds as usize,
        || {
            crowd.begin(args.duration)?;
            sleep(LISTENING);
            rig.broadcast(&chat());
            p99_of(&crowd.end()?, &mut ours)
        },
        || {
            raw.begin(args.duration)?;
            sleep(LISTENING);
            let once = Sending::once(chat().bytes().len());
            senders.iter_mut().try_for_each(|sender| sender.begin(&once))?;
            senders.iter_mut().try_for_each(|sender| sender.end().map(drop))?;
            p99_of(&raw.end()?, &mut theirs)
        },
    )?;
    let said = u64::from(args.connections) * u64::from(args.rounds);
    let broadcast = Broadcast {
        reach_ms: ours.latency_ms(),
        reach_ms_reference: theirs.latency_ms(),
        reach_p99_ms,
        missed: said.saturating_sub(ours.frames),
    };
    Ok((broadcast, ours.lost))
}

/// Of a round, which is added to all.
fn p99_of(round: &Outcome, all: &mut Outcome) -> anyhow::Result<f64> {
    all.add(round);
    let reach = round.latency_ms();
    anyhow::ensure!(0 < reach.count, "time a broadcast: it reached nobody within the round");
    Ok(reach.p99)
}

/// Clients of several processes.
struct Crowd(Vec<Clients>);

impl Crowd {
    /// All at once connect to the gates.
    fn of_gates(rig: &Rig, count: u32) -> anyhow::Result<Self> {
        Self::spread(&rig.addresses().collect::<Vec<_>>(), count, 0, Clients::of_gate_from)
    }

    fn raw(senders: &[Reference], count: u32) -> anyhow::Result<Self> {
        let addresses: Vec<_> = senders.iter().map(Reference::address).collect();
        // A port of one address holds one socket, whomever it is connected to.
        Self::spread(&addresses, count, addresses.len(), Clients::raw_from)
    }

    /// Each process connects to one of these addresses; processes have numbers from `first` on.
    fn spread(
        addresses: &[SocketAddr],
        count: u32,
        first: usize,
        start: fn(IpAddr, SocketAddr, u32) -> anyhow::Result<Clients>,
    ) -> anyhow::Result<Self> {
        let shares = shares(count, addresses.len());
        let threads: Vec<_> = (first..)
            .zip(addresses.iter().copied().zip(shares))
            .map(|(number, (address, share))| std::thread::spawn(move || start(source(number), address, share)))
            .collect();
        let started = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("start a process of clients"))?);
        started.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Has all listen for a while.
    fn begin(&mut self, within: Duration) -> anyhow::Result<()> {
        self.0.iter_mut().try_for_each(|clients| clients.begin(Act::Read, within, 0.0))
    }

    /// What all of them heard.
    fn end(&mut self) -> anyhow::Result<Outcome> {
        let mut sum = Outcome::default();
        for clients in &mut self.0 {
            sum.add(&clients.end().context("hear a process of clients")?);
        }
        Ok(sum)
    }
}

/// Parts of a number that differ by one at most.
fn shares(count: u32, parts: usize) -> impl Iterator<Item = u32> {
    let parts = u32::try_from(parts).expect("there are few processes");
    (0..parts).map(move |part| count / parts + u32::from(part < count % parts))
}

/// The address of this machine from which a process of clients connects.
fn source(number: usize) -> IpAddr {
    let host = u8::try_from(number + 2).expect("there are fewer processes than addresses");
    Ipv4Addr::new(127, 0, 0, host).into()
}

fn told(workload: &Workload, figures: &Figures) -> String {
    let Figures { connected_s, bytes_each, bytes_each_afterwards, idle_cores, lost, broadcast } = figures;
    let Broadcast { reach_ms: ours, reach_ms_reference: bare, reach_p99_ms, missed } = broadcast;
    format!(
        "{} clients of {} gates, all there after {connected_s:.1} s; {} of memory each ({} after the broadcasts), {idle_cores:.2} cores while \
         idle; {lost} lost\na broadcast is with a client after p50 {:.1} ms, p99 {:.1} ms, with the last after {:.1} ms (bare sends: {:.1}, \
         {:.1}, {:.1}; p99 {:.2} times theirs, {:.2} to {:.2}); {missed} missed",
        workload.connections,
        workload.gates,
        bytes(*bytes_each as u64),
        bytes(*bytes_each_afterwards as u64),
        ours.p50,
        ours.p99,
        ours.max,
        bare.p50,
        bare.p99,
        bare.max,
        reach_p99_ms.ratio.median,
        reach_p99_ms.ratio.min,
        reach_p99_ms.ratio.max,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_left_out_when_clients_spread_over_gates() {
        assert_eq!(shares(57_001, 3).collect::<Vec<_>>(), [19_001, 19_000, 19_000]);
        let args = |connections, gates| Args { connections, gates, duration: Duration::ZERO, rounds: 1 };
        assert_eq!(args(57_000, None).gates().unwrap(), 3);
        assert_eq!(args(57_001, None).gates().unwrap(), 4);
        assert_eq!(args(10, Some(2)).gates().unwrap(), 2);
        assert!(args(57_001, Some(3)).gates().unwrap_err().to_string().contains("--gates 4"));
    }
}
