//! A run: bots that are in the world and act when they are told to, for one span of time after another.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    BotOptions, BotsError, Phase, Shared, bot, check,
    herd::{self, Herd},
    latency::Trail,
    report::Report,
    role,
    tally::Tally,
    totals::Totals,
};

/// How often progress is told.
const PROGRESS_PERIOD: Duration = Duration::from_millis(200);
/// Of the bots that drain their sockets, one of so many reads at once, and measures.
const WATCHER_OF: usize = 10;

/// Runs bots to the end.
///
/// # Errors
/// When the options make no sense; whatever happens to the bots is in the report.
pub async fn run(options: BotOptions) -> Result<Report, BotsError> {
    run_until(options, std::future::pending()).await
}

/// As [`run`], but the bots act no longer than until `stop` ends: they say goodbye then, and what they did is reported.
///
/// # Errors
/// As [`run`].
pub async fn run_until(options: BotOptions, stop: impl Future<Output = ()>) -> Result<Report, BotsError> {
    let run = Run::start(options)?;
    tokio::select! {
        () = async {
            run.gather().await;
            run.act(Duration::ZERO).await;
        } => (),
        () = stop => (),
    }
    Ok(run.end().await.report())
}

/// Bots, as those see them who tell them what to do. Dropping it drops their connections without a word.
pub struct Run {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    bots: JoinSet<()>,
}

impl Run {
    /// Starts the bots: they begin to log in.
    ///
    /// # Errors
    /// When the options make no sense.
    pub fn start(options: BotOptions) -> Result<Self, BotsError> {
        let prefix = check(&options)?;
        let numbers = options.first..options.first + options.count;
        let trails = numbers.clone().map(|number| (role(&prefix, number), Arc::new(Trail::default()))).collect();
        let (phase, watched) = watch::channel(Phase::Gathering);
        let herds: Vec<Herd> = match options.drain_hz {
            Some(_) => (0..options.count.div_ceil(herd::BOTS_MAX)).map(|_| Herd::start(&options, watched.clone())).collect(),
            None => Vec::new(),
        };
        let shared = Arc::new(Shared { prefix, trails, totals: Totals::new(), options });
        let started = Instant::now();
        let mut bots = JoinSet::new();
        for number in numbers {
            let herd = if watches(number) { None } else { herds.get(number % herds.len().max(1)).cloned() };
            bots.spawn(Box::pin(bot::live(shared.clone(), number, started, watched.clone(), herd)));
        }
        Ok(Self { shared, phase, bots })
    }

    /// Waits until every bot is in the world, or has given up.
    pub async fn gather(&self) {
        while self.shared.totals.settled() < self.shared.options.count as u64 {
            self.tell(None);
            sleep(PROGRESS_PERIOD).await;
        }
        self.tell(None);
    }

    /// Has them act for `warm_up` and then for the options' duration, in which they are counted.
    pub async fn act(&self, warm_up: Duration) {
        self.phase.send_replace(Phase::Acting { since: Instant::now() });
        sleep(warm_up).await;
        let duration = self.shared.options.duration;
        let since = self.shared.totals.begin();
        while since.elapsed() < duration {
            self.tell(Some(since.elapsed()));
            sleep(PROGRESS_PERIOD.min(duration.saturating_sub(since.elapsed()))).await;
        }
        self.shared.totals.end(&self.shared.trails);
    }

    /// They act on until they are told otherwise. Gives what they counted since they last began to be counted, and begins anew.
    pub fn lap(&self) -> Tally {
        self.shared.totals.end(&self.shared.trails);
        let tally = self.tally();
        self.phase.send_if_modified(|phase| {
            let rest = !matches!(phase, Phase::Acting { .. });
            if rest {
                *phase = Phase::Acting { since: Instant::now() };
            }
            rest
        });
        self.shared.totals.begin();
        tally
    }

    /// Tells how far they are, again and again, without end.
    pub async fn keep_telling(&self) {
        loop {
            self.tell(Some(self.shared.totals.counted_for()));
            sleep(PROGRESS_PERIOD).await;
        }
    }

    /// They stand still; their connections stay.
    pub fn rest(&self) {
        self.phase.send_replace(Phase::Gathering);
        self.shared.trails.values().for_each(|trail| trail.looks_away());
    }

    /// What they counted since they last began to be counted.
    pub fn tally(&self) -> Tally {
        self.shared.totals.tally(&self.shared)
    }

    /// They say goodbye. Gives what they counted, including what only shows at the end.
    pub async fn end(mut self) -> Tally {
        let acted = self.shared.totals.end(&self.shared.trails);
        self.phase.send_replace(Phase::Over);
        while let Some(ended) = self.bots.join_next().await {
            ended.expect("a bot does not panic, and nobody cancels it");
        }
        self.tell(Some(acted));
        self.tally()
    }

    fn tell(&self, acting: Option<Duration>) {
        if let Some(tell) = &self.shared.options.on_progress {
            tell(&self.shared.totals.progress(acting));
        }
    }
}

/// Whether a bot of a run with herds reads at once. Gates are dealt by number, so that these must be odd and even, and all else.
const fn watches(number: usize) -> bool {
    number % WATCHER_OF == number / WATCHER_OF % WATCHER_OF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_watches_at_every_gate() {
        for gates in 1..=4 {
            let at_first = (0..10_000).filter(|number| watches(*number) && number % gates == 0).count();
            assert!(at_first.abs_diff(1000 / gates) <= 50, "{at_first} watch at the first of {gates} gates");
        }
    }
}
