//! What the zone counts of itself, read at both ends of a span: ticks of every line, and what the gates wrote.

use std::collections::BTreeMap;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::rig::ZoneProcess;
use crate::bench::document::Percentiles;

/// The longest tick that is told apart from longer ones, in microseconds: a minute.
const LONGEST_US: u64 = 60_000_000;

/// The counts at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    lines: BTreeMap<(String, u32), Line>,
    gates: BTreeMap<&'static str, f64>,
}

/// As a scene's `/status` has it.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    map: String,
    line: u32,
    players: u64,
    overruns: u64,
    left_out: String,
    time_permille: u32,
    ticks_us: Vec<(u64, u64)>,
}

/// A line's ticks in a span.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LineTicks {
    pub(super) map: String,
    pub(super) line: u32,
    /// At the end of the span.
    pub(super) players: u64,
    /// Milliseconds that ticks took.
    pub(super) tick_ms: Percentiles,
    /// Ticks after which the next one was due already.
    pub(super) overruns: u64,
    /// At the end of the span: what the line leaves out because its ticks take too long,
    pub(super) left_out: String,
    /// and how fast its time runs.
    pub(super) time_permille: u32,
}

/// What all gates did in a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct GateCounts {
    pub(super) writes: f64,
    pub(super) sent_bytes: f64,
    pub(super) frames_in: f64,
    pub(super) received_bytes: f64,
    /// Bodies that were left out for clients which did not read fast enough.
    pub(super) dropped: f64,
}

const WRITES: &str = "paifang_gate_writes_total";
const SENT: &str = "paifang_gate_sent_bytes_total";
const FRAMES_IN: &str = "paifang_gate_frames_in_total";
const RECEIVED: &str = "paifang_gate_received_bytes_total";
const DROPPED: &str = "paifang_gate_frames_dropped_total";

impl Counts {
    /// Asks scenes and gates.
    pub(super) async fn read(processes: &[ZoneProcess]) -> anyhow::Result<Self> {
        let mut counts = Self::default();
        for process in processes {
            match process.kind.as_str() {
                "scene" => {
                    let status = process.get("/status").await?.json()?;
                    let lines: Vec<Line> =
                        serde_json::from_value(status["detail"]["lines"].clone()).with_context(|| format!("understand {}", process.id))?;
                    counts.lines.extend(lines.into_iter().map(|line| ((line.map.clone(), line.line), line)));
                }
                "gate" => {
                    let metrics = process.get("/metrics").await?;
                    for name in [WRITES, SENT, FRAMES_IN, RECEIVED, DROPPED] {
                        *counts.gates.entry(name).or_default() += metrics.metric(name);
                    }
                }
                _ => {}
            }
        }
        Ok(counts)
    }

    /// The ticks since `before`, of every line that is there now.
    pub(super) fn ticks_since(&self, before: &Self) -> Vec<LineTicks> {
        let nothing = Vec::new();
        let ticks = |(key, line): (&(String, u32), &Line)| {
            let earlier = before.lines.get(key);
            let mut histogram = Histogram::<u64>::new_with_max(LONGEST_US, 3).expect("these bounds are good");
            let known: BTreeMap<u64, u64> = earlier.map_or(&nothing, |line| &line.ticks_us).iter().copied().collect();
            for (micros, count) in &line.ticks_us {
                let since = count.saturating_sub(known.get(micros).copied().unwrap_or(0));
                // Recorded no times, a value would still count for the longest.
                if 0 < since {
                    histogram.saturating_record_n(*micros, since);
                }
            }
            LineTicks {
                map: line.map.clone(),
                line: line.line,
                players: line.players,
                tick_ms: Percentiles::of_us(&histogram),
                overruns: line.overruns.saturating_sub(earlier.map_or(0, |line| line.overruns)),
                left_out: line.left_out.clone(),
                time_permille: line.time_permille,
            }
        };
        self.lines.iter().map(ticks).collect()
    }

    /// What the gates did since `before`.
    pub(super) fn gates_since(&self, before: &Self) -> GateCounts {
        let since = |name| self.gates.get(name).unwrap_or(&0.0) - before.gates.get(name).unwrap_or(&0.0);
        GateCounts {
            writes: since(WRITES),
            sent_bytes: since(SENT),
            frames_in: since(FRAMES_IN),
            received_bytes: since(RECEIVED),
            dropped: since(DROPPED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ticks_us: Vec<(u64, u64)>, overruns: u64, writes: f64) -> Counts {
        let line = Line { map: "map-1".into(), line: 1, players: 7, overruns, left_out: "nothing".into(), time_permille: 1_000, ticks_us };
        Counts { lines: BTreeMap::from([(("map-1".into(), 1), line)]), gates: BTreeMap::from([(WRITES, writes)]) }
    }

    #[test]
    fn only_what_happened_in_the_span_counts() {
        let before = counts(vec![(1_000, 50), (900_000, 1)], 1, 10.0);
        let after = counts(vec![(1_000, 60), (20_000, 1), (900_000, 1)], 3, 25.0);
        let ticks = &after.ticks_since(&before)[0];
        assert_eq!((ticks.tick_ms.count, ticks.overruns, ticks.players), (11, 2, 7));
        assert!((ticks.tick_ms.p50 - 1.0).abs() < 0.01 && (ticks.tick_ms.max - 20.0).abs() < 0.1, "{ticks:?}");
        assert_eq!(after.gates_since(&before).writes, 15.0);
    }
}
