//! From a YAML file to a [`Flow`]. Whatever can't be meant is refused here, with file, line and reason: unknown keys and kinds, fields that
//! a message does not have, variables that nothing gives a value.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use serde_yaml::Spanned;

use super::{
    raw::{RawFlow, RawStep, duration},
    step::{Action, Flow, Given, Step, Target},
    vars,
};

/// How long a step waits that does not say.
const WITHIN: Duration = Duration::from_secs(5);
/// How long a walk or a repetition takes at most that does not say.
const WITHIN_LONG: Duration = Duration::from_secs(60);
/// Steps of a flow at most, those of repetitions included; a file with more is no conversation.
const STEPS_MAX: usize = 1000;
/// What every flow knows besides what it is given.
const KNOWN: &str = "resume_window";

/// Why a file is no flow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct FlowError {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1, if it is a matter of one.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: String,
}

/// Reads a flow.
///
/// # Errors
/// When the file can't be read, is no YAML, or can't be meant.
pub fn load(file: &Path) -> Result<Flow, FlowError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| FlowError { file: file.into(), line: None, problem: format!("read: {error}") })?;
    parse(file, &text)
}

pub(crate) fn parse(file: &Path, text: &str) -> Result<Flow, FlowError> {
    let refuse = |line: Option<u64>, problem: String| FlowError { file: file.into(), line, problem };
    // People say "no" to each other: only `true` and `false` are no text.
    let options = serde_yaml::options! { strict_booleans: true };
    let raw: RawFlow = serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line());
        refuse(line, error.without_snippet().to_string())
    })?;
    let needs = raw.needs.read().map_err(|problem| refuse(None, problem))?;
    let given = raw.given.read(&raw.clients).map_err(|problem| refuse(None, problem))?;
    let mut reader = Reader { lines: text.lines().collect(), clients: &raw.clients, known: known(&given), steps: 0, gates: needs.gates };
    let steps = reader.steps(&raw.steps, None, u64::MAX).map_err(|(line, problem)| refuse(Some(line), problem))?;
    if steps.is_empty() {
        return Err(refuse(None, "a flow has steps".into()));
    }
    Ok(Flow { name: raw.flow, file: file.into(), needs, given, clients: raw.clients, steps })
}

fn known(given: &Given) -> BTreeSet<String> {
    let playing = given.playing.iter().map(|(client, _)| client.clone());
    given.fresh.iter().chain(&given.ids).cloned().chain(playing).chain([KNOWN.to_owned()]).collect()
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    clients: &'a [String],
    /// Variables that have a value when the step at hand is played.
    known: BTreeSet<String>,
    steps: usize,
    gates: usize,
}

impl Reader<'_> {
    /// `end`: the line behind the last step.
    fn steps(&mut self, raw: &[Spanned<RawStep>], client: Option<&str>, end: u64) -> Result<Vec<Step>, (u64, String)> {
        let mut steps = Vec::new();
        for (index, spanned) in raw.iter().enumerate() {
            let line = spanned.referenced.line();
            let next = raw.get(index + 1).map_or(end, |next| next.referenced.line());
            self.steps += 1;
            if STEPS_MAX < self.steps {
                return Err((line, format!("more than {STEPS_MAX} steps")));
            }
            let step = self.step(&spanned.value, line, next, client);
            steps.push(step?);
        }
        Ok(steps)
    }

    fn step(&mut self, raw: &RawStep, line: u64, next: u64, outer: Option<&str>) -> Result<Step, (u64, String)> {
        let here = |problem: String| (line, problem);
        let client = raw.client.as_deref().or(outer).unwrap_or_default().to_owned();
        let action = match &raw.repeat {
            Some(inside) => {
                raw.check("repeat", &["until", "match", "every", "within", "capture"]).map_err(here)?;
                let steps = self.steps(inside, Some(&client), next)?;
                let until = raw.until.as_deref().ok_or_else(|| here("`repeat` goes on `until` a message comes".into()))?;
                let every = raw.every.as_deref().map_or(Ok(Duration::from_millis(500)), duration).map_err(here)?;
                Action::Repeat { steps, every, until: raw.expected(until).map_err(here)? }
            }
            None => raw.action().map_err(here)?,
        };
        self.check_client(&client, &action).map_err(here)?;
        self.check_variables(&action).map_err(here)?;
        self.check_gate(&action).map_err(here)?;
        for name in raw.capture.keys() {
            self.known.insert(name.clone());
        }
        let usual = if matches!(action, Action::Walk { .. } | Action::Repeat { .. }) { WITHIN_LONG } else { WITHIN };
        let within = raw.within.as_deref().map_or(Ok(usual), duration).map_err(here)?;
        Ok(Step { line, source: self.source(line, next), client, within, capture: raw.capture.clone(), action })
    }

    fn check_client(&self, client: &str, action: &Action) -> Result<(), String> {
        let needs_none = matches!(action, Action::Wait { .. } | Action::Gm { .. });
        if client.is_empty() {
            return if needs_none { Ok(()) } else { Err("`client` is missing".into()) };
        }
        if self.clients.iter().any(|known| known == client) { Ok(()) } else { Err(format!("`{client}` is not among the clients")) }
    }

    fn check_variables(&self, action: &Action) -> Result<(), String> {
        let mut named = Vec::new();
        for value in action.values() {
            vars::named_in(&value, &mut named)?;
        }
        match named.into_iter().find(|name| !self.known.contains(name)) {
            Some(name) => Err(format!("nothing gives `${name}` a value before this step")),
            None => Ok(()),
        }
    }

    fn check_gate(&self, action: &Action) -> Result<(), String> {
        match action {
            Action::Connect { gate, .. } | Action::Resume { gate, .. } if *gate == 0 => Err("gates are numbered from 1".into()),
            Action::Connect { gate, .. } | Action::Resume { gate, .. } if self.gates < *gate => {
                Err(format!("gate {gate} needs `needs: {{ gates: {gate} }}`"))
            }
            _ => Ok(()),
        }
    }

    /// The lines of a step, without what follows it (comments and empty lines before the next one).
    fn source(&self, line: u64, next: u64) -> String {
        let at = |line: u64| usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX).min(self.lines.len());
        let mut lines: Vec<&str> = self.lines[at(line)..at(next).max(at(line))].to_vec();
        while lines.last().is_some_and(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            lines.pop();
        }
        let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
        lines.iter().map(|line| line.get(indent..).unwrap_or(line)).collect::<Vec<_>>().join("\n")
    }
}

impl Action {
    /// Everything in which a variable may be named.
    fn values(&self) -> Vec<Value> {
        match self {
            Action::Resume { ticket, received, .. } => ticket.iter().chain(received).cloned().collect(),
            Action::Send { with, .. } => vec![with.clone()],
            Action::Expect(expected) | Action::ExpectNone(expected) => vec![expected.pattern.clone()],
            Action::Repeat { until, .. } => vec![until.pattern.clone()],
            Action::Gm { command, arguments, reason, pattern, .. } => {
                vec![command.clone().into(), arguments.clone(), reason.clone().into(), pattern.clone()]
            }
            Action::Walk { target: Target::Position(value) | Target::Nearest(value) } => vec![value.clone()],
            Action::See { pattern } | Action::SeeNone { pattern } => vec![pattern.clone()],
            Action::Wait { terms } => terms.iter().cloned().map(Value::from).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
