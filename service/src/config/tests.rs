//! The zone file's checks, each shown by breaking the development zone at one place.

use std::path::Path;

use super::{DEV_ZONE, Role, Zone, resolve, sections};

/// The problems of a text; empty if it is good.
fn problems(text: &str) -> Vec<String> {
    problems_with(text, &[])
}

fn problems_with(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    match sections::parse(text, Path::new("zone.yaml"), Path::new("."), variables) {
        Ok(_) => Vec::new(),
        Err(err) => err.problems,
    }
}

#[test]
fn the_development_zone_is_good() {
    assert_eq!(problems(DEV_ZONE), Vec::<String>::new());
}

#[test]
fn each_mistake_is_named_with_its_key() {
    let cases = [
        ("zone: dev", "zone: Dev!", "zone: `Dev!` is no name"),
        ("environment: dev ", "environment: test ", "environment: unknown variant"),
        ("secret: { file: secret }", "secret: hunter2hunter2hunter2", "secret: the secret itself must not stand in the zone file"),
        ("secret: { file: secret }", "secret: { value: x }", "secret: says not where"),
        ("secret: { file: secret }", "secret: { file: secret }\ncache: memcached", "cache: unknown variant"),
        (
            "secret: { file: secret }",
            "secret: { file: secret }\ncache: redis",
            "redis: is missing: write `redis: { url_env: PAIFANG_REDIS_URL }`",
        ),
        ("secret: { file: secret }", "secret: { file: secret }\ncache: redis\nredis: {}", "redis: says not where the URL is"),
        ("secret: { file: secret }", "secret: { file: secret }\ncache: redis\nredis: { url: x }", "redis.url: unknown field"),
        (
            "secret: { file: secret }",
            "secret: { file: secret }\ncache: redis\nredis: { url_env: A, connections_max: 0 }",
            "redis.connections_max: 0 is out of range",
        ),
        ("secret: { file: secret }", "secret: { file: secret }\nredis: { url_env: A }", "redis: it is not used"),
        (
            "secret: { file: secret }",
            "secret: { file: secret }\ncache: redis\nredis: { url_env: A, ca: no.pem }",
            "redis.ca: there is no file no.pem",
        ),
        ("registration: open ", "registration: maybe ", "players.registration: unknown variant"),
        ("roles_max: 4", "roles_max: 0", "players.roles_max: 0 is out of range"),
        ("resume_window_s: 60", "resume_window_s: -1", "players.resume_window_s: -1 is out of range"),
        ("resume_window_s: 60", "resume_window: 60", "players.resume_window: unknown field"),
        ("tick_hz: 10", "tick_hz: 100", "world.tick_hz: 100 is out of range"),
        ("client_bytes_max_s: 30000", "client_bytes_max_s: 100", "world.client_bytes_max_s: 100 is out of range"),
        ("high: 0.8, low: 0.5", "high: 0.5, low: 0.5", "world.overload.low: must be below `high`"),
        ("time_floor: 0.1", "time_floor: 0", "world.overload.time_floor: 0 is out of range"),
        ("start: { map: meadow", "start: { map: nowhere", "world.start.map: there is no map `nowhere`"),
        ("x_m: 100, y_m: 100 }\n  maps", "x_m: 400, y_m: 100 }\n  maps", "world.start: the place is outside"),
        ("  maps:\n", "  starts: [{ map: moon, x_m: 5, y_m: 5, within_m: 5 }]\n  maps:\n", "world.starts.0.map: there is no map `moon`"),
        (
            "  maps:\n",
            "  starts: [{ map: town, x_m: 5, y_m: 5, within_m: 6 }]\n  maps:\n",
            "world.starts.0: the area reaches out of the map `town`",
        ),
        ("maps: [forest]", "maps: [town]", "world.maps.forest: no scene hosts it"),
        ("players_max: 2000", "players_max: 50\n      lines: { soft_cap: 51 }", "world.maps.meadow.lines.soft_cap: 51 is out of range"),
        ("players_max: 2000", "players_max: 50\n      lines: { min: 3, max: 2 }", "world.maps.meadow.lines.max: 2 is out of range"),
        ("roles_max: 4", "party_max: 1", "players.party_max: 1 is out of range"),
        ("maps: [forest]", "maps: [forest, moon]", "processes.scene-2.maps: there is no map `moon`"),
        ("127.0.0.1:7210", "127.0.0.1:7200", "processes.login-1.admin: 127.0.0.1:7200 is the address of processes.gate-1.admin too"),
        ("127.0.0.1:7210", "0.0.0.0:7200", "processes.login-1.admin: 0.0.0.0:7200 is the address of"),
        ("clients: 127.0.0.1:7000", "clients: localhost", "processes.gate-1.clients: `localhost` is no address"),
        ("sessions_max: 18000", "sessions_max: 0", "processes.gate-1.sessions_max: 0 is out of range"),
        ("sessions_max: 18000", "sesions_max: 1", "processes.gate-1.sesions_max: unknown field"),
        ("sessions_max: 18000", "tls: { certificate: no.pem, key: no.pem }", "processes.gate-1.tls.certificate: there is no file no.pem"),
        ("kind: login,", "kind: login, argon2_memory_kib: 4,", "processes.login-1.argon2_memory_kib: 4 is out of range"),
        ("kind: login,", "kind: login, queue_max: 0,", "processes.login-1.queue_max: 0 is out of range"),
        ("roles_max: 4", "mail_max: 0", "players.mail_max: 0 is out of range"),
        ("roles_max: 4", "online_max: 0", "players.online_max: 0 is out of range"),
        ("roles_max: 4", "queue_pass: [\"A b\"]", "players.queue_pass: `A b` is no account"),
        ("kind: login,", "kind: logins,", "processes.login-1.kind: unknown variant"),
        ("  login-1:", "  Login_1:", "processes.Login_1: `Login_1` is no process id"),
        ("storage: sqlite", "storage: tape", "processes.dc-1.storage: unknown variant"),
        ("storage: sqlite", "journal_bytes_max: 1", "processes.dc-1.journal_bytes_max: 1 is out of range"),
        (
            "storage: sqlite",
            "journal_bytes_max: 1048576, journal_segment_bytes: 1048576",
            "processes.dc-1.journal_segment_bytes: 1048576 is out of range: it must be 65536 to 262144",
        ),
        ("storage: sqlite", "storage: mysql", "processes.dc-1.mysql: is missing: write `mysql: { url_env: PAIFANG_MYSQL_URL }`"),
        ("storage: sqlite", "storage: mysql, mysql: {}", "processes.dc-1.mysql: says not where the URL is"),
        ("storage: sqlite", "mysql: { url_env: A }", "processes.dc-1.mysql: it is not used"),
        ("storage: sqlite", "storage: mysql, mysql: { url_env: A, ca: no.pem }", "processes.dc-1.mysql.ca: there is no file no.pem"),
        ("storage: sqlite", "storage: mysql, mysql: { url: mysql://a:b@c/d }", "processes.dc-1.mysql.url: unknown field"),
        (
            "storage: sqlite",
            "storage: mysql, mysql: { url_env: A, connections_max: 1 }",
            "processes.dc-1.mysql.connections_max: 1 is out of range",
        ),
        ("zone: dev", "zone: dev\ncolour: blue", "colour: unknown key"),
    ];
    for (good, bad, expected) in cases {
        assert!(DEV_ZONE.contains(good), "the development zone has no `{good}`");
        let found = problems(&DEV_ZONE.replacen(good, bad, 1));
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{bad}: expected `{expected}`, found {found:?}");
    }
}

#[test]
fn hashes_are_cheap_in_development_only() {
    let cheap = DEV_ZONE.replacen("kind: login,", "kind: login, argon2_memory_kib: 8, argon2_passes: 1,", 1);
    assert_eq!(problems(&cheap), [""; 0]);
    let found = problems(&cheap.replacen("environment: dev", "environment: live", 1));
    for key in ["argon2_memory_kib: 8", "argon2_passes: 1"] {
        assert!(found.iter().any(|problem| problem.starts_with(&format!("processes.login-1.{key} is out of range"))), "{key}: {found:?}");
    }
}

#[test]
fn all_problems_come_at_once() {
    let text = DEV_ZONE.replace("tick_hz: 10", "tick_hz: 0").replace("roles_max: 4", "roles_max: 0").replace("kind: login,", "kind: x,");
    assert_eq!(problems(&text).len(), 3, "{:?}", problems(&text));
}

#[test]
fn a_missing_or_second_single_process_is_named() {
    let without: String = DEV_ZONE.lines().filter(|line| !line.contains("center-1")).map(|line| format!("{line}\n")).collect();
    assert_eq!(problems(&without), ["processes: there is no center: add one"]);
    let twice = DEV_ZONE.replace("  dc-1:", "  dc-2: { kind: dc, link: 127.0.0.1:0, admin: 127.0.0.1:0 }\n  dc-1:");
    assert_eq!(problems(&twice), ["processes: there are 2 of kind dc: keep one"]);
}

/// The development zone with its gate's entry standing for `count` gates.
fn replicated(count: &str) -> String {
    DEV_ZONE.replace("  gate-1:\n    kind: gate\n", &format!("  gate:\n    kind: gate\n    replicas: {count}\n    host: gate\n"))
}

#[test]
fn an_entry_with_replicas_stands_for_so_many_processes() {
    let zone = Zone::for_test(&replicated("11")).unwrap();
    let gates: Vec<&str> = zone.named("gate").into_iter().map(|gate| gate.id.0.as_str()).collect();
    assert_eq!(gates[..3], ["gate-1", "gate-2", "gate-3"]);
    assert_eq!((gates.len(), gates[10]), (11, "gate-11"));
    let one = zone.named("gate-2");
    assert_eq!((one.len(), one[0].replica_of.as_deref(), one[0].host.as_deref()), (1, Some("gate"), Some("gate")));
    assert!(zone.named("gates").is_empty());
}

#[test]
fn replicas_that_can_not_be_are_refused() {
    let cases = [
        (replicated("0"), "processes.gate.replicas: 0 is out of range"),
        (replicated("65"), "processes.gate.replicas: 65 is out of range"),
        (replicated("2").replace("    host: gate\n", ""), "processes.gate.replicas: they listen at the same ports"),
        (replicated("2").replace("  login-1:", "  gate-2:"), "processes.gate-2: there are two `gate-2`"),
        (DEV_ZONE.replace("{ kind: login, ", "{ kind: login, replicas: 2, host: login, "), "processes.login-1.replicas: a login has none"),
    ];
    for (text, expected) in cases {
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "expected `{expected}`, found {found:?}");
    }
}

#[test]
fn ports_clash_on_one_host_only() {
    let hosts = |login: &str, center: &str| {
        let text = DEV_ZONE.replace("7220", "7210");
        text.replace("{ kind: login, ", &format!("{{ kind: login, host: {login}, "))
            .replace("{ kind: center,", &format!("{{ kind: center, host: {center},"))
    };
    assert_eq!(problems(&hosts("login", "center")), Vec::<String>::new());
    assert!(problems(&hosts("zone", "zone"))[0].contains("127.0.0.1:7210 is the address of processes.center-1.admin too"));
    assert!(problems(&hosts("login:7110", "center"))[0].starts_with("processes.login-1.host: \"login:7110\" is no host"));
}

#[test]
fn what_is_no_mapping_is_refused() {
    assert!(problems("[1, 2]")[0].contains("no mapping"));
    assert!(problems("a: {")[0].contains("no YAML"));
    assert_eq!(problems("zone: a\nzone: b"), ["is no YAML: line 2 column 1: duplicate mapping key: zone"]);
    let err = Zone::load(Path::new("no/zone.yaml"), Path::new(".")).unwrap_err().to_string();
    assert!(err.starts_with("no/zone.yaml: can't be read: No such file"), "{err}");
}

#[test]
fn variables_lie_over_the_file() {
    let set = |name: &str, value: &str| {
        let variables = std::iter::once((name.to_owned(), value.to_owned()));
        sections::parse(DEV_ZONE, Path::new("zone.yaml"), Path::new("."), variables)
    };
    assert_eq!(set("ZONE__WORLD__TICK_HZ", "20").unwrap().world.tick_hz, 20);
    let zone = set("ZONE__PROCESSES__GATE_1__CLIENTS", "127.0.0.1:9999").unwrap();
    let gate = zone.of(super::ProcessKind::Gate).next().unwrap();
    assert!(matches!(&gate.role, Role::Gate(gate) if gate.clients.port() == 9999));
    assert_eq!(set("ZONE_X", "1").unwrap().world.tick_hz, 10);
    let wrong = problems_with(DEV_ZONE, &[("ZONE__WORLD__TICK_HZ", "0")]);
    assert_eq!(wrong, ["world.tick_hz (set by ZONE__WORLD__TICK_HZ): 0 is out of range: it must be 1 to 60"]);
    assert!(problems_with(DEV_ZONE, &[("ZONE__ZONE__X", "1")])[0].contains("has no keys below it"));
    let misspelt = problems_with(DEV_ZONE, &[("ZONE__PROCESSES__GATES_1__CLIENTS", "127.0.0.1:0"), ("ZONE__WORDL__TICK_HZ", "5")]);
    let named = |key: &str, variable: &str| misspelt.iter().any(|problem| problem.starts_with(&format!("{key} (set by {variable}):")));
    assert!(named("processes.gates_1", "ZONE__PROCESSES__GATES_1__CLIENTS") && named("wordl", "ZONE__WORDL__TICK_HZ"), "{misspelt:?}");
}

#[test]
fn resolved_ports_are_free_and_all_else_is_kept() {
    let text = resolve(DEV_ZONE, Path::new("zone.yaml"), true).unwrap();
    let (before, after) =
        (Zone::for_test(DEV_ZONE).unwrap(), sections::parse(&text, Path::new("z"), Path::new("."), std::iter::empty()).unwrap());
    assert_eq!(format!("{:?}", before.world), format!("{:?}", after.world));
    assert!(after.processes.values().flat_map(super::ProcessConfig::addresses).all(|(_, address)| address.port() >= 10_000));
    let fixed = resolve(DEV_ZONE, Path::new("zone.yaml"), false).unwrap();
    assert!(fixed.contains("127.0.0.1:7000"));
}

#[test]
fn relative_tls_files_are_found_from_elsewhere() {
    let text = DEV_ZONE.replace("sessions_max: 18000", "tls: { certificate: cert.pem, key: /k.pem }");
    let resolved = resolve(&text, Path::new("/etc/zone/zone.yaml"), false).unwrap();
    assert!(resolved.contains("/etc/zone/cert.pem") && resolved.contains("/k.pem"), "{resolved}");
    let text = DEV_ZONE
        .replace("secret: { file: secret }", "secret: { file: secret }\ncache: redis\nredis: { url_env: A, ca: redis.pem }")
        .replace("storage: sqlite", "storage: mysql, mysql: { url_env: A, ca: mysql.pem }");
    let resolved = resolve(&text, Path::new("/etc/zone/zone.yaml"), false).unwrap();
    assert!(resolved.contains("/etc/zone/redis.pem") && resolved.contains("/etc/zone/mysql.pem"), "{resolved}");
}

#[test]
fn a_sample_secret_is_refused_outside_dev() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("secret"), "change-me-change-me").unwrap();
    let live = DEV_ZONE.replace("environment: dev ", "environment: live ");
    let load = |text: &str| sections::parse(text, Path::new("zone.yaml"), data.path(), std::iter::empty());
    assert!(load(DEV_ZONE).is_ok());
    assert!(load(&live).unwrap_err().problems[0].starts_with("secret: it is a sample value"));
}
