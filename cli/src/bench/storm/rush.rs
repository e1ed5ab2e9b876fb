//! The login part: many log in at once, wait in a line, are told how they stand, and get in in order; a player who drops its connection
//! while it waits keeps its place, and an account that passes waits for nobody.
//!
//! [`visitor`] is one client, [`line`] makes of what they heard whether that was so.

mod line;
mod visitor;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

use self::{
    line::{Order, Returners, Waited, Words},
    visitor::{Rush, Visitor},
};
use super::{
    Args,
    memory::{Memory, Resident, Span},
    others::{self, Laps, Noticed, beside, lap, pass},
    zone_file::Wanted,
};
use crate::{
    bench::{document::Percentiles, zone::rig::Rig},
    bots::crew::Crew,
};

/// The account that waits for nobody.
pub(super) const PASSER: &str = "gm_storm";
/// Of so many clients that wait, one drops its connection:
const LEAVER_OF: usize = 100;
/// not the first, which is let in before it can be heard of again.
const LEAVER: usize = 10;
/// Connections that are made at once before the storm.
const AT_ONCE: usize = 64;
/// Logins that a login process lets through at once for each of its hashers, which are as many as cores.
const UNDER_WAY_PER_CORE: usize = 4;
/// What a login may take, at the worst, where no valve lets fewer through,
const LOGIN_MAX: Duration = Duration::from_millis(500);
/// and what all of them may take beside that.
const STORM_EXTRA: Duration = Duration::from_secs(60);
/// Logins a second of the others, who hash like everybody.
const OTHERS_PER_S: u32 = 40;
/// The longest login that is told apart from longer ones, in microseconds: three hours.
const LONGEST_US: u64 = 3 * 3600 * 1_000_000;

/// A word of a place in the line.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Since the storm began.
    at: Duration,
    position: u32,
    waiting: u32,
    wait: Option<Duration>,
}

impl Told {
    const fn behind(&self) -> u32 {
        self.waiting.saturating_sub(self.position)
    }
}

/// What came out.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) clients: usize,
    pub(super) logged_in: usize,
    /// Why the rest did not get in.
    pub(super) failed: BTreeMap<String, u64>,
    /// Words to come again later.
    pub(super) put_off: usize,
    pub(super) took_s: f64,
    pub(super) logins_per_s: f64,
    /// From asking to being in.
    pub(super) login_ms: Percentiles,
    pub(super) order: Order,
    pub(super) words: Words,
    pub(super) returners: Returners,
    pub(super) passer: Passer,
    pub(super) others: Noticed,
    pub(super) memory: BTreeMap<String, Resident>,
}

/// The account that waits for nobody: it asked when the line stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Passer {
    pub(super) login_ms: f64,
    /// Clients that waited when it asked,
    pub(super) waiting: usize,
    /// and those of them that were let in before it.
    pub(super) let_in_before: usize,
}

impl Figures {
    /// Whether all got in, in order, knew how they stood, and nobody else was harmed.
    pub(super) fn is_good(&self) -> bool {
        let all_in = self.logged_in == self.clients && self.failed.is_empty();
        let in_order = self.order.overtaken == 0 && self.returners.kept_place == self.returners.left;
        let all_told = self.words.not_told == 0 && self.words.without_wait == 0 && self.words.grew == 0;
        all_in && in_order && all_told && self.passer.has_passed(self.order.under_way) && self.others.harmed == 0
    }
}

/// Brings a zone up and storms its login.
pub(super) async fn measure(args: &Args, folder: &Path, bar: &ProgressBar) -> anyhow::Result<Figures> {
    let wanted = Wanted { players: args.others, maps: args.maps, cheap: args.cheap, valve: args.valve };
    bar.set_message("login: bringing the zone up");
    let rig = Rig::start(folder, &wanted.zone_file()).await?;
    let mut others = others::start(args, rig.gates(false)?, OTHERS_PER_S)?;
    bar.set_message("login: others come into the world");
    others::gathered(&mut others, args.others, OTHERS_PER_S).await?;
    let rush = Rush::new(rig.gates(false)?);
    bar.set_message(format!("login: making {} accounts", args.players));
    timeout(within(args), make_accounts(&rush, args.players as usize)).await.context("wait for the accounts")??;
    let memory = Memory::watch(&rig.processes);
    let (stormed, laps) = Box::pin(storm_and_measure(args, rush, &mut others, &memory, bar)).await?;
    let memory = memory.seen();
    let ended = others::ended(others).await?;
    rig.stop().await?;
    Ok(figures(&stormed, Noticed::of(&laps, &ended), memory))
}

async fn storm_and_measure(
    args: &Args,
    mut rush: Rush,
    others: &mut Crew,
    memory: &Memory,
    bar: &ProgressBar,
) -> anyhow::Result<(Stormed, Laps)> {
    bar.set_message("login: measuring before the storm");
    lap(others).await?;
    beside(others, pass(args.warm_up)).await?;
    lap(others).await?;
    beside(others, pass(args.duration)).await?;
    let before = lap(others).await?;
    // Only now: a connection that says nothing for long is closed.
    let visitors = beside(others, connect(&rush, args.players as usize)).await?;
    let passer = Visitor::new(rush.gates[0].clone(), &rush.options, PASSER.into()).await?;
    lap(others).await?;
    memory.is(Span::During);
    bar.set_message(format!("login: {} log in at once", args.players));
    rush.began = Instant::now();
    let storm = async { timeout(within(args), storm(Arc::new(rush), visitors, passer)).await.context("wait for everybody to get in")? };
    let stormed = beside(others, storm).await?;
    let during = lap(others).await?;
    memory.is(Span::After);
    bar.set_message("login: the storm is over");
    beside(others, pass(args.settle)).await?;
    let after = lap(others).await?;
    Ok((stormed, Laps { before, during, after }))
}

/// In so much time everybody is let in, or never.
fn within(args: &Args) -> Duration {
    let by_valve = args.valve.map_or(Duration::ZERO, |valve| Duration::from_secs(2) / valve);
    LOGIN_MAX.max(by_valve) * args.players + STORM_EXTRA
}

/// What the storm was.
struct Stormed {
    clients: Vec<(Waited, anyhow::Result<()>)>,
    passer: Waited,
    took: Duration,
}

fn account(number: usize) -> String {
    format!("storm-{number}")
}

async fn make_accounts(rush: &Rush, count: usize) -> anyhow::Result<()> {
    let names = (0..count).map(account).chain([PASSER.to_owned()]);
    let made = names.enumerate().map(|(number, name)| {
        let (gate, options) = (rush.gate(number), rush.options.clone());
        async move { visitor::register(&gate, &options, name).await }
    });
    a_few_at_once(made).await.map(drop).context("make the accounts")
}

async fn connect(rush: &Rush, count: usize) -> anyhow::Result<Vec<Visitor>> {
    let visitors = (0..count).map(|number| {
        let (gate, options) = (rush.gate(number), rush.options.clone());
        async move { Visitor::new(gate, &options, account(number)).await }
    });
    a_few_at_once(visitors).await.context("connect")
}

/// Everybody's work, [`AT_ONCE`] at a time.
async fn a_few_at_once<T: Send + 'static>(
    all: impl Iterator<Item = impl Future<Output = anyhow::Result<T>> + Send + 'static>,
) -> anyhow::Result<Vec<T>> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for work in all {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire().await.context("the turns are never closed")?;
            work.await
        });
    }
    let mut done = Vec::with_capacity(tasks.len());
    while let Some(one) = tasks.join_next().await {
        done.push(one.context("a client")??);
    }
    Ok(done)
}

/// All ask at once, and wait; the one that passes asks when a line stands.
async fn storm(rush: Arc<Rush>, visitors: Vec<Visitor>, passer: Visitor) -> anyhow::Result<Stormed> {
    let mut waiting: JoinSet<_> = visitors.into_iter().map(|visitor| visitor.log_in(Arc::clone(&rush), true)).collect();
    let everybody = async {
        let mut clients = Vec::with_capacity(waiting.len());
        while let Some(client) = waiting.join_next().await {
            clients.push(client.context("a client")?);
        }
        // Whoever still waits for a line to form waits in vain.
        rush.told.send_modify(|told| *told += 1);
        anyhow::Ok((clients, rush.began.elapsed()))
    };
    let passes = async {
        rush.told.subscribe().wait_for(|told| 0 < *told).await.context("the sender is never dropped")?;
        let (waited, result) = passer.log_in(Arc::clone(&rush), false).await;
        result.context("let in who passes").map(|()| waited)
    };
    let ((clients, took), passer) = tokio::try_join!(everybody, passes)?;
    Ok(Stormed { clients, passer, took })
}

/// Whether the one that was the nth to hear of its place, from 0, drops its connection.
const fn leaves(nth: usize) -> bool {
    nth % LEAVER_OF == LEAVER
}

fn figures(stormed: &Stormed, others: Noticed, memory: BTreeMap<String, Resident>) -> Figures {
    let clients: Vec<Waited> = stormed.clients.iter().map(|(waited, _)| waited.clone()).collect();
    let mut failed = BTreeMap::new();
    for err in stormed.clients.iter().filter_map(|(_, result)| result.as_ref().err()) {
        *failed.entry(format!("{err:#}")).or_default() += 1;
    }
    let mut login_us = Histogram::<u64>::new_with_max(LONGEST_US, 3).expect("these bounds are good");
    for client in &clients {
        if let Some(answered) = client.answered {
            login_us.saturating_record(answered.saturating_sub(client.asked).as_micros().try_into().unwrap_or(u64::MAX));
        }
    }
    let logged_in = clients.iter().filter(|client| client.answered.is_some()).count();
    let took_s = stormed.took.as_secs_f64();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Figures {
        clients: clients.len(),
        logged_in,
        failed,
        put_off: clients.iter().map(|client| client.put_off).sum(),
        took_s,
        logins_per_s: logged_in as f64 / took_s.max(0.001),
        login_ms: Percentiles::of_us(&login_us),
        order: Order::of(&clients, UNDER_WAY_PER_CORE * cores),
        words: Words::of(&clients, 1),
        returners: Returners::of(&clients),
        passer: Passer::of(&stormed.passer, &clients),
        others,
        memory,
    }
}

impl Passer {
    /// What is under way when it asks, and what is already on its way, goes before it; where a login takes no time, that is more.
    const fn has_passed(&self, under_way: usize) -> bool {
        self.let_in_before <= 2 * under_way || 2 * self.let_in_before <= self.waiting
    }

    fn of(passer: &Waited, clients: &[Waited]) -> Self {
        let answered = passer.answered.unwrap_or_default();
        let waits = |client: &&Waited| client.asked <= passer.asked && client.answered.is_none_or(|other| passer.asked < other);
        let before = |client: &&Waited| client.answered.is_some_and(|other| other < answered);
        Self {
            login_ms: answered.saturating_sub(passer.asked).as_secs_f64() * 1000.0,
            waiting: clients.iter().filter(waits).count(),
            let_in_before: clients.iter().filter(waits).filter(before).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waited(asked: u64, answered: Option<u64>) -> Waited {
        Waited { asked: Duration::from_secs(asked), answered: answered.map(Duration::from_secs), ..Waited::default() }
    }

    #[test]
    fn one_of_a_hundred_leaves_and_one_of_fewer() {
        assert_eq!((0..1000).filter(|nth| leaves(*nth)).count(), 10);
        assert_eq!((0..30).filter(|nth| leaves(*nth)).count(), 1);
    }

    #[test]
    fn who_passes_is_compared_with_those_who_waited_when_it_asked() {
        let clients = [waited(0, Some(2)), waited(0, Some(4)), waited(0, Some(9)), waited(0, None), waited(6, Some(7))];
        let passer = Passer::of(&waited(3, Some(5)), &clients);
        assert_eq!(passer, Passer { login_ms: 2000.0, waiting: 3, let_in_before: 1 });
        let has_passed = |let_in_before, waiting| Passer { login_ms: 0.0, waiting, let_in_before }.has_passed(8);
        assert!(has_passed(16, 16) && has_passed(40, 80) && !has_passed(17, 20));
    }

    #[test]
    fn a_storm_is_good_only_if_all_of_it_is() {
        let stormed =
            |clients: Vec<(Waited, anyhow::Result<()>)>| Stormed { clients, passer: waited(0, Some(1)), took: Duration::from_secs(4) };
        let others = Noticed::default();
        let good = figures(&stormed(vec![(waited(0, Some(1)), Ok(()))]), others, BTreeMap::new());
        assert!(good.is_good() && (good.login_ms.p50 - 1000.0).abs() < 1.0, "{good:?}");
        assert!(!figures(&stormed(vec![(waited(0, Some(1)), Ok(()))]), Noticed { harmed: 1, ..others }, BTreeMap::new()).is_good());
        let failed = figures(&stormed(vec![(waited(0, None), Err(anyhow::anyhow!("silent")))]), others, BTreeMap::new());
        assert!(!failed.is_good() && failed.failed["silent"] == 1, "{failed:?}");
        let untold = figures(&stormed(vec![(waited(0, Some(4)), Ok(()))]), others, BTreeMap::new());
        assert!(!untold.is_good(), "nobody told it where it stood");
    }
}
