//! The counts of a run, which all bots add to.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{
    Progress, Shared,
    latency::{histogram, record},
    market::Market,
    profile::Profile,
    report::{Latency, Login, RESUMED, Report, WRONG_UPDATES},
};

/// Kinds of error that are told apart; the names come from this crate and from the table of fault codes, so there are fewer.
const ERRORS_MAX: usize = 200;

pub(crate) struct Totals {
    settled: AtomicU64,
    pub(crate) logged_in: AtomicU64,
    pub(crate) login_failed: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) moves_sent: AtomicU64,
    pub(crate) updates_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) market: Market,
    pub(crate) latency: Mutex<Histogram<u64>>,
    login: Mutex<Histogram<u64>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Totals {
    pub(crate) fn new() -> Self {
        Self {
            settled: AtomicU64::new(0),
            logged_in: AtomicU64::new(0),
            login_failed: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            moves_sent: AtomicU64::new(0),
            updates_received: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            market: Market::default(),
            latency: Mutex::new(histogram()),
            login: Mutex::new(histogram()),
            errors: Mutex::new(BTreeMap::new()),
        }
    }

    /// One more bot is in the world, or has given up.
    pub(crate) fn settle(&self) {
        self.settled.fetch_add(1, Relaxed);
    }

    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Relaxed)
    }

    pub(crate) fn logged_in(&self, took: Duration) {
        self.logged_in.fetch_add(1, Relaxed);
        record(&mut self.login.lock().expect("no holder panics"), took);
    }

    pub(crate) fn error(&self, name: &str) {
        let mut errors = self.errors.lock().expect("no holder panics");
        if let Some(count) = errors.get_mut(name) {
            *count += 1;
        } else if errors.len() < ERRORS_MAX {
            errors.insert(name.to_owned(), 1);
        }
    }

    pub(crate) fn progress(&self, acting: Option<Duration>) -> Progress {
        Progress {
            acting,
            logged_in: self.logged_in.load(Relaxed),
            login_failed: self.login_failed.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
            moves_sent: self.moves_sent.load(Relaxed),
            updates_received: self.updates_received.load(Relaxed),
        }
    }

    pub(crate) fn report(&self, shared: &Shared, acted: Duration) -> Report {
        let mut errors = self.errors.lock().expect("no holder panics").clone();
        errors.insert(RESUMED.to_owned(), self.resumed.load(Relaxed));
        errors.insert(WRONG_UPDATES.to_owned(), shared.trails.values().map(|trail| trail.wrong()).sum());
        let logged_in = self.logged_in.load(Relaxed);
        let players = logged_in.min(shared.options.count as u64).max(1) as f64;
        let bytes = self.bytes_received.load(Relaxed) as f64 / players / acted.as_secs_f64().max(0.001);
        Report {
            profile: shared.options.profile,
            count: shared.options.count,
            logged_in,
            login_failed: self.login_failed.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
            moves_sent: self.moves_sent.load(Relaxed),
            updates_received: self.updates_received.load(Relaxed),
            bytes_per_player_s: bytes.round(),
            login_ms: Login::of(&self.login.lock().expect("no holder panics")),
            latency_ms: Latency::of(&self.latency.lock().expect("no holder panics")),
            errors,
            trades: (shared.options.profile == Profile::Trade).then(|| self.market.report()),
        }
    }
}
