//! `zone bots`: players from many real sockets, and what they measured.
//!
//! They live in this process, or in several that this one steers ([`crew`], [`steered`]).

pub(crate) mod crew;
mod steered;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use client::{
    Address, Connection,
    bots::{self, BotOptions, Comeback, Profile, Progress, Report, Tally},
};
use indicatif::{ProgressBar, ProgressStyle};

use self::crew::{Crew, Plan};
use crate::{gates::Gates, output, target::Target};

/// Bots of one process at most: it holds 20,000 descriptors, and needs some for itself.
pub(crate) const A_PROCESS_MAX: u32 = 18_000;

/// How many, and what they do.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many bots.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// How long they act, once all are in the world: `30s`, `5m`. Ctrl-C ends it early, with the report.
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = span)]
    duration: Duration,
    /// What they do: walk, town, crowd, login-storm, fight or trade.
    #[arg(long, value_name = "PROFILE", default_value = "walk")]
    profile: Profile,
    /// Moves of a bot in a second.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    hz: u32,
    /// Have nine of ten bots read only so often in a second, and count; the tenth reads at once, and measures. Such bots cost the machine
    /// little, so that thousands have room beside a zone. For walk, town and crowd.
    #[arg(long, value_name = "N")]
    drain_hz: Option<u32>,
    /// Processes that the bots are spread over. They see and measure those of their own process.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: u32,
    #[command(flatten)]
    gates: Gates,
    /// Logins that begin in a second; each costs the zone a password hash.
    #[arg(long, value_name = "COUNT", default_value_t = 40)]
    logins_per_s: u32,
    /// From one seed, the same walks.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Use the accounts of an earlier run with this prefix again (1 to 8 of a-z and 0-9); new accounts if absent.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Bring lost connections back by resume ticket, and do not fail because of them: for tests that kill processes.
    #[arg(long)]
    reconnect: bool,
    /// A gate where lost connections are brought back, in place of all; may be given several times.
    #[arg(long, value_name = "ADDRESS", requires = "reconnect", hide = true)]
    back_at: Vec<Address>,
    /// Spread what brings lost connections back over so many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, hide = true)]
    back_within_ms: u64,
    /// The number of the first bot.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    first: u32,
    /// Be one of several processes of bots.
    #[arg(long, hide = true)]
    steered: bool,
}

/// Runs the bots. Fails when anyone was dropped or saw what was not so.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let needed = args.count.div_ceil(A_PROCESS_MAX);
    anyhow::ensure!(
        needed <= args.processes,
        "run {} bots: a process holds {A_PROCESS_MAX} of them at most; give --processes {needed} or more",
        args.count
    );
    anyhow::ensure!(
        args.processes == 1 || args.profile != Profile::Trade,
        "run trading bots in several processes: they trade, and are counted, within one; leave out --processes"
    );
    service::process::raise_files_max()?;
    let options = options(args, target)?;
    if args.steered {
        return steered::run(options);
    }
    let bar = ProgressBar::new(args.duration.as_millis().try_into().unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{msg} {wide_bar} {elapsed}").expect("the template is good");
    bar.set_style(style);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let report = runtime.block_on(async {
        // A bot tries again when a gate is busy, so one that can't be reached at all is found before.
        for gate in &options.gates {
            Box::pin(Connection::greet(gate, &options.connect)).await.context("reach the zone")?;
        }
        if args.processes == 1 { here(options, &bar).await } else { in_processes(args, &options, &bar).await.map(|tally| tally.report()) }
    })?;
    bar.finish_and_clear();
    if json {
        output::line(serde_json::to_string(&report).context("write the report")?);
    } else {
        output::line(told(&report));
    }
    Ok(if report.is_good(args.reconnect) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options(args: &Args, target: &Target) -> anyhow::Result<BotOptions> {
    Ok(BotOptions {
        first: args.first as usize,
        profile: args.profile,
        hz: args.hz,
        drain_hz: args.drain_hz,
        connect: args.gates.options()?,
        logins_per_s: args.logins_per_s.max(1),
        seed: args.seed,
        prefix: args.prefix.clone(),
        reconnect: comeback(args),
        ..BotOptions::new(args.gates.addresses(target)?, args.count as usize, args.duration)
    })
}

fn comeback(args: &Args) -> Option<Comeback> {
    let spread = Duration::from_millis(args.back_within_ms);
    args.reconnect.then(|| Comeback { gates: args.back_at.clone(), spread, ..Comeback::default() })
}

async fn here(mut options: BotOptions, bar: &ProgressBar) -> anyhow::Result<Report> {
    let (shown, count) = (bar.clone(), options.count);
    options.on_progress = Some(Arc::new(move |progress| show(&shown, progress, count)));
    bots::run_until(options, service::signal::shutdown()).await.context("run the bots")
}

async fn in_processes(args: &Args, options: &BotOptions, bar: &ProgressBar) -> anyhow::Result<Tally> {
    let plan = Plan {
        gates: options.gates.clone(),
        ca: args.gates.ca().map(Into::into),
        count: args.count,
        processes: args.processes,
        duration: args.duration,
        profile: args.profile,
        hz: args.hz,
        drain_hz: args.drain_hz,
        seed: args.seed,
        prefix: args.prefix.clone(),
        logins_per_s: options.logins_per_s,
        reconnect: comeback(args),
    };
    let mut crew = Crew::start(&plan)?;
    let shown = |progress: &Progress| show(bar, progress, options.count);
    let acted = async {
        crew.gather(shown).await?;
        crew.act(Duration::ZERO).await?;
        crew.counted(shown).await
    };
    tokio::select! {
        acted = acted => drop(acted?),
        () = service::signal::shutdown() => {}
    }
    crew.end().await
}

fn show(bar: &ProgressBar, progress: &Progress, count: usize) {
    match progress.acting {
        None => bar.set_message(format!("{} of {count} in the world, {} failed", progress.logged_in, progress.login_failed)),
        Some(acting) => {
            bar.set_position(acting.as_millis().try_into().unwrap_or(u64::MAX));
            bar.set_message(format!("{} moves, {} updates, {} lost", progress.moves_sent, progress.updates_received, progress.disconnects));
        }
    }
}

fn told(report: &Report) -> String {
    let mut text = format!(
        "{} bots ({}): {} came in, {} did not, {} connections lost\n{} moves sent, {} positions seen, {:.0} bytes a player a second",
        report.count,
        report.profile.name(),
        report.logged_in,
        report.login_failed,
        report.disconnects,
        report.moves_sent,
        report.updates_received,
        report.bytes_per_player_s,
    );
    let (login, latency) = (&report.login_ms, &report.latency_ms);
    if 0 < report.logged_in {
        text.push_str(&format!("\nlogin:   p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", login.p50, login.p99, login.max));
    }
    // Who does not move, or is alone, has none.
    if 0.0 < latency.max {
        text.push_str(&format!(
            "\nlatency: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms (a move's scheduled time to its sight on a neighbour's client)",
            latency.p50, latency.p99, latency.p999, latency.max
        ));
    }
    if let Some(trades) = &report.trades {
        let verdict = if trades.conserved { "conserved to the last one" } else { "NOT conserved" };
        text.push_str(&format!(
            "\ntrade:   {} sides done, {} ended; {} coins and {} items before, {} and {} after: {verdict}",
            trades.done, trades.ended, trades.coins_before, trades.items_before, trades.coins_after, trades.items_after,
        ));
        if 0 < trades.items_wrong + trades.items_twice + trades.uncounted {
            text.push_str(&format!(
                " ({} items lost or made, {} twice, {} bots not counted)",
                trades.items_wrong, trades.items_twice, trades.uncounted
            ));
        }
    }
    for (name, count) in report.errors.iter().filter(|(_, count)| **count != 0) {
        text.push_str(&format!("\n{name}: {count}"));
    }
    text
}

/// `30s`, `5m`, `1h`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let refused = || format!("`{text}` is no time: write 30s, 5m or 1h");
    let (count, unit) = text.split_at(text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(refused)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(refused()),
    };
    let count: u64 = count.parse().map_err(|_| refused())?;
    match count.checked_mul(seconds) {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is not between 1s and 24h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_or_refused_by_name() {
        assert_eq!(span("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        for nonsense in ["", "s", "0s", "30", "-1s", "25h", "30 s", "5ü"] {
            assert!(span(nonsense).unwrap_err().contains(nonsense), "{nonsense}");
        }
    }
}
