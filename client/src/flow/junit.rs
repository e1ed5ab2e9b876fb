//! Results as JUnit XML, as CI systems read them: one suite, one case a flow.

use super::{
    diff,
    report::{FlowResult, Outcome, Report},
};

pub(crate) fn document(report: &Report) -> String {
    let head = format!(
        "<testsuite name=\"flows\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{}\">",
        report.flows.len(),
        report.failed,
        report.skipped,
        seconds(report.took_ms)
    );
    let cases: String = report.flows.iter().map(case).collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{head}\n{cases}</testsuite>\n")
}

fn case(flow: &FlowResult) -> String {
    let name = escape(&flow.flow);
    let file = escape(&flow.file.display().to_string());
    let inside = match &flow.outcome {
        Outcome::Passed => String::new(),
        Outcome::Skipped { reason } => format!("<skipped message=\"{}\"/>", escape(reason)),
        Outcome::Failed { failure } => {
            format!("<failure message=\"{}\">{}</failure>", escape(&failure.problem), escape(&diff::result(flow, false)))
        }
    };
    format!("  <testcase classname=\"flows\" name=\"{name}\" file=\"{file}\" time=\"{}\">{inside}</testcase>\n", seconds(flow.took_ms))
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// What XML 1.0 does not allow even escaped becomes a question mark: server texts may hold anything.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push('\t'),
            one if one.is_control() || matches!(one, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            one => escaped.push(one),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_outcomes_told() {
        let flow = |name: &str, outcome| FlowResult { flow: name.into(), file: "a.yaml".into(), took_ms: 5, outcome };
        let flows = vec![flow("<&\"\u{1b}", Outcome::Passed), flow("later", Outcome::Skipped { reason: "needs GM access".into() })];
        let report = Report { passed: 1, failed: 0, skipped: 1, took_ms: 5, flows };
        let golden = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuite name=\"flows\" tests=\"2\" failures=\"0\" skipped=\"1\" time=\"0.005\">
  <testcase classname=\"flows\" name=\"&lt;&amp;&quot;?\" file=\"a.yaml\" time=\"0.005\"></testcase>
  <testcase classname=\"flows\" name=\"later\" file=\"a.yaml\" time=\"0.005\"><skipped message=\"needs GM access\"/></testcase>
</testsuite>
";
        assert_eq!(document(&report), golden);
    }
}
