//! The figures for people.

use super::{
    Figures,
    commits::{Headline, Saved},
};
use crate::{
    bench::{compare::Compared, document::Percentiles},
    tables,
};

pub(super) fn told(figures: &Figures) -> String {
    let mut lines = Vec::new();
    for (name, headline) in [("single", &figures.single), ("batched", &figures.batched)] {
        lines.extend(headline.iter().flat_map(|of| headline_lines(name, of)));
    }
    for read in &figures.reads {
        lines.push(format!(
            "reads: {}/s, {}/s a core of dc; {}",
            thousands(read.per_s),
            thousands(read.per_s_and_core_of_dc),
            latency(&read.latency_ms)
        ));
    }
    lines.extend(figures.replay.iter().map(|replay| {
        format!(
            "replay: {} records of {} B in {:.2} s: {}/s, {:.2} s a GB",
            replay.records,
            replay.record_bytes,
            replay.seconds,
            thousands(replay.records_per_s),
            replay.seconds_per_gb
        )
    }));
    lines.extend(figures.drain.iter().map(|drain| {
        let beside = compared("bare upserts", &drain.beside_bare);
        format!(
            "drain: {} rows of {} B, {beside}; {:.1} ms of processor time a thousand",
            drain.rows,
            drain.record_bytes,
            drain.cpu_s_per_1000 * 1e3
        )
    }));
    lines.extend(figures.outage.iter().map(|outage| {
        format!(
            "outage: {:.0} s, {} players, {} saves, {} refused; journal {}; all stored {:.1} s after it",
            outage.seconds,
            outage.players,
            outage.saves,
            outage.refused,
            tables::bytes(outage.journal_bytes),
            outage.drained_after_s
        )
    }));
    if !figures.grid.is_empty() {
        lines.push(grid(&figures.grid));
    }
    lines.extend(figures.skipped.iter().map(|what| format!("not measured: {what}")));
    lines.join("\n")
}

fn headline_lines(name: &str, of: &Headline) -> Vec<String> {
    let shape = &of.shape;
    let mut lines = vec![
        format!(
            "{name}: {} of {} B, {} a call, from {} connections",
            shape.class.as_str_name(),
            shape.record_bytes,
            shape.batch,
            shape.connections
        ),
        format!("  acknowledged {}", compared("bare append and sync", &of.beside_bare)),
    ];
    lines.extend(of.beside_redis.iter().map(|redis| format!("  acknowledged {}", compared("Redis appendfsync always", redis))));
    lines.push(format!("  {:.0} records a sync; {:.1} ms of processor time a thousand", of.records_per_sync, of.cpu_s_per_1000 * 1e3));
    lines.push(format!("  at {}/s: {}", thousands(of.half_load_per_s), latency(&of.half_load_ms)));
    lines
}

fn grid(saved: &[Saved]) -> String {
    let mut table = tables::table(&[
        "class",
        "bytes",
        "a call",
        "connections",
        "acknowledged/s",
        "refused",
        "p50 ms",
        "p99 ms",
        "max ms",
        "records/sync",
        "KiB/sync",
        "cpu ms/1000",
    ]);
    for saved in saved {
        let shape = &saved.shape;
        table.add_row([
            shape.class.as_str_name().to_owned(),
            shape.record_bytes.to_string(),
            shape.batch.to_string(),
            shape.connections.to_string(),
            thousands(saved.acknowledged_per_s),
            saved.refused.to_string(),
            format!("{:.2}", saved.latency_ms.p50),
            format!("{:.2}", saved.latency_ms.p99),
            format!("{:.2}", saved.latency_ms.max),
            number(saved.records_per_sync, 0),
            number(saved.bytes_per_sync.map(|bytes| bytes / 1024.0), 0),
            number(saved.cpu_s_per_1000.map(|seconds| seconds * 1e3), 2),
        ]);
    }
    table.to_string()
}

fn compared(reference: &str, of: &Compared) -> String {
    format!(
        "{}/s ({} to {}); {reference} {}/s ({} to {}); ratio {:.2} ({:.2} to {:.2})",
        thousands(of.ours.median),
        thousands(of.ours.min),
        thousands(of.ours.max),
        thousands(of.reference.median),
        thousands(of.reference.min),
        thousands(of.reference.max),
        of.ratio.median,
        of.ratio.min,
        of.ratio.max
    )
}

fn latency(of: &Percentiles) -> String {
    format!("p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms", of.p50, of.p99, of.p999, of.max)
}

/// `-` for what there was none of.
fn number(number: Option<f64>, digits: usize) -> String {
    number.map_or("-".into(), |number| format!("{number:.digits$}"))
}

/// `153 k`.
fn thousands(count: f64) -> String {
    format!("{:.0} k", count / 1000.0)
}
