//! `zone bench dc`: saves acknowledged and records read a second, beside a bare loop of append and sync and beside Redis; replay; drain; outage.
//!
//! [`server`] runs the dc that is measured, [`players`] and [`load`] drive it, [`commits`], [`recovery`] and [`outage`] measure, [`reference`] and
//! [`mariadb`] are what it is measured beside.

mod commits;
mod load;
mod mariadb;
mod outage;
mod players;
mod recovery;
mod reference;
mod server;
mod told;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use proto::internal::Durability;
use serde::Serialize;

use self::{
    commits::{Field, Headline, Read, Saved, Shape},
    mariadb::Database,
    outage::Outage,
    recovery::{Drained, Replayed, Wanted},
    reference::Redis,
    server::{Server, Setup},
};
use super::document::Begun;
use crate::target::Target;

/// What is measured, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A look instead of a measurement: fewer rounds, shorter ones.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_name = "PART", value_delimiter = ',', default_values_t = Part::USUAL)]
    only: Vec<Part>,
    /// Rounds of what is measured beside a reference (5; quick: 2).
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Seconds of one measurement (1; quick: 0.3).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Players whose records are saved in turn.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=100_000))]
    players: u32,
    /// Links with dc, one a scene.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// Calls under way, of all connections together.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    calls: u32,
    /// Bytes of a record.
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = clap::value_parser!(u32).range(128..=65_536))]
    record_bytes: u32,
    /// Saves of a batched call.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1024))]
    batch: u32,
    /// Records of the journal that is replayed.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    replay: u64,
    /// Seconds that MySQL takes nothing, in the part `outage`: 10,000 players are saved once a second meanwhile.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    outage: Duration,
    /// Records that wait for MySQL when it is drained into.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    drain: u64,
    /// The URL of an empty database to drain into; a private MariaDB if absent, where one is installed.
    #[arg(long, value_name = "URL", env = "PAIFANG_BENCH_MYSQL_URL", hide_env_values = true)]
    mysql_url: Option<String>,
    /// Another build of this program, whose dc is measured instead of this one's.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// Every class with every size, batch and number of connections, once.
    Grid,
    /// Saves of one unit a call, beside the references.
    Single,
    /// Saves of many units a call, beside the references.
    Batched,
    /// Records read.
    Reads,
    /// The replay of a long journal.
    Replay,
    /// The drain into MySQL.
    Drain,
    /// Saves while MySQL takes nothing, for --outage; only where it is asked for.
    Outage,
}

impl Part {
    /// Those that take no longer than a person waits.
    const USUAL: [Self; 6] = [Self::Grid, Self::Single, Self::Batched, Self::Reads, Self::Replay, Self::Drain];
}

impl std::fmt::Display for Part {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("every part has a name");
        to.write_str(value.get_name())
    }
}

/// What was asked for.
#[derive(Serialize)]
struct Workload {
    parts: Vec<Part>,
    rounds: usize,
    seconds: f64,
    players: u32,
    connections: u32,
    calls: u32,
    record_bytes: u32,
    batch: u32,
    /// Where dc has its data: the file system that is synced.
    data: PathBuf,
}

/// What came out; a part that was not asked for is missing.
#[derive(Default, Serialize)]
struct Figures {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grid: Vec<Saved>,
    #[serde(skip_serializing_if = "Option::is_none")]
    single: Option<Headline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batched: Option<Headline>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reads: Vec<Read>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Replayed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<Drained>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outage: Option<Outage>,
    /// What could not be measured here, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<String>,
}

/// Measures, and prints the document.
pub(super) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let begun = Begun::now("dc")?;
    service::fs::make_folder(&target.data)?;
    let folder = tempfile::Builder::new().prefix("bench-dc-").tempdir_in(&target.data).context("make a folder for the benchmark")?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("find this program's file")?,
    };
    let bench = Bench { args, program, folder: folder.path().to_owned() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let figures = runtime.block_on(bench.run())?;
    let document = begun.end(bench.workload(), figures)?;
    document.print(json, |document| told::told(&document.figures))?;
    Ok(ExitCode::SUCCESS)
}

struct Bench<'a> {
    args: &'a Args,
    program: PathBuf,
    folder: PathBuf,
}

impl Bench<'_> {
    async fn run(&self) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        if [Part::Grid, Part::Single, Part::Batched, Part::Reads].iter().any(|part| self.has(*part)) {
            self.calls(&mut figures).await?;
        }
        if self.has(Part::Replay) {
            progress("replay");
            let wanted =
                Wanted { records: self.scaled(self.args.replay), players: self.scaled(100_000), record_bytes: self.record_bytes() };
            figures.replay = Some(recovery::replay(&self.program, &self.folder.join("replay"), wanted).await?);
            self.clear("replay")?;
        }
        if self.has(Part::Drain) || self.has(Part::Outage) {
            match self.database().await? {
                None => figures.skipped.push("drain and outage: no mariadbd on this machine, and no --mysql-url".into()),
                Some(database) => self.stored(&database, &mut figures).await?,
            }
        }
        Ok(figures)
    }

    /// What is measured with MySQL behind dc.
    async fn stored(&self, database: &Database, figures: &mut Figures) -> anyhow::Result<()> {
        let (program, bytes) = (&self.program, self.record_bytes());
        if self.has(Part::Drain) {
            progress("drain");
            let rows = self.scaled(self.args.drain);
            let (data, wanted) = (self.folder.join("drain"), Wanted { records: rows, players: rows, record_bytes: bytes });
            figures.drain = Some(recovery::drain(program, &data, database, wanted, self.rounds(), self.measured()).await?);
            database.empty().await?;
        }
        if self.has(Part::Outage) {
            progress("outage");
            let (data, lasts) = (self.folder.join("outage"), self.args.outage);
            figures.outage = Some(outage::outage(program, &data, database, OUTAGE_PLAYERS, bytes, lasts).await?);
            database.empty().await?;
        }
        Ok(())
    }

    /// What is measured over links.
    async fn calls(&self, figures: &mut Figures) -> anyhow::Result<()> {
        let data = self.folder.join("calls");
        let setup = Setup {
            program: &self.program,
            data: &data,
            scenes: self.args.connections as usize,
            keys: "storage: sqlite, journal_bytes_max: 17179869184",
        };
        let server = Server::start(setup).await?;
        let scenes = server.links().await?;
        progress("players");
        let mut field = Field::new(&server, &scenes.links, self.args.players as usize).await?;
        let redis = Redis::start(&self.folder.join("redis"))?;
        if redis.is_none() {
            figures.skipped.push("Redis: no redis-server on this machine".into());
        }
        for (part, batch) in [(Part::Single, 1), (Part::Batched, self.args.batch)] {
            if !self.has(part) {
                continue;
            }
            progress(&part.to_string());
            let shape = self.shape(Durability::D2, self.record_bytes(), batch, self.args.connections);
            let headline = field.headline(shape, self.rounds(), self.measured(), &self.folder, redis.as_ref()).await?;
            *(if part == Part::Single { &mut figures.single } else { &mut figures.batched }) = Some(headline);
        }
        drop(redis);
        if self.has(Part::Reads) {
            progress("reads");
            for _ in 0..self.rounds() {
                let shape = self.shape(Durability::D2, self.record_bytes(), 1, self.args.connections);
                figures.reads.push(field.read(shape, self.measured()).await?);
            }
        }
        if self.has(Part::Grid) {
            for shape in self.grid() {
                progress(&format!("{} {} B x {} from {}", shape.class.as_str_name(), shape.record_bytes, shape.batch, shape.connections));
                figures.grid.push(field.saturate(shape, self.measured() / 2).await?);
            }
        }
        drop(field);
        scenes.end().await?;
        server.kill().await?;
        self.clear("calls")
    }

    /// Sizes outermost: a change of size saves all players.
    fn grid(&self) -> Vec<Shape> {
        let mut shapes = Vec::new();
        for bytes in [128, 512, 2048] {
            for class in [Durability::D0, Durability::D1, Durability::D2] {
                for batch in [1, self.args.batch] {
                    for connections in [1, self.args.connections] {
                        shapes.push(self.shape(class, bytes, batch, connections));
                    }
                }
            }
        }
        shapes.dedup();
        shapes
    }

    /// As many calls under way as asked for, but no more than there are players for.
    fn shape(&self, class: Durability, record_bytes: usize, batch: u32, connections: u32) -> Shape {
        let calls = (self.args.calls / connections).min(self.args.players / batch / connections).max(1);
        Shape { class, record_bytes, batch: batch as usize, connections: connections as usize, calls: calls as usize }
    }

    async fn database(&self) -> anyhow::Result<Option<Database>> {
        match &self.args.mysql_url {
            Some(url) => Database::of(url).await.map(Some),
            None => Database::start(&self.folder.join("mariadb")).await,
        }
    }

    fn workload(&self) -> Workload {
        let &Args { players, connections, calls, record_bytes, batch, .. } = self.args;
        let (parts, rounds, seconds) = (self.args.only.clone(), self.rounds(), self.measured().as_secs_f64());
        Workload { parts, rounds, seconds, players, connections, calls, record_bytes, batch, data: self.folder.clone() }
    }

    /// What a part leaves on the disk would be written back during the next one.
    fn clear(&self, part: &str) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.folder.join(part)).with_context(|| format!("remove what the part {part} left"))
    }

    fn has(&self, part: Part) -> bool {
        self.args.only.contains(&part)
    }

    fn record_bytes(&self) -> usize {
        self.args.record_bytes as usize
    }

    fn rounds(&self) -> usize {
        self.args.rounds.unwrap_or(if self.args.quick { 2 } else { 5 })
    }

    fn measured(&self) -> Duration {
        self.args.seconds.unwrap_or(Duration::from_millis(if self.args.quick { 300 } else { 1000 }))
    }

    /// A tenth for a look.
    fn scaled(&self, count: u64) -> u64 {
        if self.args.quick { (count / 10).max(1) } else { count }
    }
}

/// Players of a full zone.
const OUTAGE_PLAYERS: usize = 10_000;

fn progress(what: &str) {
    eprintln!("zone bench dc: {what}");
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    if (0.05..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("`{text}` is not between 0.05 and 3600"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_or_refused() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for nonsense in ["", "x", "0", "-1", "3601", "NaN"] {
            assert!(seconds(nonsense).is_err(), "{nonsense}");
        }
    }
}
