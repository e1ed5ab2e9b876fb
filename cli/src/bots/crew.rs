//! Bots in several processes, because one holds 20,000 descriptors and uses as many cores as it is given: this program again, once for each
//! share of the bots, steered over pipes. Their tallies add up to one.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use client::{
    Address,
    bots::{Comeback, Profile, Progress, Tally},
    random::Random,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
};

use super::steered::{Order, Said};

/// Words of the processes that may wait to be heard; more wait in their pipes.
const WORDS_MAX: usize = 64;

/// What the bots of all processes are.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) gates: Vec<Address>,
    /// Whom to trust, for gates with TLS.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) count: u32,
    pub(crate) processes: u32,
    pub(crate) duration: Duration,
    pub(crate) profile: Profile,
    pub(crate) hz: u32,
    pub(crate) drain_hz: Option<u32>,
    pub(crate) seed: u64,
    pub(crate) prefix: Option<String>,
    /// Of all processes together.
    pub(crate) logins_per_s: u32,
    /// How lost connections are brought back; its backoff is always the SDK's.
    pub(crate) reconnect: Option<Comeback>,
}

impl Plan {
    /// The command lines, one a process, each with its share.
    fn shares(&self) -> Vec<Vec<String>> {
        let prefix = self.prefix.clone().unwrap_or_else(|| Random::fresh().letters(6));
        let processes = self.processes.clamp(1, self.count.max(1));
        let start = |share: u32| u64::from(self.count) * u64::from(share) / u64::from(processes);
        (0..processes).map(|share| self.share(start(share), start(share + 1), processes, &prefix)).collect()
    }

    fn share(&self, first: u64, end: u64, processes: u32, prefix: &str) -> Vec<String> {
        let mut args = vec!["bots".to_owned(), "--steered".to_owned()];
        let mut give = |name: &str, value: String| args.extend([name.to_owned(), value]);
        give("--first", first.to_string());
        give("--count", (end - first).to_string());
        give("--for", format!("{}s", self.duration.as_secs()));
        give("--profile", self.profile.name().to_owned());
        give("--hz", self.hz.to_string());
        give("--seed", self.seed.to_string());
        give("--prefix", prefix.to_owned());
        give("--logins-per-s", self.logins_per_s.div_ceil(processes).to_string());
        self.gates.iter().for_each(|gate| give("--against", gate.to_string()));
        if let Some(drain_hz) = self.drain_hz {
            give("--drain-hz", drain_hz.to_string());
        }
        if let Some(ca) = &self.ca {
            give("--ca", ca.display().to_string());
        }
        if let Some(comeback) = &self.reconnect {
            give("--back-within-ms", comeback.spread.as_millis().to_string());
            comeback.gates.iter().for_each(|gate| give("--back-at", gate.to_string()));
            args.push("--reconnect".to_owned());
        }
        args
    }
}

/// The processes. Dropping it ends them without a word to the zone.
pub(crate) struct Crew {
    members: Vec<Member>,
    words: mpsc::Receiver<(usize, Option<Said>)>,
    profile: Profile,
}

struct Member {
    child: Child,
    orders: Option<ChildStdin>,
    progress: Progress,
}

impl Crew {
    /// Starts them: the bots begin to log in.
    pub(crate) fn start(plan: &Plan) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program's file")?;
        let (heard, words) = mpsc::channel(WORDS_MAX);
        let mut members = Vec::new();
        for (index, args) in plan.shares().into_iter().enumerate() {
            let mut command = Command::new(&program);
            // A group of its own: Ctrl-C is for this program, which lets the bots say goodbye.
            command.args(&args).process_group(0).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().context("start a process of bots")?;
            let said = child.stdout.take().context("hear a process of bots")?;
            tokio::spawn(hear(index, BufReader::new(said).lines(), heard.clone()));
            let orders = child.stdin.take();
            members.push(Member { child, orders, progress: Progress::default() });
        }
        Ok(Self { members, words, profile: plan.profile })
    }

    /// Their process ids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.child.id()).collect()
    }

    /// Waits until every bot is in the world, or has given up. Cancel-safe.
    pub(crate) async fn gather(&mut self, shown: impl FnMut(&Progress)) -> anyhow::Result<()> {
        self.until_all(shown, |said| matches!(said, Said::Gathered).then_some(())).await.map(drop)
    }

    /// Has the bots act: for `warm_up`, and then for the plan's duration, in which they are counted. They stand still again afterwards.
    pub(crate) async fn act(&mut self, warm_up: Duration) -> anyhow::Result<()> {
        self.order(&Order::Act { warm_up_ms: warm_up.as_millis() as u64 }).await
    }

    /// Has the bots act until they are told otherwise. Gives what they counted since they last began to be counted.
    pub(crate) async fn lap(&mut self) -> anyhow::Result<Tally> {
        self.order(&Order::Lap).await?;
        self.counted(|_| ()).await
    }

    /// Waits until the bots that act are as far as wanted. Cancel-safe: what is waited for in vain has still been heard.
    pub(crate) async fn until(&mut self, mut wanted: impl FnMut(&Progress) -> bool) -> anyhow::Result<()> {
        loop {
            match self.words.recv().await {
                Some((index, Some(Said::Progress(progress)))) => {
                    self.members[index].progress = progress;
                    if wanted(&self.progress()) {
                        return Ok(());
                    }
                }
                Some((_, Some(_))) => {}
                Some((_, None)) | None => bail!("hear a process of bots: it ended"),
            }
        }
    }

    async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(order).context("write an order")?;
        line.push('\n');
        for member in &mut self.members {
            let orders = member.orders.as_mut().context("steer a process of bots that was told to end")?;
            orders.write_all(line.as_bytes()).await.context("steer a process of bots")?;
        }
        Ok(())
    }

    /// Waits for what they counted when they last acted.
    pub(crate) async fn counted(&mut self, shown: impl FnMut(&Progress)) -> anyhow::Result<Tally> {
        let tallies = self.until_all(shown, |said| if let Said::Counted(tally) = said { Some(tally) } else { None }).await?;
        Ok(self.sum(&tallies))
    }

    /// The bots say goodbye. Gives what they counted last, including what only shows at the end.
    pub(crate) async fn end(mut self) -> anyhow::Result<Tally> {
        self.members.iter_mut().for_each(|member| member.orders = None);
        let tallies = self.until_all(|_| (), |said| if let Said::Ended(tally) = said { Some(tally) } else { None }).await?;
        for member in &mut self.members {
            member.child.wait().await.context("wait for a process of bots")?;
        }
        Ok(self.sum(&tallies))
    }

    fn progress(&self) -> Progress {
        self.members.iter().fold(Progress::default(), |sum, member| sum.and(&member.progress))
    }

    fn sum(&self, tallies: &[Box<Tally>]) -> Tally {
        let mut sum = Tally::of_nobody(self.profile);
        tallies.iter().for_each(|tally| sum.add(tally));
        sum
    }

    /// Waits until each has said what `wanted` picks, passing over the rest.
    async fn until_all<T>(&mut self, mut shown: impl FnMut(&Progress), wanted: impl Fn(Said) -> Option<T>) -> anyhow::Result<Vec<T>> {
        let mut found: Vec<Option<T>> = self.members.iter().map(|_| None).collect();
        while found.iter().any(Option::is_none) {
            match self.words.recv().await {
                Some((index, Some(Said::Progress(progress)))) => {
                    self.members[index].progress = progress;
                    shown(&self.progress());
                }
                Some((index, Some(said))) => found[index] = wanted(said).or(found[index].take()),
                Some((index, None)) if found[index].is_some() => {}
                Some((_, None)) | None => bail!("hear a process of bots: it ended"),
            }
        }
        Ok(found.into_iter().flatten().collect())
    }
}

/// Tells what a process says, and in the end that it says no more.
async fn hear(index: usize, mut lines: Lines<BufReader<ChildStdout>>, heard: mpsc::Sender<(usize, Option<Said>)>) {
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(said) => {
                if heard.send((index, Some(said))).await.is_err() {
                    return;
                }
            }
            Err(err) => eprintln!("zone: a process of bots said what nobody understands: {err}"),
        }
    }
    // Nobody listens any more: all is over.
    _ = heard.send((index, None)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(count: u32, processes: u32) -> Plan {
        Plan {
            gates: vec!["127.0.0.1:7000".parse().unwrap()],
            ca: None,
            count,
            processes,
            duration: Duration::from_secs(1),
            profile: Profile::Walk,
            hz: 10,
            drain_hz: Some(2),
            seed: 1,
            prefix: None,
            logins_per_s: 100,
            reconnect: None,
        }
    }

    fn value<'a>(args: &'a [String], name: &str) -> &'a str {
        &args[args.iter().position(|arg| arg == name).unwrap() + 1]
    }

    #[test]
    fn every_bot_is_in_one_share() {
        for (count, processes) in [(10, 3), (1, 4), (18_001, 2), (7, 7)] {
            let shares = plan(count, processes).shares();
            let mut next = 0;
            for share in &shares {
                assert_eq!(value(share, "--first"), next.to_string());
                let own: u32 = value(share, "--count").parse().unwrap();
                assert!(0 < own);
                next += own;
                assert_eq!(value(share, "--prefix"), value(&shares[0], "--prefix"));
            }
            assert_eq!(next, count);
        }
    }
}
