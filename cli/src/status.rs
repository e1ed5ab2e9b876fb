//! `zone status`: how the running zone is, gathered from the `/status` of its processes.

use std::{collections::BTreeSet, io::IsTerminal, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::bail;
use futures_util::future::join_all;
use serde_json::{Value, json};
use service::{ProcessKind, Zone, config::ProcessConfig};

use crate::{
    http, output,
    tables::{bytes, table},
    target::Target,
};

/// How long a process may take to answer; one that hangs is shown as such.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often `--watch` asks.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// How to tell it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tell again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// Fails when no process of the zone answers.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let zone = target.zone()?;
    crate::block_on(async {
        loop {
            let status = gather(&zone).await;
            let processes = status["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
            if processes.iter().all(|process| process.get("error").is_some()) {
                bail!("find the zone: {}", target.none_is_running());
            }
            if json {
                output::line(&status);
            } else {
                if args.watch && std::io::stdout().is_terminal() {
                    output::line("\x1b[2J\x1b[H");
                }
                output::line(told(&status));
            }
            if !args.watch {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(WATCH_PERIOD).await;
        }
    })
}

/// The document that `--json` prints.
async fn gather(zone: &Zone) -> Value {
    let alone = zone.processes.values().filter(|config| config.replica_of.is_none());
    let mut answers = join_all(alone.map(|config| async move { (config, ask(config).await) })).await;
    let entries: BTreeSet<&str> = zone.processes.values().filter_map(|config| config.replica_of.as_deref()).collect();
    for entry in entries {
        answers.extend(ask_replicas(&zone.named(entry)).await);
    }
    put_together(&answers)
}

/// The `/status` of those replicas of an entry that run: each address of their host is asked which one is there.
async fn ask_replicas<'a>(replicas: &[&'a ProcessConfig]) -> Vec<(&'a ProcessConfig, Result<Value, String>)> {
    let Some(first) = replicas.first() else { return Vec::new() };
    let addresses = match http::admins(first).await {
        Ok(addresses) => addresses,
        Err(err) => return vec![(*first, Err(format!("{err:#}")))],
    };
    let asked = join_all(addresses.into_iter().map(status)).await;
    let mut answers = Vec::new();
    for answer in asked.into_iter().flatten() {
        if let Some(replica) = replicas.iter().find(|replica| answer["id"] == json!(replica.id)) {
            answers.push((*replica, Ok(answer)));
        }
    }
    answers.sort_by_key(|(replica, _)| (replica.id.0.len(), &replica.id));
    answers
}

/// A process' `/status`, or why there is none.
async fn ask(config: &ProcessConfig) -> Result<Value, String> {
    let address = http::admin(config).await.map_err(|err| format!("{err:#}"))?;
    let status = status(address).await?;
    if status["id"] != json!(config.id) {
        return Err(format!("another program answers at {}", config.admin));
    }
    Ok(status)
}

/// The `/status` at an address.
async fn status(address: SocketAddr) -> Result<Value, String> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, http::get(address, "/status")).await;
    let answer = answer.map_err(|_| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))?;
    answer.and_then(|answer| answer.json()).map_err(|err| format!("{err:#}"))
}

/// One document of all answers.
fn put_together(answers: &[(&ProcessConfig, Result<Value, String>)]) -> Value {
    let detail = |kind: ProcessKind| {
        let answer = answers.iter().find(|(config, answer)| config.kind() == kind && answer.is_ok());
        answer.and_then(|(_, answer)| answer.as_ref().ok()).map(|answer| answer["detail"].clone()).unwrap_or_default()
    };
    let answered = || answers.iter().filter_map(|(config, answer)| Some((*config, answer.as_ref().ok()?)));
    let lines: Vec<Value> = answered().filter(|(config, _)| config.kind() == ProcessKind::Scene).flat_map(lines_of).collect();
    // While center is away, those who are in the world are known of.
    let in_world: u64 = lines.iter().filter_map(|line| line["players"].as_u64()).sum();
    let online = detail(ProcessKind::Center)["online"].as_u64().unwrap_or(in_world);
    let spooled: u64 = answered().filter_map(|(_, answer)| answer["events"]["spooled"].as_u64()).sum();
    let (dc, logsvc) = (detail(ProcessKind::Dc), detail(ProcessKind::Logsvc));
    let waiting = |queue: &str| -> u64 {
        answered()
            .filter(|(config, _)| config.kind() == ProcessKind::Login)
            .filter_map(|(_, answer)| answer["detail"]["waiting"][queue].as_u64())
            .sum()
    };
    json!({
        "online": online,
        "login": { "waiting": waiting("logins"), "waiting_for_room": waiting("room") },
        "processes": answers.iter().map(|(config, answer)| process(config, answer)).collect::<Vec<Value>>(),
        "lines": lines,
        "dc": { "dirty": dc["dirty"], "lag_s": dc["lag_s"] },
        "logsvc": { "events_per_s": logsvc["events_per_s"], "spooled": spooled },
    })
}

fn process(config: &ProcessConfig, answer: &Result<Value, String>) -> Value {
    match answer {
        Ok(answer) => json!({
            "id": config.id, "kind": config.kind(), "ready": answer["ready"], "waiting_for": answer["waiting_for"], "trouble": answer["trouble"],
            "pid": answer["pid"],
            "cpu_s": answer["cpu_s"], "rss_bytes": answer["rss_bytes"], "links": answer["links"],
        }),
        Err(error) => json!({
            "id": config.id, "kind": config.kind(), "ready": false, "cpu_s": 0.0, "rss_bytes": 0, "links": {}, "error": error,
        }),
    }
}

/// A scene's lines, each with the scene's id.
fn lines_of((config, answer): (&ProcessConfig, &Value)) -> Vec<Value> {
    let mut lines = answer["detail"]["lines"].as_array().cloned().unwrap_or_default();
    for line in lines.iter_mut().filter_map(Value::as_object_mut) {
        line.insert("scene".into(), json!(config.id));
    }
    lines
}

/// The document for people.
fn told(status: &Value) -> String {
    let (dc, logsvc) = (&status["dc"], &status["logsvc"]);
    let summary = format!(
        "{} online, {} waiting to log in, {} for room; dc: {} dirty, {} s behind; logsvc: {} events/s, {} spooled",
        shown(&status["online"]),
        shown(&status["login"]["waiting"]),
        shown(&status["login"]["waiting_for_room"]),
        shown(&dc["dirty"]),
        shown(&dc["lag_s"]),
        shown(&logsvc["events_per_s"]),
        shown(&logsvc["spooled"])
    );
    let processes = status["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut processes_table = table(&["process", "kind", "state", "pid", "cpu s", "memory", "links"]);
    for process in processes {
        let links = process["links"].as_object().map_or(0, serde_json::Map::len).to_string();
        let memory = bytes(process["rss_bytes"].as_u64().unwrap_or(0));
        let columns = [&process["id"], &process["kind"]].map(shown).into_iter();
        let rest = [state(process), shown(&process["pid"]), shown(&process["cpu_s"]), memory, links];
        processes_table.add_row(columns.chain(rest));
    }
    let mut lines_table = table(&["map", "line", "scene", "players", "tick p50 ms", "p99", "max", "overruns", "left out"]);
    for line in status["lines"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let tick = &line["tick_ms"];
        let columns =
            [&line["map"], &line["line"], &line["scene"], &line["players"], &tick["p50"], &tick["p99"], &tick["max"], &line["overruns"]];
        lines_table.add_row(columns.map(shown).into_iter().chain([left_out(line)]));
    }
    format!("{}\n{}\n{summary}", processes_table.trim_fmt(), lines_table.trim_fmt())
}

/// What a line leaves out because its ticks take too long.
fn left_out(line: &Value) -> String {
    match line["time_permille"].as_u64() {
        Some(permille) if permille < 1_000 => format!("time: {} % of the clock's", permille / 10),
        _ => shown(&line["left_out"]),
    }
}

fn state(process: &Value) -> String {
    if let Some(error) = process["error"].as_str() {
        return format!("down: {error}");
    }
    if process["ready"] == true {
        return process["trouble"].as_str().map_or("ready".into(), |trouble| format!("ready, {trouble}"));
    }
    let waiting_for: Vec<&str> = process["waiting_for"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if waiting_for.is_empty() { "starting".into() } else { format!("waiting for {}", waiting_for.join(", ")) }
}

/// A value without quotes; a number with two places at most; `-` for none.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.2}", number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone::for_test(service::config::DEV_ZONE).unwrap()
    }

    fn answer(config: &ProcessConfig) -> Result<Value, String> {
        let detail = match config.kind() {
            ProcessKind::Center => json!({ "online": 3 }),
            ProcessKind::Scene => json!({ "lines": [{ "map": "forest", "line": 1, "players": 2, "overruns": 0, "time_permille": 400 }] }),
            ProcessKind::Login => json!({ "waiting": { "logins": 7, "room": 4 } }),
            ProcessKind::Dc => json!({ "dirty": 5, "lag_s": 0.5 }),
            ProcessKind::Logsvc => json!({ "events_per_s": 12.5 }),
            _ => json!({}),
        };
        Ok(json!({ "ready": true, "pid": 1, "cpu_s": 0.1, "rss_bytes": 1024, "links": {}, "events": { "spooled": 2 }, "detail": detail }))
    }

    #[test]
    fn the_document_has_what_each_process_said() {
        let zone = zone();
        let answers: Vec<_> = zone.processes.values().map(|config| (config, answer(config))).collect();
        let status = put_together(&answers);
        assert_eq!(status["online"], 3);
        assert_eq!(status["login"], json!({ "waiting": 7, "waiting_for_room": 4 }));
        assert_eq!(status["dc"], json!({ "dirty": 5, "lag_s": 0.5 }));
        assert_eq!(status["logsvc"], json!({ "events_per_s": 12.5, "spooled": 14 }));
        assert_eq!(status["lines"][1]["scene"], "scene-2");
        assert!(told(&status).contains("3 online") && told(&status).contains("time: 40 % of the clock's"));
    }

    #[test]
    fn one_that_serves_in_trouble_says_which() {
        let zone = zone();
        let troubled = |config: &ProcessConfig| {
            let mut answer = answer(config)?;
            answer["trouble"] = if config.kind() == ProcessKind::Dc { json!("disk full") } else { Value::Null };
            Ok(answer)
        };
        let answers: Vec<_> = zone.processes.values().map(|config| (config, troubled(config))).collect();
        let status = put_together(&answers);
        let dc = status["processes"].as_array().unwrap().iter().find(|process| process["id"] == "dc-1").unwrap();
        assert_eq!((&dc["ready"], &dc["trouble"]), (&json!(true), &json!("disk full")));
        assert_eq!(told(&status).matches("ready, ").count(), 1);
        assert!(told(&status).contains("ready, disk full"));
    }

    #[test]
    fn one_that_is_away_is_listed_and_the_rest_still_counts() {
        let zone = zone();
        let away = |config: &ProcessConfig| match config.kind() {
            ProcessKind::Center => Err("connection refused".to_owned()),
            _ => answer(config),
        };
        let answers: Vec<_> = zone.processes.values().map(|config| (config, away(config))).collect();
        let status = put_together(&answers);
        assert_eq!(status["online"], 4, "the players of the lines");
        let center = status["processes"].as_array().unwrap().iter().find(|process| process["id"] == "center-1").unwrap();
        assert_eq!((&center["ready"], &center["error"]), (&json!(false), &json!("connection refused")));
        assert!(told(&status).contains("down: connection refused"));
    }
}
