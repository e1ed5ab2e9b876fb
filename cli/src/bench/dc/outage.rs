//! Saves while the database takes nothing, and how long dc needs afterwards to bring it what it missed.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use mysql_async::prelude::Queryable;
use proto::internal::Durability;
use serde::Serialize;

use super::{
    commits::{Field, Shape},
    mariadb::Database,
    server::{Server, Setup},
};
use crate::bench::document::Percentiles;

/// How long the drain may take: five times what is wanted of it.
const DRAIN_WITHIN: Duration = Duration::from_secs(600);
/// How often dc is asked whether all is stored.
const POLL_PERIOD: Duration = Duration::from_millis(100);
/// Saves of a call: a scene saves the players of a line together.
const BATCH: usize = 100;

/// An outage of the database.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outage {
    pub seconds: f64,
    pub players: usize,
    pub record_bytes: usize,
    /// Each player is saved once a second, in memory (D0) as scenes save who moves.
    pub saves: u64,
    pub refused: u64,
    pub latency_ms: Percentiles,
    /// On the disk, at the end.
    pub journal_bytes: u64,
    /// From the end of the outage until the database had everything.
    pub drained_after_s: f64,
}

/// Saves all players once a second while a lock keeps dc from writing to the database, for so long.
pub(super) async fn outage(
    program: &Path,
    data: &Path,
    database: &Database,
    players: usize,
    record_bytes: usize,
    lasts: Duration,
) -> anyhow::Result<Outage> {
    service::fs::make_folder(data)?;
    service::fs::replace(&data.join("mysql-url"), database.url.as_bytes(), 0o600)?;
    let keys = "storage: mysql, mysql: { url_file: mysql-url, connections_max: 4, statement_timeout_s: 30 }";
    let server = Server::start(Setup { program, data, scenes: 2, keys }).await?;
    let scenes = server.links().await?;
    let mut field = Field::new(&server, &scenes.links, players).await?;
    let shape = Shape { class: Durability::D0, record_bytes, batch: BATCH, connections: 2, calls: players / BATCH / 2 };
    // The first saves give the players their items, which the database is asked about.
    field.paced(shape, players as f64, Duration::from_secs(1)).await?;
    let mut holder = database.connect().await?;
    holder.query_drop("START TRANSACTION").await?;
    holder.query_drop("SELECT value FROM counters WHERE name = 'mysql_writer' FOR UPDATE").await.context("keep dc from writing")?;
    let saved = field.paced(shape, players as f64, lasts).await?;
    let journal_bytes = server.status().await?["detail"]["journal_bytes"].as_u64().unwrap_or_default();
    holder.query_drop("ROLLBACK").await?;
    let begun = std::time::Instant::now();
    while 0 < server.counters().await?.dirty {
        ensure!(begun.elapsed() < DRAIN_WITHIN, "not all is stored {} s after the outage", DRAIN_WITHIN.as_secs());
        tokio::time::sleep(POLL_PERIOD).await;
    }
    let drained_after_s = begun.elapsed().as_secs_f64();
    drop(field);
    scenes.end().await?;
    server.kill().await?;
    let (saves, refused, latency_ms) = (saved.count, saved.refused, Percentiles::of_us(&saved.latency));
    Ok(Outage { seconds: lasts.as_secs_f64(), players, record_bytes, saves, refused, latency_ms, journal_bytes, drained_after_s })
}
