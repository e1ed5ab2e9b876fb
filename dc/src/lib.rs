//! dc keeps what is true of every player: who owns it, its newest version, and that what was answered as durable is on the disk.
//!
//! Read in this order: [`ledger`] (the rules, pure; [`items`] for unique items), [`store`] (what a store must do; [`store::sqlite`] and
//! [`store::mysql`] do it), [`journal`] (what makes a save durable), [`writer`] (batches, back-pressure), [`serve`] (the calls of the other
//! processes), [`start`] (recovery), [`adopt`] (a journal and a database that do not belong together), [`status`], [`migrate`].
//!
//! A save goes `serve::players` -> [`ledger::Ledger`] -> `Ledger::write` -> the [`journal`], which makes it durable and lets it be answered;
//! later, with others, in a batch of the [`writer::Writer`] -> `Store::apply`. At the start the journal gives back what the store lacks.
//! Relations, sanctions and the audit log ([`ledger::facts`]) go the same way. Accounts and roles are made by the store, which alone knows
//! that a name is free, and refused (CALL_UNAVAILABLE) while it is away; those that were read are kept ([`ledger::known`]).
//! What the store has goes to the shared cache, if the zone has one: [`profiles`] is what waits, [`ranking`] takes it there.
//! dc knows nothing of the game's rules, of clients, or of who is online.
#![forbid(unsafe_code)]

pub mod adopt;
mod items;
pub mod journal;
mod ledger;
mod migrate;
mod profiles;
mod ranking;
mod readers;
mod refusal;
mod serve;
mod start;
mod status;
mod store;
mod writer;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use service::{Links, Process, config::DcConfig, config::Role, config::Storage, random::Rng};

use crate::{
    ranking::Keeper,
    serve::{Calls, show},
    store::Opened,
    writer::Shared,
};

/// How often the gauges are set.
const GAUGE_PERIOD: Duration = Duration::from_secs(1);

/// Runs dc until it is told to stop and has stored everything.
///
/// # Errors
/// When the store or the journal can't be opened or an address is taken; when the store fails so that only a new start can tell what it has; when not
/// everything could be stored at the stop.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let Role::Dc(config) = &process.config.role else { bail!("{} is no dc", process.id()) };
    let Some(opened) = open(&process, config).await? else { return Ok(()) };
    let (folder, config, salts) = (process.folder.clone(), config.clone(), Rng::new(process.random.next_u64()));
    let mail_max = process.zone.players.mail_max;
    let (desk, writer) = tokio::task::spawn_blocking(move || start::start(&folder, &config, mail_max, salts, opened)).await??;
    let desk = Arc::new(desk);
    if let Some(keeper) = Keeper::new(&process, &desk) {
        let end = process.tasks.end_token();
        process.tasks.spawn("cache", async move { _ = end.run_until_cancelled_owned(keeper.run()).await });
    }
    process.tasks.spawn("writer", writer.run());

    let links = Links::start(&process, Arc::new(Calls::new(process.tasks.clone(), desk.clone()))).await?;
    process.events.send_to(&process, links.clone());
    let shared = desk.shared.clone();
    service::admin::serve(&process, links, Arc::new(move || status::detail(&shared)), show::routes(desk.clone())).await?;
    process.ready.set();

    serve_until_stopped(&process, &desk.shared).await?;
    desk.shared.close().await.context("store what is left")
}

/// `None`: dc was told to stop while it waited for the database.
async fn open(process: &Process, config: &DcConfig) -> anyhow::Result<Option<Opened>> {
    let folder = process.folder.clone();
    let opened = match &config.storage {
        Storage::Sqlite => tokio::task::spawn_blocking(move || store::sqlite::open(&folder)).await?.map(Some),
        Storage::Mysql(mysql) => {
            let data = folder.parent().unwrap_or(&folder);
            let url = service::secret::text(&mysql.url, data).context("read the URL of the database")?;
            store::mysql::open_when_there(mysql.clone(), url, process.random.clone(), process.tasks.stopped()).await
        }
    };
    opened.context("open the store")
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
