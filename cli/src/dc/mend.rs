//! What brings a dc back that refuses to start: a damaged journal is cut, a journal and a database that do not belong together are joined.

use std::{
    path::Path,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use dc::{
    adopt::Adopted,
    journal::cut::{Cut, Lost},
};
use service::{
    ProcessKind,
    config::Role,
    random::{Random, Rng},
};

use crate::{output, target::Target};

/// Players who are named on a terminal; the others are counted. JSON has all.
const NAMED_MAX: usize = 50;

/// Either says or does it.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Sure {
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Runs `zone dc cut`.
pub(super) fn cut(dir: &Path, sure: &Sure, json: bool) -> anyhow::Result<ExitCode> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut salts = Rng::new(service::secret::chance());
    let cut = dc::journal::cut(dir, seconds, &mut salts, sure.dry_run).context("cut the journal")?;
    if json {
        let mut document = serde_json::to_value(&cut).context("write the report")?;
        document["done"] = (sure.yes && cut.damage.is_some()).into();
        output::line(document);
    } else {
        told(&cut, sure.dry_run).iter().for_each(output::line);
    }
    Ok(ExitCode::SUCCESS)
}

fn told(cut: &Cut, dry_run: bool) -> Vec<String> {
    let Some(damage) = &cut.damage else { return vec![format!("{} is sound: nothing to cut", cut.folder.display())] };
    let done = if dry_run { "would be" } else { "is" };
    let mut lines = vec![
        format!("{} is damaged at byte {}: {}", damage.file, damage.at, damage.why),
        format!("what follows {done} set aside in {}: {}", cut.aside.display(), cut.files.join(", ")),
        format!("the journal {done} cut behind change {}; what the database has is not touched", cut.last),
    ];
    lines.extend(lost(&cut.lost));
    lines
}

fn lost(lost: &Lost) -> Vec<String> {
    let mut lines = Vec::new();
    match (lost.first, lost.last) {
        (Some(first), Some(last)) => lines.push(format!(
            "lost, unless the database has them: {} changes of players and {} of relations, sanctions and the audit log, between {first} and {last}",
            lost.changes, lost.facts
        )),
        _ => lines.push("nothing that can be read is lost".into()),
    }
    if 0 < lost.unreadable_bytes {
        lines.push(format!("{} bytes can't be read: who is in them is unknown", lost.unreadable_bytes));
    }
    // As JSON, so that no name can steer a terminal.
    lines.extend(lost.players.iter().take(NAMED_MAX).map(|(player, name)| format!("  player {player} {}", serde_json::json!(name))));
    if NAMED_MAX < lost.players.len() {
        lines.push(format!("  and {} others (--json names them)", lost.players.len() - NAMED_MAX));
    }
    lines
}

/// Runs `zone dc adopt`.
pub(super) fn adopt(target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let zone = target.stopped_zone()?;
    let process = zone.of(ProcessKind::Dc).next().context("find a dc in the zone file")?.clone();
    let Role::Dc(config) = process.role else { anyhow::bail!("{} is no dc", process.id) };
    let folder = target.data.join(&process.id.0);
    service::fs::make_folder(&folder)?;
    let shown = folder.clone();
    let adopted = crate::block_on(async move {
        let adopt = move || dc::adopt::adopt(&folder, &config, Random::new(service::secret::chance()));
        tokio::task::spawn_blocking(adopt).await?
    });
    let adopted = adopted.with_context(|| format!("join the journal in {} and its database", shown.display()))?;
    if json {
        output::line(serde_json::to_value(&adopted).context("write the report")?);
    } else {
        joined(&adopted).iter().for_each(output::line);
    }
    Ok(ExitCode::SUCCESS)
}

fn joined(adopted: &Adopted) -> Vec<String> {
    let before = adopted.before.as_ref().map_or("none".to_owned(), |before| format!("journal {before}"));
    vec![
        format!("journal {} belongs to this database from now on (before: {before})", adopted.journal),
        format!("{} records that the database lacked are stored", adopted.records),
        format!("{} players are nobody's; whoever held one is refused", adopted.players),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dc::journal::verify::Place;

    use super::*;

    #[test]
    fn who_lost_what_is_told_and_cannot_steer_a_terminal() {
        let players: BTreeMap<u64, String> = (1..=60).map(|player| (player, format!("P{player}\u{1b}"))).collect();
        let lost = Lost { changes: 3, facts: 2, first: Some(7), last: Some(11), players, unreadable_bytes: 40 };
        let damage = Some(Place { file: "00000002.seg".into(), at: 80, why: "the head of a record is damaged".into() });
        let (folder, aside) = ("j".into(), "j/damaged-1".into());
        let cut = Cut { folder, damage, last: 6, files: vec!["00000002.seg".into()], aside, lost };
        let text = told(&cut, false).join("\n");
        assert!(text.contains("is set aside in j/damaged-1") && text.contains("between 7 and 11") && text.contains("40 bytes"), "{text}");
        assert!(
            text.contains("player 50 ") && !text.contains("player 51 ") && text.contains("10 others") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(told(&cut, true).join("\n").contains("would be set aside"));
        assert!(told(&Cut { damage: None, ..cut }, false)[0].contains("nothing to cut"));
    }
}
