//! `zone bench storm` on a handful of players: each part brings its zone up, storms it, and prints the whole document.

use serde_json::Value;

use crate::harness::{said, zone_command};

const PLAYERS: u64 = 30;
const OTHERS: u64 = 10;

/// Runs a part to its good end; gives what it measured.
fn storm(part: &str, more: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("make a folder");
    let (players, others) = (PLAYERS.to_string(), OTHERS.to_string());
    let args = ["bench", "storm", "--part", part, "--players", &players, "--others", &others, "--maps", "1", "--json"];
    let times = ["--for", "2s", "--warm-up", "1s", "--settle", "1s"];
    let output = zone_command(folder.path(), &[&args[..], &times[..], more].concat()).output().expect("run `zone bench storm`");
    assert!(output.status.success(), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("no JSON: {err}: {}", said(&output)));
    assert_eq!((document["bench"].as_str(), document["workload"]["players"].as_u64()), (Some("storm"), Some(PLAYERS)));
    assert_eq!((document["workload"]["part"].as_str(), document["workload"]["for_s"].as_f64()), (Some(part), Some(2.0)));
    let left = std::fs::read_dir(folder.path()).expect("read the folder").count();
    assert_eq!(left, 0, "the zone's folder is gone");
    let other = if part == "gate" { "login" } else { "gate" };
    assert!(document["figures"][other].is_null(), "only what was asked for: {document:#}");
    document["figures"][part].clone()
}

/// Others were there all the time, saw each other, and were not harmed.
fn nobody_else_was_harmed(figures: &Value) {
    let others = &figures["others"];
    assert_eq!((others["players"].as_u64(), others["harmed"].as_u64()), (Some(OTHERS), Some(0)), "{figures:#}");
    for part in ["before_ms", "during_ms", "after_ms"] {
        assert!(0 < others[part]["count"].as_u64().unwrap_or(0), "{part}: a neighbour was seen: {figures:#}");
    }
    for id in ["gate-2", "login-1", "center-1", "scene-1", "dc-1", "logsvc-1"] {
        for part in ["before_bytes", "during_bytes", "after_bytes", "end_bytes"] {
            assert!(0 < figures["memory"][id][part].as_u64().unwrap_or(0), "{id} {part}: {figures:#}");
        }
    }
}

#[test]
fn zone_bench_storm_kills_a_gate_and_all_its_players_come_back_by_ticket() {
    let figures = storm("gate", &["--within", "1s"]);
    let back = &figures["back"];
    assert_eq!((figures["players"].as_u64(), back["resumed"].as_u64()), (Some(PLAYERS), Some(PLAYERS)), "{figures:#}");
    for nobody in ["logged_in_anew", "not_back"] {
        assert_eq!(back[nobody], 0, "{nobody}: {figures:#}");
    }
    for none in ["hashes", "wrong_updates", "blind"] {
        assert_eq!(figures[none], 0, "{none}: {figures:#}");
    }
    assert_eq!(figures["deaths"], serde_json::json!(["gate-1"]), "{figures:#}");
    let after = ["p50_s", "p99_s", "all_s"].map(|part| back["after"][part].as_f64().unwrap_or(f64::NAN));
    assert!(0.0 < after[0] && after[0] <= after[1] && after[1] <= after[2], "{figures:#}");
    assert_eq!(back["resumes"]["count"], PLAYERS, "{figures:#}");
    assert!(PLAYERS <= back["connections"].as_u64().unwrap_or(0), "each came on a new connection: {figures:#}");
    for (key, count) in figures["whereabouts"].as_object().expect("where everybody is") {
        assert_eq!(count.as_u64(), Some(PLAYERS + OTHERS), "{key}: {figures:#}");
    }
    assert!(figures["memory"]["gate-1"]["before_bytes"].as_u64().is_some(), "{figures:#}");
    nobody_else_was_harmed(&figures);
}

#[test]
fn zone_bench_storm_lets_a_line_in_in_order_and_who_passes_at_once() {
    // So slowly that a line stands, and all but the first hear of their place.
    let figures = storm("login", &["--cheap", "--valve", "5"]);
    assert_eq!((figures["clients"].as_u64(), figures["logged_in"].as_u64()), (Some(PLAYERS), Some(PLAYERS)), "{figures:#}");
    assert_eq!((figures["order"]["overtaken"].as_u64(), figures["words"]["grew"].as_u64()), (Some(0), Some(0)), "{figures:#}");
    let told = figures["words"]["told"].as_u64().unwrap_or(0);
    assert!(10 < told && figures["order"]["placed"] == told, "so many heard of their place that one of them left: {figures:#}");
    assert_eq!((figures["words"]["not_told"].as_u64(), figures["words"]["without_wait"].as_u64()), (Some(0), Some(0)), "{figures:#}");
    assert_eq!((figures["returners"]["left"].as_u64(), figures["returners"]["kept_place"].as_u64()), (Some(1), Some(1)), "{figures:#}");
    let passer = &figures["passer"];
    assert!(passer["let_in_before"].as_u64() < passer["waiting"].as_u64(), "it passed those who waited: {figures:#}");
    assert_eq!(figures["login_ms"]["count"], PLAYERS, "{figures:#}");
    nobody_else_was_harmed(&figures);
}
