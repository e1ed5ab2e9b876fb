//! What is asked of `zone bench zone`, and what comes out.

use std::{collections::BTreeMap, time::Duration};

use client::bots::{Profile, Progress, Tally};
use serde::Serialize;

use super::{
    Args, DRAIN_HZ,
    bare::{Done, Traffic},
    counts::{GateCounts, LineTicks},
    rig::Rig,
    watch::Used,
    world::Wanted,
};
use crate::bench::{
    compare::{Compared, Spread},
    document::Percentiles,
    process::Usage,
};

/// What was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Workload {
    pub(super) players: u32,
    pub(super) profile: Profile,
    pub(super) hz: u32,
    pub(super) moves_hz: u32,
    pub(super) seconds: f64,
    pub(super) warm_up_s: f64,
    pub(super) rounds: u32,
    pub(super) maps: u32,
    /// The side of each map.
    pub(super) map_side_m: f64,
    pub(super) scenes: u32,
    pub(super) gates: u32,
    pub(super) bot_processes: u32,
    /// Nine of ten bots read so often in a second; the tenth reads at once, and measures.
    pub(super) drain_hz: u32,
    pub(super) tls: bool,
    pub(super) seed: u64,
    /// What the zone is compared with.
    pub(super) reference: &'static str,
}

/// How the reference is made, for whoever reads the document alone.
const REFERENCE: &str = "as many connections, writes and bytes both ways, without TLS, with nothing but read and write; \
    it runs after the zone in each round, while the zone's players stand still";

impl Workload {
    pub(super) fn of(args: &Args, wanted: &Wanted) -> Self {
        Self {
            players: args.players,
            profile: args.profile,
            hz: args.hz,
            moves_hz: args.moves_hz(),
            seconds: args.duration.as_secs_f64(),
            warm_up_s: args.warm_up.as_secs_f64(),
            rounds: args.repeat,
            maps: args.maps,
            map_side_m: wanted.side_m(),
            scenes: wanted.scenes,
            gates: args.gates,
            bot_processes: args.processes(),
            drain_hz: DRAIN_HZ.min(args.hz),
            tls: args.tls,
            seed: args.seed,
            reference: REFERENCE,
        }
    }
}

/// What came out.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) filled: Filled,
    pub(super) rounds: Vec<Round>,
    pub(super) summary: Summary,
    pub(super) dropped: Dropped,
}

/// How the players came in.
#[derive(Debug, Serialize)]
pub(super) struct Filled {
    pub(super) players: u64,
    pub(super) failed: u64,
    pub(super) took_s: f64,
    pub(super) logins_per_s: f64,
    /// Processor seconds of each process of the zone, from its start until all were in.
    pub(super) cpu_s: BTreeMap<String, f64>,
}

impl Filled {
    pub(super) fn of(came: &Progress, took: Duration, rig: &Rig) -> anyhow::Result<Self> {
        let cpu_s = rig.processes.iter().map(|process| Ok((process.id.clone(), Usage::of(process.pid)?.cpu_s())));
        Ok(Self {
            players: came.logged_in,
            failed: came.login_failed,
            took_s: took.as_secs_f64(),
            logins_per_s: came.logged_in as f64 / took.as_secs_f64(),
            cpu_s: cpu_s.collect::<anyhow::Result<_>>()?,
        })
    }
}

/// One round.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    pub(super) seconds: f64,
    pub(super) lines: Vec<LineTicks>,
    /// From a move's scheduled time to its sight on a neighbour's client, in milliseconds.
    pub(super) latency_ms: Percentiles,
    /// Positions that players received.
    pub(super) updates_per_s: f64,
    /// Writes of the gates; each brings a client a tick.
    pub(super) writes_per_s: f64,
    pub(super) moves_per_s: f64,
    pub(super) bytes_per_player_s: f64,
    /// Bodies that the gates left out for clients which did not read fast enough.
    pub(super) frames_dropped: f64,
    /// All processes: the zone's, then the bots'.
    pub(super) processes: Vec<Used>,
    /// Cores that the zone's processes used together,
    pub(super) zone_cores: f64,
    /// and the bots'.
    pub(super) bots_cores: f64,
    pub(super) cpu_ns_per_update: f64,
    pub(super) cpu_us_per_write: f64,
    /// What was unusual, as the bots name it, since they were started.
    pub(super) noted: BTreeMap<String, u64>,
    pub(super) reference: Option<Reference>,
}

/// The same traffic with nothing but the system calls.
#[derive(Debug, Serialize)]
pub(super) struct Reference {
    pub(super) writes_per_s: f64,
    pub(super) down_bytes_per_write: usize,
    pub(super) up_bytes_per_write: usize,
    pub(super) server_cores: f64,
    pub(super) clients_cores: f64,
    pub(super) cpu_us_per_write: f64,
    /// Of the server's side, for as many positions in each write as the zone's had.
    pub(super) cpu_ns_per_update: f64,
    /// What the zone used meanwhile, its players standing still.
    pub(super) zone_standing_cores: f64,
    /// The zone's processor time for an update over the reference's.
    pub(super) ratio: f64,
    /// The same of both sides: the zone and its bots over the reference's server and clients.
    pub(super) ratio_with_clients: f64,
}

impl Round {
    /// The zone's part. The first `zone` of the processes are its own.
    pub(super) fn of(tally: &Tally, lines: Vec<LineTicks>, gates: &GateCounts, took: Duration, used: Vec<Used>, zone: usize) -> Self {
        let seconds = took.as_secs_f64();
        let cores = |of: &[Used]| of.iter().map(|used| used.cores).sum::<f64>();
        let (zone_cores, bots_cores) = (cores(&used[..zone]), cores(&used[zone..]));
        let updates_per_s = tally.updates_received as f64 / tally.seconds.max(0.001);
        let writes_per_s = gates.writes / seconds;
        Self {
            seconds,
            lines,
            latency_ms: Percentiles::of_us(&tally.latency.0),
            updates_per_s,
            writes_per_s,
            moves_per_s: tally.moves_sent as f64 / tally.seconds.max(0.001),
            bytes_per_player_s: tally.report().bytes_per_player_s,
            frames_dropped: gates.dropped,
            processes: used,
            zone_cores,
            bots_cores,
            cpu_ns_per_update: zone_cores * 1e9 / updates_per_s.max(1.0),
            cpu_us_per_write: zone_cores * 1e6 / writes_per_s.max(1.0),
            noted: tally.errors.iter().filter(|(_, count)| **count != 0).map(|(name, count)| (name.clone(), *count)).collect(),
            reference: None,
        }
    }

    /// Adds the reference's part.
    pub(super) fn compare(&mut self, traffic: &Traffic, served: &Done, drained: &Done, standing: &[Used]) {
        let cores = |done: &Done| done.cpu_s / done.seconds.max(0.001);
        let writes_per_s = served.writes as f64 / served.seconds.max(0.001);
        let cpu_us_per_write = cores(served) * 1e6 / writes_per_s.max(1.0);
        let with_clients = (cores(served) + cores(drained)) * 1e6 / writes_per_s.max(1.0);
        let ours_with_clients = (self.zone_cores + self.bots_cores) * 1e6 / self.writes_per_s.max(1.0);
        let ratio = self.cpu_us_per_write / cpu_us_per_write.max(1e-9);
        self.reference = Some(Reference {
            writes_per_s,
            down_bytes_per_write: traffic.down_bytes,
            up_bytes_per_write: traffic.up_bytes,
            server_cores: cores(served),
            clients_cores: cores(drained),
            cpu_us_per_write,
            cpu_ns_per_update: self.cpu_ns_per_update / ratio.max(1e-9),
            zone_standing_cores: standing.iter().map(|used| used.cores).sum(),
            ratio,
            ratio_with_clients: ours_with_clients / with_clients.max(1e-9),
        });
    }
}

/// Over all rounds.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Of each round's slowest line.
    pub(super) tick_p99_ms: Spread,
    pub(super) latency_p99_ms: Spread,
    pub(super) updates_per_s: Spread,
    pub(super) zone_cores: Spread,
    pub(super) bots_cores: Spread,
    /// Processor time of the zone for an update, beside that of the reference's server.
    pub(super) cpu_ns_per_update: Compared,
}

impl Summary {
    fn of(rounds: &[Round]) -> Self {
        let spread = |pick: fn(&Round) -> f64| Spread::of(&rounds.iter().map(pick).collect::<Vec<_>>());
        let beside = |round: &Round| (round.cpu_ns_per_update, round.reference.as_ref().map_or(f64::NAN, |bare| bare.cpu_ns_per_update));
        Self {
            tick_p99_ms: spread(|round| round.lines.iter().map(|line| line.tick_ms.p99).fold(0.0, f64::max)),
            latency_p99_ms: spread(|round| round.latency_ms.p99),
            updates_per_s: spread(|round| round.updates_per_s),
            zone_cores: spread(|round| round.zone_cores),
            bots_cores: spread(|round| round.bots_cores),
            cpu_ns_per_update: Compared::of(&rounds.iter().map(beside).collect::<Vec<_>>()),
        }
    }
}

/// Who did not make it, from the first login to the last goodbye.
#[derive(Debug, Serialize)]
pub(super) struct Dropped {
    /// Players that did not come in.
    pub(super) not_in: u64,
    /// Connections that were lost.
    pub(super) connections: u64,
    /// Players that had a connection and saw nothing move.
    pub(super) blind: u64,
    /// Positions that nobody was at.
    pub(super) wrong_updates: u64,
    /// Processes of the zone that died.
    pub(super) deaths: Vec<String>,
}

impl Dropped {
    pub(super) fn of(ended: &Tally, players: u32, deaths: Vec<String>) -> Self {
        let report = ended.report();
        Self {
            not_in: u64::from(players).saturating_sub(ended.logged_in),
            connections: ended.disconnects,
            blind: report.blind(),
            wrong_updates: report.wrong_updates(),
            deaths,
        }
    }

    fn nobody(&self) -> bool {
        self.not_in == 0 && self.connections == 0 && self.blind == 0 && self.wrong_updates == 0 && self.deaths.is_empty()
    }
}

impl Figures {
    pub(super) fn of(filled: Filled, rounds: Vec<Round>, dropped: Dropped) -> Self {
        Self { filled, summary: Summary::of(&rounds), rounds, dropped }
    }

    /// Whether nobody was dropped, and actions were as fast as was asked for, if it was.
    pub(super) fn is_good(&self, latency_max_ms: Option<f64>) -> bool {
        self.dropped.nobody() && latency_max_ms.is_none_or(|most| self.summary.latency_p99_ms.median <= most)
    }
}
