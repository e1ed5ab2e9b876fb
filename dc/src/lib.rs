//! dc keeps what is true of every player: who owns it, its newest version, and that what was answered as durable is on the disk.
//!
//! Read in this order: [`ledger`] (the rules, pure; [`items`] for unique items), [`store`] (what a store must do; [`store::sqlite`] does
//! it), [`writer`] (batches, durability, back-pressure), [`serve`] (the calls of the other processes), [`status`], [`migrate`].
//!
//! A save goes `serve::players` -> [`ledger::Ledger`] -> `Ledger::write` -> a batch of the [`writer::Writer`] -> `Store::apply`.
//! dc knows nothing of the game's rules, of clients, or of who is online.
#![forbid(unsafe_code)]

mod items;
mod ledger;
mod migrate;
mod readers;
mod refusal;
mod serve;
mod status;
mod store;
mod writer;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use service::{Links, Process, config::DcConfig, config::Role, config::Storage};

use crate::{
    ledger::{Ledger, Limits},
    serve::{Calls, Desk},
    store::Opened,
    writer::{Shared, Writer},
};

/// How often the gauges are set.
const GAUGE_PERIOD: Duration = Duration::from_secs(1);

/// Runs dc until it is told to stop and has stored everything.
///
/// # Errors
/// When the store can't be opened or an address is taken; when the store fails so that only a new start can tell what it has; when not
/// everything could be stored at the stop.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let Role::Dc(config) = &process.config.role else { bail!("{} is no dc", process.id()) };
    let opened = open(&process, config).await?;
    let (desk, writer) = desk(config, opened);
    let desk = Arc::new(desk);
    process.tasks.spawn("writer", writer.run());

    let links = Links::start(&process, Arc::new(Calls::new(process.tasks.clone(), desk.clone()))).await?;
    process.events.send_to(&process, links.clone());
    let shared = desk.shared.clone();
    service::admin::serve(&process, links, Arc::new(move || status::detail(&shared)), axum::Router::new()).await?;
    process.ready.set();

    serve_until_stopped(&process, &desk.shared).await?;
    desk.shared.close().await.context("store what is left")
}

async fn open(process: &Process, config: &DcConfig) -> anyhow::Result<Opened> {
    let (storage, folder) = (config.storage, process.folder.clone());
    let open = move || match storage {
        Storage::Sqlite => store::sqlite::open(&folder),
    };
    tokio::task::spawn_blocking(open).await?.context("open the store")
}

fn desk(config: &DcConfig, opened: Opened) -> (Desk, Writer) {
    let limits = Limits { dirty_bytes_max: config.dirty_bytes_max, cache_bytes_max: config.cache_bytes_max };
    let shared = Shared::new(Ledger::new(limits, &opened.applied));
    let writer = Writer { shared: shared.clone(), store: opened.store, flush_period: config.flush_period };
    (Desk::new(shared, opened.readers), writer)
}

/// Ends with the order to stop, or, as an error, with the writer.
async fn serve_until_stopped(process: &Process, shared: &Shared) -> anyhow::Result<()> {
    let mut gauges = tokio::time::interval(GAUGE_PERIOD);
    loop {
        tokio::select! {
            () = process.tasks.stopped() => return Ok(()),
            ended = shared.ended() => {
                ended?;
                bail!("the writer ended without being told to");
            }
            _ = gauges.tick() => shared.look(status::gauges),
        }
    }
}

/// The wall clock in Unix milliseconds, for what people read later and for the ends of sanctions.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
