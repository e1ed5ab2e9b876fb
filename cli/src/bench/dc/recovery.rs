//! What follows a crash or an outage of the database: the replay of a long journal, and the drain into MySQL.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use dc::journal::sample::{self, Sample};
use serde::Serialize;

use super::{
    mariadb::Database,
    server::{Server, Setup},
};
use crate::bench::compare::Compared;

/// How long a drain may take.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);
/// How often dc is asked whether all is stored.
const POLL_PERIOD: Duration = Duration::from_millis(20);
/// Keys of dc: all of a long journal's records may wait, and none is stored before its time.
const HELD: &str = "dirty_bytes_max: 8589934592, journal_bytes_max: 17179869184, flush_period_s: 60";
const DRAINED: &str = "dirty_bytes_max: 8589934592, flush_period_s: 0.05";

/// A start with a journal that the store has nothing of.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Replayed {
    pub records: u64,
    pub players: u64,
    pub record_bytes: usize,
    pub journal_bytes: u64,
    /// From the start of the program until it serves, without what a start with an empty journal takes.
    pub seconds: f64,
    pub records_per_s: f64,
    pub seconds_per_gb: f64,
}

/// Records that wait, stored by one connection.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Drained {
    pub rows: u64,
    pub record_bytes: usize,
    /// Rows a second within transactions, beside bare multi-row guarded upserts of as many bytes into a table with no other index.
    pub beside_bare: Compared,
    pub cpu_s_per_1000: f64,
}

/// What is put into a journal.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Wanted {
    pub records: u64,
    pub players: u64,
    pub record_bytes: usize,
}

/// Measures a replay.
pub(super) async fn replay(program: &Path, data: &Path, wanted: Wanted) -> anyhow::Result<Replayed> {
    let keys = format!("storage: sqlite, {HELD}");
    let setup = Setup { program, data, scenes: 1, keys: &keys };
    let applied = run_once(setup).await?;
    let server = Server::start(setup).await?;
    let empty = server.ready_after;
    server.kill().await?;
    let journal_bytes = fill(data, applied, wanted)?;
    let server = Server::start(setup).await?;
    let seconds = server.ready_after.saturating_sub(empty).as_secs_f64();
    let dirty = server.counters().await?.dirty;
    ensure!(dirty == wanted.players.min(wanted.records), "{dirty} records wait after the replay, not {}", wanted.players);
    server.kill().await?;
    let Wanted { records, players, record_bytes } = wanted;
    let (records_per_s, seconds_per_gb) = (records as f64 / seconds, seconds * 1e9 / journal_bytes as f64);
    Ok(Replayed { records, players, record_bytes, journal_bytes, seconds, records_per_s, seconds_per_gb })
}

/// Measures how fast dc stores what waits, in turn with the bare statements.
pub(super) async fn drain(
    program: &Path,
    data: &Path,
    database: &Database,
    wanted: Wanted,
    rounds: usize,
    measured: Duration,
) -> anyhow::Result<Drained> {
    service::fs::make_folder(data)?;
    service::fs::replace(&data.join("mysql-url"), database.url.as_bytes(), 0o600)?;
    let keys = format!("storage: mysql, mysql: {{ url_file: mysql-url, connections_max: 4, statement_timeout_s: 30 }}, {DRAINED}");
    let setup = Setup { program, data, scenes: 1, keys: &keys };
    let mut applied = run_once(setup).await?;
    database.seed(wanted.players, wanted.record_bytes).await?;
    database.make_bare(wanted.record_bytes).await?;
    let (mut compared, mut cpu_s, mut rows) = (Vec::new(), 0.0, 0.0);
    for round in 0..rounds.max(1) as u64 {
        fill(data, applied, wanted)?;
        let server = Server::start(setup).await?;
        let (ready, begun) = (server.usage()?.cpu_s(), std::time::Instant::now());
        while 0 < server.counters().await?.dirty {
            ensure!(begun.elapsed() < DRAIN_WITHIN, "drain: not all is stored after {} s", DRAIN_WITHIN.as_secs());
            tokio::time::sleep(POLL_PERIOD).await;
        }
        let counters = server.counters().await?;
        ensure!(counters.rows == wanted.players as f64, "drain: {} rows were stored, not {}", counters.rows, wanted.players);
        server.kill().await?;
        (cpu_s, rows, applied) = (cpu_s + counters.cpu_s - ready, rows + counters.rows, counters.applied_lsn);
        let bare = database.upserts(1_000_000 * (round + 1), wanted.record_bytes, measured).await?;
        compared.push((counters.rows / counters.batch_s, bare));
    }
    let (rows, cpu_s_per_1000) = (wanted.players, cpu_s * 1000.0 / rows);
    Ok(Drained { rows, record_bytes: wanted.record_bytes, beside_bare: Compared::of(&compared), cpu_s_per_1000 })
}

/// Starts dc and ends it, so that its folder and its store are there. Returns up to which change the store has everything.
async fn run_once(setup: Setup<'_>) -> anyhow::Result<u64> {
    let server = Server::start(setup).await?;
    let applied = server.counters().await?.applied_lsn;
    server.kill().await?;
    Ok(applied)
}

/// Puts changes into the journal of the dc that was ended.
fn fill(data: &Path, applied: u64, wanted: Wanted) -> anyhow::Result<u64> {
    let Wanted { records, players, record_bytes } = wanted;
    let sample = Sample { changes: records, players, record_bytes };
    tokio::task::block_in_place(|| sample::append(&data.join("dc-1"), applied, sample)).context("fill the journal")
}
