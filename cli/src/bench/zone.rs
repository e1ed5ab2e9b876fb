//! `zone bench zone`: a whole zone full of players from separate processes, measured from both sides, beside the bare system calls.
//!
//! [`world`] writes the zone file, [`rig`] runs it, bots fill it ([`crate::bots::crew`]: the SDK that games use, over real sockets). In
//! each round they act, warmed up before they are counted; then they stand still while [`bare`] does the same traffic with nothing but
//! system calls. [`watch`] and [`counts`] read what it cost, [`told`] puts it into words.

pub(crate) mod bare;
mod counts;
mod figures;
pub(super) mod rig;
mod told;
mod watch;
mod world;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use client::bots::{Profile, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use self::{
    bare::{Bare, Traffic},
    counts::Counts,
    figures::{Dropped, Figures, Filled, Round, Workload},
    rig::Rig,
    watch::Watched,
    world::Wanted,
};
use super::document::Begun;
use crate::{
    bots::{
        A_PROCESS_MAX,
        crew::{Crew, Plan},
        span,
    },
    target::Target,
};

/// How often in a second most bots read.
const DRAIN_HZ: u32 = 2;
/// Bots of one process, so that a tenth of them see enough of each other to measure.
const BOTS_A_PROCESS: u32 = 5_000;
/// Between the zone's part of a round and the reference's, for what is still on its way.
const PAUSE: Duration = Duration::from_secs(1);

/// How many players, and what they do.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Players.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    players: u32,
    /// Ticks a second of the zone: as often every player is told what moved.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=20))]
    hz: u32,
    /// Moves a second of each player (as many as ticks).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    moves_hz: Option<u32>,
    /// How long a round is measured.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = span)]
    duration: Duration,
    /// How long players act before they are measured.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    warm_up: Duration,
    /// What they do: walk all over the maps, stroll in towns, or crowd around one point of each map.
    #[arg(long, value_name = "PROFILE", default_value = "walk", value_parser = walking)]
    profile: Profile,
    /// Maps that the players are spread over.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    maps: u32,
    /// Scene processes that host them (as many as maps, but no more than two).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    scenes: Option<u32>,
    /// Gates; a process holds 18,000 sockets.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    gates: u32,
    /// Others that a walking player sees, on the average: the maps are as large as that asks for.
    #[arg(long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    neighbours: u32,
    /// Processes of bots (one for 5,000 players).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: Option<u32>,
    /// Players that begin to log in each second.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    logins_per_s: u32,
    /// Players connect with TLS. The reference does not.
    #[arg(long)]
    tls: bool,
    /// Rounds; medians and ranges are told of more than one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Fail when an action takes longer than this to 99 of 100 neighbours' screens. Without it nothing fails because of a time.
    #[arg(long, value_name = "MS")]
    latency_max: Option<f64>,
    /// From one seed, the same walks.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

impl Args {
    fn wanted(&self) -> anyhow::Result<Wanted> {
        let gates_needed = self.players.div_ceil(A_PROCESS_MAX);
        anyhow::ensure!(gates_needed <= self.gates, "hold {} players: give --gates {gates_needed} or more", self.players);
        let scenes = self.scenes.unwrap_or(self.maps.min(2));
        anyhow::ensure!(scenes <= self.maps, "spread {} maps over {scenes} scenes: give no more scenes than maps", self.maps);
        Ok(Wanted {
            players: self.players,
            maps: self.maps,
            scenes,
            gates: self.gates,
            hz: self.hz,
            neighbours: self.neighbours,
            profile: self.profile,
            tls: self.tls,
        })
    }

    fn moves_hz(&self) -> u32 {
        self.moves_hz.unwrap_or(self.hz)
    }

    fn processes(&self) -> u32 {
        self.processes.unwrap_or(self.players.div_ceil(BOTS_A_PROCESS))
    }
}

fn walking(name: &str) -> Result<Profile, String> {
    let profile: Profile = name.parse().map_err(|err: client::bots::UnknownProfile| err.to_string())?;
    if profile.may_drain() { Ok(profile) } else { Err("players of this benchmark walk, town or crowd".into()) }
}

/// Measures, and prints the document. Fails when anybody was dropped.
pub(super) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let wanted = args.wanted()?;
    let begun = Begun::now("zone")?;
    service::fs::make_folder(&target.data)?;
    let folder = tempfile::Builder::new().prefix("bench-zone-").tempdir_in(&target.data).context("make a folder for the benchmark")?;
    let folder = std::path::absolute(folder.path()).context("find the benchmark's folder")?;
    let bar = if json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is good"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let figures = runtime.block_on(async {
        tokio::select! {
            figures = Box::pin(measure(args, &wanted, &folder, &bar)) => figures,
            () = service::signal::shutdown() => anyhow::bail!("measure the zone: it was interrupted"),
        }
    })?;
    bar.finish_and_clear();
    let is_good = figures.is_good(args.latency_max);
    let document = begun.end(Workload::of(args, &wanted), figures)?;
    document.print(json, |document| told::told(&document.workload, &document.figures))?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args, wanted: &Wanted, folder: &Path, bar: &ProgressBar) -> anyhow::Result<Figures> {
    let ca = if wanted.tls { Some(certificate(folder)?) } else { None };
    bar.set_message("bringing the zone up");
    let mut rig = Rig::start(folder, &wanted.zone_file()).await?;
    let plan = Plan {
        gates: rig.gates(wanted.tls)?,
        ca,
        count: args.players,
        processes: args.processes(),
        duration: args.duration,
        profile: args.profile,
        hz: args.moves_hz(),
        drain_hz: Some(DRAIN_HZ.min(args.hz)),
        seed: args.seed,
        prefix: None,
        logins_per_s: args.logins_per_s,
        reconnect: None,
    };
    let began = Instant::now();
    let mut crew = Crew::start(&plan)?;
    let mut came = Progress::default();
    crew.gather(|progress| {
        came = *progress;
        bar.set_message(format!("{} of {} in the world, {} failed", progress.logged_in, args.players, progress.login_failed));
    })
    .await?;
    let filled = Filled::of(&came, began.elapsed(), &rig)?;
    let mut rounds = Vec::new();
    for round in 1..=args.repeat {
        bar.set_message(format!("round {round} of {}", args.repeat));
        rounds.push(Box::pin(one_round(args, &rig, &mut crew)).await?);
    }
    let ended = crew.end().await?;
    let deaths = rig.deaths();
    rig.stop().await?;
    Ok(Figures::of(filled, rounds, Dropped::of(&ended, args.players, deaths)))
}

/// The zone under its players, then the bare reference while they stand still.
async fn one_round(args: &Args, rig: &Rig, crew: &mut Crew) -> anyhow::Result<Round> {
    let zone: Vec<Watched> = rig.processes.iter().map(|process| Watched { id: process.id.clone(), pid: process.pid }).collect();
    let bots = crew.pids().into_iter().enumerate().map(|(index, pid)| Watched { id: format!("bots-{}", index + 1), pid });
    let all: Vec<Watched> = zone.iter().cloned().chain(bots).collect();
    crew.act(args.warm_up).await?;
    tokio::time::sleep(args.warm_up).await;
    let before = Counts::read(&rig.processes).await?;
    let began = Instant::now();
    let used = watch::watch(&all, args.duration).await?;
    let took = began.elapsed();
    let after = Counts::read(&rig.processes).await?;
    let tally = crew.counted(|_| ()).await?;
    let gates = after.gates_since(&before);
    let mut round = Round::of(&tally, after.ticks_since(&before), &gates, took, used, zone.len());
    tokio::time::sleep(PAUSE).await;
    let traffic = Traffic {
        for_ms: u64::try_from(args.duration.as_millis()).context("count the round's milliseconds")?,
        down_hz: (gates.writes / f64::from(args.players) / took.as_secs_f64()).max(0.1),
        up_hz: (gates.frames_in / f64::from(args.players) / took.as_secs_f64()).max(0.1),
        down_bytes: (gates.sent_bytes / gates.writes.max(1.0)).round() as usize,
        up_bytes: (gates.received_bytes / gates.frames_in.max(1.0)).round() as usize,
        drain_hz: f64::from(DRAIN_HZ.min(args.hz)),
    };
    let (connections, pairs) = (args.players, args.gates);
    // It waits for processes: not on a thread that others need.
    let bare = tokio::task::spawn_blocking(move || Bare::start(connections, pairs)?.run(&traffic));
    let (bare, standing) = tokio::join!(bare, watch::watch(&zone, args.duration));
    let (served, drained) = bare.context("wait for the reference")??;
    round.compare(&traffic, &served, &drained, &standing?);
    Ok(round)
}

/// A certificate for gates on this machine, which the bots are told to trust.
fn certificate(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).context("make a certificate")?;
    let file = folder.join("cert.pem");
    service::fs::replace(&file, certified.cert.pem().as_bytes(), 0o600).context("write the certificate")?;
    service::fs::replace(&folder.join("key.pem"), certified.signing_key.serialize_pem().as_bytes(), 0o600).context("write the key")?;
    Ok(file)
}
