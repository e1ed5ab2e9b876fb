//! The file's own shape: what YAML may say, and what each piece means. Keys that mean nothing here are refused.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    KindInfo,
    kinds::{self, Direction},
};
use serde::Deserialize;
use serde_json::Value;
use serde_yaml::Spanned;

use super::step::{Account, Action, Expected, Given, Needs, Target};

/// Times that something is sent by one step at most.
const TIMES_MAX: u32 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFlow {
    pub(crate) flow: String,
    #[serde(default)]
    pub(crate) needs: RawNeeds,
    #[serde(default)]
    pub(crate) given: RawGiven,
    #[serde(default)]
    pub(crate) clients: Vec<String>,
    pub(crate) steps: Vec<Spanned<RawStep>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawNeeds {
    gm: bool,
    exclusive: bool,
    gates: Option<usize>,
    resume_window_max: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawGiven {
    accounts: Vec<RawAccount>,
    playing: BTreeMap<String, String>,
    names: Vec<String>,
    #[serde(default)]
    ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccount {
    name: String,
    password: String,
    #[serde(default)]
    roles: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStep {
    pub(crate) client: Option<String>,
    // What is done: exactly one of these.
    connect: Option<RawConnect>,
    resume: Option<RawResume>,
    send: Option<String>,
    send_frame: Option<RawFrame>,
    send_bytes: Option<RawBytes>,
    expect: Option<String>,
    expect_none: Option<String>,
    expect_closed: Option<Nothing>,
    close: Option<Nothing>,
    forget: Option<Nothing>,
    wait: Option<String>,
    gm: Option<RawGm>,
    walk: Option<RawWalk>,
    see: Option<Value>,
    see_none: Option<Value>,
    pub(crate) repeat: Option<Vec<Spanned<RawStep>>>,
    // More of it.
    with: Option<Value>,
    #[serde(rename = "match")]
    pub(crate) pattern: Option<Value>,
    pub(crate) capture: BTreeMap<String, String>,
    pub(crate) within: Option<String>,
    pub(crate) every: Option<String>,
    pub(crate) until: Option<String>,
    next: Option<bool>,
    answer: Option<bool>,
    times: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConnect {
    gate: Option<usize>,
    greet: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResume {
    gate: Option<usize>,
    ticket: Option<Value>,
    received: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFrame {
    kind: String,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBytes {
    hex: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGm {
    command: String,
    #[serde(default)]
    arguments: Value,
    reason: Option<String>,
    #[serde(default)]
    refused: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWalk {
    to: Option<Value>,
    nearest: Option<Value>,
}

impl RawNeeds {
    pub(crate) fn read(&self) -> Result<Needs, String> {
        let resume_window_max = self.resume_window_max.as_deref().map(duration).transpose()?;
        Ok(Needs { gm: self.gm, exclusive: self.exclusive, gates: self.gates.unwrap_or(1), resume_window_max })
    }
}

impl RawGiven {
    pub(crate) fn read(self, clients: &[String]) -> Result<Given, String> {
        let mut fresh = self.names.iter().map(|name| variable(name)).collect::<Result<Vec<_>, _>>()?;
        for name in self.accounts.iter().flat_map(|account| account.roles.iter().chain([&account.name])) {
            if name.starts_with('$') {
                fresh.push(variable(name)?);
            }
        }
        let ids = self.ids.iter().map(|name| variable(name)).collect::<Result<Vec<_>, _>>()?;
        for (client, role) in &self.playing {
            if !clients.contains(client) {
                return Err(format!("given.playing: `{client}` is not among the clients"));
            }
            if !self.accounts.iter().any(|account| account.roles.contains(role)) {
                return Err(format!("given.playing: no given account has the role `{role}`"));
            }
            if fresh.contains(client) || ids.contains(client) {
                return Err(format!("`{client}` is a client and a name; call one of them otherwise"));
            }
        }
        let account = |raw: RawAccount| Account { name: raw.name, password: raw.password, roles: raw.roles };
        Ok(Given { accounts: self.accounts.into_iter().map(account).collect(), playing: self.playing.into_iter().collect(), fresh, ids })
    }
}

fn variable(name: &str) -> Result<String, String> {
    let good = |name: &&str| !name.is_empty() && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_');
    name.strip_prefix('$').filter(good).map(str::to_owned).ok_or_else(|| format!("`{name}` is no variable; write `$name`"))
}

/// `3s`, `250ms`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 250ms, 3s or 2m");
    let digits = text.find(|one: char| !one.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

impl RawStep {
    pub(crate) fn action(&self) -> Result<Action, String> {
        let mut actions = Vec::new();
        let mut add = |name: &'static str, more: &[&str], action: Result<Action, String>| {
            self.check(name, more)?;
            actions.push(action?);
            Ok::<_, String>(())
        };
        if let Some(raw) = &self.connect {
            let (gate, greet) = (raw.gate.unwrap_or(1), raw.greet.unwrap_or(true));
            add("connect", &["within"], Ok(Action::Connect { gate, greet }))?;
        }
        if let Some(raw) = &self.resume {
            let (gate, ticket, received) = (raw.gate.unwrap_or(1), raw.ticket.clone(), raw.received.clone());
            add("resume", &["within"], Ok(Action::Resume { gate, ticket, received }))?;
        }
        if let Some(name) = &self.send {
            add("send", &["with", "times"], self.message(name))?;
        }
        if let Some(raw) = &self.send_frame {
            add("send_frame", &[], raw.action())?;
        }
        if let Some(raw) = &self.send_bytes {
            let bytes = bytes_of(&raw.hex);
            add("send_bytes", &[], bytes.map(|bytes| Action::SendBytes { bytes }))?;
        }
        if let Some(name) = &self.expect {
            add("expect", &["match", "capture", "within", "next", "answer"], self.expected(name).map(Action::Expect))?;
        }
        if let Some(name) = &self.expect_none {
            add("expect_none", &["match", "within"], self.expected(name).map(Action::ExpectNone))?;
        }
        if self.expect_closed.is_some() {
            add("expect_closed", &["within"], Ok(Action::ExpectClosed))?;
        }
        if self.close.is_some() {
            add("close", &[], Ok(Action::Close))?;
        }
        if self.forget.is_some() {
            add("forget", &[], Ok(Action::Forget))?;
        }
        if let Some(text) = &self.wait {
            add("wait", &[], wait(text))?;
        }
        if let Some(raw) = &self.gm {
            add("gm", &["match", "capture", "within"], Ok(raw.action(self.pattern.clone())))?;
        }
        if let Some(raw) = &self.walk {
            add("walk", &["capture", "within"], raw.action())?;
        }
        if let Some(pattern) = &self.see {
            add("see", &["capture", "within"], seen(pattern).map(|pattern| Action::See { pattern }))?;
        }
        if let Some(pattern) = &self.see_none {
            add("see_none", &["within"], seen(pattern).map(|pattern| Action::SeeNone { pattern }))?;
        }
        match (actions.pop(), actions.pop()) {
            (Some(action), None) => Ok(action),
            (None, _) => Err("the step does nothing: it has neither send nor expect nor any other action".into()),
            (Some(_), Some(_)) => Err("the step does two things; make it two steps".into()),
        }
    }

    /// Refuses keys that say nothing to this action.
    pub(crate) fn check(&self, action: &str, more: &[&str]) -> Result<(), String> {
        let present = [
            ("with", self.with.is_some()),
            ("match", self.pattern.is_some()),
            ("capture", !self.capture.is_empty()),
            ("within", self.within.is_some()),
            ("every", self.every.is_some()),
            ("until", self.until.is_some()),
            ("next", self.next.is_some()),
            ("answer", self.answer.is_some()),
            ("times", self.times.is_some()),
        ];
        match present.into_iter().find(|(key, present)| *present && !more.contains(key)) {
            Some((key, _)) => Err(format!("`{action}` has no `{key}`")),
            None => Ok(()),
        }
    }

    fn message(&self, name: &str) -> Result<Action, String> {
        let kind = kind_of(name)?;
        let with = self.with.clone().unwrap_or_default();
        check_fields(kind, &with)?;
        let times = self.times.unwrap_or(1);
        if !(1..=TIMES_MAX).contains(&times) {
            return Err(format!("`times` is from 1 to {TIMES_MAX}"));
        }
        Ok(Action::Send { kind, with, times })
    }

    pub(crate) fn expected(&self, name: &str) -> Result<Expected, String> {
        let kind = kind_of(name)?;
        if kind.direction != Direction::ToClient {
            return Err(format!("the zone never says {name}"));
        }
        let pattern = self.pattern.clone().unwrap_or_default();
        check_fields(kind, &pattern)?;
        Ok(Expected { kind, pattern, next: self.next.unwrap_or(false), answer: self.answer.unwrap_or(false) })
    }
}

impl RawFrame {
    fn action(&self) -> Result<Action, String> {
        let digits = self.kind.strip_prefix("0x").and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let kind = match digits.or_else(|| self.kind.parse().ok()) {
            Some(number) => number,
            None => kind_of(&self.kind)?.kind,
        };
        Ok(Action::SendFrame { kind, body: bytes_of(&self.body)? })
    }
}

impl RawGm {
    fn action(&self, pattern: Option<Value>) -> Action {
        Action::Gm {
            command: self.command.clone(),
            arguments: if self.arguments.is_null() { Value::Object(serde_json::Map::new()) } else { self.arguments.clone() },
            reason: self.reason.clone().unwrap_or_else(|| "a flow".into()),
            pattern: pattern.unwrap_or_default(),
            refused: self.refused,
        }
    }
}

impl RawWalk {
    fn action(&self) -> Result<Action, String> {
        let target = match (&self.to, &self.nearest) {
            (Some(to), None) => Target::Position(to.clone()),
            (None, Some(pattern)) => Target::Nearest(seen(pattern)?),
            _ => return Err("`walk` goes `to: { x, y }` or to the `nearest: { … }` entity".into()),
        };
        Ok(Action::Walk { target })
    }
}

fn kind_of(name: &str) -> Result<&'static KindInfo, String> {
    kinds::by_name(name).ok_or_else(|| format!("no message is named `{name}`"))
}

fn check_fields(kind: &KindInfo, fields: &Value) -> Result<(), String> {
    let known = kinds::body_to_json(kind.kind, &[]).map_err(|error| error.to_string())?;
    let Value::Object(fields) = fields else {
        return if fields.is_null() { Ok(()) } else { Err(format!("{} is written as its fields: `{{ name: value }}`", kind.name)) };
    };
    match fields.keys().find(|name| known.get(name.as_str()).is_none()) {
        Some(name) => Err(format!("{} has no field `{name}`", kind.name)),
        None => Ok(()),
    }
}

fn seen(pattern: &Value) -> Result<Value, String> {
    let known = serde_json::to_value(proto::client::Entity::default()).map_err(|error| error.to_string())?;
    let Value::Object(fields) = pattern else { return Err("an entity is written as its fields: `{ name: $Alia }`".into()) };
    match fields.keys().find(|name| known.get(name.as_str()).is_none()) {
        Some(name) => Err(format!("an entity has no field `{name}`")),
        None => Ok(pattern.clone()),
    }
}

fn bytes_of(digits: &str) -> Result<bytes::Bytes, String> {
    proto::json::hex::decode(digits).ok_or_else(|| format!("`{digits}` is no even number of hexadecimal digits"))
}

/// `3s`, or a sum: `$resume_window + 1s`.
fn wait(text: &str) -> Result<Action, String> {
    let terms: Vec<String> = text.split('+').map(|term| term.trim().to_owned()).collect();
    for term in terms.iter().filter(|term| !term.contains('$')) {
        duration(term)?;
    }
    Ok(Action::Wait { terms })
}
