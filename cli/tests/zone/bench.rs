//! Benchmarks on a handful of players or clients: each brings up what it measures, fills it from separate processes, and prints the
//! whole document.

use serde_json::Value;

use crate::harness::{printed, said, zone_command};

const PLAYERS: u64 = 80;

#[test]
fn zone_bench_zone_prints_its_document_and_drops_nobody() {
    let folder = tempfile::tempdir().expect("make a folder");
    let players = PLAYERS.to_string();
    let args = ["bench", "zone", "--players", &players, "--for", "3s", "--warm-up", "2s", "--maps", "2"];
    let more = ["--profile", "crowd", "--processes", "2", "--repeat", "2", "--tls", "--json"];
    let output = zone_command(folder.path(), &[&args[..], &more[..]].concat()).output().expect("run `zone bench zone`");
    assert!(output.status.success(), "{}", said(&output));
    let document = printed(&output);

    for field in ["bench", "commit", "optimised", "machine", "idle", "workload", "figures"] {
        assert!(!document[field].is_null(), "{field} is missing: {document:#}");
    }
    let (workload, figures) = (&document["workload"], &document["figures"]);
    assert_eq!((workload["players"].as_u64(), workload["tls"].as_bool()), (Some(PLAYERS), Some(true)));
    assert_eq!((figures["filled"]["players"].as_u64(), figures["filled"]["failed"].as_u64()), (Some(PLAYERS), Some(0)));
    let rounds = figures["rounds"].as_array().expect("a list of rounds");
    assert_eq!(rounds.len(), 2, "{document:#}");
    rounds.iter().for_each(whole_round);
    for key in ["not_in", "connections", "blind", "wrong_updates"] {
        assert_eq!(figures["dropped"][key], 0, "{key}: {document:#}");
    }
    assert_eq!(figures["dropped"]["deaths"].as_array().map(Vec::len), Some(0), "{document:#}");
    assert_eq!(figures["summary"]["cpu_ns_per_update"]["ratio"]["rounds"], 2, "{document:#}");
    let left = std::fs::read_dir(folder.path()).expect("read the folder").count();
    assert_eq!(left, 0, "the zone's folder is gone");
}

/// A round has both maps' ticks, samples of what players saw, what every process used, and the reference.
fn whole_round(round: &Value) {
    let lines = round["lines"].as_array().expect("a list of lines");
    let players: u64 = lines.iter().filter_map(|line| line["players"].as_u64()).sum();
    assert_eq!((lines.len(), players), (2, PLAYERS), "{round:#}");
    assert!(lines.iter().all(|line| 0 < line["tick_ms"]["count"].as_u64().unwrap_or(0)), "every line ticked: {round:#}");
    assert!(0 < round["latency_ms"]["count"].as_u64().unwrap_or(0), "a neighbour was seen: {round:#}");
    for rate in ["updates_per_s", "writes_per_s", "moves_per_s", "bytes_per_player_s"] {
        assert!(0.0 < round[rate].as_f64().unwrap_or(0.0), "{rate}: {round:#}");
    }
    let processes = round["processes"].as_array().expect("a list of processes");
    let ids: Vec<&str> = processes.iter().filter_map(|process| process["id"].as_str()).collect();
    for id in ["gate-1", "gate-2", "login-1", "center-1", "scene-1", "scene-2", "dc-1", "logsvc-1", "bots-1", "bots-2"] {
        assert!(ids.contains(&id), "{id} is missing: {ids:?}");
    }
    assert!(processes.iter().all(|process| 0 < process["rss_peak_bytes"].as_u64().unwrap_or(0)), "{round:#}");
    assert!(0.0 < round["reference"]["writes_per_s"].as_f64().unwrap_or(0.0), "{round:#}");
}

/// The document of a benchmark that needs no folder of its own.
fn document(args: &[&str]) -> Value {
    let output = zone_command(std::path::Path::new("."), &[&["bench"], args, &["--json"]].concat()).output().expect("run `zone bench`");
    assert!(output.status.success(), "{}", said(&output));
    printed(&output)
}

#[test]
fn zone_bench_gate_sends_each_client_one_frame_a_tick() {
    let document = document(&["gate", "--connections", "20", "--for", "1s", "--rounds", "1"]);
    let figures = &document["figures"];
    let (forward, fan_out) = (figures["forward"].as_array().expect("a list"), figures["fan_out"].as_array().expect("a list"));
    assert_eq!(forward[0]["beside"], "a bare relay", "{document:#}");
    for measured in forward.iter().chain(fan_out) {
        assert!(0 < measured["latency_ms"]["count"].as_u64().unwrap_or(0), "{measured:#}");
        assert!(0 < measured["latency_ms_reference"]["count"].as_u64().unwrap_or(0), "{measured:#}");
    }
    for measured in fan_out {
        let of = |key: &str| measured[key].as_u64().unwrap_or_else(|| panic!("{key} is missing: {measured:#}"));
        assert!(0 < of("frames") && of("frames") * of("frame_bytes") <= of("bytes"), "{measured:#}");
        // A second has ten ticks at the most, however busy the machine is.
        assert!(measured["ticks_per_s"] == 0.0 || of("frames") <= 10 * 20, "{measured:#}");
    }
}

#[test]
fn zone_bench_idle_reaches_everybody_at_all_gates() {
    let document = document(&["idle", "--connections", "51", "--gates", "2", "--for", "3s", "--rounds", "2"]);
    let figures = &document["figures"];
    assert_eq!((document["workload"]["gates"].as_u64(), figures["lost"].as_u64()), (Some(2), Some(0)), "{document:#}");
    assert_eq!(figures["broadcast"]["missed"], 0, "{document:#}");
    assert_eq!(figures["broadcast"]["reach_ms"]["count"], 2 * 51, "{document:#}");
    assert!(0 < figures["broadcast"]["reach_ms_reference"]["count"].as_u64().unwrap_or(0), "{document:#}");
}

#[test]
fn zone_bots_of_several_processes_add_up() {
    let zone = crate::harness::Zone::start();
    let args = ["bots", "--count", "31", "--processes", "3", "--for", "2s", "--hz", "10", "--drain-hz", "2", "--profile", "crowd"];
    let report = zone.json(&args);
    assert_eq!((report["count"].as_u64(), report["logged_in"].as_u64()), (Some(31), Some(31)), "{report:#}");
    assert_eq!((report["disconnects"].as_u64(), report["errors"]["wrong_updates"].as_u64()), (Some(0), Some(0)), "{report:#}");
    assert!(report["moves_sent"].as_u64() < report["updates_received"].as_u64(), "everybody sees everybody: {report:#}");
    assert!(zone.stop().success());
    let too_many = zone_command(std::path::Path::new("."), &["bots", "--count", "20000", "--against", "127.0.0.1:1"]).output();
    let too_many = too_many.expect("run `zone bots`");
    assert!(String::from_utf8_lossy(&too_many.stderr).contains("--processes 2"), "{}", said(&too_many));
}
