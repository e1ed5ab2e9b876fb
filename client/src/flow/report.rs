//! What came of a run of flows.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::{diff, junit, step::Flow};

/// What came of a run. As JSON it is what `zone replay --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Flows that passed.
    pub passed: usize,
    /// Flows that failed.
    pub failed: usize,
    /// Flows whose needs the run did not meet.
    pub skipped: usize,
    /// How long all took together.
    pub took_ms: u64,
    /// Each flow's result, by file.
    pub flows: Vec<FlowResult>,
}

/// What came of one flow.
#[derive(Clone, Debug, Serialize)]
pub struct FlowResult {
    /// What the flow shows.
    pub flow: String,
    /// Where it is written.
    pub file: PathBuf,
    /// How long it took.
    pub took_ms: u64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of one flow.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// Every step was as written.
    Passed,
    /// A step was not.
    Failed {
        /// Which, and how.
        failure: Failure,
    },
    /// The run does not meet its needs.
    Skipped {
        /// Which need.
        reason: String,
    },
}

/// A step that was not as written.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Number of the step, from 1; 0 for what is given.
    pub step: usize,
    /// Its line in the file.
    pub line: u64,
    /// Its lines.
    pub source: String,
    /// What is wrong, in a sentence.
    pub problem: String,
    /// The nearest message's differences, field by field.
    pub differences: Vec<Difference>,
    /// The client whose step it is; empty if none.
    pub client: String,
    /// What that client received last, the newest last.
    pub last_received: Vec<Received>,
}

/// A field that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: `roles.0.level`.
    pub path: String,
    /// What the flow says.
    pub expected: String,
    /// What came.
    pub got: String,
}

/// A message that a client received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Received {
    /// When, from the flow's start.
    pub at_ms: u64,
    /// The message's name, or its number.
    pub message: String,
    /// Its fields, cut to a line.
    pub fields: String,
}

impl Difference {
    pub(crate) fn new(path: &str, expected: String, got: Option<&Value>) -> Self {
        let got = got.map_or_else(|| "no such field".to_owned(), |value| cut(&value.to_string()));
        Self { path: path.to_owned(), expected, got }
    }
}

impl FlowResult {
    pub(crate) fn new(flow: &Flow, outcome: Outcome, took: Duration) -> Self {
        Self { flow: flow.name.clone(), file: flow.file.clone(), took_ms: millis(took), outcome }
    }

    /// A line if it passed, the whole story if not; for people.
    pub fn render(&self, colour: bool) -> String {
        diff::result(self, colour)
    }
}

impl Report {
    pub(crate) fn new(mut flows: Vec<FlowResult>, took: Duration) -> Self {
        flows.sort_by(|one, two| one.file.cmp(&two.file));
        let count = |wanted: fn(&Outcome) -> bool| flows.iter().filter(|flow| wanted(&flow.outcome)).count();
        Self {
            passed: count(|outcome| matches!(outcome, Outcome::Passed)),
            failed: count(|outcome| matches!(outcome, Outcome::Failed { .. })),
            skipped: count(|outcome| matches!(outcome, Outcome::Skipped { .. })),
            took_ms: millis(took),
            flows,
        }
    }

    /// Whether no flow failed. A skipped flow is no failure.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }

    /// Every result, then the sums; for people.
    pub fn render(&self, colour: bool) -> String {
        diff::report(self, colour)
    }

    /// The sums alone; for people who have seen the results.
    pub fn summary(&self, colour: bool) -> String {
        diff::summary(self, colour)
    }

    /// A JUnit XML document, as CI systems read it.
    pub fn to_junit(&self) -> String {
        junit::document(self)
    }
}

/// A line's worth of a text.
pub(crate) fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
