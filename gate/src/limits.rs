//! Budgets: how often something may happen, how often a client may misbehave, how many connections an address may have.
//!
//! Pure: the time is passed in, so a test can let an hour pass.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::kinds::Bucket;
use tokio::time::Instant;

/// Parts that a token is counted in, so that slow rates lose nothing to rounding.
const PARTS: u64 = 1_000_000;

/// `rate` tokens a second, of which `burst` may be saved up.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    rate: u64,
    parts_max: u64,
    parts: u64,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let parts_max = u64::from(burst.max(1)) * PARTS;
        Self { rate: u64::from(rate.max(1)), parts_max, parts: parts_max, filled: now }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// With the time until there is one, when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        match self.parts.checked_sub(PARTS) {
            Some(left) => {
                self.parts = left;
                Ok(())
            }
            None => Err(Duration::from_micros((PARTS - self.parts).div_ceil(self.rate))),
        }
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_micros();
        // A microsecond brings `rate` parts.
        let gained = u64::try_from(since).unwrap_or(u64::MAX).saturating_mul(self.rate);
        self.parts = self.parts.saturating_add(gained).min(self.parts_max);
        self.filled = self.filled.max(now);
    }
}

/// What a violation weighs. A dropped frame may be a clock that runs a little fast, so it weighs little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// Something that no good client sends.
    Violation,
    /// A Frame-class message over its rate.
    Dropped,
}

impl Strike {
    const fn weight(self) -> u32 {
        match self {
            Strike::Violation => 10,
            Strike::Dropped => 1,
        }
    }
}

/// Violations that a client may commit within [`STRIKES_WITHIN_S`].
pub(crate) const STRIKES_MAX: u32 = 20;
/// The time after which violations are forgotten.
pub(crate) const STRIKES_WITHIN_S: u32 = 10;

/// The limits of one session.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    buckets: [TokenBucket; Bucket::ALL.len()],
    strikes: TokenBucket,
}

impl Limits {
    /// Nothing used up.
    pub(crate) fn new(now: Instant) -> Self {
        let bucket = |bucket: Bucket| {
            let (rate, burst) = bucket.rate();
            TokenBucket::new(rate, burst, now)
        };
        let heavy = Strike::Violation.weight();
        let strikes = TokenBucket::new(STRIKES_MAX * heavy / STRIKES_WITHIN_S, STRIKES_MAX * heavy, now);
        Self { buckets: Bucket::ALL.map(bucket), strikes }
    }

    /// Counts a message.
    ///
    /// # Errors
    /// With the time until the next one is allowed, when it is one too many.
    pub(crate) fn message(&mut self, bucket: Bucket, now: Instant) -> Result<(), Duration> {
        self.buckets[bucket.index()].take(now)
    }

    /// Counts a violation; `false`: it was one too many, the client is to go.
    pub(crate) fn strike(&mut self, strike: Strike, now: Instant) -> bool {
        (0..strike.weight()).all(|_| self.strikes.take(now).is_ok())
    }
}

/// Counts the connections of each address. Cheap to clone.
///
/// Full? The address' next connection is refused. The table has at most as many entries as there are connections.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    each_max: usize,
}

/// One counted connection; dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    of: Addresses,
    key: IpAddr,
}

impl Addresses {
    /// No connections, and at most `each_max` from one address.
    pub(crate) fn new(each_max: usize) -> Self {
        Self { open: Arc::default(), each_max }
    }

    /// Counts a connection; `None` if its address has all that it may have.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<AddressPlace> {
        let key = network(address);
        let mut open = self.open.lock().expect("no holder panics");
        let count = open.entry(key).or_insert(0);
        if self.each_max <= *count {
            return None;
        }
        *count += 1;
        Some(AddressPlace { of: self.clone(), key })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut open = self.of.open.lock().expect("no holder panics");
        if let Some(count) = open.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

/// What counts as one address: a household has one IPv4 address, or 2^64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(5, 20, start);
        assert_eq!((0..100).filter(|_| bucket.take(start).is_ok()).count(), 20);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(200)));
        assert!(bucket.take(start + Duration::from_millis(199)).is_err());
        assert!(bucket.take(start + Duration::from_millis(200)).is_ok());
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| bucket.take(later).is_ok()).count(), 20);
    }

    proptest! {
        #[test]
        fn no_pauses_let_more_through_than_rate_and_burst(rate in 1u32..50, burst in 1u32..50, pauses in proptest::collection::vec(0u64..500, 1..300)) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(rate, burst, start);
            let (mut now, mut passed) = (start, 0u64);
            for pause in pauses {
                now += Duration::from_millis(pause);
                passed += u64::from(bucket.take(now).is_ok());
            }
            let elapsed_ms = u64::try_from((now - start).as_millis()).unwrap();
            prop_assert!(passed <= u64::from(burst) + elapsed_ms * u64::from(rate) / 1000);
        }
    }

    #[test]
    fn every_bucket_of_the_table_is_limited() {
        let now = Instant::now();
        for bucket in Bucket::ALL {
            let mut limits = Limits::new(now);
            let passed = (0..1000).filter(|_| limits.message(bucket, now).is_ok()).count();
            assert_eq!(passed, bucket.rate().1 as usize, "{bucket:?}");
        }
    }

    #[test]
    fn twenty_violations_are_borne_and_the_next_is_not() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        assert!((0..STRIKES_MAX).all(|_| limits.strike(Strike::Violation, start)));
        assert!(!limits.strike(Strike::Violation, start));
        let later = start + Duration::from_secs(STRIKES_WITHIN_S.into());
        assert!(limits.strike(Strike::Violation, later));
    }

    #[test]
    fn dropped_frames_weigh_little_but_a_flood_of_them_is_too_much() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        assert!((0..100).all(|_| limits.strike(Strike::Dropped, start)));
        assert!(!(0..1000).all(|_| limits.strike(Strike::Dropped, start)));
    }

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let addresses = Addresses::new(2);
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let first = addresses.enter(one).unwrap();
        let _second = addresses.enter("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(addresses.enter(one).is_none());
        assert!(addresses.enter("10.0.0.2".parse().unwrap()).is_some());
        drop(first);
        let _third = addresses.enter(one).unwrap();
        let _six = [addresses.enter("2001:db8::1".parse().unwrap()), addresses.enter("2001:db8::2".parse().unwrap())];
        assert!(addresses.enter("2001:db8::3".parse().unwrap()).is_none(), "one network of IPv6 counts as one address");
        drop((_second, _third, _six));
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}
