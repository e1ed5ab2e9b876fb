//! The text of a zone file, read section by section so that one bad section does not hide the problems of another, with `ZONE__A__B`
//! environment variables laid over it.

use std::{collections::BTreeMap, path::Path};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{ConfigError, Zone, check};

/// What begins the name of a variable that overrides a key: `ZONE__WORLD__TICK_HZ=20` is `world.tick_hz: 20`.
pub(super) const PREFIX: &str = "ZONE__";

/// Reads and checks a zone file, with the environment laid over it.
pub(super) fn load(file: &Path, data: &Path, variables: impl Iterator<Item = (String, String)>) -> Result<Zone, ConfigError> {
    parse(&read_text(file)?, file, data, variables)
}

/// The text of a zone file.
pub(super) fn read_text(file: &Path) -> Result<String, ConfigError> {
    // The error names the file itself, and so does what is told of it.
    let bare = |err: &std::io::Error| err.to_string().replacen(&format!("read {}: ", file.display()), "", 1);
    crate::fs::read_text(file).map_err(|err| ConfigError { file: file.into(), problems: vec![format!("can't be read: {}", bare(&err))] })
}

/// Checks the text of a zone file.
pub(super) fn parse(text: &str, file: &Path, data: &Path, variables: impl Iterator<Item = (String, String)>) -> Result<Zone, ConfigError> {
    check::zone(Sections::read(text, file, variables)?, file, data)
}

/// The environment's variables; those that are no text are none of ours.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The problems found so far, each with the key that it is about.
#[derive(Default)]
pub(super) struct Problems {
    list: Vec<String>,
    /// Keys that a variable set or, where the file has no such section, sections that it made, with its name: whoever looks for the mistake in the file would not find it.
    overridden: BTreeMap<String, String>,
}

impl Problems {
    /// Adds a problem of a key. `why` says the reason and what to do.
    pub(super) fn add(&mut self, key: &str, why: impl std::fmt::Display) {
        match self.set_by(key) {
            Some(variable) => self.list.push(format!("{key} (set by {variable}): {why}")),
            None => self.list.push(format!("{key}: {why}")),
        }
    }

    /// The variable that set a key, or made the section that it is in or is.
    fn set_by(&self, key: &str) -> Option<&String> {
        let within = |made: &str| key == made || key.strip_prefix(made).is_some_and(|rest| rest.starts_with('.'));
        self.overridden.iter().find(|(made, _)| within(made)).map(|(_, variable)| variable)
    }

    /// Reads one section; a problem and `None` if it is not as it should be.
    pub(super) fn read<T: DeserializeOwned>(&mut self, key: &str, value: Value) -> Option<T> {
        match serde_path_to_error::deserialize(value) {
            Ok(read) => Some(read),
            Err(err) => {
                let inner = err.path().to_string();
                let key = if inner == "." { key.to_owned() } else { format!("{key}.{inner}") };
                self.add(&key, err.inner());
                None
            }
        }
    }

    /// The error, unless there are none.
    pub(super) fn into_result(self, file: &Path) -> Result<(), ConfigError> {
        if self.list.is_empty() { Ok(()) } else { Err(ConfigError { file: file.into(), problems: self.list }) }
    }

    /// None so far.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// The sections of a zone file.
pub(super) struct Sections {
    pub(super) top: Map<String, Value>,
    pub(super) problems: Problems,
}

impl Sections {
    /// Reads the text and lays the variables over it.
    pub(super) fn read(text: &str, file: &Path, variables: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let refuse = |problem: String| ConfigError { file: file.into(), problems: vec![problem] };
        let value: Value = serde_yaml::from_str(text).map_err(|err| refuse(format!("is no YAML: {}", brief(&err))))?;
        let Value::Object(mut top) = value else { return Err(refuse("is no mapping of keys: begin with `zone: NAME`".into())) };
        let mut problems = Problems::default();
        for (variable, value) in variables.filter(|(variable, _)| variable.starts_with(PREFIX)) {
            match override_key(&mut top, &variable[PREFIX.len()..], &value) {
                Ok(key) => _ = problems.overridden.insert(key, variable),
                Err(why) => problems.list.push(format!("{variable}: {why}")),
            }
        }
        Ok(Self { top, problems })
    }

    /// Takes a section out; `None` if it is not there.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.top.remove(key)
    }

    /// Takes and reads a section that must be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, key: &str, what: &str) -> Option<T> {
        match self.take(key) {
            Some(value) => self.problems.read(key, value),
            None => {
                self.problems.add(key, format!("is missing: {what}"));
                None
            }
        }
    }
}

/// What is wrong with a text, and where, on one line; the parser adds a picture of the place and advice for programmers.
fn brief(err: &serde_yaml::Error) -> String {
    let told = err.to_string();
    let line = told.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let known = [", set DuplicateKeyPolicy in Options if acceptable", " rejected by the configured policy"];
    known.iter().fold(line.to_owned(), |line, advice| line.replace(advice, ""))
}

/// Sets the key that a variable names: keys are told apart without case, and `-` in them is written `_`. Returns the key, or the
/// outermost section that was not there.
fn override_key(top: &mut Map<String, Value>, path: &str, text: &str) -> Result<String, String> {
    let value: Value = serde_yaml::from_str(text).map_err(|err| format!("its value is no YAML: {}", brief(&err)))?;
    let mut at = top;
    let mut keys = Vec::new();
    let mut made = None;
    let mut parts = path.split("__").peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err("names no key: write ZONE__SECTION__KEY".into());
        }
        let same = |key: &&String| key.to_ascii_lowercase().replace('-', "_") == part.to_ascii_lowercase().replace('-', "_");
        let there = at.keys().find(same).cloned();
        let is_new = there.is_none();
        let key = there.unwrap_or_else(|| part.to_ascii_lowercase());
        keys.push(key.clone());
        if is_new && made.is_none() {
            made = Some(keys.join("."));
        }
        if parts.peek().is_none() {
            at.insert(key, value);
            break;
        }
        let inner = at.entry(key).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(inner) = inner else { return Err(format!("`{}` has no keys below it", keys.join("."))) };
        at = inner;
    }
    Ok(made.unwrap_or_else(|| keys.join(".")))
}
