//! Bots: players from many real sockets, on a schedule that does not wait for the zone (open loop), measured from the players' side.
//!
//! [`run`] makes the accounts, brings everybody into the world, lets them act for a while, and says goodbye. One task a bot ([`bot`]), all
//! of which share the counts ([`totals`]) and the trails ([`latency`]).

mod bot;
mod latency;
mod login;
mod market;
mod profile;
mod report;
pub(crate) mod stride;
mod totals;
mod trader;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

pub use market::Trades;
pub use profile::{Profile, UnknownProfile};
pub use report::{Latency, Login, Report};

use crate::{
    address::Address,
    connection::{Backoff, ConnectOptions},
    random::Random,
};
use latency::{Trail, Trails};
use totals::Totals;

/// How often progress is told.
const PROGRESS_PERIOD: Duration = Duration::from_millis(200);
/// The longest prefix: a character's name has at most 16 characters, six of which are the number's.
const PREFIX_CHARS_MAX: usize = 8;
/// Bots at most: more have no place in a character's name, nor in a process' file descriptors.
const COUNT_MAX: usize = 100_000;

/// Is told how far a run is.
pub type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

/// What to run.
#[derive(Clone)]
pub struct BotOptions {
    /// The gates; bots spread over them.
    pub gates: Vec<Address>,
    /// How many bots.
    pub count: usize,
    /// How long they act, once all are in the world.
    pub duration: Duration,
    /// What they do.
    pub profile: Profile,
    /// From one seed, the same walks.
    pub seed: u64,
    /// Names the bots: `a-z` and `0-9`, at most eight. The same prefix uses the same accounts again; none: a new one.
    pub prefix: Option<String>,
    /// Logins that begin in a second. A login costs the zone a password hash: 25 ms of a core.
    pub logins_per_s: u32,
    /// Resume lost connections, or else log in again, in place of giving the bot up.
    pub reconnect: Option<Backoff>,
    /// How connections are made.
    pub connect: ConnectOptions,
    /// Is told how far the run is, a few times a second.
    pub on_progress: Option<OnProgress>,
}

impl BotOptions {
    /// Walking bots that are not resumed.
    pub fn new(gates: Vec<Address>, count: usize, duration: Duration) -> Self {
        Self {
            gates,
            count,
            duration,
            profile: Profile::Walk,
            seed: 1,
            prefix: None,
            logins_per_s: 40,
            reconnect: None,
            connect: ConnectOptions::default(),
            on_progress: None,
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How long the bots have acted; none: they are still logging in.
    pub acting: Option<Duration>,
    /// Bots that came into the world.
    pub logged_in: u64,
    /// Bots that did not.
    pub login_failed: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Moves sent.
    pub moves_sent: u64,
    /// Positions received.
    pub updates_received: u64,
}

/// Why bots can't run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BotsError {
    /// There is no gate to connect to.
    #[error("no gate is given")]
    NoGate,
    /// The number of bots is out of range.
    #[error("the number of bots is from 1 to {COUNT_MAX}")]
    Count,
    /// The prefix can't be part of names.
    #[error("the prefix `{0}` is not 1 to {PREFIX_CHARS_MAX} of a-z and 0-9")]
    Prefix(String),
}

/// When bots act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Gathering,
    Acting { since: Instant },
    Over,
}

/// What all bots of a run share.
struct Shared {
    options: BotOptions,
    prefix: String,
    trails: Trails,
    totals: Totals,
}

impl Shared {
    fn account(&self, number: usize) -> String {
        format!("bot-{}-{number}", self.prefix)
    }

    fn password(&self) -> String {
        format!("a-bot-of-{}", self.prefix)
    }
}

fn role(prefix: &str, number: usize) -> String {
    format!("b{prefix}_{number}")
}

/// Runs bots to the end.
///
/// # Errors
/// When the options make no sense; whatever happens to the bots is in the report.
pub async fn run(options: BotOptions) -> Result<Report, BotsError> {
    let prefix = check(&options)?;
    let trails = (0..options.count).map(|number| (role(&prefix, number), Arc::new(Trail::default()))).collect();
    let shared = Arc::new(Shared { prefix, trails, totals: Totals::new(), options });
    let (phase, watched) = watch::channel(Phase::Gathering);
    let started = Instant::now();
    let mut bots = JoinSet::new();
    for number in 0..shared.options.count {
        bots.spawn(Box::pin(bot::live(shared.clone(), number, started, watched.clone())));
    }
    gather(&shared).await;
    let since = Instant::now();
    phase.send_replace(Phase::Acting { since });
    while since.elapsed() < shared.options.duration {
        tell(&shared, Some(since.elapsed()));
        sleep(PROGRESS_PERIOD.min(shared.options.duration.saturating_sub(since.elapsed()))).await;
    }
    phase.send_replace(Phase::Over);
    let acted = since.elapsed();
    while let Some(ended) = bots.join_next().await {
        ended.expect("a bot does not panic, and nobody cancels it");
    }
    tell(&shared, Some(acted));
    Ok(shared.totals.report(&shared, acted))
}

/// Waits until every bot is in the world, or has given up.
async fn gather(shared: &Shared) {
    while shared.totals.settled() < shared.options.count as u64 {
        tell(shared, None);
        sleep(PROGRESS_PERIOD).await;
    }
}

fn tell(shared: &Shared, acting: Option<Duration>) {
    if let Some(tell) = &shared.options.on_progress {
        tell(&shared.totals.progress(acting));
    }
}

fn check(options: &BotOptions) -> Result<String, BotsError> {
    if options.gates.is_empty() {
        return Err(BotsError::NoGate);
    }
    if !(1..=COUNT_MAX).contains(&options.count) {
        return Err(BotsError::Count);
    }
    let prefix = options.prefix.clone().unwrap_or_else(|| Random::fresh().letters(6));
    let good =
        (1..=PREFIX_CHARS_MAX).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if good { Ok(prefix) } else { Err(BotsError::Prefix(prefix)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_bots_are_good_to_the_last_one() {
        let prefix = "a2345678";
        let last = COUNT_MAX - 1;
        assert!(proto::names::player(&role(prefix, last)), "{}", role(prefix, last));
        assert!(proto::names::account(&format!("bot-{prefix}-{last}")).is_some());
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let good = BotOptions::new(vec!["127.0.0.1:1".parse().unwrap()], 1, Duration::ZERO);
        assert!(check(&good).is_ok());
        assert_eq!(check(&BotOptions { gates: vec![], ..good.clone() }), Err(BotsError::NoGate));
        assert_eq!(check(&BotOptions { count: 0, ..good.clone() }), Err(BotsError::Count));
        for prefix in ["", "Upper", "a-b", "123456789"] {
            assert!(check(&BotOptions { prefix: Some(prefix.into()), ..good.clone() }).is_err(), "{prefix}");
        }
    }
}

#[cfg(test)]
mod run_tests;
