//! The counts of a run, which all bots add to.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{
    Progress, Shared,
    latency::{Samples, Trails, histogram, record},
    market::Market,
    profile::Profile,
    report::{BLIND, RESUMED, WRONG_UPDATES},
    returns::Returns,
    tally::{self, Tally},
};

/// Kinds of error that are told apart; the names come from this crate and from the table of fault codes, so there are fewer.
const ERRORS_MAX: usize = 200;

pub(crate) struct Totals {
    settled: AtomicU64,
    pub(crate) logged_in: AtomicU64,
    pub(crate) login_failed: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) resumed: AtomicU64,
    /// Bots that lost their connection and may come back.
    pub(crate) away: AtomicU64,
    pub(crate) moves_sent: AtomicU64,
    pub(crate) updates_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) market: Market,
    pub(crate) latency: Samples,
    login: Mutex<Histogram<u64>>,
    errors: Mutex<BTreeMap<String, u64>>,
    returns: Mutex<Returns>,
    span: Mutex<Span>,
}

/// The span of time in which is counted what depends on time.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    since: Option<Instant>,
    took: Option<Duration>,
    /// The counts when it began.
    moves_before: u64,
    updates_before: u64,
    bytes_before: u64,
    /// Bots that saw nothing move when it ended.
    blind: u64,
}

impl Totals {
    pub(crate) fn new() -> Self {
        Self {
            settled: AtomicU64::new(0),
            logged_in: AtomicU64::new(0),
            login_failed: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            away: AtomicU64::new(0),
            moves_sent: AtomicU64::new(0),
            updates_received: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            market: Market::default(),
            latency: Samples::new(),
            login: Mutex::new(histogram()),
            errors: Mutex::new(BTreeMap::new()),
            returns: Mutex::default(),
            span: Mutex::default(),
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

    pub(crate) fn returns(&self) -> MutexGuard<'_, Returns> {
        self.returns.lock().expect("no holder panics")
    }

    pub(crate) fn progress(&self, acting: Option<Duration>) -> Progress {
        Progress {
            acting,
            logged_in: self.logged_in.load(Relaxed),
            login_failed: self.login_failed.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
            away: self.away.load(Relaxed),
            moves_sent: self.moves_sent.load(Relaxed),
            updates_received: self.updates_received.load(Relaxed),
        }
    }

    /// A span of time begins.
    pub(crate) fn begin(&self) -> Instant {
        let now = Instant::now();
        self.latency.reset();
        *self.span.lock().expect("no holder panics") = Span {
            since: Some(now),
            moves_before: self.moves_sent.load(Relaxed),
            updates_before: self.updates_received.load(Relaxed),
            bytes_before: self.bytes_received.load(Relaxed),
            ..Span::default()
        };
        now
    }

    /// How long has been counted.
    pub(crate) fn counted_for(&self) -> Duration {
        let span = *self.span.lock().expect("no holder panics");
        span.took.or(span.since.map(|since| since.elapsed())).unwrap_or_default()
    }

    /// The span ends, if it has not ended before. Says how long it was: zero if none has begun.
    pub(crate) fn end(&self, trails: &Trails) -> Duration {
        let (mut span, now) = (self.span.lock().expect("no holder panics"), Instant::now());
        let Some(since) = span.since else { return Duration::ZERO };
        if span.took.is_none() {
            span.blind = trails.values().filter(|trail| trail.is_blind(now)).count() as u64;
        }
        *span.took.get_or_insert(now - since)
    }

    /// What was counted in the span. Logins, lost connections and errors count from the start, so that none is hidden.
    pub(crate) fn tally(&self, shared: &Shared) -> Tally {
        let span = *self.span.lock().expect("no holder panics");
        let took = self.counted_for();
        let mut errors = self.errors.lock().expect("no holder panics").clone();
        errors.insert(RESUMED.to_owned(), self.resumed.load(Relaxed));
        errors.insert(WRONG_UPDATES.to_owned(), shared.trails.values().map(|trail| trail.wrong()).sum());
        if 0 < span.blind {
            errors.insert(BLIND.to_owned(), span.blind);
        }
        Tally {
            profile: shared.options.profile,
            count: shared.options.count,
            seconds: took.as_secs_f64(),
            logged_in: self.logged_in.load(Relaxed),
            login_failed: self.login_failed.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
            moves_sent: self.moves_sent.load(Relaxed).saturating_sub(span.moves_before),
            updates_received: self.updates_received.load(Relaxed).saturating_sub(span.updates_before),
            bytes_received: self.bytes_received.load(Relaxed).saturating_sub(span.bytes_before),
            login: tally::Samples(self.login.lock().expect("no holder panics").clone()),
            latency: tally::Samples(self.latency.all()),
            errors,
            returns: self.returns().clone(),
            trades: (shared.options.profile == Profile::Trade).then(|| self.market.report()),
        }
    }
}
