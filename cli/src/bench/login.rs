//! `zone bench login`: logins a second beside a bare loop of the same hash, a burst of logins with the login process' memory, and
//! resumes by ticket, which cost no hash.
//!
//! [`storm`] is the clients' side; [`bare`] is the reference.

mod bare;
mod storm;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use self::storm::Storm;
use super::{
    compare::Compared,
    document::{Begun, Percentiles},
    process::Usage,
    zone::rig::{Rig, ZoneProcess},
};

/// Accounts that the rounds log in with, again and again.
const ACCOUNTS_OF_ROUNDS: usize = 16;

/// How much is measured.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub(crate) struct Args {
    /// Rounds of logins, each beside a round of the bare loop.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of one round.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Clients that log in at once, each with an account of its own.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    burst: u32,
    /// argon2id memory in KiB.
    #[arg(long, value_name = "KIB", default_value_t = service::config::ARGON2_MEMORY_KIB_MIN)]
    argon2_memory_kib: u32,
    /// argon2id passes.
    #[arg(long, value_name = "N", default_value_t = service::config::ARGON2_PASSES_MIN)]
    argon2_passes: u32,
}

/// What came out.
#[derive(Serialize)]
struct Figures {
    /// Logins a second, with everything that belongs to them and the clients on the same machine, beside hashes a second of the bare loop.
    logins_per_s: Compared,
    /// Processor time of a bare hash over what the login process spends on a login, in a round.
    hash_cpu_s_per_login: Compared,
    burst: Burst,
    resumes: Resumes,
}

/// All at once.
#[derive(Serialize)]
struct Burst {
    clients: u32,
    logged_in: usize,
    took_s: f64,
    /// From asking to being logged in.
    login_ms: Percentiles,
    /// Words about a place in the queue that clients were told.
    queued_told: u64,
    /// Clients whose answer came before that of one who had asked more than a second earlier.
    overtaken: usize,
    rss_before_bytes: u64,
    rss_peak_bytes: u64,
    rss_after_bytes: u64,
}

/// Everybody's connection breaks, and all come back by ticket at another gate.
#[derive(Serialize)]
struct Resumes {
    resumed: usize,
    took_s: f64,
    per_s: f64,
    resume_ms: Percentiles,
    /// Hashes that the login process computed meanwhile.
    hashes: u64,
}

/// Runs the benchmark.
pub(super) fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let begun = Begun::now("login")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("start the runtime")?;
    let figures = runtime.block_on(measure(args))?;
    let document = begun.end(args.clone(), figures)?;
    document.print(json, |document| told(&document.figures))?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &Args) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let rig = Rig::start(folder.path(), &zone_file(args)).await?;
    let login = rig.processes.iter().find(|process| process.kind == "login").context("find the login")?.clone();
    let storm = Arc::new(Storm::new(rig.gates(false)?));
    let measured = Box::pin(parts(args, &storm, &login)).await;
    let stopped = rig.stop().await;
    let figures = measured?;
    stopped?;
    Ok(figures)
}

async fn parts(args: &Args, storm: &Arc<Storm>, login: &ZoneProcess) -> anyhow::Result<Figures> {
    eprintln!("zone bench: registering {} accounts", args.burst);
    storm.register(args.burst.max(ACCOUNTS_OF_ROUNDS as u32) as usize).await?;
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        eprintln!("zone bench: round {round} of {}", args.rounds);
        let (logins, bare) = (round_of_logins(args, storm, login).await?, bare_round(args).await?);
        rates.push((logins.0, bare.0));
        // The other way round: a cost is the better the smaller it is.
        costs.push((bare.1, logins.1));
    }
    eprintln!("zone bench: {} logins at once", args.burst);
    let (burst, sessions) = burst(args, storm, login).await?;
    eprintln!("zone bench: as many resumes");
    let resumes = resumes(storm, login, sessions).await?;
    Ok(Figures { logins_per_s: Compared::of(&rates), hash_cpu_s_per_login: Compared::of(&costs), burst, resumes })
}

/// Logins a second, and processor seconds of the login process for each.
async fn round_of_logins(args: &Args, storm: &Arc<Storm>, login: &ZoneProcess) -> anyhow::Result<(f64, f64)> {
    let (before, began) = (Usage::of(login.pid)?, Instant::now());
    let logins = storm.log_in_for(ACCOUNTS_OF_ROUNDS, Duration::from_secs(args.seconds.into())).await?;
    let (took, used) = (began.elapsed().as_secs_f64(), Usage::of(login.pid)?.cpu_s() - before.cpu_s());
    ensure!(0 < logins, "nobody could log in");
    Ok((logins as f64 / took, used / logins as f64))
}

async fn bare_round(args: &Args) -> anyhow::Result<(f64, f64)> {
    let (memory_kib, passes, seconds) = (args.argon2_memory_kib, args.argon2_passes, args.seconds);
    let hash = move || bare::hash_for(memory_kib, passes, Duration::from_secs(seconds.into()));
    tokio::task::spawn_blocking(hash).await.context("run the bare loop")?
}

async fn burst(args: &Args, storm: &Arc<Storm>, login: &ZoneProcess) -> anyhow::Result<(Burst, Vec<(usize, client::Session)>)> {
    let rss_before_bytes = Usage::of(login.pid)?.rss_bytes;
    let began = Instant::now();
    let logins = storm.all_at_once(args.burst as usize).await;
    let took_s = began.elapsed().as_secs_f64();
    let after = Usage::of(login.pid)?;
    let mut login_ms = Histogram::<u64>::new(3).context("make a histogram")?;
    for login in &logins {
        record(&mut login_ms, login.took)?;
    }
    let burst = Burst {
        clients: args.burst,
        logged_in: logins.len(),
        took_s,
        login_ms: Percentiles::of_us(&login_ms),
        queued_told: logins.iter().map(|login| login.queued_told).sum(),
        overtaken: storm::overtaken(&logins),
        rss_before_bytes,
        rss_peak_bytes: after.rss_peak_bytes,
        rss_after_bytes: after.rss_bytes,
    };
    Ok((burst, logins.into_iter().map(storm::LoginDone::into_session).collect()))
}

async fn resumes(storm: &Arc<Storm>, login: &ZoneProcess, sessions: Vec<(usize, client::Session)>) -> anyhow::Result<Resumes> {
    let hashes_before = hashes(login).await?;
    let began = Instant::now();
    let took = storm.resume_all(sessions).await;
    let took_s = began.elapsed().as_secs_f64();
    let mut resume_ms = Histogram::<u64>::new(3).context("make a histogram")?;
    for took in &took {
        record(&mut resume_ms, *took)?;
    }
    Ok(Resumes {
        resumed: took.len(),
        took_s,
        per_s: took.len() as f64 / took_s,
        resume_ms: Percentiles::of_us(&resume_ms),
        hashes: hashes(login).await? - hashes_before,
    })
}

fn record(histogram: &mut Histogram<u64>, took: Duration) -> anyhow::Result<()> {
    histogram.record(took.as_micros().try_into().unwrap_or(u64::MAX)).context("record how long it took")
}

/// Hashes that the login process has computed so far.
async fn hashes(login: &ZoneProcess) -> anyhow::Result<u64> {
    Ok(login.get("/metrics").await?.metric("paifang_login_hash_seconds_count") as u64)
}

/// Two gates, so that there is another one to resume at.
fn zone_file(args: &Args) -> String {
    let free = "link: 127.0.0.1:0, admin: 127.0.0.1:0";
    let gate = format!("{{ kind: gate, clients: 127.0.0.1:0, {free}, sessions_max: 18000, accepts_per_s: 20000 }}");
    format!(
        "zone: bench\nenvironment: dev\nsecret: {{ file: secret }}\nplayers: {{ registration: open }}\n\
         world:\n  start: {{ map: meadow, x_m: 50, y_m: 50 }}\n  maps: {{ meadow: {{ width_m: 100, height_m: 100 }} }}\n\
         processes:\n  gate-1: {gate}\n  gate-2: {gate}\n\
         \x20 login-1: {{ kind: login, {free}, argon2_memory_kib: {}, argon2_passes: {} }}\n\
         \x20 center-1: {{ kind: center, {free} }}\n  scene-1: {{ kind: scene, {free}, maps: [meadow] }}\n\
         \x20 dc-1: {{ kind: dc, {free}, storage: sqlite }}\n  logsvc-1: {{ kind: logsvc, {free} }}\n",
        args.argon2_memory_kib, args.argon2_passes
    )
}

fn told(figures: &Figures) -> String {
    let Figures { logins_per_s, hash_cpu_s_per_login, burst, resumes } = figures;
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    format!(
        "logins:  {:.1}/s beside {:.1} bare hashes/s ({:.2} of it, {:.2} to {:.2}); {:.1} ms of login's processor each, a bare hash {:.1} ms ({:.2})\n\
         burst:   {} of {} in after {:.1} s; p50 {:.0} ms, p99 {:.0} ms; {} words of the queue, {} overtaken; \
         memory of login {:.1} MiB before, {:.1} peak, {:.1} after\n\
         resumes: {} in {:.2} s, {:.0}/s; p50 {:.1} ms, p99 {:.1} ms; {} hashes",
        logins_per_s.ours.median,
        logins_per_s.reference.median,
        logins_per_s.ratio.median,
        logins_per_s.ratio.min,
        logins_per_s.ratio.max,
        hash_cpu_s_per_login.reference.median * 1000.0,
        hash_cpu_s_per_login.ours.median * 1000.0,
        hash_cpu_s_per_login.ratio.median,
        burst.logged_in,
        burst.clients,
        burst.took_s,
        burst.login_ms.p50,
        burst.login_ms.p99,
        burst.queued_told,
        burst.overtaken,
        mib(burst.rss_before_bytes),
        mib(burst.rss_peak_bytes),
        mib(burst.rss_after_bytes),
        resumes.resumed,
        resumes.took_s,
        resumes.per_s,
        resumes.resume_ms.p50,
        resumes.resume_ms.p99,
        resumes.hashes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_file_is_good() {
        let args = Args { rounds: 1, seconds: 1, burst: 1, argon2_memory_kib: 8, argon2_passes: 1 };
        let zone = service::Zone::for_test(&zone_file(&args)).unwrap_or_else(|err| panic!("{err}"));
        assert_eq!(zone.processes.len(), 7);
    }
}
