//! The document for people.

use super::figures::{Dropped, Figures, Round, Workload};
use crate::tables::{bytes, table};

/// Tells what was measured, the last round in detail.
pub(super) fn told(workload: &Workload, figures: &Figures) -> String {
    let filled = &figures.filled;
    let mut text = format!(
        "{} players ({}) on {} maps of {:.0} m, {} Hz, {} moves/s each, {} gates, TLS {}\ncame in: {} in {:.1} s ({:.0} a second)",
        workload.players,
        workload.profile.name(),
        workload.maps,
        workload.map_side_m,
        workload.hz,
        workload.moves_hz,
        workload.gates,
        if workload.tls { "on" } else { "off" },
        filled.players,
        filled.took_s,
        filled.logins_per_s,
    );
    if let Some(round) = figures.rounds.last() {
        text.push_str(&round_told(round));
    }
    if 1 < figures.rounds.len() {
        let summary = &figures.summary;
        text.push_str(&format!("\n{} rounds, median (from - to):", figures.rounds.len()));
        for (what, spread) in [
            ("tick p99 ms", &summary.tick_p99_ms),
            ("action to screen p99 ms", &summary.latency_p99_ms),
            ("updates a second", &summary.updates_per_s),
            ("cores of the zone", &summary.zone_cores),
            ("cores of the bots", &summary.bots_cores),
            ("processor time over the bare", &summary.cpu_ns_per_update.ratio),
        ] {
            text.push_str(&format!("\n  {what}: {:.2} ({:.2} - {:.2})", spread.median, spread.min, spread.max));
        }
    }
    text.push_str(&dropped_told(&figures.dropped));
    text
}

fn round_told(round: &Round) -> String {
    let mut lines = table(&["map", "line", "players", "tick p50 ms", "p99", "max", "overruns", "left out"]);
    for line in &round.lines {
        let tick = &line.tick_ms;
        let figures = [tick.p50, tick.p99, tick.max].map(|ms| format!("{ms:.2}"));
        let names = [line.map.clone(), line.line.to_string(), line.players.to_string()];
        lines.add_row(names.into_iter().chain(figures).chain([line.overruns.to_string(), line.left_out.clone()]));
    }
    let mut processes = table(&["process", "cores", "user s", "system s", "memory", "peak", "grows"]);
    for used in &round.processes {
        let grows =
            if used.rss_is_flat { "flat".into() } else { format!("{} a minute", bytes(used.rss_growth_bytes_per_min.max(0.0) as u64)) };
        processes.add_row([
            used.id.clone(),
            format!("{:.2}", used.cores),
            format!("{:.1}", used.user_s),
            format!("{:.1}", used.system_s),
            bytes(used.rss_bytes),
            bytes(used.rss_peak_bytes),
            grows,
        ]);
    }
    let latency = &round.latency_ms;
    let mut text = format!(
        "\n{}\n{}\naction to a neighbour's screen: p50 {:.0} ms, p99 {:.0} ms, p99.9 {:.0} ms, max {:.0} ms\n\
         {:.0} positions and {:.0} writes a second, {} a player a second; {:.0} moves a second; {:.0} bodies left out\n\
         zone {:.2} cores, bots {:.2} cores",
        lines.trim_fmt(),
        processes.trim_fmt(),
        latency.p50,
        latency.p99,
        latency.p999,
        latency.max,
        round.updates_per_s,
        round.writes_per_s,
        bytes(round.bytes_per_player_s as u64),
        round.moves_per_s,
        round.frames_dropped,
        round.zone_cores,
        round.bots_cores,
    );
    if let Some(bare) = &round.reference {
        text.push_str(&format!(
            "\nbare system calls for the same traffic: server {:.2} cores, clients {:.2} cores\n\
             processor time for an update: {:.0} ns, bare {:.0} ns: {:.2} times as much (clients included: {:.2})",
            bare.server_cores, bare.clients_cores, round.cpu_ns_per_update, bare.cpu_ns_per_update, bare.ratio, bare.ratio_with_clients,
        ));
    }
    for (name, count) in &round.noted {
        text.push_str(&format!("\n{name}: {count}"));
    }
    text
}

fn dropped_told(dropped: &Dropped) -> String {
    format!(
        "\ndropped: {} players did not come in, {} connections lost, {} blind, {} wrong positions, {}",
        dropped.not_in,
        dropped.connections,
        dropped.blind,
        dropped.wrong_updates,
        if dropped.deaths.is_empty() { "no process died".into() } else { format!("{} died", dropped.deaths.join(", ")) },
    )
}
