use std::path::Path;

use super::*;

fn read(steps: &str) -> Result<Flow, FlowError> {
    let head =
        "flow: a claim\ngiven:\n  accounts: [{ name: $alice, password: correct-horse, roles: [$Alia] }]\nclients: [one, two]\nsteps:\n";
    parse(Path::new("a.yaml"), &format!("{head}{steps}"))
}

fn refused(steps: &str) -> String {
    read(steps).unwrap_err().to_string()
}

#[test]
fn a_step_keeps_its_line_and_its_text() {
    let flow = read(
        "  - client: one\n    send: Login\n    with: { account: $alice, password: x }\n\n  # then\n  - client: one\n    expect: LoggedIn\n    capture: { player: roles.0.player }\n    within: 2s\n  - client: one\n    send: Enter\n    with: { player: $player }\n",
    )
    .unwrap();
    assert_eq!(flow.steps.len(), 3);
    assert_eq!(flow.steps[0].line, 6);
    assert!(
        flow.steps[0].source.starts_with("client: one") || flow.steps[0].source.starts_with("- client: one"),
        "{}",
        flow.steps[0].source
    );
    assert!(flow.steps[0].source.ends_with("password: x }"), "{}", flow.steps[0].source);
    assert_eq!((flow.steps[1].line, flow.steps[1].within), (11, Duration::from_secs(2)));
}

#[test]
fn what_can_not_be_meant_is_refused_with_its_line() {
    for (steps, reason) in [
        ("  - client: one\n    sent: Login\n", "a.yaml:7: "),
        ("  - client: one\n    send: Logn\n", "a.yaml:6: no message is named `Logn`"),
        ("  - client: one\n    send: Login\n    with: { acount: x }\n", "Login has no field `acount`"),
        ("  - client: one\n    expect: LoggedIn\n    match: { rolez: [] }\n", "LoggedIn has no field `rolez`"),
        ("  - client: one\n    expect: Login\n", "the zone never says Login"),
        ("  - client: three\n    send: Bye\n", "`three` is not among the clients"),
        ("  - send: Bye\n", "`client` is missing"),
        ("  - client: one\n    send: Enter\n    with: { player: $player }\n", "nothing gives `$player` a value"),
        ("  - client: one\n", "does nothing"),
        ("  - client: one\n    send: Bye\n    expect: Closing\n", "two things"),
        ("  - client: one\n    close: {}\n    forget: {}\n", "two things"),
        ("  - client: one\n    send: Bye\n    within: 2s\n", "`send` has no `within`"),
        ("  - client: one\n    expect: Closing\n    within: 2 s\n", "no duration"),
        ("  - client: one\n    resume: { gate: 2 }\n", "needs: { gates: 2 }"),
        ("  - client: one\n    connect: { gate: 0 }\n", "numbered from 1"),
        ("  - client: one\n    send_bytes: { hex: xyz }\n", "hexadecimal"),
        ("  - client: one\n    see: { nam: x }\n", "an entity has no field `nam`"),
        ("  - client: one\n    walk: {}\n", "`walk` goes"),
        ("  - client: one\n    repeat: [{ send: Bye }]\n", "`until` a message"),
        ("  - wait: soon\n", "no duration"),
        ("  - client: one\n    send: Bye\n    times: 0\n", "`times` is from 1"),
        ("  - client: one\n    expect: Closing\n    times: 2\n", "`expect` has no `times`"),
    ] {
        let problem = refused(steps);
        assert!(problem.contains(reason), "{steps}\n  is refused with: {problem}");
    }
    assert!(refused("  []\n").contains("a flow has steps"));
}

#[test]
fn a_word_that_older_yaml_took_for_a_boolean_is_a_text() {
    let flow =
        read("  - { client: one, send: Say, with: { text: no } }\n  - { client: one, expect: Said, match: { text: { any: true } } }\n")
            .unwrap();
    assert!(matches!(&flow.steps[0].action, Action::Send { with, .. } if with["text"] == "no"));
    assert!(matches!(&flow.steps[1].action, Action::Expect(expected) if expected.pattern["text"]["any"] == true));
}

#[test]
fn given_and_clients_have_to_agree() {
    for (given, reason) in [
        ("playing: { one: $Alia }", "no given account has the role"),
        ("playing: { ghost: $Alia }", "`ghost` is not among the clients"),
        ("names: [Bob]", "no variable"),
        ("people: []", "people"),
    ] {
        let text = format!("flow: x\ngiven: {{ {given} }}\nclients: [one]\nsteps: [{{ client: one, send: Bye }}]\n");
        let problem = parse(Path::new("a.yaml"), &text).unwrap_err().to_string();
        assert!(problem.contains(reason), "{problem}");
    }
}

#[test]
fn durations_have_a_unit() {
    assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
    for wrong in ["5", "s", "", "-1s", "1h", "99999999999999999999s"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_documented_example_is_a_flow() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/flows/README.md")).unwrap();
    let mut examples = 0;
    for block in readme.split("```yaml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        parse(Path::new("README.md"), text).unwrap_or_else(|error| panic!("{error}"));
        examples += 1;
    }
    assert!(0 < examples);
}

#[test]
fn every_flow_of_the_zone_can_be_meant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/flows");
    let files = crate::flow::files(&[folder]).unwrap();
    assert!(20 <= files.len());
    let mut names = BTreeSet::new();
    for file in files {
        let flow = load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert!(names.insert(flow.name.clone()), "two flows claim `{}`", flow.name);
    }
}
