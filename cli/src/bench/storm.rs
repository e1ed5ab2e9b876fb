//! `zone bench storm`: a whole zone when very many come at once. A gate dies, and its players come back at the other one; or as many log
//! in at the same moment, and wait in a line.
//!
//! [`dying_gate`] and [`rush`] are the two parts, each on a zone of its own ([`zone_file`]), with [`others`] who are in the world
//! meanwhile and should notice nothing. [`memory`] watches the zone's processes, [`moments`] reckons with times, [`told`] puts it into
//! words.

mod dying_gate;
mod memory;
mod moments;
mod others;
mod rush;
mod told;
mod zone_file;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::document::Begun;
use crate::{
    bots::{A_PROCESS_MAX, span},
    target::Target,
};

/// How often in a second most players read.
const DRAIN_HZ: u32 = 2;

/// How many, and how fast.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub(crate) struct Args {
    /// Players whose gate dies, and players that log in at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    players: u32,
    /// Only this part; both, one after the other, if absent.
    #[arg(long, value_name = "PART")]
    part: Option<Part>,
    /// Gate: the players' first attempts to come back are spread over this time.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span)]
    #[serde(rename = "within_s", serialize_with = "seconds")]
    within: Duration,
    /// Gate: fail when somebody is not back in the world after so long.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    #[serde(rename = "back_within_s", serialize_with = "seconds")]
    back_within: Duration,
    /// Players that the storm is none of the business of, and that measure what they notice.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=5_000))]
    others: u32,
    /// Gate: moves a second of each player.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    hz: u32,
    /// Maps that the players are spread over.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    maps: u32,
    /// How long is measured before the storm.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = span)]
    #[serde(rename = "for_s", serialize_with = "seconds")]
    duration: Duration,
    /// How long players act before they are measured.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    #[serde(rename = "warm_up_s", serialize_with = "seconds")]
    warm_up: Duration,
    /// How long is measured after the storm.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    #[serde(rename = "settle_s", serialize_with = "seconds")]
    settle: Duration,
    /// Gate: players that come into the world each second before the storm.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    logins_per_s: u32,
    /// Login: let passwords cost next to nothing.
    #[arg(long)]
    cheap: bool,
    /// Login: let so many logins a second through; as many as can be hashed if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    valve: Option<u32>,
    /// From one seed, the same walks.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// A gate dies, and its players come back at the other one.
    Gate,
    /// All log in at once.
    Login,
}

/// What came out; none of a part that was not asked for.
#[derive(Debug, Serialize)]
struct Figures {
    gate: Option<dying_gate::Figures>,
    login: Option<rush::Figures>,
}

impl Figures {
    fn is_good(&self) -> bool {
        self.gate.as_ref().is_none_or(dying_gate::Figures::is_good) && self.login.as_ref().is_none_or(rush::Figures::is_good)
    }
}

fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

/// Measures, and prints the document. Fails when somebody did not come back or in, or the rest of the zone was harmed.
pub(super) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let everybody = args.players + args.others;
    ensure!(everybody <= A_PROCESS_MAX, "storm with {everybody} players and others: one gate holds {A_PROCESS_MAX}");
    service::process::raise_files_max()?;
    let begun = Begun::now("storm")?;
    service::fs::make_folder(&target.data)?;
    let folder = tempfile::Builder::new().prefix("bench-storm-").tempdir_in(&target.data).context("make a folder for the benchmark")?;
    let root = std::path::absolute(folder.path()).context("find the benchmark's folder")?;
    let bar = if json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is good"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let figures = runtime.block_on(async {
        tokio::select! {
            figures = Box::pin(measure(args, &root, &bar)) => figures,
            () = service::signal::shutdown() => anyhow::bail!("measure the storm: it was interrupted"),
        }
    })?;
    bar.finish_and_clear();
    let is_good = figures.is_good();
    begun.end(args.clone(), figures)?.print(json, |document| told::told(&document.figures))?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args, root: &Path, bar: &ProgressBar) -> anyhow::Result<Figures> {
    let runs = |part| args.part.is_none_or(|only| only == part);
    let folder = |name: &str| {
        let folder = root.join(name);
        service::fs::make_folder(&folder).map(|()| folder)
    };
    let gate = if runs(Part::Gate) { Some(Box::pin(dying_gate::measure(args, &folder("gate")?, bar)).await?) } else { None };
    let login = if runs(Part::Login) { Some(Box::pin(rush::measure(args, &folder("login")?, bar)).await?) } else { None };
    Ok(Figures { gate, login })
}
