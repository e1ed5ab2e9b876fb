//! How many failed logins are taken before the next try has to wait.
//!
//! Failures are counted for the pair of account and address, and for the address, never for the account alone: whoever knows only the
//! name of an account can use up nothing but the budget of his own address, so nobody can lock another one out. What it costs: a
//! thousand addresses have a thousand budgets against one account; the hash queue is what slows those down.
//!
//! Each key has a bucket of failures that refills evenly (GCRA: one instant a key). An IPv6 address counts by its /64, which is what
//! one customer has. Time is passed in.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tokio::time::Instant;

/// Keys that are remembered, at about 100 bytes each. Full? Those whose bucket is whole again are forgotten, and if there are none,
/// the half that is nearest to it.
const KEYS_MAX: usize = 100_000;
/// An address may be that of a school or a provider's network with many players: it may fail this many times as often as a pair.
const ADDRESS_FACTOR: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// The failures of the last minutes.
#[derive(Debug)]
pub(crate) struct Budget {
    pairs: Buckets<(String, String)>,
    addresses: Buckets<String>,
}

impl Budget {
    /// `failures_per_minute` for each pair of account and address.
    pub(crate) fn new(failures_per_minute: u32) -> Self {
        Self {
            pairs: Buckets::new(failures_per_minute, KEYS_MAX),
            addresses: Buckets::new(failures_per_minute.saturating_mul(ADDRESS_FACTOR), KEYS_MAX),
        }
    }

    /// How long this address must wait before it may try this account; `None`: it may try now.
    pub(crate) fn wait(&self, account: &str, address: &str, now: Instant) -> Option<Duration> {
        let network = network(address);
        self.addresses.wait(&network, now).max(self.pairs.wait(&(account.to_owned(), network), now))
    }

    /// Counts a failed try.
    pub(crate) fn failed(&mut self, account: &str, address: &str, now: Instant) {
        let network = network(address);
        self.addresses.take(network.clone(), now);
        self.pairs.take((account.to_owned(), network), now);
    }
}

/// What counts as one address.
pub(crate) fn network(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
        Ok(address) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

/// For each key the instant at which its bucket is whole again.
#[derive(Debug)]
struct Buckets<K> {
    whole_at: HashMap<K, Instant>,
    keys_max: usize,
    /// In which one failure is forgiven.
    period: Duration,
    /// Debt that may be open.
    debt_max: Duration,
}

impl<K: Eq + std::hash::Hash> Buckets<K> {
    fn new(per_minute: u32, keys_max: usize) -> Self {
        let period = MINUTE / per_minute.max(1);
        Self { whole_at: HashMap::new(), keys_max, period, debt_max: period * per_minute.max(1) }
    }

    fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let debt = self.whole_at.get(key)?.saturating_duration_since(now);
        // One more failure has to fit.
        (debt + self.period).checked_sub(self.debt_max).filter(|wait| !wait.is_zero())
    }

    fn take(&mut self, key: K, now: Instant) {
        if self.keys_max <= self.whole_at.len() && !self.whole_at.contains_key(&key) {
            self.make_room(now);
        }
        let whole_at = self.whole_at.entry(key).or_insert(now);
        *whole_at = ((*whole_at).max(now) + self.period).min(now + self.debt_max);
    }

    fn make_room(&mut self, now: Instant) {
        self.whole_at.retain(|_, whole_at| now < *whole_at);
        if self.whole_at.len() < self.keys_max {
            return;
        }
        let mut ends: Vec<Instant> = self.whole_at.values().copied().collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        let median = *median;
        let mut room = self.whole_at.len() - middle;
        self.whole_at.retain(|_, whole_at| {
            let goes = 0 < room && *whole_at <= median;
            room -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(budget: &mut Budget, times: usize, account: &str, address: &str, now: Instant) {
        for _ in 0..times {
            budget.failed(account, address, now);
        }
    }

    #[test]
    fn a_pair_waits_after_its_budget_and_is_forgiven_evenly() {
        let (mut budget, now) = (Budget::new(5), Instant::now());
        fail(&mut budget, 4, "alice", "192.0.2.1", now);
        assert_eq!(budget.wait("alice", "192.0.2.1", now), None);
        fail(&mut budget, 1, "alice", "192.0.2.1", now);
        assert_eq!(budget.wait("alice", "192.0.2.1", now), Some(Duration::from_secs(12)));
        assert_eq!(budget.wait("alice", "192.0.2.1", now + Duration::from_secs(12)), None);
        fail(&mut budget, 100, "alice", "192.0.2.1", now);
        assert_eq!(budget.wait("alice", "192.0.2.1", now + MINUTE), None, "debt has a bound");
    }

    #[test]
    fn nobody_locks_an_account_for_other_addresses() {
        let (mut budget, now) = (Budget::new(5), Instant::now());
        fail(&mut budget, 10_000, "alice", "192.0.2.66", now);
        assert!(budget.wait("alice", "192.0.2.66", now).is_some());
        assert_eq!(budget.wait("alice", "192.0.2.1", now), None);
    }

    #[test]
    fn an_address_that_tries_many_accounts_waits() {
        let (mut budget, now) = (Budget::new(5), Instant::now());
        for account in 0..50 {
            budget.failed(&format!("account-{account}"), "2001:db8::1", now);
        }
        assert!(budget.wait("alice", "2001:db8::2", now).is_some(), "the same /64");
        assert_eq!(budget.wait("alice", "2001:db8:0:1::1", now), None, "another /64");
    }

    #[test]
    fn memory_is_bounded_and_the_deepest_debts_are_kept() {
        let mut buckets: Buckets<u32> = Buckets::new(5, 100);
        let now = Instant::now();
        for _ in 0..5 {
            buckets.take(7, now);
        }
        for key in 1000..3000 {
            buckets.take(key, now);
            assert!(buckets.whole_at.len() <= 100);
        }
        assert!(buckets.wait(&7, now).is_some());
        buckets.take(1, now + MINUTE * 2);
        assert!(buckets.whole_at.len() <= 100);
    }
}
