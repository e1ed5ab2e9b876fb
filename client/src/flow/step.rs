//! A flow, as [`super::parse`] understood it. What exists here is good: kinds are known, variables have a source.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use proto::KindInfo;
use serde_json::Value;

/// A flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What it shows.
    pub name: String,
    /// Where it is written.
    pub file: PathBuf,
    /// What it can't run without.
    pub needs: Needs,
    pub(crate) given: Given,
    pub(crate) clients: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

/// What a flow can't run without.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// GM commands.
    pub gm: bool,
    /// Nobody else's flow at the same time.
    pub exclusive: bool,
    /// So many gates.
    pub gates: usize,
    /// A zone whose resume window is not longer: the flow waits it out.
    pub resume_window_max: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) accounts: Vec<Account>,
    /// Clients that are in the world when the steps begin, and their characters.
    pub(crate) playing: Vec<(String, String)>,
    /// Variables (without `$`) that are names which nobody has.
    pub(crate) fresh: Vec<String>,
    /// Variables that are ids (16 bytes as hexadecimal digits) which nothing has.
    pub(crate) ids: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) roles: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) line: u64,
    /// The step's lines in the file, for failures.
    pub(crate) source: String,
    /// Empty only where no client acts: `wait`, `gm`.
    pub(crate) client: String,
    pub(crate) within: Duration,
    /// Variable to path.
    pub(crate) capture: BTreeMap<String, String>,
    pub(crate) action: Action,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Connect { gate: usize, greet: bool },
    Resume { gate: usize, ticket: Option<Value>, received: Option<Value> },
    Send { kind: &'static KindInfo, with: Value, times: u32 },
    SendFrame { kind: u16, body: Bytes },
    SendBytes { bytes: Bytes },
    Expect(Expected),
    ExpectNone(Expected),
    ExpectClosed,
    Close,
    Forget,
    Wait { terms: Vec<String> },
    Gm { command: String, arguments: Value, reason: String, pattern: Value, refused: bool },
    Walk { target: Target },
    See { pattern: Value },
    SeeNone { pattern: Value },
    Repeat { steps: Vec<Step>, every: Duration, until: Expected },
}

#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) kind: &'static KindInfo,
    pub(crate) pattern: Value,
    /// Nothing else may come before it.
    pub(crate) next: bool,
    /// Only as the answer to what the client sent last.
    pub(crate) answer: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// `{x, y}`, in centimetres; may name variables.
    Position(Value),
    /// The nearest visible entity that matches.
    Nearest(Value),
}
