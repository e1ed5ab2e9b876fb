//! Bots: players from many real sockets, on a schedule that does not wait for the zone (open loop), measured from the players' side.
//!
//! [`run`] makes the accounts, brings everybody into the world, lets them act for a while, and says goodbye; a [`Run`] does so step by
//! step.
//! One task a bot ([`bot`]); those that walk and fight are [`walker`]s, which read at once or are kept by a [`herd`], and which come back
//! when they are lost ([`comeback`], [`returns`]). All share the counts ([`totals`]) and the trails ([`latency`]); what the bots of several processes counted adds up ([`tally`]).

mod bot;
mod comeback;
mod count;
mod haggle;
mod herd;
mod latency;
mod login;
mod market;
mod profile;
mod report;
mod returns;
mod run;
pub(crate) mod stride;
mod tally;
mod totals;
mod trader;
mod walker;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use comeback::Comeback;
pub use market::Trades;
pub use profile::{Profile, UnknownProfile, haunts};
pub use report::{Latency, Login, Report};
pub use returns::Returns;
pub use run::{Run, run, run_until};
pub use tally::{Samples, Tally};

use crate::{address::Address, connection::ConnectOptions, random::Random};
use latency::Trails;
use login::Account;
use totals::Totals;

/// A bot that is so far behind its schedule leaves out what it missed, and counts it: the machine is too slow for the bots.
const BEHIND_MAX: Duration = Duration::from_secs(2);
/// Moves a second at most: the gate takes 25, and a burst of them.
const HZ_MAX: u32 = 20;
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
    /// The number of the first one: several processes share a prefix, and no number.
    pub first: usize,
    /// How long they act, once all are in the world.
    pub duration: Duration,
    /// What they do.
    pub profile: Profile,
    /// Moves of a bot in a second.
    pub hz: u32,
    /// Nine of ten bots fetch what has arrived only so often in a second, and count it; the tenth reads at once, and measures a part of
    /// what it sees. None: all read at once, and measure all.
    pub drain_hz: Option<u32>,
    /// From one seed, the same walks.
    pub seed: u64,
    /// Names the bots: `a-z` and `0-9`, at most eight. The same prefix uses the same accounts again; none: a new one.
    pub prefix: Option<String>,
    /// Logins that begin in a second. A login costs the zone a password hash: 25 ms of a core.
    pub logins_per_s: u32,
    /// Resume lost connections, or else log in again, in place of giving the bot up.
    pub reconnect: Option<Comeback>,
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
            first: 0,
            duration,
            profile: Profile::Walk,
            hz: 5,
            drain_hz: None,
            seed: 1,
            prefix: None,
            logins_per_s: 40,
            reconnect: None,
            connect: ConnectOptions::default(),
            on_progress: None,
        }
    }
}

impl BotOptions {
    /// Time between two moves of a bot.
    pub(crate) fn move_period(&self) -> Duration {
        Duration::from_secs(1) / self.hz.max(1)
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How long the bots have acted; none: they are still logging in.
    pub acting: Option<Duration>,
    /// Bots that came into the world.
    pub logged_in: u64,
    /// Bots that did not.
    pub login_failed: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Bots that lost their connection and are not in the world again, but may come yet.
    pub away: u64,
    /// Moves sent.
    pub moves_sent: u64,
    /// Positions received.
    pub updates_received: u64,
}

impl Progress {
    /// Together with that of other bots of the same run.
    #[must_use]
    pub fn and(self, other: &Progress) -> Self {
        Self {
            acting: self.acting.max(other.acting),
            logged_in: self.logged_in.saturating_add(other.logged_in),
            login_failed: self.login_failed.saturating_add(other.login_failed),
            disconnects: self.disconnects.saturating_add(other.disconnects),
            away: self.away.saturating_add(other.away),
            moves_sent: self.moves_sent.saturating_add(other.moves_sent),
            updates_received: self.updates_received.saturating_add(other.updates_received),
        }
    }
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
    /// A rate is out of range.
    #[error("bots move 1 to {HZ_MAX} times a second, and drain their sockets no more often than that")]
    Rate,
    /// This profile has to read at once.
    #[error("bots that {} must read at once: leave the draining to walk, town and crowd", .0.name())]
    Drain(Profile),
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
    /// Where a bot connects that has no ticket: at its first login, or when it was in the world before.
    fn gates(&self, account: Account) -> &[Address] {
        match &self.options.reconnect {
            Some(comeback) if account == Account::Exists && !comeback.gates.is_empty() => &comeback.gates,
            _ => &self.options.gates,
        }
    }

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

fn check(options: &BotOptions) -> Result<String, BotsError> {
    if options.gates.is_empty() {
        return Err(BotsError::NoGate);
    }
    if options.count == 0 || COUNT_MAX < options.first.saturating_add(options.count) {
        return Err(BotsError::Count);
    }
    if !(1..=HZ_MAX).contains(&options.hz) || options.drain_hz.is_some_and(|drain_hz| !(1..=options.hz).contains(&drain_hz)) {
        return Err(BotsError::Rate);
    }
    if options.drain_hz.is_some() && !options.profile.may_drain() {
        return Err(BotsError::Drain(options.profile));
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
        assert_eq!(check(&BotOptions { first: COUNT_MAX, ..good.clone() }), Err(BotsError::Count));
        for (hz, drain_hz) in [(0, None), (21, None), (5, Some(0)), (5, Some(6))] {
            assert_eq!(check(&BotOptions { hz, drain_hz, ..good.clone() }), Err(BotsError::Rate));
        }
        let trader = BotOptions { profile: Profile::Trade, drain_hz: Some(2), ..good.clone() };
        assert_eq!(check(&trader), Err(BotsError::Drain(Profile::Trade)));
        for prefix in ["", "Upper", "a-b", "123456789"] {
            assert!(check(&BotOptions { prefix: Some(prefix.into()), ..good.clone() }).is_err(), "{prefix}");
        }
    }
}

#[cfg(test)]
mod run_tests;
