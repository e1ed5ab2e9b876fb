//! What processes use while they are measured: processor time over the span, and memory each second.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::bench::process::Usage;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Memory that grows by less than this share of itself in a minute is called flat,
const FLAT_PERCENT_MAX: f64 = 1.0;
/// and so is memory that grows by less than this.
const FLAT_BYTES_MAX: f64 = 1_048_576.0;

/// Whom to watch.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) id: String,
    pub(super) pid: u32,
}

/// What a process used in a span.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Used {
    pub(super) id: String,
    pub(super) user_s: f64,
    pub(super) system_s: f64,
    /// Of one core, over the span.
    pub(super) cores: f64,
    pub(super) rss_bytes: u64,
    /// Since the process began.
    pub(super) rss_peak_bytes: u64,
    /// The slope of the memory over the span.
    pub(super) rss_growth_bytes_per_min: f64,
    pub(super) rss_is_flat: bool,
}

/// Watches them until `span` is over.
pub(super) async fn watch(processes: &[Watched], span: Duration) -> anyhow::Result<Vec<Used>> {
    let began = Instant::now();
    let before = processes.iter().map(|process| Usage::of(process.pid)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut memory: Vec<Vec<(f64, f64)>> = before.iter().map(|usage| vec![(0.0, usage.rss_bytes as f64)]).collect();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.tick().await;
    while began.elapsed() + LOOK_EVERY < span {
        looks.tick().await;
        for (process, memory) in processes.iter().zip(&mut memory) {
            memory.push((began.elapsed().as_secs_f64(), Usage::of(process.pid)?.rss_bytes as f64));
        }
    }
    tokio::time::sleep(span.saturating_sub(began.elapsed())).await;
    let took = began.elapsed().as_secs_f64();
    let rows = processes.iter().zip(before).zip(memory);
    rows.map(|((process, before), memory)| Ok(used(&process.id, &before, &Usage::of(process.pid)?, &memory, took))).collect()
}

fn used(id: &str, before: &Usage, after: &Usage, memory: &[(f64, f64)], took: f64) -> Used {
    let growth = slope(memory) * 60.0;
    let flat = FLAT_BYTES_MAX.max(after.rss_bytes as f64 * FLAT_PERCENT_MAX / 100.0);
    Used {
        id: id.to_owned(),
        user_s: after.user_s - before.user_s,
        system_s: after.system_s - before.system_s,
        cores: (after.cpu_s() - before.cpu_s()) / took,
        rss_bytes: after.rss_bytes,
        rss_peak_bytes: after.rss_peak_bytes,
        rss_growth_bytes_per_min: growth.round(),
        rss_is_flat: growth <= flat,
    }
}

/// By least squares; 0 of fewer than two points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if spread <= 0.0 {
        return 0.0;
    }
    points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_is_not_flat() {
        let usage = |rss_bytes| Usage { rss_bytes, ..Usage::default() };
        let memory = |growth: f64| (0..30).map(|second| (f64::from(second), 1e8 + f64::from(second) * growth)).collect::<Vec<_>>();
        let flat = used("gate-1", &usage(100_000_000), &usage(100_000_000), &memory(1_000.0), 30.0);
        assert!(flat.rss_is_flat && flat.rss_growth_bytes_per_min == 60_000.0, "{flat:?}");
        let grows = used("gate-1", &usage(100_000_000), &usage(106_000_000), &memory(200_000.0), 30.0);
        assert!(!grows.rss_is_flat, "{grows:?}");
        assert_eq!(slope(&[(0.0, 5.0)]), 0.0);
    }

    #[tokio::test]
    async fn a_span_is_measured_to_its_end() {
        let this = Watched { id: "this".into(), pid: std::process::id() };
        let used = watch(&[this], Duration::from_millis(50)).await.unwrap();
        assert!(0 < used[0].rss_bytes && 0.0 <= used[0].cores, "{used:?}");
    }
}
