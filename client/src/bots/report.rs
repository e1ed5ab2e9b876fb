//! What a run of bots measured, as `zone bots --json` prints it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{market::Trades, profile::Profile};

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What the bots did.
    pub profile: Profile,
    /// How many they were.
    pub count: usize,
    /// Those that came into the world (login-storm: logins that did).
    pub logged_in: u64,
    /// Those that did not.
    pub login_failed: u64,
    /// Connections that were lost, or closed by the zone.
    pub disconnects: u64,
    /// Moves sent while acting.
    pub moves_sent: u64,
    /// Positions of entities received while acting.
    pub updates_received: u64,
    /// Bytes received by a bot a second, while acting.
    pub bytes_per_player_s: f64,
    /// From asking to log in (login-storm: from the scheduled time) to standing in the world.
    pub login_ms: Login,
    /// From a move's scheduled time to its sight on a neighbour's client.
    pub latency_ms: Latency,
    /// What went wrong, by name. `wrong_updates` (positions that their bot was never at) and `resumed` are always there.
    pub errors: BTreeMap<String, u64>,
    /// What trade came to, if the bots traded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trades: Option<Trades>,
}

/// Percentiles of logins, in milliseconds; 0 without a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Login {
    /// Half are faster.
    pub p50: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// Percentiles of sights, in milliseconds; 0 without a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// 999 of 1000 are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// The key of positions that their bot was never at.
pub(crate) const WRONG_UPDATES: &str = "wrong_updates";
/// The key of sessions that were resumed.
pub(crate) const RESUMED: &str = "resumed";
/// The key of bots that ended with a connection, but in no world.
pub(crate) const BLIND: &str = "blind";

impl Report {
    /// Positions that their bot was never at.
    pub fn wrong_updates(&self) -> u64 {
        self.errors.get(WRONG_UPDATES).copied().unwrap_or(0)
    }

    /// Sessions that were resumed after their connection was lost.
    pub fn resumed(&self) -> u64 {
        self.errors.get(RESUMED).copied().unwrap_or(0)
    }

    /// Bots that had a connection at the end and had seen nothing move for five seconds, not even themselves: no scene had them.
    pub fn blind(&self) -> u64 {
        self.errors.get(BLIND).copied().unwrap_or(0)
    }

    /// Whether everybody came in, saw the truth to the end, and was dropped only if that is tolerated.
    pub fn is_good(&self, tolerate_disconnects: bool) -> bool {
        let conserved = self.trades.as_ref().is_none_or(|trades| trades.conserved);
        let all_saw = self.wrong_updates() == 0 && self.blind() == 0;
        conserved && all_saw && self.login_failed == 0 && (tolerate_disconnects || self.disconnects == 0)
    }
}

impl Login {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        Self { p50: millis(histogram, 0.5), p99: millis(histogram, 0.99), max: millis(histogram, 1.0) }
    }
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| millis(histogram, quantile);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

/// The histogram holds microseconds; a report shows two digits of a millisecond.
fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    (histogram.value_at_quantile(quantile) as f64 / 10.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bots::latency::{histogram, record};

    #[test]
    fn a_report_has_the_documented_shape() {
        let mut samples = histogram();
        (1..=100).for_each(|ms| record(&mut samples, Duration::from_millis(ms)));
        let report = Report {
            profile: Profile::LoginStorm,
            count: 2,
            logged_in: 2,
            login_failed: 0,
            disconnects: 0,
            moves_sent: 10,
            updates_received: 20,
            bytes_per_player_s: 12.5,
            login_ms: Login::default(),
            latency_ms: Latency::of(&samples),
            errors: BTreeMap::from([(WRONG_UPDATES.into(), 0), (RESUMED.into(), 1)]),
            trades: None,
        };
        let text = serde_json::to_string(&report).unwrap();
        let before_latency = "{\"profile\":\"login-storm\",\"count\":2,\"logged_in\":2,\"login_failed\":0,\"disconnects\":0,\"moves_sent\":10,\
                              \"updates_received\":20,\"bytes_per_player_s\":12.5,\"login_ms\":{\"p50\":0.0,\"p99\":0.0,\"max\":0.0},\"latency_ms\":{\"p50\":";
        assert!(text.starts_with(before_latency), "{text}");
        assert!(text.ends_with("\"errors\":{\"resumed\":1,\"wrong_updates\":0}}"), "{text}");
        assert!((report.latency_ms.p50 - 50.0).abs() < 0.1 && (report.latency_ms.max - 100.0).abs() < 0.1);
    }

    #[test]
    fn a_dropped_bot_is_tolerated_only_where_it_is_asked_for_and_a_wrong_update_never() {
        let mut report = Report {
            profile: Profile::Walk,
            count: 1,
            logged_in: 1,
            login_failed: 0,
            disconnects: 1,
            moves_sent: 0,
            updates_received: 0,
            bytes_per_player_s: 0.0,
            login_ms: Login::default(),
            latency_ms: Latency::default(),
            errors: BTreeMap::new(),
            trades: None,
        };
        assert!(report.is_good(true) && !report.is_good(false));
        for never in [WRONG_UPDATES, BLIND] {
            report.errors = BTreeMap::from([(never.into(), 1)]);
            assert!(!report.is_good(true));
        }
    }
}
