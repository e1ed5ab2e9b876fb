//! The logsvc process: what happened. It stores the behaviour events of all processes and reads them back for people.
//!
//! It promises: an event that was acknowledged is on the disk (fdatasync) and is stored once, however often it was sent; reading never
//! holds back storing; a damaged file is named, never passed over. It knows nothing of what the events mean.
//!
//! Read in this order: `segment` (the files), `producers` (what was stored already), `recovery` (the start), `writer` (storing),
//! then `query` (which events are wanted), `scan` (stored ones), `tail` (new ones) and `http`.
#![forbid(unsafe_code)]

mod catalog;
mod http;
mod producers;
mod query;
mod recovery;
mod scan;
mod segment;
mod tail;
mod volume;
mod writer;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use prost::Message;
use proto::{
    internal::{CallFault, EventsAppend},
    link::{Call, LinkFrame},
};
use service::{
    Handler, IncomingCall, Link, Links, Process,
    config::{LogsvcConfig, Role},
};

use crate::{catalog::Catalog, http::Shelf, tail::Tail, volume::Disk, writer::Ingest};

/// How often the number of stored events is sampled, for the rate in `/status`.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);
/// Samples that are kept: the rate is the mean over one less.
const SAMPLES: usize = 6;

/// Runs a logsvc process to its end: until `process.tasks` is stopped and what was taken by then is stored.
///
/// # Errors
/// When its zone file entry is of another kind, a segment is damaged, or an address can't be taken.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let config = config_of(&process)?;
    let folder = process.folder.clone();
    let recovered = tokio::task::spawn_blocking(move || recovery::recover(&folder)).await?.context("read the segments")?;
    let (catalog, tail) = (Catalog::new(recovered.segments.clone()), Tail::default());
    let disk = Box::new(Disk::new(&process.folder));
    let (ingest, thread) =
        writer::start(disk, recovered, config.segment_bytes_max, catalog.clone(), tail.clone()).context("open a segment")?;
    let links = Links::start(&process, Arc::new(Door { ingest: ingest.clone() })).await.context("start links")?;
    let shelf = Shelf::new(segment::folder(&process.folder), catalog.clone(), tail, process.tasks.stop_token());
    let rate = Rate::default();
    rate.sample(&process, catalog.clone());
    store_own(&process, ingest.clone());
    let detail = Arc::new(move || status(&catalog, &rate));
    service::admin::serve(&process, links, detail, http::router(shelf)).await.context("serve the admin port")?;
    process.ready.set();
    process.tasks.stopped().await;
    ingest.close();
    tokio::task::spawn_blocking(move || thread.join()).await?.map_err(|_| anyhow::anyhow!("store events: the writer panicked"))
}

/// The events of this process itself, which has no link to a logsvc.
fn store_own(process: &Process, ingest: Ingest) {
    let (events, end) = (process.events.clone(), process.tasks.stop_token());
    process.tasks.spawn("own events", async move {
        let mut period = tokio::time::interval(SAMPLE_PERIOD);
        while end.run_until_cancelled(period.tick()).await.is_some() {
            let Some(batch) = events.take() else { continue };
            let bytes = batch.encoded_len();
            let told = |stored: Result<_, CallFault>| {
                if let Err(fault) = stored {
                    tracing::warn!("failed to store own events: {}", fault.text);
                }
            };
            ingest.offer(batch, bytes, Box::new(told));
        }
    });
}

fn config_of(process: &Process) -> anyhow::Result<LogsvcConfig> {
    match &process.config.role {
        Role::Logsvc(config) => Ok(config.clone()),
        _ => bail!("`{}` is a {}, not a logsvc", process.id(), process.config.kind()),
    }
}

fn status(catalog: &Catalog, rate: &Rate) -> serde_json::Value {
    let totals = catalog.totals();
    serde_json::json!({
        "events_per_s": rate.per_s(),
        "stored": totals.events,
        "segments": totals.segments,
        "bytes": totals.bytes,
        "producers": totals.producers,
        "trouble": totals.disk_full.then_some("disk full"),
    })
}

/// Takes what the links bring: batches of events, which the writer answers.
struct Door {
    ingest: Ingest,
}

impl Handler for Door {
    async fn on_up(&self, _link: &Link) {}

    async fn on_down(&self, _link: &Link) {}

    async fn on_frame(&self, link: &Link, frame: LinkFrame) {
        tracing::trace!(peer = %link.peer().id, "link frame {:#06x} is not for a logsvc", frame.kind);
    }

    async fn on_call(&self, _link: &Link, call: IncomingCall) {
        match call.kind {
            EventsAppend::KIND => match call.parse::<EventsAppend>() {
                Ok(batch) => {
                    let bytes = call.body.len();
                    self.ingest.offer(batch, bytes, Box::new(move |stored| call.answer::<EventsAppend>(stored)));
                }
                Err(fault) => call.answer::<EventsAppend>(Err(fault)),
            },
            _ => call.unknown(),
        }
    }
}

/// How many events were stored in each of the last seconds.
#[derive(Clone, Default)]
struct Rate(Arc<std::sync::Mutex<VecDeque<u64>>>);

impl Rate {
    fn sample(&self, process: &Process, catalog: Catalog) {
        let (samples, end) = (Arc::clone(&self.0), process.tasks.stop_token());
        process.tasks.spawn("rate", async move {
            let mut period = tokio::time::interval(SAMPLE_PERIOD);
            while end.run_until_cancelled(period.tick()).await.is_some() {
                let mut samples = samples.lock().expect("no holder of the samples panics");
                if samples.len() == SAMPLES {
                    samples.pop_front();
                }
                samples.push_back(catalog.totals().events);
            }
        });
    }

    fn per_s(&self) -> f64 {
        let samples = self.0.lock().expect("no holder of the samples panics");
        match (samples.front(), samples.back()) {
            (Some(first), Some(last)) if 1 < samples.len() => {
                last.saturating_sub(*first) as f64 / ((samples.len() - 1) as f64 * SAMPLE_PERIOD.as_secs_f64())
            }
            _ => 0.0,
        }
    }
}
