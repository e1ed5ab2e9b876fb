//! The operator's commands that need no running zone, as a user runs them.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const DEV_ZONE: &str = include_str!("../../deploy/zone.yaml");
const COMPOSE_ZONE: &str = include_str!("../../deploy/compose/zone.yaml");

fn zone(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zone")).current_dir(folder).args(args).output().expect("run `zone`")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_finds_the_development_zone_good() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("zone.yaml"), DEV_ZONE).unwrap();
    let output = zone(folder.path(), &["check", "zone.yaml"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "zone.yaml: ok, 7 processes, 3 maps\n"));
    let json: Value = serde_json::from_slice(&zone(folder.path(), &["check", "zone.yaml", "--json"]).stdout).unwrap();
    assert_eq!((&json["ok"], &json["processes"], &json["maps"]), (&Value::Bool(true), &7.into(), &3.into()));
}

#[test]
fn the_zone_of_compose_is_good_and_not_for_one_machine() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("zone.yaml"), COMPOSE_ZONE).unwrap();
    let output = zone(folder.path(), &["check", "zone.yaml"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "zone.yaml: ok, 14 processes, 3 maps\n"));
    let refused = zone(folder.path(), &["up", "--zone", "zone.yaml"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("zone.yaml: processes.center-1.host: `zone up` starts all processes"), "{}", stderr(&refused));
}

#[test]
fn a_process_that_is_not_there_is_not_healthy() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens at port 1.
    std::fs::write(folder.path().join("zone.yaml"), DEV_ZONE.replace("127.0.0.1:7240", "127.0.0.1:1")).unwrap();
    let ask = |id| zone(folder.path(), &["--zone", "zone.yaml", "healthcheck", id]);
    let absent = ask("dc-1");
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("failed to ask dc-1: connect to 127.0.0.1:1"), "{}", stderr(&absent));
    assert!(stderr(&ask("dc-9")).contains("find `dc-9` in the zone file"));
}

#[test]
fn check_names_file_key_and_reason() {
    let cases: [(&str, &str, &[&str]); 7] = [
        ("zone: dev", "zone: dev\ncolour: blue", &["zone.yaml: colour: unknown key"]),
        (
            "127.0.0.1:7210",
            "127.0.0.1:7200",
            &["zone.yaml: processes.login-1.admin: 127.0.0.1:7200 is the address of processes.gate-1.admin too"],
        ),
        ("maps: [forest]", "maps: [moon]", &["processes.scene-2.maps: there is no map `moon`", "world.maps.forest: no scene hosts it"]),
        ("secret: { file: secret }", "secret: 0123456789abcdef", &["zone.yaml: secret: the secret itself must not stand in the zone file"]),
        ("tick_hz: 10", "tick_hz: ten", &["zone.yaml: world.tick_hz: invalid type"]),
        ("map: forest, to_x_m", "map: moon, to_x_m", &["zone.yaml: world.maps.meadow.rules.portals[0]: `map`: there is no map `moon`"]),
        ("environment: dev ", "environment: live ", &["zone.yaml: secret: it is a sample value"]),
    ];
    for (good, bad, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join("data/secret"), "change-me-change-me").unwrap();
        std::fs::write(folder.path().join("zone.yaml"), DEV_ZONE.replacen(good, bad, 1)).unwrap();
        let output = zone(folder.path(), &["check", "zone.yaml"]);
        assert_eq!(output.status.code(), Some(1), "{bad}");
        for line in expected {
            assert!(stdout(&output).contains(line), "{bad}: expected `{line}` in {}", stdout(&output));
        }
        let json: Value = serde_json::from_slice(&zone(folder.path(), &["check", "zone.yaml", "--json"]).stdout).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["problems"].as_array().map(Vec::len), Some(expected.len()), "{json}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("zone.yaml"), DEV_ZONE).unwrap();
    for args in [
        &["fly"][..],
        &[],
        &["check"],
        &["up", "--colour"],
        &["run", "gate-1"],
        &["run", "gate-9", "--zone", "zone.yaml"],
        &["bots", "--count", "0"],
        &["logs", "find", "--limit", "99999"],
        &["logs", "find", "--since", "1m", "--until", "2m"],
    ] {
        let output = zone(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty() && stdout(&output).is_empty(), "{args:?}");
    }
}

#[test]
fn without_a_zone_the_commands_say_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = zone(folder.path(), &["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no zone is running on ./data: start one with `zone up`"), "{}", stderr(&output));
    // A file of a zone that was: nobody answers there.
    std::fs::create_dir(folder.path().join("there")).unwrap();
    let nobody = DEV_ZONE.replace("127.0.0.1:7", "127.0.0.1:1");
    std::fs::write(folder.path().join("there/zone.yaml"), nobody).unwrap();
    let output = zone(folder.path(), &["status", "--data", "there"]);
    assert!(stderr(&output).contains("no zone is running on there: start one with `zone up --data there`"), "{}", stderr(&output));
}

#[test]
fn a_process_says_in_one_line_why_it_can_not_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("zone.yaml"), DEV_ZONE.replace("tick_hz: 10", "tick_hz: 0")).unwrap();
    let output = zone(folder.path(), &["run", "gate-1", "--zone", "zone.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "gate-1: failed to read the zone file: zone.yaml: world.tick_hz: 0 is out of range: it must be 1 to 60\n";
    assert_eq!(stderr(&output), expected);
}

#[test]
fn bots_do_not_wait_for_a_gate_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = zone(folder.path(), &["bots", "--count", "2", "--for", "1s", "--against", "127.0.0.1:1"]);
    let expected = "zone: failed to reach the zone: connect to tcp://127.0.0.1:1: Connection refused (os error 111)\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), expected));
}

#[test]
fn a_variable_with_a_mistake_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zone"));
    let output = command.current_dir(folder.path()).args(["up", "--free-ports"]).env("ZONE__WORLD__TICK_HZ", "fast").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("world.tick_hz (set by ZONE__WORLD__TICK_HZ): invalid type"), "{}", stderr(&output));
}
