//! Flows against a fake zone: those that hold pass, and those that do not say why.

use std::path::Path;

use serde_json::json;

use super::{parse::parse, *};
use crate::fake_zone::FakeZone;

const GIVEN: &str = "given:
  accounts: [{ name: $alice, password: correct-horse, roles: [$Alia] }, { name: $bob, password: correct-horse, roles: [$Bob] }]
  playing: { two: $Bob }
clients: [one, two]
";

struct Gm;

impl GmAccess for Gm {
    fn run<'a>(&'a self, command: &'a str, arguments: Value, reason: &'a str) -> GmAnswer<'a> {
        Box::pin(async move {
            match command {
                "echo" => Ok(json!({"arguments": arguments, "reason": reason})),
                other => Err(format!("no command is named {other}")),
            }
        })
    }
}

async fn play(steps: &str) -> FlowResult {
    let zone = FakeZone::start().await;
    let flow = parse(Path::new("a.yaml"), &format!("flow: a claim\nneeds: {{ gm: true }}\n{GIVEN}steps:\n{steps}")).unwrap();
    let mut options = RunOptions::new(vec![flow], vec![zone.address]);
    options.gm = Some(Arc::new(Gm));
    run_all(options).await.unwrap().flows.remove(0)
}

async fn passes(steps: &str) {
    let result = play(steps).await;
    assert!(matches!(result.outcome, Outcome::Passed), "{}", result.render(false));
}

async fn fails(steps: &str) -> Failure {
    match play(steps).await.outcome {
        Outcome::Failed { failure } => failure,
        other => panic!("{steps}\n  came to {other:?}"),
    }
}

const LOGIN: &str = "
  - { client: one, send: Login, with: { account: $alice, password: correct-horse } }
  - { client: one, expect: LoggedIn, capture: { player: roles.0.player } }
  - { client: one, expect: ResumeTicket, capture: { ticket: ticket } }
  - { client: one, send: Enter, with: { player: $player } }
  - { client: one, expect: Entered, match: { name: $Alia, sheet: { absent: true } } }
";

#[tokio::test]
async fn two_players_meet() {
    passes(&format!(
        "{LOGIN}
  - {{ client: two, see: {{ name: $Alia, kind: PLAYER }}, capture: {{ alia: entity }} }}
  - {{ client: one, walk: {{ to: {{ x: 10100, y: 10000 }} }} }}
  - {{ client: two, see: {{ entity: $alia, position: {{ x: 10100 }} }} }}
  - {{ client: two, expect: CellMoves, match: {{ moved: {{ contains: {{ entity: $alia }} }} }} }}
  - {{ client: one, walk: {{ nearest: {{ name: $Bob }} }}, capture: {{ bob: entity }} }}
  - {{ client: one, send: Say, with: {{ text: \"hello $Bob\" }} }}
  - {{ client: two, expect: Said, match: {{ text: {{ contains: $Bob }} }} }}
  - {{ client: one, send: Bye }}
  - {{ client: one, expect: Closing }}
  - {{ client: one, expect_closed: {{}} }}
  - {{ client: two, see_none: {{ entity: $alia }} }}
  - {{ client: two, send: Move, with: {{ to: {{ x: -1, y: 0 }} }} }}
  - {{ client: two, expect: Corrected, match: {{ position: {{ x: $two.position.x }} }} }}
"
    ))
    .await;
}

#[tokio::test]
async fn a_session_is_resumed_once_for_each_ticket() {
    passes(&format!(
        "{LOGIN}
  - {{ client: one, close: {{}} }}
  - {{ client: two, send: Say, with: {{ text: missed }} }}
  - {{ client: two, expect: Said }}
  - {{ client: one, resume: {{}} }}
  - {{ client: one, expect: Resumed, next: true, match: {{ continued: true, missed: {{ at_least: 1 }} }} }}
  - {{ client: one, expect: Said, match: {{ text: missed }} }}
  - {{ client: one, expect: ResumeTicket }}
  - {{ client: one, close: {{}} }}
  - {{ client: one, resume: {{ ticket: $ticket }} }}
  - {{ client: one, expect: Fault, match: {{ code: TICKET_USED }} }}
  - {{ client: one, resume: {{ ticket: \"00ff\", received: 0 }} }}
  - {{ client: one, expect: Fault, match: {{ code: TICKET_REFUSED }} }}
  - {{ client: one, resume: {{}} }}
  - {{ client: one, expect: Resumed, match: {{ missed: 0 }} }}
"
    ))
    .await;
}

#[tokio::test]
async fn bad_bytes_and_gm_commands_are_steps_too() {
    passes(&format!(
        "{LOGIN}
  - {{ client: one, send_frame: {{ kind: Say, body: ff }} }}
  - {{ client: one, expect: Fault, answer: true, match: {{ code: MALFORMED }} }}
  - gm: {{ command: echo, arguments: {{ player: $Alia }}, reason: to see }}
    match: {{ arguments: {{ player: $Alia }}, reason: to see }}
    capture: {{ echoed: arguments.player }}
  - gm: {{ command: sing, refused: true }}
    match: {{ contains: sing }}
  - {{ client: one, repeat: [{{ send: Say, with: {{ text: $echoed }} }}], every: 10ms, until: Said, match: {{ text: $Alia }} }}
  - {{ client: one, expect_none: Corrected, within: 10ms }}
  - wait: $resume_window + 10ms
  - {{ client: one, send_bytes: {{ hex: ffffffff }} }}
  - {{ client: one, expect: Closing, match: {{ code: OVERSIZE }} }}
  - {{ client: one, expect_closed: {{}} }}
  - {{ client: one, connect: {{ greet: false }} }}
  - {{ client: one, send: Hello, with: {{ protocol_version: 2, client: by hand }} }}
  - {{ client: one, expect: Welcome, match: {{ zone: fake }} }}
  - {{ client: two, close: {{}} }}
  - {{ client: two, connect: {{}} }}
"
    ))
    .await;
}

#[tokio::test]
async fn a_wrong_answer_fails_at_once_with_its_differences() {
    let failure = fails(&LOGIN.replace("name: $Alia", "name: somebody, map: forest")).await;
    assert_eq!((failure.step, failure.client.as_str()), (5, "one"));
    assert_eq!(failure.problem, "Entered is the answer, and differs:");
    let paths: Vec<&str> = failure.differences.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["map", "name"]);
    assert!(failure.source.contains("expect: Entered"), "{}", failure.source);
    assert!(failure.last_received.iter().any(|one| one.message == "LoggedIn"));
}

#[tokio::test]
async fn a_refusal_fails_at_once_with_the_zones_words() {
    let failure = fails(
        "
  - { client: one, send: Login, with: { account: $alice, password: wrong } }
  - { client: one, expect: LoggedIn, within: 60s }
",
    )
    .await;
    assert_eq!(failure.problem, "LoggedIn did not come; the zone refused: BAD_CREDENTIALS: said the fake zone");
    assert_eq!((failure.step, failure.last_received.len()), (2, 2));
}

#[tokio::test]
async fn what_does_not_come_fails_when_its_time_is_over() {
    for (steps, problem) in [
        ("  - { client: one, expect: Closing, within: 20ms }\n", "no Closing came within 20ms"),
        ("  - { client: one, expect_closed: {}, within: 20ms }\n", "did not close the connection within 20ms"),
        ("  - { client: two, see: { name: ghost }, within: 20ms }\n", "no such entity was seen within 20ms; of the 1 that are visible"),
        ("  - { client: two, see_none: { name: $Bob }, within: 20ms }\n", "it is still seen"),
        ("  - { client: two, close: {} }\n  - { client: two, expect: Said }\n", "the connection has ended: the flow closed it"),
        ("  - { client: two, close: {} }\n  - { client: two, send: Bye }\n", "`two` has no connection"),
        ("  - { client: one, resume: {} }\n", "`one` has no resume ticket"),
        ("  - { client: two, expect: Closing, next: true, within: 1s }\n", "did not come next; CellSnapshot did"),
        ("  - gm: { command: sing }\n", "the command was refused: no command is named sing"),
        ("  - { client: two, walk: { nearest: { name: ghost } }, within: 20ms }\n", "did not arrive within 20ms"),
        (
            "  - { client: two, send: Say, with: { text: hi } }\n  - { client: two, expect_none: Said, within: 5s }\n",
            "a Said came that must not",
        ),
        (
            "  - { client: two, send: Say, with: { text: hi } }\n  - { client: two, expect: Said, match: { text: ho }, within: 50ms }\n",
            "no Said that matches came within 50ms; the nearest differs:",
        ),
    ] {
        let failure = fails(steps).await;
        assert!(failure.problem.contains(problem), "{steps}\n  failed with: {}", failure.problem);
    }
}

#[tokio::test]
async fn a_flow_whose_needs_are_not_met_is_skipped_with_the_reason() {
    let zone = FakeZone::start().await;
    let flow = |needs: &str, name: &str| {
        let text = format!("flow: {name}\nneeds: {needs}\nclients: [one]\nsteps: [{{ client: one, connect: {{}} }}]\n");
        parse(Path::new(name), &text).unwrap()
    };
    let flows = vec![
        flow("{ gm: true }", "a"),
        flow("{ gates: 2 }", "b"),
        flow("{ resume_window_max: 10ms }", "c"),
        flow("{ exclusive: true, resume_window_max: 5s }", "d"),
    ];
    let report = run_all(RunOptions::new(flows, vec![zone.address])).await.unwrap();
    assert_eq!((report.passed, report.failed, report.skipped), (1, 0, 3));
    assert!(report.is_good());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["flows"][0]["outcome"], "skipped");
    assert_eq!(json["flows"][0]["reason"], "needs GM access");
    assert_eq!(json["flows"][3]["outcome"], "passed");
}

#[tokio::test]
async fn nobody_at_the_address_is_one_error_and_not_one_a_flow() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let error = run_all(RunOptions::new(vec![], vec![free.to_string().parse().unwrap()])).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Connect { .. }));
}
