//! The document for people.

use std::collections::BTreeMap;

use super::{Figures, dying_gate, memory::Resident, others::Noticed, rush};
use crate::tables::{bytes, table};

/// Tells what was measured, part by part.
pub(super) fn told(figures: &Figures) -> String {
    let parts = [figures.gate.as_ref().map(gate), figures.login.as_ref().map(login)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

fn gate(figures: &dying_gate::Figures) -> String {
    let dying_gate::Figures { players, back, hashes, others, whereabouts, wrong_updates, blind, memory, deaths } = figures;
    let after = match &back.after {
        Some(after) => format!("half after {:.2} s, 99 % after {:.2} s, all after {:.2} s", after.p50_s, after.p99_s, after.all_s),
        None => "not all".to_owned(),
    };
    format!(
        "gate:    {} died under {players} players; back in the world: {after}; {} not\n\
         \x20        {} resumed by ticket ({:.0} a second, {} in the busiest), {} logged in anew, {hashes} hashes; \
         {} connections taken ({:.0} a second); refused: {}\n\
         \x20        {} online, {} sessions, {} in the scenes, of {} expected; {wrong_updates} wrong positions, {blind} blind\n{}\n{}",
        if deaths.is_empty() { "nobody".to_owned() } else { deaths.join(", ") },
        back.not_back,
        back.resumed,
        back.resumes.mean_per_s,
        back.resumes.peak_per_s,
        back.logged_in_anew,
        back.connections,
        back.connections_per_s,
        counts(&back.refused),
        whereabouts.online,
        whereabouts.sessions,
        whereabouts.in_lines,
        whereabouts.expected,
        noticed(others),
        memory_table(memory),
    )
}

fn login(figures: &rush::Figures) -> String {
    let rush::Figures { order, words, returners, passer, login_ms, .. } = figures;
    format!(
        "login:   {} of {} in after {:.1} s, {:.0} a second; p50 {:.0} ms, p99 {:.0} ms; put off {} times; failed: {}\n\
         \x20        {} overtaken (of {} whose place is known; at most {} places late, {} are under way at once)\n\
         \x20        {} words of a place to {} clients; {} heard none, {} none of the wait, {} that fell back\n\
         \x20        the first wait told missed by {:.1} s, {:.0} % of it (median)\n\
         \x20        {} dropped their connection and came back, {} kept their place\n\
         \x20        who passes was in after {:.0} ms, {} of {} that waited went before\n{}\n{}",
        figures.logged_in,
        figures.clients,
        figures.took_s,
        figures.logins_per_s,
        login_ms.p50,
        login_ms.p99,
        figures.put_off,
        counts(&figures.failed),
        order.overtaken,
        order.placed,
        order.late_by_max,
        order.under_way,
        words.count,
        words.told,
        words.not_told,
        words.without_wait,
        words.grew,
        words.wait_error_median_s,
        words.wait_error_median_share * 100.0,
        returners.left,
        returners.kept_place,
        passer.login_ms,
        passer.let_in_before,
        passer.waiting,
        noticed(&figures.others),
        memory_table(&figures.memory),
    )
}

fn noticed(others: &Noticed) -> String {
    let mut rows = table(&["others, action to screen", "p50 ms", "p99 ms", "max ms", "samples"]);
    for (when, latency) in [("before", &others.before_ms), ("during", &others.during_ms), ("after", &others.after_ms)] {
        let figures = [latency.p50, latency.p99, latency.max].map(|ms| format!("{ms:.0}"));
        rows.add_row([when.to_owned()].into_iter().chain(figures).chain([latency.count.to_string()]));
    }
    format!("{}\n{} others, {} harmed", rows.trim_fmt(), others.players, others.harmed)
}

fn memory_table(memory: &BTreeMap<String, Resident>) -> String {
    let mut rows = table(&["memory", "before", "during", "after", "at the end"]);
    for (id, resident) in memory {
        let Resident { before_bytes, during_bytes, after_bytes, end_bytes } = resident;
        let figures = [before_bytes, during_bytes, after_bytes, end_bytes].map(|most| most.map_or_else(|| "-".to_owned(), bytes));
        rows.add_row([id.clone()].into_iter().chain(figures));
    }
    rows.trim_fmt()
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "nobody".to_owned();
    }
    counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
}
