//! Calls to dc: as many as it answers, or so many a second whether it answers or not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use hdrhistogram::Histogram;
use proto::internal::PlayerTake;
use service::Link;
use tokio::{sync::Mutex, task::JoinSet, time::Instant};

use super::players::{CALL_WITHIN, Group, Tally};

/// Before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long one waits whose saves were refused for want of room.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);
/// How often calls of an open loop are made: a small part of the latencies that are measured.
const PACE: Duration = Duration::from_micros(200);

/// What was answered, and after how long.
pub(super) struct Answered {
    /// Saves or records.
    pub count: u64,
    pub refused: u64,
    pub seconds: f64,
    /// Microseconds of a call.
    pub latency: Histogram<u64>,
}

impl Answered {
    pub(super) fn per_s(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are good")
}

/// One who calls again as soon as it is answered.
pub(super) trait Caller: Send + 'static {
    /// Calls, and waits for the answer.
    fn call(&mut self, link: &Link) -> impl Future<Output = anyhow::Result<Tally>> + Send;
}

impl Caller for Group {
    async fn call(&mut self, link: &Link) -> anyhow::Result<Tally> {
        self.save(link).await
    }
}

/// Reads a record as a scene does that takes a player over.
pub(super) struct Taker(pub PlayerTake);

impl Caller for Taker {
    async fn call(&mut self, link: &Link) -> anyhow::Result<Tally> {
        link.call(&self.0, CALL_WITHIN).await.context("take a player")?;
        Ok(Tally { taken: 1, refused: 0 })
    }
}

/// All of them call without a pause, dealt out over the links; they come back. Counted is what was answered within `measured`, after
/// `ready`, which is called when the callers are warm.
pub(super) async fn saturate<C: Caller>(
    links: &[Link],
    callers: Vec<C>,
    measured: Duration,
    ready: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<(Answered, Vec<C>)> {
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    let count = callers.len();
    // The counters are read between the warm-up and the first call that counts, which takes a moment.
    let shared = Arc::new(Window { from: std::sync::OnceLock::new(), measured });
    for (index, caller) in callers.into_iter().enumerate() {
        let (link, shared) = (links[index % links.len()].clone(), shared.clone());
        tasks.spawn(async move { shared.drive(caller, &link).await });
    }
    tokio::time::sleep_until(begun + WARM_UP).await;
    ready().await?;
    shared.from.get_or_init(Instant::now);
    let (mut latency, mut all, mut callers) = (histogram(), Tally::default(), Vec::with_capacity(count));
    while let Some(done) = tasks.join_next().await {
        let driven = done.context("run a caller")??;
        all = Tally { taken: all.taken + driven.tally.taken, refused: all.refused + driven.tally.refused };
        driven.us.iter().for_each(|us| latency.record(u64::from(*us)).expect("it grows"));
        callers.push(driven.caller);
    }
    Ok((Answered { count: all.taken, refused: all.refused, seconds: measured.as_secs_f64(), latency }, callers))
}

/// When calls count.
struct Window {
    from: std::sync::OnceLock<Instant>,
    measured: Duration,
}

/// What one caller did within the window.
struct Driven<C> {
    caller: C,
    tally: Tally,
    us: Vec<u32>,
}

impl Window {
    async fn drive<C: Caller>(&self, mut caller: C, link: &Link) -> anyhow::Result<Driven<C>> {
        let (mut tally, mut us) = (Tally::default(), Vec::new());
        loop {
            let sent = Instant::now();
            let called = caller.call(link).await?;
            let now = Instant::now();
            if called.taken == 0 {
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            let Some(from) = self.from.get() else { continue };
            if from.checked_add(self.measured).is_some_and(|until| until < now) {
                return Ok(Driven { caller, tally, us });
            }
            tally = Tally { taken: tally.taken + called.taken, refused: tally.refused + called.refused };
            if 0 < called.taken {
                us.push(u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX));
            }
        }
    }
}

/// So many calls a second, each at its time whatever became of those before; latencies are from that time. The groups take turns.
pub(super) async fn paced(
    links: &[Link],
    groups: Vec<Group>,
    calls_per_s: f64,
    measured: Duration,
) -> anyhow::Result<(Answered, Vec<Group>)> {
    let groups: Arc<Vec<Mutex<Group>>> = Arc::new(groups.into_iter().map(Mutex::new).collect());
    let paced = Arc::new(Paced {
        links: links.to_vec(),
        groups: groups.clone(),
        latency: std::sync::Mutex::new(histogram()),
        taken: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let (runtime, pacing) = (tokio::runtime::Handle::current(), paced.clone());
    // A thread of its own: tokio's timers are a millisecond apart.
    let tasks = tokio::task::spawn_blocking(move || pacing.run(&runtime, calls_per_s, measured)).await.context("pace the calls")?;
    tasks.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
    let latency = paced.latency.lock().expect("nobody panics with it").clone();
    let (count, refused) = (paced.taken.load(Ordering::Relaxed), paced.refused.load(Ordering::Relaxed));
    drop(paced);
    let groups = Arc::into_inner(groups).context("get the groups back")?;
    Ok((Answered { count, refused, seconds: measured.as_secs_f64(), latency }, groups.into_iter().map(Mutex::into_inner).collect()))
}

struct Paced {
    links: Vec<Link>,
    groups: Arc<Vec<Mutex<Group>>>,
    latency: std::sync::Mutex<Histogram<u64>>,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Paced {
    /// Makes the calls, on this thread.
    fn run(self: &Arc<Self>, runtime: &tokio::runtime::Handle, calls_per_s: f64, measured: Duration) -> JoinSet<anyhow::Result<()>> {
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        let all = (measured.as_secs_f64() * calls_per_s) as usize;
        let mut made = 0;
        while made < all {
            let due = ((begun.elapsed().as_secs_f64() * calls_per_s) as usize).min(all);
            for call in made..due {
                let (paced, at) = (self.clone(), begun + Duration::from_secs_f64(call as f64 / calls_per_s));
                tasks.spawn_on(async move { paced.call(call, at).await }, runtime);
            }
            made = due;
            while tasks.try_join_next().is_some_and(|done| done.is_ok_and(|done| done.is_ok())) {}
            std::thread::sleep(PACE);
        }
        tasks
    }

    async fn call(&self, number: usize, at: Instant) -> anyhow::Result<()> {
        let mut group = self.groups[number % self.groups.len()].lock().await;
        let tally = group.save(&self.links[number % self.links.len()]).await?;
        let us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.taken.fetch_add(tally.taken, Ordering::Relaxed);
        self.refused.fetch_add(tally.refused, Ordering::Relaxed);
        self.latency.lock().expect("nobody panics with it").record(us).expect("it grows");
        Ok(())
    }
}
