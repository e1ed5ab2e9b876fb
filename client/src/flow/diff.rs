//! Results as people read them: what was written, what came instead, and what else came before.

use super::report::{Failure, FlowResult, Outcome, Report};

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const DIM: &str = "2";
const BOLD: &str = "1";

struct Paint(bool);

impl Paint {
    fn put(&self, style: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

pub(crate) fn report(report: &Report, colour: bool) -> String {
    let results: Vec<String> = report.flows.iter().map(|flow| result(flow, colour)).collect();
    format!("{}\n{}", results.join("\n"), summary(report, colour))
}

pub(crate) fn summary(report: &Report, colour: bool) -> String {
    let paint = Paint(colour);
    let passed = paint.put(GREEN, &format!("{} passed", report.passed));
    let failed = format!("{} failed", report.failed);
    let failed = if report.failed > 0 { paint.put(RED, &failed) } else { failed };
    let skipped = format!("{} skipped", report.skipped);
    let skipped = if report.skipped > 0 { paint.put(YELLOW, &skipped) } else { skipped };
    format!("{passed}, {failed}, {skipped} in {}", seconds(report.took_ms))
}

pub(crate) fn result(result: &FlowResult, colour: bool) -> String {
    let paint = Paint(colour);
    match &result.outcome {
        Outcome::Passed => format!("{} {} {}", paint.put(GREEN, "ok  "), result.flow, paint.put(DIM, &seconds(result.took_ms))),
        Outcome::Skipped { reason } => format!("{} {} {}", paint.put(YELLOW, "skip"), result.flow, paint.put(DIM, reason)),
        Outcome::Failed { failure } => {
            let head = format!("{} {} {}", paint.put(RED, "FAIL"), paint.put(BOLD, &result.flow), paint.put(DIM, &seconds(result.took_ms)));
            let place =
                if failure.line == 0 { result.file.display().to_string() } else { format!("{}:{}", result.file.display(), failure.line) };
            format!("{head}\n{}", failure_lines(failure, &place, &paint))
        }
    }
}

fn failure_lines(failure: &Failure, place: &str, paint: &Paint) -> String {
    let step = if failure.step == 0 { "what is given".to_owned() } else { format!("step {}", failure.step) };
    let mut lines = vec![format!("  {step}, {place}")];
    lines.extend(failure.source.lines().map(|line| format!("    {}", paint.put(DIM, &format!("| {line}")))));
    lines.push(format!("  {}", failure.problem));
    let width = failure.differences.iter().map(|one| one.path.chars().count()).max().unwrap_or(0);
    for one in &failure.differences {
        lines.push(format!("    {:width$}  expected {}", one.path, paint.put(GREEN, &one.expected)));
        lines.push(format!("    {:width$}  got      {}", "", paint.put(RED, &one.got)));
    }
    if !failure.client.is_empty() {
        let what = if failure.last_received.is_empty() { "received nothing" } else { "received last:" };
        lines.push(format!("  client `{}` {what}", failure.client));
    }
    for one in &failure.last_received {
        lines.push(paint.put(DIM, &format!("    {:>8} {} {}", seconds(one.at_ms), one.message, one.fields)));
    }
    lines.join("\n")
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}s", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::report::{Difference, Received};

    fn failed() -> FlowResult {
        let failure = Failure {
            step: 3,
            line: 14,
            source: "- client: one\n  expect: Closing\n  match: { code: KICKED, resumable: false }".into(),
            problem: "no Closing that matches came within 2s; the nearest differs:".into(),
            differences: vec![
                Difference { path: "code".into(), expected: "\"KICKED\"".into(), got: "\"BANNED\"".into() },
                Difference { path: "resumable".into(), expected: "false".into(), got: "true".into() },
            ],
            client: "one".into(),
            last_received: vec![Received { at_ms: 1250, message: "Closing".into(), fields: "{\"code\":\"BANNED\"}".into() }],
        };
        FlowResult { flow: "kick".into(), file: "flows/kick.yaml".into(), took_ms: 2010, outcome: Outcome::Failed { failure } }
    }

    #[test]
    fn a_failure_tells_the_whole_story() {
        let golden = "\
FAIL kick 2.010s
  step 3, flows/kick.yaml:14
    | - client: one
    |   expect: Closing
    |   match: { code: KICKED, resumable: false }
  no Closing that matches came within 2s; the nearest differs:
    code       expected \"KICKED\"
               got      \"BANNED\"
    resumable  expected false
               got      true
  client `one` received last:
      1.250s Closing {\"code\":\"BANNED\"}";
        assert_eq!(result(&failed(), false), golden);
    }

    #[test]
    fn colours_are_for_terminals_only() {
        assert!(result(&failed(), true).contains("\u{1b}[31m"));
        assert!(!result(&failed(), false).contains('\u{1b}'));
    }

    #[test]
    fn the_sums_name_all_three() {
        let report = Report { passed: 2, failed: 1, skipped: 0, took_ms: 61_002, flows: vec![] };
        assert_eq!(summary(&report, false), "2 passed, 1 failed, 0 skipped in 61.002s");
    }
}
