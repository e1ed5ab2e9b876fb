//! Takes to the cache what was published, and keeps the rankings there: built from the store at the start, whenever something of them
//! was lost, and when a person wants it; changed after each batch that the store has.

use std::{sync::Arc, time::Duration};

use service::{
    Process,
    cache::{
        Away, Cache, Entry,
        ranking::{RANKED_MAX, Standing, Writer},
    },
};
use tokio::time::Instant;

use crate::{profiles::Publication, refusal::Refusal, serve::Desk};

/// How often the rankings are looked after when nothing changes, and how long after a failure they are built again.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// Players read at once.
const PAGE: u32 = 500;
const _: () = assert!(PAGE as usize <= RANKED_MAX);

/// The task that writes the cache.
pub(crate) struct Keeper {
    desk: Arc<Desk>,
    cache: Cache,
    rankings: Writer,
    /// The cache has nothing that the dc of another journal wrote.
    is_ours: bool,
    /// When they may be built by themselves again.
    build_after: Instant,
}

impl Keeper {
    /// None for a zone without a cache. From now on there is something to publish to.
    pub(crate) fn new(process: &Process, desk: &Arc<Desk>) -> Option<Self> {
        let rankings = Writer::new(&process.cache, &process.run_name())?;
        desk.shared.publisher().open();
        Some(Self { desk: desk.clone(), cache: process.cache.clone(), rankings, is_ours: false, build_after: Instant::now() })
    }

    /// Writes until it is cut off; nothing is lost with it that is not in the store.
    pub(crate) async fn run(mut self) {
        loop {
            while self.round().await {}
            // Either way there may be something to do.
            let _ = tokio::time::timeout(LOOK_PERIOD, self.desk.shared.publisher().work()).await;
        }
    }

    /// `true`: there is more.
    async fn round(&mut self) -> bool {
        if !self.is_ours {
            let journal = self.desk.journal.map(|journal| journal.to_string()).unwrap_or_default();
            self.is_ours = self.cache.belong(&journal).await.is_ok();
        }
        let (publications, waiting, more) = self.desk.shared.publisher().take(RANKED_MAX);
        let entries: Vec<Entry> = publications.iter().map(|publication| publication.entry.clone()).collect();
        // Away: readers find an older one, or none, and ask dc.
        if self.cache.put(&entries).await == Err(Away) {
            metrics::counter!("paifang_dc_unpublished_total").increment(entries.len() as u64);
        }
        if waiting.lost {
            self.rankings.lost();
        }
        if waiting.rebuilds.is_empty() {
            let standings: Vec<Standing> = publications.iter().filter_map(Publication::standing).cloned().collect();
            self.keep(&standings).await;
        } else {
            let built = self.build().await;
            for answer in waiting.rebuilds {
                // Whoever gave up waiting needs no answer.
                let _ = answer.send(built.clone());
            }
        }
        metrics::gauge!("paifang_dc_rankings_whole").set(if self.rankings.is_whole() { 1.0 } else { 0.0 });
        more
    }

    async fn keep(&mut self, standings: &[Standing]) {
        let was_whole = self.rankings.is_whole();
        self.rankings.change(standings).await;
        if self.rankings.is_whole() {
            return;
        }
        if was_whole {
            tracing::info!("the cache lost something of the rankings; building them from the store");
        }
        if self.build_after <= Instant::now()
            && let Err(refusal) = self.build().await
        {
            tracing::debug!(%refusal, "the rankings are not built");
        }
    }

    /// Builds the rankings from the store. What the store takes meanwhile waits, and changes them afterwards.
    async fn build(&mut self) -> Result<u64, Refusal> {
        self.build_after = Instant::now() + LOOK_PERIOD;
        let started = Instant::now();
        self.rankings.begin().await.map_err(away)?;
        let (mut after, mut players) = (0, 0);
        loop {
            let page = self.desk.read(move |reader| reader.standings(after, PAGE)).await?;
            let Some(last) = page.last() else { break };
            (after, players) = (last.player, players + page.len() as u64);
            self.rankings.add(&page).await.map_err(away)?;
        }
        if !self.rankings.finish(players).await.map_err(away)? {
            return Err(Refusal::Unavailable("the cache lost a part of the rankings while they were built; try again".into()));
        }
        tracing::info!(players, took_ms = started.elapsed().as_millis(), "the rankings are built");
        metrics::counter!("paifang_dc_rankings_built_total").increment(1);
        Ok(players)
    }
}

fn away(_: Away) -> Refusal {
    Refusal::Unavailable("the cache is away, rankings are read from the store; try again later".into())
}
