//! What bots counted in a span of time, as it travels between processes: tallies of several add up to one, of which a report is made.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    latency,
    market::Trades,
    profile::Profile,
    report::{Latency, Login, Report},
    returns::Returns,
};

/// A histogram of microseconds; as it travels, its values and how often each was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Samples(pub Histogram<u64>);

impl Default for Samples {
    fn default() -> Self {
        Self(latency::histogram())
    }
}

impl From<Vec<(u64, u64)>> for Samples {
    fn from(counts: Vec<(u64, u64)>) -> Self {
        let mut samples = Self::default();
        counts.into_iter().for_each(|(micros, count)| samples.0.saturating_record_n(micros, count));
        samples
    }
}

impl From<Samples> for Vec<(u64, u64)> {
    fn from(samples: Samples) -> Self {
        samples.0.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
    }
}

/// What the bots of one or more processes counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// What they did.
    pub profile: Profile,
    /// How many they are.
    pub count: usize,
    /// How long they were counted.
    pub seconds: f64,
    /// Those that came into the world since they were started (login-storm: logins that did).
    pub logged_in: u64,
    /// Those that did not.
    pub login_failed: u64,
    /// Connections that were lost, or closed by the zone.
    pub disconnects: u64,
    /// Moves sent.
    pub moves_sent: u64,
    /// Positions of entities received.
    pub updates_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// From asking to log in (login-storm: from the scheduled time) to standing in the world.
    pub login: Samples,
    /// From a move's scheduled time to its sight on a neighbour's client.
    pub latency: Samples,
    /// What went wrong, by name.
    pub errors: BTreeMap<String, u64>,
    /// Who lost its connection and came back.
    pub returns: Returns,
    /// What trade came to. Bots trade within one process only, so it does not travel.
    #[serde(skip)]
    pub trades: Option<Trades>,
}

impl Tally {
    /// None of these.
    pub fn of_nobody(profile: Profile) -> Self {
        Self {
            profile,
            count: 0,
            seconds: 0.0,
            logged_in: 0,
            login_failed: 0,
            disconnects: 0,
            moves_sent: 0,
            updates_received: 0,
            bytes_received: 0,
            login: Samples::default(),
            latency: Samples::default(),
            errors: BTreeMap::new(),
            returns: Returns::default(),
            trades: None,
        }
    }

    /// Adds what other bots counted in the same span.
    pub fn add(&mut self, other: &Tally) {
        self.count = self.count.saturating_add(other.count);
        self.seconds = self.seconds.max(other.seconds);
        let counts = [
            (&mut self.logged_in, other.logged_in),
            (&mut self.login_failed, other.login_failed),
            (&mut self.disconnects, other.disconnects),
            (&mut self.moves_sent, other.moves_sent),
            (&mut self.updates_received, other.updates_received),
            (&mut self.bytes_received, other.bytes_received),
        ];
        for (count, more) in counts {
            *count = count.saturating_add(more);
        }
        self.login.0.add(&other.login.0).expect("all of these have the same bounds");
        self.latency.0.add(&other.latency.0).expect("all of these have the same bounds");
        for (name, more) in &other.errors {
            let count = self.errors.entry(name.clone()).or_default();
            *count = count.saturating_add(*more);
        }
        self.returns.add(&other.returns);
    }

    /// As people and scripts read it.
    pub fn report(&self) -> Report {
        let players = self.logged_in.min(self.count as u64).max(1) as f64;
        Report {
            profile: self.profile,
            count: self.count,
            logged_in: self.logged_in,
            login_failed: self.login_failed,
            disconnects: self.disconnects,
            moves_sent: self.moves_sent,
            updates_received: self.updates_received,
            bytes_per_player_s: (self.bytes_received as f64 / players / self.seconds.max(0.001)).round(),
            login_ms: Login::of(&self.login.0),
            latency_ms: Latency::of(&self.latency.0),
            errors: self.errors.clone(),
            trades: self.trades.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(micros: &[u64]) -> Tally {
        let mut tally = Tally { count: 10, logged_in: 10, seconds: 2.0, moves_sent: 7, ..Tally::of_nobody(Profile::Walk) };
        micros.iter().for_each(|value| tally.latency.0.saturating_record(*value));
        tally.bytes_received = 1000;
        tally.errors.insert("lost".into(), micros.len() as u64);
        tally
    }

    fn travelled(tally: &Tally) -> Tally {
        serde_json::from_str(&serde_json::to_string(tally).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn tallies_of_processes_add_up_to_that_of_one(
            one in proptest::collection::vec(1u64..80_000_000, 0..50),
            two in proptest::collection::vec(1u64..80_000_000, 0..50),
        ) {
            let mut sum = Tally::of_nobody(Profile::Walk);
            sum.add(&travelled(&tally(&one)));
            sum.add(&travelled(&tally(&two)));
            let whole = tally(&[one, two].concat());
            prop_assert_eq!(&sum.latency, &whole.latency);
            prop_assert_eq!(&sum.errors, &whole.errors);
            prop_assert_eq!((sum.count, sum.moves_sent, sum.bytes_received), (20, 14, 2000));
            prop_assert_eq!(sum.report().bytes_per_player_s, whole.report().bytes_per_player_s);
        }
    }
}
