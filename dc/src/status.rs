//! How dc stands: what `/status` and the metrics say.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::writer::{Shared, State};

/// Seconds over which `commits_per_s` is the mean.
const RATE_SECONDS: usize = 10;

/// What was done since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Why the store is unavailable, while it is.
    pub failing: Option<String>,
    saves: u64,
    rows: u64,
    batches: u64,
    commands: u64,
    commits: Rate,
}

impl Counts {
    /// So many units, with this many saves together, were taken.
    pub(crate) fn units(&mut self, units: usize, saves: usize) {
        self.saves += saves as u64;
        self.commits.add(Instant::now(), units as u64);
        metrics::counter!("paifang_dc_saves_total").increment(saves as u64);
    }

    /// A batch was stored.
    pub(crate) fn batch(&mut self, rows: usize, commands: usize) {
        self.batches += 1;
        self.rows += rows as u64;
        self.commands += commands as u64;
        metrics::counter!("paifang_dc_rows_total").increment(rows as u64);
        metrics::histogram!("paifang_dc_batch_rows").record(rows as f64);
    }

    /// Rows of a batch, on average; 0 before the first.
    fn batch_rows(&self) -> f64 {
        if self.batches == 0 { 0.0 } else { self.rows as f64 / self.batches as f64 }
    }

    /// Saves taken for each row stored; 0 before the first.
    fn coalescing(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.saves as f64 / self.rows as f64 }
    }
}

/// Events a second over the last [`RATE_SECONDS`] whole seconds.
#[derive(Debug, Default)]
struct Rate {
    started: Option<Instant>,
    second: u64,
    counts: [u64; RATE_SECONDS + 1],
}

impl Rate {
    fn add(&mut self, now: Instant, events: u64) {
        self.turn(now);
        self.counts[slot(self.second)] += events;
    }

    fn turn(&mut self, now: Instant) {
        let second = now.duration_since(*self.started.get_or_insert(now)).as_secs();
        for passed in (self.second + 1..=second).take(self.counts.len()) {
            self.counts[slot(passed)] = 0;
        }
        if self.second + (self.counts.len() as u64) < second {
            self.counts = [0; RATE_SECONDS + 1];
        }
        self.second = second;
    }

    fn per_s(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let whole: u64 = self.counts.iter().sum::<u64>() - self.counts[slot(self.second)];
        whole as f64 / (RATE_SECONDS as u64).min(self.second.max(1)) as f64
    }
}

fn slot(second: u64) -> usize {
    (second % (RATE_SECONDS as u64 + 1)) as usize
}

/// The `dc` part of `/status`; refreshes the gauges too.
pub(crate) fn detail(shared: &Shared) -> serde_json::Value {
    shared.look_mut(|state| {
        let commits_per_s = state.counts.commits.per_s(Instant::now());
        gauges(state);
        let (ledger, counts, queue) = (&state.ledger, &state.counts, &state.journal);
        let [p50, p99, max] = queue.sync_times().map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        json!({
            "dirty": ledger.dirty_records(),
            "dirty_bytes": ledger.dirty_bytes(),
            "lag_s": round(state.lag()),
            "hot": ledger.hot_records(),
            "set_aside": ledger.set_aside_records(),
            "commits_per_s": commits_per_s,
            "saves": counts.saves,
            "rows": counts.rows,
            "batches": counts.batches,
            "commands": counts.commands,
            "saves_per_row": counts.coalescing(),
            "coalescing": counts.coalescing(),
            "batch_rows": counts.batch_rows(),
            "store_failing": counts.failing,
            "trouble": trouble(state),
            "lsn": ledger.lsn(),
            "synced_lsn": queue.synced,
            "applied_lsn": queue.applied,
            "journal_bytes": queue.size.bytes,
            "journal_bytes_max": queue.bytes_max,
            "journal_segments": queue.size.segments,
            "journal_waiting_bytes": ledger.log_bytes(),
            "journal_failing": queue.failing,
            "syncs": queue.syncs,
            "sync_us": { "p50": p50, "p99": p99, "max": max },
        })
    })
}

/// Sets the gauges to what is now.
pub(crate) fn gauges(state: &State) {
    metrics::gauge!("paifang_dc_dirty_records").set(state.ledger.dirty_records() as f64);
    metrics::gauge!("paifang_dc_dirty_bytes").set(state.ledger.dirty_bytes() as f64);
    metrics::gauge!("paifang_dc_dirty_bytes_max").set(state.ledger.dirty_bytes_max() as f64);
    metrics::gauge!("paifang_dc_hot_records").set(state.ledger.hot_records() as f64);
    metrics::gauge!("paifang_dc_lag_seconds").set(state.lag().as_secs_f64());
    metrics::gauge!("paifang_dc_coalescing_ratio").set(state.counts.coalescing());
    metrics::gauge!("paifang_dc_set_aside_records").set(state.ledger.set_aside_records() as f64);
    metrics::gauge!("paifang_dc_store_failing").set(f64::from(u8::from(state.counts.failing.is_some())));
    let queue = &state.journal;
    metrics::gauge!("paifang_dc_journal_bytes").set(queue.size.bytes as f64);
    metrics::gauge!("paifang_dc_journal_bytes_max").set(queue.bytes_max as f64);
    metrics::gauge!("paifang_dc_journal_segments").set(queue.size.segments as f64);
    metrics::gauge!("paifang_dc_journal_waiting_bytes").set(state.ledger.log_bytes() as f64);
    metrics::gauge!("paifang_dc_journal_failing").set(f64::from(u8::from(queue.failing.is_some())));
    metrics::gauge!("paifang_dc_synced_lsn").set(queue.synced as f64);
    metrics::gauge!("paifang_dc_applied_lsn").set(queue.applied as f64);
    metrics::counter!("paifang_dc_journal_written_bytes_total").absolute(queue.written_bytes);
    metrics::counter!("paifang_dc_journal_syncs_total").absolute(queue.syncs);
}

/// What an operator has to look at though dc serves, in a few words; none if there is nothing.
fn trouble(state: &State) -> Option<String> {
    let queue = &state.journal;
    let journal = match &queue.failing {
        // ENOSPC, as the system's own words say it.
        Some(why) if why.contains("(os error 28)") => Some("disk full"),
        Some(_) => Some("journal not written"),
        None if queue.bytes_max <= queue.size.bytes => Some("journal full"),
        None => None,
    };
    let store = state.counts.failing.as_ref().map(|_| "database away");
    let words: Vec<&str> = journal.into_iter().chain(store).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn round(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_whole_seconds() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        for ms in (0..4000).step_by(100) {
            rate.add(at(ms), 1);
        }
        assert_eq!(rate.per_s(at(4000)), 10.0);
        assert_eq!(rate.per_s(at(12_500)), 2.0, "seconds 2 and 3 of the last ten");
        assert_eq!(rate.per_s(at(60_000)), 0.0);
    }
}
