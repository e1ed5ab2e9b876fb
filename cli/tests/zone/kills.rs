//! Processes of the zone are killed under bots: the rest goes on, the killed one comes back, and players are in the world again.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Background, PATIENCE, Zone, zone_command};

const BOTS: u64 = 40;

#[test]
fn zone_heals_when_its_processes_are_killed_under_bots() {
    let zone = Zone::start();
    let count = BOTS.to_string();
    let bots = zone.spawn(&["bots", "--count", &count, "--for", "60s", "--reconnect", "--json"]);
    zone.until("all bots are in the world", |status| online(status) == BOTS);
    for id in ["scene-1", "center-1", "login-1", "gate-1"] {
        let others: Vec<(String, i32)> = others(&zone.status(), id);
        zone.kill_and_wait(id);
        for (other, pid) in others {
            assert_eq!(zone.pid(&other), pid, "{other} went down with {id}");
        }
        zone.until(&format!("all bots are in the world again after {id} was killed"), |status| {
            online(status) == BOTS && in_lines(status) == BOTS
        });
        a_newcomer_can_play(&zone);
    }
    let report = bots.document();
    assert_eq!((report["logged_in"].as_u64(), report["login_failed"].as_u64()), (Some(BOTS), Some(0)), "{report:#}");
    assert_eq!(report["errors"]["wrong_updates"], 0, "{report:#}");
    assert!(zone.stop().success());
}

/// One bot logs in, plays and leaves without an error: every process serves.
fn a_newcomer_can_play(zone: &Zone) {
    let report = zone.json(&["bots", "--count", "1", "--for", "1s"]);
    assert_eq!((report["logged_in"].as_u64(), report["disconnects"].as_u64()), (Some(1), Some(0)), "{report:#}");
    zone.until("the newcomer left", |status| online(status) == BOTS);
}

#[test]
fn zone_gives_up_a_process_that_dies_again_and_again_and_keeps_the_rest() {
    let zone = Zone::start();
    let mut deaths = 0;
    // At most 3 restarts in 5 s: the death after them is one too many.
    loop {
        let pid = zone.pid("login-1");
        crate::harness::signal(pid, nix::sys::signal::Signal::SIGKILL);
        deaths += 1;
        let news = zone.expect_any_news(&["restarted", "gave_up"]);
        if news["event"] == "gave_up" {
            assert_eq!(news["id"], "login-1");
            break;
        }
        assert!(deaths <= 3, "restarted a fourth time within 5 s");
        zone.until("login-1 tells its process id", |status| pid_of(status, "login-1").is_some_and(|now| now != i64::from(pid)));
    }
    let status = zone.status();
    for process in status["processes"].as_array().into_iter().flatten().filter(|process| process["id"] != "login-1") {
        assert!(process.get("error").is_none(), "{} went down too: {status:#}", process["id"]);
    }
    assert!(zone.stop().success());
}

fn online(status: &Value) -> u64 {
    status["online"].as_u64().unwrap_or(0)
}

fn in_lines(status: &Value) -> u64 {
    status["lines"].as_array().into_iter().flatten().filter_map(|line| line["players"].as_u64()).sum()
}

fn pid_of(status: &Value, id: &str) -> Option<i64> {
    status["processes"].as_array()?.iter().find(|process| process["id"] == id)?["pid"].as_i64()
}

fn others(status: &Value, id: &str) -> Vec<(String, i32)> {
    let processes = status["processes"].as_array().expect("a list of processes");
    let others = processes.iter().filter(|process| process["id"] != id);
    others
        .map(|process| (process["id"].as_str().unwrap_or_default().to_owned(), process["pid"].as_i64().unwrap_or_default() as i32))
        .collect()
}

#[test]
fn zone_processes_wait_for_those_they_need_whatever_the_order() {
    // The files of a zone that ran: ports and secret are there.
    let zone = Zone::start();
    let folder = zone.folder().to_path_buf();
    let file = folder.join("zone.yaml");
    let text = std::fs::read_to_string(&file).expect("`zone up` wrote the zone file");
    let keep = tempfile::tempdir().expect("make a folder");
    std::fs::write(keep.path().join("zone.yaml"), &text).expect("copy the zone file");
    std::fs::copy(folder.join("secret"), keep.path().join("secret")).expect("copy the secret");
    assert!(zone.stop().success());

    let mut started = Vec::new();
    // The wrong way round: each comes before those it needs.
    for id in ["gate-1", "login-1", "center-1", "scene-1", "scene-2", "dc-1", "logsvc-1"] {
        let mut command = zone_command(keep.path(), &["run", id, "--zone"]);
        command.arg(keep.path().join("zone.yaml")).stdout(Stdio::null()).stderr(Stdio::null());
        started.push(Background::start(&mut command));
        if id == "gate-1" {
            let waiting = until_status(keep.path(), |status| status["processes"].to_string().contains("waiting_for"));
            let gate = waiting["processes"].as_array().and_then(|all| all.iter().find(|process| process["id"] == "gate-1")).cloned();
            let waits_for = gate.map(|gate| gate["waiting_for"].to_string()).unwrap_or_default();
            assert!(waits_for.contains("login-1"), "gate-1 says for whom it waits: {waiting:#}");
        }
    }
    until_status(keep.path(), |status| {
        status["processes"].as_array().is_some_and(|all| all.iter().all(|process| process["ready"] == true))
    });
}

fn until_status(folder: &std::path::Path, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let output = zone_command(folder, &["status", "--json"]).output().expect("run `zone status`");
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if wanted(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "the zone did not come about: {status:#}");
    }
}
