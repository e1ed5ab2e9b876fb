//! What players, GMs and QA do, as the flows of `deploy/flows` write it down; bots; and what the logs say of it.

use crate::harness::{Zone, said};

const FLOWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/flows");

#[test]
fn zone_plays_every_flow() {
    let zone = Zone::start_with_two_gates();
    let junit = zone.folder().join("flows.xml");
    let output = zone.zone(&["replay", FLOWS, "--junit", &junit.display().to_string()]);
    assert!(output.status.success(), "flows failed: {}", said(&output));
    let document = std::fs::read_to_string(&junit).expect("the JUnit file is written");
    assert!(document.contains("failures=\"0\"") && document.contains("skipped=\"0\""), "{document}");
    let flows = document.matches("<testcase").count();
    assert!(flows >= 15, "only {flows} flows were played");

    // Some of them over WebSocket; a socket that breaks can be resumed there too.
    let some = ["login-good", "resume-inside-window", "resume-used-ticket"].map(|flow| format!("{FLOWS}/{flow}.yaml"));
    let report = zone.json(&["replay", "--websocket", &some[0], &some[1], &some[2]]);
    assert_eq!((report["passed"].as_u64(), report["failed"].as_u64()), (Some(3), Some(0)), "{report:#}");

    logs_have_all_nine_steps(&zone);
    the_audit_is_kept(&zone);
    assert!(zone.stop().success());
}

/// Every kind of event that a login and play make was stored, and can be found.
fn logs_have_all_nine_steps(zone: &Zone) {
    let steps = zone.json(&["logs", "find", "--kind", "login_step", "--since", "10m", "--limit", "10000"]);
    let seen = |step: u64| steps.as_array().is_some_and(|all| all.iter().any(|event| event["step"] == step && event["ok"] == true));
    for step in 1..=9 {
        assert!(seen(step), "no event of login step {step} was stored");
    }
    for kind in [
        "connected",
        "player_entered",
        "player_left",
        "chat",
        "fight",
        "item",
        "coins_changed",
        "gm_command",
        "fault_shown",
        "handoff_done",
    ] {
        let found = zone.json(&["logs", "find", "--kind", kind, "--limit", "1"]);
        assert!(found.as_array().is_some_and(|found| !found.is_empty()), "no event of kind {kind} was stored");
    }
}

fn the_audit_is_kept(zone: &Zone) {
    let audit = zone.json(&["gm", "audit", "--limit", "100"]);
    let text = audit.to_string();
    for command in ["kick", "ban", "server shutdown"] {
        assert!(text.contains(command), "no audit record of `{command}`: {audit:#}");
    }
}

#[test]
fn zone_serves_two_hundred_bots() {
    let zone = Zone::start();
    let report = zone.json(&["bots", "--count", "200", "--for", "20s"]);
    for (key, wanted) in [("logged_in", 200), ("login_failed", 0), ("disconnects", 0)] {
        assert_eq!(report[key], wanted, "{report:#}");
    }
    let errors: u64 = report["errors"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    assert_eq!(errors, 0, "{report:#}");
    for key in ["moves_sent", "updates_received"] {
        assert!(report[key].as_u64().is_some_and(|count| count > 0), "{report:#}");
    }
    assert!(report["latency_ms"]["p50"].as_f64().is_some_and(|ms| ms > 0.0), "nobody saw a neighbour move: {report:#}");

    let fight = zone.json(&["bots", "--count", "10", "--for", "5s", "--profile", "fight"]);
    assert_eq!((fight["login_failed"].as_u64(), fight["disconnects"].as_u64()), (Some(0), Some(0)), "{fight:#}");
    let storm = zone.json(&["bots", "--count", "10", "--for", "5s", "--profile", "login-storm"]);
    assert_eq!(storm["disconnects"], 0, "{storm:#}");
    zone.until("nobody is left in the world", |status| status["online"] == 0);
    assert!(zone.stop().success());
}
