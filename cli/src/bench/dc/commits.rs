//! Saves: how many dc acknowledges, how soon, at what cost, by class, size, batch and connections.

use std::time::Duration;

use anyhow::Context;
use proto::internal::{Durability, PlayerSave, PlayerTake};
use serde::Serialize;
use service::Link;

use super::{
    load::{self, Answered, Taker},
    players::{self, Group},
    reference::{Redis, append_and_sync},
    server::{Counters, Server},
};
use crate::bench::{compare::Compared, document::Percentiles};

/// What is saved, and how.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Shape {
    #[serde(serialize_with = "class_name")]
    pub class: Durability,
    pub record_bytes: usize,
    /// Saves of a call, each a unit of its own.
    pub batch: usize,
    pub connections: usize,
    /// Calls that each connection has under way.
    pub calls: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn class_name<S: serde::Serializer>(class: &Durability, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(class.as_str_name())
}

/// What came of saves as fast as dc answered.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Saved {
    pub shape: Shape,
    pub acknowledged_per_s: f64,
    /// Saves that found no room: nothing but the queue before the journal holds back who asks for D0.
    pub refused: u64,
    /// Of a call, with all connections full: what waiting in line takes, for the most part.
    pub latency_ms: Percentiles,
    /// None without a sync: classes D0 and D1 ask for none.
    pub records_per_sync: Option<f64>,
    pub bytes_per_sync: Option<f64>,
    /// None, as the next, without a save.
    pub journal_bytes_per_record: Option<f64>,
    /// Of dc alone.
    pub cpu_s_per_1000: Option<f64>,
}

/// One shape beside its references, and its latency at half of what it can.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Headline {
    pub shape: Shape,
    /// Acknowledged a second, beside a bare loop that appends as many bytes and syncs after as many records.
    pub beside_bare: Compared,
    /// Beside Redis with `appendfsync always`, values of the same size from as many connections with as many records under way.
    pub beside_redis: Option<Compared>,
    pub records_per_sync: f64,
    pub cpu_s_per_1000: f64,
    /// An open loop at half of the median rate, from the scheduled time.
    pub half_load_per_s: f64,
    pub half_load_ms: Percentiles,
}

/// Records that are read as scenes do that take players over.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Read {
    pub record_bytes: usize,
    pub connections: usize,
    pub per_s: f64,
    pub per_s_and_core_of_dc: f64,
    pub latency_ms: Percentiles,
}

/// The players of a dc that runs, and the links over which they are saved.
pub(super) struct Field<'a> {
    pub server: &'a Server,
    pub links: &'a [Link],
    saves: Vec<PlayerSave>,
    record_bytes: usize,
}

impl<'a> Field<'a> {
    /// Makes the players.
    pub(super) async fn new(server: &'a Server, links: &'a [Link], count: usize) -> anyhow::Result<Self> {
        let first = links.first().context("save without a link")?;
        Ok(Self { server, links, saves: players::make(first, count).await?, record_bytes: 0 })
    }

    /// Saves as fast as dc answers.
    pub(super) async fn saturate(&mut self, shape: Shape, measured: Duration) -> anyhow::Result<Saved> {
        let groups = self.groups(shape).await?;
        let links = self.links_of(shape);
        let mut before = Counters::default();
        let ready = async || {
            before = self.server.counters().await?;
            Ok(())
        };
        let (answered, groups) = load::saturate(links, groups, measured, ready).await?;
        let after = self.server.counters().await?;
        self.take_back(groups);
        Ok(saved(shape, &answered, &before, &after))
    }

    /// Measures a shape in turn with its references, then its latency.
    pub(super) async fn headline(
        &mut self,
        shape: Shape,
        rounds: usize,
        measured: Duration,
        folder: &std::path::Path,
        redis: Option<&Redis>,
    ) -> anyhow::Result<Headline> {
        let (mut bare, mut beside_redis, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds.max(1) {
            let saved = self.saturate(shape, measured).await?;
            let of_group = saved.journal_bytes_per_record.zip(saved.records_per_sync);
            let (bytes, records) = of_group.context("measure saves: none was synced in the time; give more --seconds")?;
            let (bytes, records) = (bytes.round() as usize, records.round() as usize);
            let reference = tokio::task::block_in_place(|| append_and_sync(folder, bytes, records, measured))?;
            bare.push((saved.acknowledged_per_s, reference));
            if let Some(redis) = redis {
                let under_way = shape.calls * shape.batch;
                let set = tokio::task::block_in_place(|| redis.set(shape.record_bytes, shape.connections, under_way, measured))?;
                beside_redis.push((saved.acknowledged_per_s, set));
            }
            all.push(saved);
        }
        let mean = |of: fn(&Saved) -> Option<f64>| all.iter().filter_map(of).sum::<f64>() / all.len() as f64;
        let beside_bare = Compared::of(&bare);
        let half_load_per_s = beside_bare.ours.median / 2.0;
        let latency = self.paced(shape, half_load_per_s, measured * 3).await?;
        Ok(Headline {
            shape,
            beside_bare,
            beside_redis: (!beside_redis.is_empty()).then(|| Compared::of(&beside_redis)),
            records_per_sync: mean(|saved| saved.records_per_sync),
            cpu_s_per_1000: mean(|saved| saved.cpu_s_per_1000),
            half_load_per_s,
            half_load_ms: Percentiles::of_us(&latency.latency),
        })
    }

    /// So many saves a second, whether dc answers or not. All players take turns, as many of them as make whole calls.
    pub(super) async fn paced(&mut self, shape: Shape, saves_per_s: f64, measured: Duration) -> anyhow::Result<Answered> {
        let calls = self.saves.len() / shape.batch / shape.connections;
        let groups = self.groups(Shape { calls, ..shape }).await?;
        let (answered, groups) = load::paced(self.links_of(shape), groups, saves_per_s / shape.batch as f64, measured).await?;
        self.take_back(groups);
        Ok(answered)
    }

    /// Reads records as fast as dc answers.
    pub(super) async fn read(&mut self, shape: Shape, measured: Duration) -> anyhow::Result<Read> {
        self.grow(shape.record_bytes).await?;
        let taker = |save: &PlayerSave| Taker(PlayerTake { player: save.player, owner: save.owner.clone(), epoch: save.epoch });
        let takers = self.saves.iter().take(shape.connections * shape.calls).map(taker).collect();
        let mut before = Counters::default();
        let ready = async || {
            before = self.server.counters().await?;
            Ok(())
        };
        let (answered, _) = load::saturate(self.links_of(shape), takers, measured, ready).await?;
        let cpu_s = self.server.counters().await?.cpu_s - before.cpu_s;
        Ok(Read {
            record_bytes: shape.record_bytes,
            connections: shape.connections,
            per_s: answered.per_s(),
            per_s_and_core_of_dc: answered.count as f64 / cpu_s,
            latency_ms: Percentiles::of_us(&answered.latency),
        })
    }

    fn links_of(&self, shape: Shape) -> &'a [Link] {
        &self.links[..shape.connections.clamp(1, self.links.len())]
    }

    /// The groups of a shape, as many as may be under way at once.
    async fn groups(&mut self, shape: Shape) -> anyhow::Result<Vec<Group>> {
        self.grow(shape.record_bytes).await?;
        let mut groups = Vec::new();
        while groups.len() < shape.connections * shape.calls && shape.batch <= self.saves.len() {
            let taken = self.saves.split_off(self.saves.len() - shape.batch);
            groups.push(Group::new(taken, shape.class));
        }
        Ok(groups)
    }

    fn take_back(&mut self, groups: Vec<Group>) {
        self.saves.extend(groups.into_iter().flat_map(Group::into_saves));
    }

    /// Gives all records this size.
    async fn grow(&mut self, bytes: usize) -> anyhow::Result<()> {
        if self.record_bytes == bytes {
            return Ok(());
        }
        self.record_bytes = bytes;
        let mut saves = std::mem::take(&mut self.saves);
        saves.iter_mut().for_each(|save| players::grow(save, bytes));
        let link = self.links.first().context("save without a link")?;
        while !saves.is_empty() {
            let taken = saves.split_off(saves.len().saturating_sub(GROWN_AT_ONCE));
            let mut group = Group::new(taken, Durability::D2);
            group.save(link).await.context("give records another size")?;
            self.saves.extend(group.into_saves());
        }
        Ok(())
    }
}

/// Records of a call that gives them another size.
const GROWN_AT_ONCE: usize = 256;

fn saved(shape: Shape, answered: &Answered, before: &Counters, after: &Counters) -> Saved {
    let (saves, bytes, syncs) = (after.saves - before.saves, after.journal_bytes - before.journal_bytes, after.syncs - before.syncs);
    let per = |what: f64, of: f64| (0.0 < of).then(|| what / of);
    Saved {
        shape,
        acknowledged_per_s: answered.per_s(),
        refused: answered.refused,
        latency_ms: Percentiles::of_us(&answered.latency),
        records_per_sync: per(saves, syncs),
        bytes_per_sync: per(bytes, syncs),
        journal_bytes_per_record: per(bytes, saves),
        cpu_s_per_1000: per((after.cpu_s - before.cpu_s) * 1000.0, saves),
    }
}
