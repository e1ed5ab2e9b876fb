//! `zone dc`: what dc has of a player, whether a journal is sound, and what to do when dc refuses to start ([`mend`]).

mod mend;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use dc::journal::verify::Report;
use serde_json::Value;
use service::ProcessKind;

use crate::{http, output, tables, target::Target};

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Check a journal without a dc: what it holds, where it is torn or damaged. Changes nothing.
    Verify {
        /// The journal's folder, or the folder of its dc (`data/dc-1`). Of a dc that is running the tail may look torn.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Cut a damaged journal before the damage, so that dc starts on the rest. Deletes nothing: what follows is set aside, and told.
    Cut {
        /// The journal's folder, or the folder of its dc (`data/dc-1`). dc must not run.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        #[command(flatten)]
        sure: mend::Sure,
    },
    /// Join the journal and the database for good that dc says do not belong together, as after the restore of a database alone: takes all
    /// players from their owners, and gives both a new id. dc must not run.
    Adopt {
        /// Do it.
        #[arg(long, required = true)]
        yes: bool,
    },
    /// Show a player's record, its owner and epoch, and up to which version it is safe.
    Show {
        /// The player's name, in any case, or number.
        #[arg(long, value_name = "NAME|ID")]
        player: String,
    },
}

/// Runs the command. A journal that dc would not start on is a failure.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Verify { dir } => verify(dir, json),
        What::Cut { dir, sure } => mend::cut(dir, sure, json),
        What::Adopt { .. } => mend::adopt(target, json),
        What::Show { player } => show(player, target, json),
    }
}

fn verify(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let report = dc::journal::verify(dir).context("check the journal")?;
    if json {
        let mut document = serde_json::to_value(&report).context("write the report")?;
        document["sound"] = report.is_sound().into();
        output::line(document);
    } else {
        told(&report).iter().for_each(output::line);
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(report: &Report) -> Vec<String> {
    let mut table = tables::table(&["segment", "size", "records", "first change", "last change"]);
    for segment in &report.segments {
        let first = segment.first.map_or("-".to_owned(), |first| first.to_string());
        table.add_row([segment.file.clone(), tables::bytes(segment.bytes), segment.records.to_string(), first, segment.last.to_string()]);
    }
    let first = report.first.map_or("none".to_owned(), |first| format!("{first} to {}", report.last));
    let mut lines = vec![
        table.to_string(),
        format!(
            "{}: journal {}, {} in {} segments, {} records, {} changes ({first}), run {}",
            report.folder.display(),
            report.id.as_deref().unwrap_or("without an id"),
            tables::bytes(report.bytes),
            report.segments.len(),
            report.records,
            report.changes,
            report.epoch
        ),
    ];
    lines.extend(report.gaps.iter().map(|(from, to)| format!("changes {from} to {to} are in the store only")));
    lines.extend(
        report.torn.iter().map(|torn| format!("torn tail: {} at byte {}: {}; dc cuts it off at its start", torn.file, torn.at, torn.why)),
    );
    lines.push(match &report.damage {
        Some(damage) => format!(
            "DAMAGED: {} at byte {}: {}; dc does not start on it. `zone dc cut {} --dry-run` says what would be lost without a backup",
            damage.file,
            damage.at,
            damage.why,
            report.folder.display()
        ),
        None => "sound".into(),
    });
    lines
}

fn show(player: &str, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let zone = target.zone()?;
    let dc = zone.of(ProcessKind::Dc).next().context("find a dc in the zone file")?;
    let address = http::reachable(dc.admin);
    let shown = crate::block_on(async {
        let answer = http::get(address, &format!("/players/{}", http::escaped(player))).await?;
        let shown = answer.json()?;
        if !answer.status.is_success() {
            bail!("{}", shown["error"].as_str().unwrap_or("dc does not say why"));
        }
        Ok(shown)
    })
    .with_context(|| format!("ask {} at {address} for player `{player}`", dc.id))?;
    if json {
        output::line(shown);
    } else {
        lines(&shown).iter().for_each(output::line);
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(shown: &Value) -> Vec<String> {
    // As JSON, so that nothing of it can steer a terminal.
    let field = |name: &str| format!("{name:<14} {}", shown[name]);
    let mut lines: Vec<String> = ["player", "name", "owner", "epoch", "version"].into_iter().map(field).collect();
    lines.push(shown["safe"].as_str().unwrap_or_default().to_owned());
    if shown["read_only"] == true {
        lines.push("READ-ONLY: the store refused this record; see dc's log and the table set_aside".into());
    }
    for (name, value) in shown["record"].as_object().into_iter().flatten().filter(|(name, _)| *name != "items") {
        lines.push(format!("{name:<14} {value}"));
    }
    let items = shown["record"]["items"].as_array().map_or(&[][..], Vec::as_slice);
    lines.push(format!("{:<14} {}", "items", items.len()));
    lines.extend(items.iter().map(|item| format!("  {} x{} {}", item["kind"], item["count"], item["id"])));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_player_is_shown_in_the_clear_and_cannot_steer_a_terminal() {
        let item = json!({ "id": "07", "kind": "sw\u{1b}ord", "count": 2 });
        let shown = json!({ "player": 7, "name": "Ann", "owner": "scene-1/2", "epoch": 3, "version": 9, "read_only": false,
            "safe": "safe up to version 9 in journal, 8 in database", "record": { "coins": 5, "items": [item] } });
        let text = lines(&shown).join("\n");
        assert!(text.contains("owner          \"scene-1/2\"") && text.contains("safe up to version 9 in journal, 8 in database"), "{text}");
        assert!(text.contains("coins          5") && text.contains("x2") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_folder_without_a_journal_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(verify(folder.path(), true).is_err());
    }
}
