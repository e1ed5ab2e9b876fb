//! Players whom the storm is none of the business of: they walk, and measure how soon their neighbours see what they do.

use std::time::Duration;

use anyhow::{Context, ensure};
use client::{
    Address,
    bots::{Comeback, Profile, Tally},
};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::Args;
use crate::{
    bench::document::Percentiles,
    bots::crew::{Crew, Plan},
};

/// Moves of the others in a second.
const HZ: u32 = 5;
/// A lap is counted, and goodbye is said, within this time, or the bots are stuck.
const LAP_WITHIN: Duration = Duration::from_secs(60);
/// So much longer than planned may players take to come into the world; each gives up earlier.
const GATHER_EXTRA: Duration = Duration::from_secs(180);

/// What they noticed, in milliseconds from an action's scheduled time to its sight on a neighbour's client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Noticed {
    pub(super) players: u64,
    /// Those that did not come in, or lost their connection, or saw nothing move, or saw what was not so.
    pub(super) harmed: u64,
    pub(super) before_ms: Percentiles,
    pub(super) during_ms: Percentiles,
    pub(super) after_ms: Percentiles,
}

/// What they counted in each part of the time.
pub(super) struct Laps {
    pub(super) before: Tally,
    pub(super) during: Tally,
    pub(super) after: Tally,
}

impl Noticed {
    /// Of the laps, and of the end, at which all that went wrong is told.
    pub(super) fn of(laps: &Laps, ended: &Tally) -> Self {
        let latency = |lap: &Tally| Percentiles::of_us(&lap.latency.0);
        let report = ended.report();
        let not_in = (ended.count as u64).saturating_sub(ended.logged_in);
        Self {
            players: ended.logged_in,
            harmed: not_in + ended.disconnects + report.blind() + report.wrong_updates(),
            before_ms: latency(&laps.before),
            during_ms: latency(&laps.during),
            after_ms: latency(&laps.after),
        }
    }
}

/// Starts walking bots at these gates.
pub(super) fn start(args: &Args, gates: Vec<Address>, logins_per_s: u32) -> anyhow::Result<Crew> {
    Crew::start(&Plan {
        hz: HZ,
        // All of them read at once.
        drain_hz: None,
        ..plan(args, gates, args.others, logins_per_s, None)
    })
}

/// Walking bots that read now and then.
pub(super) fn plan(args: &Args, gates: Vec<Address>, count: u32, logins_per_s: u32, reconnect: Option<Comeback>) -> Plan {
    Plan {
        gates,
        ca: None,
        count,
        processes: 1,
        duration: args.duration,
        profile: Profile::Walk,
        hz: args.hz,
        drain_hz: Some(super::DRAIN_HZ.min(args.hz)),
        seed: args.seed,
        prefix: None,
        logins_per_s,
        reconnect,
    }
}

/// Waits until all are in the world.
pub(super) async fn gathered(crew: &mut Crew, count: u32, logins_per_s: u32) -> anyhow::Result<()> {
    let mut came = 0;
    let within = Duration::from_secs(1) * count / logins_per_s.max(1) + GATHER_EXTRA;
    let gathered = crew.gather(|progress| came = progress.logged_in);
    timeout(within, gathered).await.context("wait for the players to come into the world")??;
    ensure!(came == u64::from(count), "bring the players into the world: {came} of {count} came");
    Ok(())
}

/// The next lap of bots that act.
pub(super) async fn lap(crew: &mut Crew) -> anyhow::Result<Tally> {
    timeout(LAP_WITHIN, crew.lap()).await.context("count what the bots saw")?
}

/// They say goodbye; gives what they counted, with all that went wrong.
pub(super) async fn ended(crew: Crew) -> anyhow::Result<Tally> {
    timeout(LAP_WITHIN, crew.end()).await.context("wait for the players to say goodbye")?
}

/// Works while the bots act, and hears what they say: nobody who speaks has to wait.
pub(super) async fn beside<T>(crew: &mut Crew, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        ended = crew.until(|_| false) => Err(ended.err().context("hear the bots to the end")?),
    }
}

/// Lets so much time pass.
pub(super) async fn pass(span: Duration) -> anyhow::Result<()> {
    sleep(span).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_did_not_come_or_was_dropped_or_saw_nothing_was_harmed() {
        let nobody = || Tally::of_nobody(Profile::Walk);
        let laps = Laps { before: nobody(), during: nobody(), after: nobody() };
        let mut ended = Tally { count: 5, logged_in: 5, ..nobody() };
        assert_eq!(Noticed::of(&laps, &ended).harmed, 0);
        ended.logged_in = 4;
        ended.disconnects = 2;
        ended.errors.extend([("blind".to_owned(), 3), ("wrong_updates".to_owned(), 4)]);
        let noticed = Noticed::of(&laps, &ended);
        assert_eq!((noticed.players, noticed.harmed), (4, 10));
    }
}
