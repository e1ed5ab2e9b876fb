//! The search for an expected message in what a client received.

use proto::{
    ClientMessage, Frame,
    client::{Fault, Heartbeat, ResumeTicket},
    kinds::{self, Direction},
};
use serde_json::Value;

use super::{matching::differences, peer::Peer, report::Difference, run::Problem, step::Expected};

/// A search for an expected message through a client's inbox; what was looked at once is not looked at again.
pub(crate) struct Search<'a> {
    expected: &'a Expected,
    pattern: &'a Value,
    at: usize,
    nearest: Vec<Difference>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(expected: &'a Expected, pattern: &'a Value) -> Self {
        Self { expected, pattern, at: 0, nearest: Vec::new() }
    }

    /// Looks at everything again.
    pub(crate) fn restart(&mut self) {
        self.at = 0;
    }

    /// The message, if it has come; the problem, if it can't come any more.
    pub(crate) fn go_on(&mut self, peer: &mut Peer) -> Result<Option<Value>, Problem> {
        while let Some(frame) = peer.inbox.get(self.at).cloned() {
            if self.look_at(&frame, peer.last_seq)? {
                peer.inbox.remove(self.at);
                return Ok(json_of(&frame));
            }
            if self.expected.next && is_upkeep(&frame) {
                peer.inbox.remove(self.at);
                continue;
            }
            if self.expected.next {
                let name = frame.info().map_or("an unknown kind", |info| info.name);
                let got = json_of(&frame).unwrap_or_default();
                return Err(self.failed(&format!("did not come next; {name} did: {got}")));
            }
            self.at += 1;
        }
        Ok(None)
    }

    fn look_at(&mut self, frame: &Frame, last_seq: u32) -> Result<bool, Problem> {
        let answers = frame.seq() != 0 && frame.seq() == last_seq;
        let name = self.expected.kind.name;
        if frame.kind() != self.expected.kind.kind {
            if answers && frame.kind() == Fault::KIND {
                let fault = json_of(frame).unwrap_or_default();
                return Err(self.failed(&format!(
                    "did not come; the zone refused: {}: {}",
                    text_of(&fault["code"]),
                    text_of(&fault["text"])
                )));
            }
            return Ok(false);
        }
        if self.expected.answer && !answers {
            return Ok(false);
        }
        let json = kinds::body_to_json(frame.kind(), &frame.body()).map_err(|error| format!("{name}: {error}"))?;
        let found = differences(self.pattern, &json);
        if found.is_empty() {
            return Ok(true);
        }
        self.nearest = found;
        if answers { Err(self.failed("is the answer, and differs:")) } else { Ok(false) }
    }

    /// The problem, with the nearest message's differences. `what` goes on after the message's name.
    pub(crate) fn failed(&mut self, what: &str) -> Problem {
        let differences = std::mem::take(&mut self.nearest);
        let name = self.expected.kind.name;
        let text = match (differences.is_empty(), what.ends_with(':')) {
            (false, false) => format!("{name} that matches {what}; the nearest differs:"),
            _ => format!("{name} {what}"),
        };
        Problem { text, differences }
    }
}

/// What a gate says of its own accord, at any time.
fn is_upkeep(frame: &Frame) -> bool {
    matches!(frame.kind(), Heartbeat::KIND | ResumeTicket::KIND)
}

pub(crate) fn json_of(frame: &Frame) -> Option<Value> {
    debug_assert!(frame.info().is_none_or(|info| info.direction == Direction::ToClient));
    kinds::body_to_json(frame.kind(), &frame.body()).ok()
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
