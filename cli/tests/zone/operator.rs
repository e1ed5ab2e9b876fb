//! What the operator does: bring up, look, stop; and what the program says when that can't be.

use serde_json::Value;

use crate::harness::{Zone, said};

#[test]
fn zone_tells_how_it_is_and_refuses_a_second_one() {
    let zone = Zone::start();
    let status = zone.status();
    assert_eq!(status["online"], 0);
    for process in status["processes"].as_array().expect("a list of processes") {
        assert_eq!(process["ready"], true, "{process:#}");
        for key in ["id", "kind", "cpu_s", "rss_bytes", "links"] {
            assert!(!process[key].is_null(), "{key} is missing: {process:#}");
        }
    }
    let maps: Vec<&str> = status["lines"].as_array().expect("a list of lines").iter().filter_map(|line| line["map"].as_str()).collect();
    assert_eq!(maps.len(), 3, "{status:#}");
    for line in status["lines"].as_array().expect("a list of lines") {
        for key in ["line", "scene", "players", "overruns"] {
            assert!(!line[key].is_null(), "{key} is missing: {line:#}");
        }
        for key in ["p50", "p99", "max"] {
            assert!(line["tick_ms"][key].is_number(), "tick_ms.{key} is missing: {line:#}");
        }
    }
    for (part, key) in [("dc", "dirty"), ("dc", "lag_s"), ("logsvc", "events_per_s"), ("logsvc", "spooled")] {
        assert!(status[part][key].is_number(), "{part}.{key} is missing: {status:#}");
    }

    let second = zone.zone(&["up"]);
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.chars().any(|character| character.is_ascii_digit()), "it names the process that holds the zone: {text}");

    every_process_serves_its_admin_port(&zone);
    assert!(zone.stop().success());
}

fn every_process_serves_its_admin_port(zone: &Zone) {
    let text = std::fs::read_to_string(zone.folder().join("zone.yaml")).expect("`zone up` wrote the zone file");
    let admins: Vec<&str> = text.split("admin:").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
    assert_eq!(admins.len(), 7, "{text}");
    for admin in admins {
        let address = admin.trim_matches(|character: char| !character.is_ascii_digit());
        for (path, wanted) in [("/healthz", ""), ("/readyz", ""), ("/metrics", "# TYPE")] {
            let answer = get(address, path);
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(wanted), "{address}{path}: {answer}");
        }
    }
}

fn get(address: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut socket = std::net::TcpStream::connect(address).unwrap_or_else(|err| panic!("connect to {address}: {err}"));
    write!(socket, "GET {path} HTTP/1.1\r\nHost: zone\r\nConnection: close\r\n\r\n").expect("ask");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("read the answer");
    answer
}

#[test]
fn zone_is_stopped_by_a_gms_countdown() {
    let zone = Zone::start();
    let dry = zone.json(&["gm", "server", "shutdown", "--in", "1s", "--reason", "maintenance", "--dry-run"]);
    assert_eq!(dry["dry_run"], true, "{dry:#}");
    let refused = zone.zone(&["gm", "server", "shutdown", "--in", "1s"]);
    assert_eq!(refused.status.code(), Some(2), "a dangerous command needs a reason: {}", said(&refused));
    let done = zone.json(&["gm", "server", "shutdown", "--in", "1s", "--reason", "maintenance"]);
    assert!(done["audit"].is_u64(), "{done:#}");
    assert!(zone.wait().success(), "`zone up` ends with 0 when the countdown ran out");
}

#[test]
fn zone_gm_names_what_is_wrong() {
    let zone = Zone::start();
    for (args, code, named) in [
        (&["gm", "dance"][..], 2, "dance"),
        (&["gm", "kick"], 2, "name"),
        (&["gm", "kick", "Nobody1", "--reason", "test"], 1, "Nobody1"),
        (&["gm", "mute", "Nobody1", "--for", "soon"], 2, "soon"),
        (&["gm", "--user", "admin", "--password-file", "/dev/null", "online"], 1, "admin"),
    ] {
        let output = zone.zone(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        assert!(text.contains(named), "{args:?} names `{named}`: {text}");
    }
    let listed = zone.json(&["gm"]);
    assert_eq!(listed["commands"].as_array().map(Vec::len), Some(16), "{listed:#}");
    let online: Value = zone.json(&["gm", "online"]);
    assert_eq!(online["ok"], true, "{online:#}");
    let ranked = zone.json(&["gm", "rank", "coins", "--limit", "3"]);
    assert_eq!(ranked["result"]["players"], serde_json::json!([]), "{ranked:#}");
    let rebuilt = zone.json(&["gm", "rank", "rebuild"]);
    assert_eq!(rebuilt["result"]["rebuilt"], false, "a zone without a cache has nothing to rebuild: {rebuilt:#}");
    assert!(zone.stop().success());
}
